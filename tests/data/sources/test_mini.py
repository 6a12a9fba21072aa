"""What all generators of embedded data promise."""

import hashlib
import itertools
import json
import subprocess
import sys

import pytest

from alps.data.generators import mini_code, mini_general, mini_math
from alps.data.sources.mini import Mini

PINNED = {
    (mini_math, "train"): "626ca40ff5b0748ab0832b995e1cbb4cf03bb50aa3828b7e0f3bdf3522403fee",
    (mini_math, "test"): "96c8f76cea2e5a1723c66142c92b49b0ec473cc4a678aef43a2bc3787b57dbaf",
    (mini_general, "train"): "6f8d9b2590ca7cc6c14abef7aa6635e0f38621e7badc039cc5ec2eb17524839c",
    (mini_general, "test"): "d382e0d81d47774138581cf9acd4ff73f5c2e5676a96121ff297ce92e80072a2",
    (mini_code, "train"): "f57ad6181e2ad15d3696aa40b562fb4383052c867a14c6afb8bb5d2aa6bfe3cb",
    (mini_code, "test"): "a0de83ef7b80e196489c6fa2051b33e1c699b3f0b886734d7b21bb9345c3d1ed",
}
"""SHA-256 over the first 200 rows of each split."""

GENERATORS = (mini_math, mini_general, mini_code)
ROWS = {(module, split): list(module.examples(split)) for module, split in PINNED}


def plain(rows):
    return [[row.instruction, row.answer, row.check] for row in rows]


@pytest.mark.parametrize(("module", "split"), PINNED)
def test_rows_are_the_same_on_every_machine(module, split):
    found = hashlib.sha256(json.dumps(plain(ROWS[module, split][:200])).encode()).hexdigest()
    message = f"rows changed? raise VERSION in {module.__name__} and repin here"
    assert found == PINNED[module, split], message


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_rows_do_not_depend_on_the_hash_seed(hash_seed):
    code = (
        "import json, sys\nfrom itertools import islice\n"
        "from alps.data.generators import mini_math, mini_general, mini_code\n"
        "rows = [row for m in (mini_math, mini_general, mini_code) for s in ('train', 'test')"
        " for row in islice(m.examples(s), 200)]\n"
        "json.dump([[row.instruction, row.answer, row.check] for row in rows], sys.stdout)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout) == plain(row for rows in ROWS.values() for row in rows[:200])


@pytest.mark.parametrize("module", GENERATORS)
def test_no_instruction_comes_twice_within_or_across_splits(module):
    instructions = [r.instruction for s in ("train", "test") for r in ROWS[module, s]]
    assert len(instructions) == module.NUM_TRAIN + module.NUM_TEST >= 4300
    assert len(set(instructions)) == len(instructions)


@pytest.mark.parametrize(("module", "split"), PINNED)
def test_only_the_rows_taken_are_drawn(module, split, monkeypatch):
    calls = []
    draw = module.draw
    monkeypatch.setattr(module, "draw", lambda rng: calls.append(1) or draw(rng))
    rows = module.examples(split)
    assert not calls
    assert list(itertools.islice(rows, 200)) == ROWS[module, split][:200]
    assert 200 <= len(calls) <= 200 * (2 if split == "train" else 6)


@pytest.mark.parametrize("module", GENERATORS)
def test_checks_are_plain_json(module):
    for row in ROWS[module, "train"] + ROWS[module, "test"]:
        assert json.loads(json.dumps(row.check)) == row.check


@pytest.mark.parametrize("module", GENERATORS)
def test_the_source_gives_the_generators_rows_and_its_version(module):
    name = module.__name__.rsplit(".", 1)[1]
    source = Mini(name="any", generator=name)
    assert list(itertools.islice(source.examples("test"), 3)) == ROWS[module, "test"][:3]
    assert source.fingerprint() == f"{name}-v{module.VERSION}"
