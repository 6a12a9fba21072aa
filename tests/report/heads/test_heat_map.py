from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from alps.heads.geometry import Geometry
from alps.heads.head_set import HeadSet, top_heads
from alps.report.heads.heat_map import draw_heat_map, tick_positions

RED = (255, 42, 42)


def head_set(layers: int = 3, heads: int = 6, groups: int = 3, ratio: float = 0.3) -> HeadSet:
    geometry = Geometry(num_layers=layers, num_heads=heads, num_kv_heads=groups, head_dim=8)
    values = 1e-9 * np.random.default_rng(0).lognormal(0, 1.5, (layers, heads))
    scores = tuple(map(tuple, values))
    chosen = tuple(top_heads(scores, geometry.count(ratio)))
    return HeadSet(heads=chosen, geometry=geometry, metric="pad", ratio=ratio, scores=scores)


def pixels(drawn: HeadSet, path: Path = Path("map.png"), **options) -> np.ndarray:
    draw_heat_map(drawn, path, **options)
    picture = np.rint(255 * imread(path)).astype(int)
    assert picture.shape[1] == 1200
    assert path.stat().st_size < 200_000
    return picture[..., :3]


def red(picture: np.ndarray) -> int:
    return int((picture == RED).all(axis=-1).sum())


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 6, 6), (30, 9, 3), (32, 32, 8), (80, 64, 8)])
def test_models_of_every_size_fit(shape):
    drawn = head_set(*shape, ratio=0.1)
    assert red(pixels(drawn)) > 0
    assert red(pixels(replace(drawn, scores=None, metric=None))) > 0


def test_chosen_heads_are_outlined_where_they_are():
    one = replace(head_set(), heads=((0, 0),))
    other = replace(head_set(), heads=((2, 5),))
    places = [np.argwhere((pixels(drawn) == RED).all(axis=-1)) for drawn in (one, other)]
    assert len(places[0]) and len(places[1])
    (top_one, left_one), (top_other, left_other) = places[0].min(axis=0), places[1].min(axis=0)
    assert top_one < top_other  # layer 0 is above layer 2
    assert left_one < left_other
    assert places[0][:, 1].max() < left_other


def test_colour_is_the_score():
    plain = head_set()
    assert plain.scores is not None
    swapped = replace(plain, scores=plain.scores[::-1])
    assert (pixels(plain) != pixels(swapped)).any()


def test_scores_as_small_as_floats_go_keep_their_colours():
    drawn = head_set()
    assert drawn.scores is not None
    tiny = tuple(tuple(1e-200 * s for s in row) for row in drawn.scores)
    ordinary, small = pixels(drawn), pixels(replace(drawn, scores=tiny))
    map_height = ordinary.shape[0] - 190  # above the colour bar, whose numbers differ
    assert (ordinary[:map_height] == small[:map_height]).all()


def test_equal_scores_can_be_drawn():
    zero = replace(head_set(), scores=((0.0,) * 6,) * 3)
    assert red(pixels(zero)) > 0


def test_groups_are_parted():
    shared = head_set(groups=3)
    alone = replace(shared, geometry=replace(shared.geometry, num_kv_heads=6))
    height = {name: pixels(s).shape[0] for name, s in (("shared", shared), ("alone", alone))}
    assert height["shared"] > height["alone"]  # the groups have labels above the map
    drawn = pixels(replace(shared, heads=((0, 0),), scores=((1.0,) * 6,) * 3))
    left, width = 0.75 * 150, 5.75 * 150 / 6  # of the map and of a head, in pixels
    row = drawn[200]  # inside layer 1
    white = [(row[round(left + h * width)] == 255).all() for h in range(1, 6)]
    assert white == [False, True, False, True, False]  # groups of two; other lines are thinner


def test_the_title_may_hold_any_character_and_any_length():
    drawn = head_set()
    usual = pixels(drawn)
    assert (pixels(drawn, title="$x_$ \\frac{ " * 30) != usual).any()
    named = replace(drawn, provenance={"base": "a", "task": "b"})
    assert (pixels(named) == pixels(drawn, title="a → b")).all()


def test_nothing_is_left_beside_the_picture_even_after_a_refusal(tmp_path):
    draw_heat_map(head_set(), tmp_path / "new" / "map.png")
    bad = replace(head_set(), scores=((float("nan"),) * 6,) * 3)
    with pytest.raises(ValueError, match="hold NaN"):
        draw_heat_map(bad, tmp_path / "new" / "bad.png")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["map.png"]


@pytest.mark.parametrize(
    ("count", "step", "labelled"),
    [
        (1, 1, [0]),
        (17, 1, list(range(17))),
        (32, 1, list(range(0, 32, 2))),
        (32, 4, list(range(0, 32, 4))),
        (128, 4, list(range(0, 128, 8))),
    ],
)
def test_ticks_are_few_and_keep_step(count, step, labelled):
    assert list(tick_positions(count, step)) == labelled
