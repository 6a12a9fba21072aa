import re
from dataclasses import replace

import pytest

from alps.heads.geometry import Geometry
from alps.heads.head_set import HeadSet
from alps.report.heads.summary import print_heads

SMALL = Geometry(num_layers=3, num_heads=4, num_kv_heads=2, head_dim=8)
SCORES = ((1e-9, 2e-9, 3e-9, 4e-9), (9e-9, 5e-9, 6e-9, 7e-9), (0.0, 0.0, 8e-9, 0.0))
SMALL_SET = HeadSet(
    heads=((1, 0), (1, 3), (2, 2)),
    geometry=SMALL,
    metric="pad",
    ratio=0.25,
    scores=SCORES,
    provenance={"base": "base[1]", "task": "task[/b]"},
)


def wide(num_heads: int, num_kv_heads: int) -> HeadSet:
    geometry = Geometry(num_layers=2, num_heads=num_heads, num_kv_heads=num_kv_heads, head_dim=8)
    scores = tuple(tuple(float(h) for h in range(num_heads)) for _ in range(2))
    every = tuple(geometry.heads())
    return HeadSet(heads=every, geometry=geometry, metric="kl", scores=scores)


@pytest.fixture
def printed(capsys, terminal):
    """Prints as on a terminal of some columns, or into a file."""

    def show(head_set: HeadSet, columns: int | None = None, colour: bool = False, **options) -> str:
        terminal(columns, colour)
        print_heads(head_set, **options)
        return capsys.readouterr().out

    return show


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_facts_names_and_map_stand_in_a_file(printed):
    text = printed(SMALL_SET)
    assert "\x1b" not in text
    assert text.splitlines()[:9] == [
        "pad: 3 of 12 heads chosen (25.0 %), 37.5 % of Q/K/V weights",
        "base[1] → task[/b]",
        "3 layers x 4 heads in 2 KV groups",
        "# is a chosen head; at the right: how many of the layer are",
        "",
        "   0    2",
        "0  . .  . .   0",
        "1  # .  . #   2",
        "2  . .  # .   1",
    ]


def test_the_highest_scores_are_ranked_with_their_place(printed):
    lines = [re.split(r"\s*│\s*", line.strip()) for line in printed(SMALL_SET, top=4).splitlines()]
    assert [line for line in lines if len(line) == 6] == [
        ["1", "1", "0", "0", "9.000e-09", "#"],
        ["2", "2", "2", "1", "8.000e-09", "#"],
        ["3", "1", "3", "1", "7.000e-09", "#"],
        ["4", "1", "2", "1", "6.000e-09", ""],
    ]


def test_ties_go_to_the_lower_layer_and_head(printed):
    equal = replace(SMALL_SET, scores=((1.0,) * 4,) * 3)
    rows = [line.split("│") for line in printed(equal, top=5).splitlines() if "│" in line]
    places = [(int(row[1]), int(row[2])) for row in rows]
    assert places == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]


def test_without_scores_the_map_remains(printed):
    text = printed(replace(SMALL_SET, scores=None, metric=None, provenance={}), 80, colour=True)
    assert plain(text).startswith("no metric: 3 of 12 heads chosen")
    assert "1  # .  . #   2" in plain(text)
    assert "no scores were kept" in text
    assert "rank" not in text and "colour" not in text


def test_no_table_was_asked_for(printed):
    assert "rank" not in printed(SMALL_SET, top=0)


def test_colour_shows_scores_only_where_there_is_colour(printed):
    coloured, without = printed(SMALL_SET, 80, colour=True), printed(SMALL_SET, 80)
    backgrounds = re.findall(r"48;5;(\d+)m", coloured)
    assert len(backgrounds) == 12
    assert len(set(backgrounds)) > 4
    assert "48;5" not in without
    assert "colour: score, dark 0.0e+00 to bright 9.0e-09" in coloured
    assert "colour" not in without
    assert "1  # .  . #   2" in plain(coloured)
    assert "1  # .  . #   2" in plain(without)


@pytest.mark.parametrize(("heads", "groups"), [(32, 8), (32, 32), (32, 16), (64, 8), (9, 3)])
@pytest.mark.parametrize("colour", [True, False])
def test_eighty_columns_hold_every_head_once(printed, heads, groups, colour):
    lines = plain(printed(wide(heads, groups), 80, colour)).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.count("#") for line in lines if re.match(r"[01]  #", line)) == 2 * heads
    assert any(line.endswith(f"  {heads}") for line in lines)


def test_more_heads_than_fit_stand_in_blocks(printed):
    lines = plain(printed(wide(128, 8), 80)).splitlines()
    rows = [line for line in lines if re.match(r"[01]  #", line)]
    assert [row[0] for row in rows] == ["0", "1"] * (len(rows) // 2)
    assert len(rows) > 2
    assert max(map(len, lines)) <= 80
    assert sum(row.count("#") for row in rows) == 2 * 128
    headings = [line.split() for line in lines if re.fullmatch(r"[ \d]+", line)]
    assert [int(n) for line in headings for n in line] == list(range(0, 128, 16))


def test_a_file_keeps_a_layer_on_one_line(printed):
    rows = [line for line in printed(wide(128, 8)).splitlines() if re.match(r"[01]  #", line)]
    assert [row.count("#") for row in rows] == [128, 128]


def test_scores_that_are_no_numbers_are_refused(printed):
    with pytest.raises(ValueError, match="the scores of this head set hold NaN"):
        printed(replace(SMALL_SET, scores=((float("nan"),) * 4,) * 3))
