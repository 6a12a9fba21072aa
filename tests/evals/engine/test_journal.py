import pytest

from alps.evals.engine.journal import Journal


def written(tmp_path, *pairs, identity="model", rank=0) -> Journal:
    journal = Journal(tmp_path, identity, rank)
    for request, answer in pairs:
        journal.add(request, answer)
    journal.close()
    return journal


def test_answers_are_found_again(tmp_path):
    written(tmp_path, ("a", "four\n"), ("b", [-1.5, True]))
    journal = Journal(tmp_path, "model")
    assert journal.answers(["b", "a"]) == [[-1.5, True], "four\n"] and "c" not in journal


def test_another_attempt_goes_on_in_the_same_file(tmp_path):
    written(tmp_path, ("a", "1"))
    written(tmp_path, ("b", "2"))
    assert Journal(tmp_path, "model").answers("ab") == ["1", "2"]
    assert len((tmp_path / "answers.0.jsonl").read_text().splitlines()) == 3


def test_answers_of_other_weights_are_not_taken(tmp_path):
    written(tmp_path, ("a", "old"), identity="other")
    assert "a" not in Journal(tmp_path, "model")
    written(tmp_path, ("b", "new"))
    assert "b" in Journal(tmp_path, "model") and "a" not in Journal(tmp_path, "other")


@pytest.mark.parametrize("bytes_lost", [1, 2, 5])
def test_a_torn_last_line_is_dropped_and_written_again(tmp_path, bytes_lost):
    written(tmp_path, ("a", "1"), ("b", "2"))
    path = tmp_path / "answers.0.jsonl"
    path.write_bytes(path.read_bytes()[:-bytes_lost])
    journal = Journal(tmp_path, "model")
    assert "a" in journal and "b" not in journal
    journal.add("c", "3")
    journal.close()
    again = Journal(tmp_path, "model")
    assert again.answers("ac") == ["1", "3"] and "b" not in again


def test_a_file_of_nonsense_is_begun_anew(tmp_path):
    (tmp_path / "answers.0.jsonl").write_bytes(b"\xff\x00 not json\n")
    written(tmp_path, ("a", "1"))
    assert Journal(tmp_path, "model").answers("a") == ["1"]


def test_all_ranks_read_what_each_wrote(tmp_path):
    written(tmp_path, ("a", "1"), rank=0)
    written(tmp_path, ("b", "2"), rank=1)
    assert all(Journal(tmp_path, "model", rank).answers("ab") == ["1", "2"] for rank in (0, 1, 2))
