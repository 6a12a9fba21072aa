import langdetect
import nltk
import pytest

# Instructions that the harness checks without its tokenizer, and what a model said.
ROWS = [
    {
        "key": 1,
        "prompt": "Greet me without commas, in capitals.",
        "instruction_id_list": ["punctuation:no_comma", "change_case:english_capital"],
        "kwargs": [{}, {}],
    },
    {
        "key": 2,
        "prompt": "Say something with the word sun, and no comma.",
        "instruction_id_list": ["punctuation:no_comma", "keywords:existence"],
        "kwargs": [{}, {"keywords": ["sun"]}],
    },
    {
        "key": 3,
        "prompt": "Three bullets.",
        "instruction_id_list": ["detectable_format:number_bullet_lists"],
        "kwargs": [{"num_bullets": 3}],
    },
]
SAID = {
    1: "HELLO MY DEAR FRIEND, I AM VERY HAPPY TO SEE YOU HERE TODAY",  # one of two, either way
    2: "Sure, here it is:\nThe sun is out today",  # loose: without its first line both are kept
    3: "* a\n* b\n* c",
}


def say(request):
    return next(SAID[row["key"]] for row in ROWS if row["prompt"] in request.args[0])


@pytest.fixture
def paths(monkeypatch, tmp_path):
    """NLTK looks nowhere but where a test says."""
    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.delenv("NLTK_DATA", raising=False)
    return tmp_path / "documents"


@pytest.fixture
def with_punkt(paths):
    (paths / "nltk_data/tokenizers/punkt_tab/english").mkdir(parents=True)
    return paths


def test_four_accuracies_and_their_mean(make_benchmark, ask, with_punkt):
    seeds = []
    asked = ask(
        make_benchmark("ifeval", test=ROWS),
        lambda request: seeds.append(langdetect.DetectorFactory.seed) or say(request),
    )
    metrics = asked.card.metrics
    assert metrics["prompt_strict_accuracy"] == pytest.approx(1 / 3)
    assert metrics["prompt_loose_accuracy"] == pytest.approx(2 / 3)
    assert metrics["instruction_strict_accuracy"] == pytest.approx(3 / 5)
    assert metrics["instruction_loose_accuracy"] == pytest.approx(4 / 5)
    assert next(iter(metrics)) == "mean_accuracy"
    assert metrics["mean_accuracy"] == pytest.approx((1 / 3 + 2 / 3 + 3 / 5 + 4 / 5) / 4)
    assert set(asked.card.uncertainty) == set(metrics)
    assert set(seeds) == {0}
    assert asked.requests[0].args[1]["max_gen_toks"] == 1280
    assert asked.prompts[0].endswith(f"### Instruction:\n{ROWS[0]['prompt']}\n\n### Response:\n")


def test_libraries_are_left_as_they_were(make_benchmark, ask, with_punkt, monkeypatch):
    monkeypatch.setattr(langdetect.DetectorFactory, "seed", 7)
    benchmark = make_benchmark("ifeval", test=ROWS)
    benchmark.ready(with_punkt)
    benchmark.dry_run(with_punkt)
    ask(benchmark, say)
    assert langdetect.DetectorFactory.seed == 7 and nltk.data.path == []


def test_all_right_and_all_wrong(make_benchmark, ask, with_punkt):
    row = [ROWS[2]]
    right = ask(make_benchmark("ifeval", "protocol=plain", test=row), say)
    assert set(right.card.metrics.values()) == {1.0} and right.prompts == ["Three bullets."]
    wrong = ask(make_benchmark("ifeval", test=row), lambda r: "* a", name="wrong")
    assert set(wrong.card.metrics.values()) == {0.0}


def test_its_samples_give_the_score_again(make_benchmark, ask, with_punkt):
    from alps.evals.harness.samples import rescore

    benchmark = make_benchmark("ifeval", test=ROWS)
    asked = ask(benchmark, say)
    assert rescore(benchmark, asked.folder) == asked.card.metrics


def test_a_missing_tokenizer_is_told_before_anything_is_asked(make_benchmark, ask, paths):
    benchmark = make_benchmark("ifeval", test=ROWS)
    with pytest.raises(ValueError, match="ifeval needs NLTK's punkt_tab: run `python -m nltk"):
        benchmark.ready(paths)
    with pytest.raises(ValueError, match="punkt_tab"):
        ask(benchmark, lambda request: pytest.fail("was asked"))


def test_the_tokenizer_may_lie_beside_the_documents(make_benchmark, with_punkt):
    make_benchmark("ifeval", test=ROWS).ready(with_punkt)


def test_the_tokenizer_is_found_by_a_variable_set_later(make_benchmark, with_punkt, monkeypatch):
    elsewhere = with_punkt.parent / "elsewhere"
    (with_punkt / "nltk_data").rename(elsewhere)
    monkeypatch.setenv("NLTK_DATA", str(elsewhere))
    make_benchmark("ifeval", test=ROWS).ready(with_punkt)


def test_fetch_gets_the_tokenizer_or_says_why_not(make_benchmark, paths, monkeypatch):
    benchmark = make_benchmark("ifeval", test=ROWS)
    monkeypatch.setattr(nltk, "download", lambda *_, **__: False)
    with pytest.raises(ValueError, match="punkt_tab, which ifeval needs, cannot be downloaded"):
        benchmark.fetch(paths)

    def download(*_, **__):
        (paths / "nltk_data/tokenizers/punkt_tab/english").mkdir(parents=True)
        return True

    monkeypatch.setattr(nltk, "download", download)
    assert benchmark.fetch(paths) == f"3 documents in {paths}, NLTK's punkt_tab"
