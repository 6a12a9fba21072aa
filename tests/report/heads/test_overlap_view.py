import re

import numpy as np
import pytest
from matplotlib.image import imread

from alps.heads.geometry import Geometry
from alps.heads.head_set import HeadSet, top_heads
from alps.report.heads.overlap import Comparison, compare
from alps.report.heads.overlap_view import draw_overlap, print_comparison

GEOMETRY = Geometry(num_layers=32, num_heads=32, num_kv_heads=8, head_dim=8)


def head_set(seed: int, **changes) -> HeadSet:
    scores = np.random.default_rng(seed).lognormal(0, 1, (32, 32)).tolist()
    heads = tuple(top_heads(scores, GEOMETRY.count(0.1)))
    return HeadSet(heads=heads, geometry=GEOMETRY, metric="pad", scores=scores, **changes)


def comparison(count: int) -> Comparison:
    return compare([(f"[run]_${i}$-{'long' * 4}", head_set(i)) for i in range(count)])


def small(*sets: tuple[tuple[int, int], ...]) -> Comparison:
    geometry = Geometry(num_layers=12, num_heads=12, num_kv_heads=12, head_dim=2)
    return compare(
        [(f"s{i}", HeadSet(heads=heads, geometry=geometry)) for i, heads in enumerate(sets)]
    )


@pytest.fixture
def printed(capsys, terminal):
    def show(shown: Comparison, columns: int | None = None) -> str:
        terminal(columns)
        print_comparison(shown)
        return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)

    return show


def cells(text: str) -> list[list[str]]:
    return [re.split(r"\s*│\s*", line.strip()) for line in text.splitlines() if "│" in line]


def test_sets_pairs_and_profiles_are_printed(printed):
    every = tuple((0, h) for h in range(12))
    text = printed(small(((0, 0), (3, 1), (3, 2)), (*every, (11, 5)), ((0, 0), (11, 5))))
    assert "3 head sets of 12 layers x 12 heads" in text
    lines = cells(text)
    assert lines[:3] == [["1", "3", "—", "s0"], ["2", "13", "—", "s1"], ["3", "2", "—", "s2"]]
    assert lines[3:6] == [
        ["1, 2", "1", "0.3", "0.067", "2.5e-01", "—"],
        ["1, 3", "1", "0.0", "0.250", "4.1e-02", "—"],
        ["2, 3", "2", "0.2", "0.154", "7.6e-03", "—"],
    ]
    profiles = ["1..2...... ..", "+......... .1", "1......... .1"]
    assert lines[6:] == [[str(i + 1), p] for i, p in enumerate(profiles)]
    assert "in every set: 1 (layer, head): (0, 0)" in text


def test_nothing_in_common_is_said(printed):
    assert "in every set: no head" in printed(small(((0, 0),), ((0, 1),)))


def test_many_common_heads_are_not_all_listed(printed):
    every = (*((layer, 0) for layer in range(12)), (0, 1), (0, 2))
    text = printed(small(every, every))
    assert "in every set: 14 (layer, head): (0, 0), (0, 1), (0, 2), (1, 0)" in text
    assert "and 2 more" in text


def test_a_probability_below_all_floats_is_no_zero(printed):
    geometry = Geometry(num_layers=80, num_heads=64, num_kv_heads=8, head_dim=2)
    same = HeadSet(heads=tuple(geometry.heads()[:512]), geometry=geometry)
    assert "< 1e-300" in printed(compare([("a", same), ("b", same)]))


def test_names_are_printed_as_they_are_and_scores_correlate(printed):
    shown = comparison(3)
    text = printed(shown)
    assert all(name in text for name in shown.names)
    assert cells(text)[3][5] == f"{shown.pairs[0].spearman:.3f}"


def test_twelve_sets_fit_eighty_columns(printed):
    lines = printed(comparison(12), 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(cells("\n".join(lines))) == 12 + 66 + 12


@pytest.mark.parametrize("count", [2, 5, 12])
def test_the_picture_is_real_and_small(count, tmp_path):
    path = tmp_path / "new" / "overlap.png"
    draw_overlap(comparison(count), path)
    assert imread(path).shape[1] == 1200
    assert path.stat().st_size < 200_000
    assert list(path.parent.iterdir()) == [path]


def test_the_picture_shows_overlap_and_profiles(tmp_path):
    def picture(*sets: tuple[tuple[int, int], ...]) -> np.ndarray:
        draw_overlap(small(*sets), tmp_path / "overlap.png")
        return imread(tmp_path / "overlap.png")

    apart = picture(((0, 0), (1, 1)), ((0, 1), (1, 0)))
    together = picture(((0, 0), (1, 1)), ((0, 0), (1, 1)))
    later = picture(((0, 0), (1, 1)), ((0, 1), (5, 0)))
    middle = apart.shape[0] // 2
    matrix, profiles = slice(None, middle), slice(middle + 60, None)
    assert (apart[matrix] != together[matrix]).any()
    assert (apart[profiles] == together[profiles]).all()
    assert (apart[matrix] == later[matrix]).all()
    assert (apart[profiles] != later[profiles]).any()
