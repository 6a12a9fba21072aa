import csv
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import browser
from matplotlib.image import imread

from alps.embedding.measures import measure
from alps.report.figure.embedding import (
    axis_labels,
    draw_page,
    draw_picture,
    heading,
    print_measures,
    read_points,
    write_points,
)  # fmt: skip

HOSTILE = "</script><script>document.title='gone'</script><b>$x_$ & \"quoted\",\n  über"
COLOURS = {"general": (0, 114, 178), "m<i>ath": (230, 159, 0)}


def example(
    names: tuple[str, ...] = ("general", "m<i>ath"), projection: str = "pca", apart: float = 9
) -> tuple[Path, dict[str, Any]]:
    """`points.csv` of 20 rows of each dataset, and its measures."""
    rng = np.random.default_rng(0)
    parts = {name: apart * np.eye(9)[i] + rng.normal(size=(20, 9)) for i, name in enumerate(names)}
    points, found = measure(parts, projection, 10, 0)  # pyright: ignore[reportArgumentType]
    datasets = [
        {"name": n, "hash": "0", "num_rows": 20, "num_tokens": 2010, "num_cut": 3} for n in names
    ]
    settings = {"num_rows": 25, "text": "row", "template": "alpaca", "max_length": 512, "seed": 0}
    about = {"model": {"name": "s_m<o>l$"}, "settings": settings, "datasets": datasets}
    rows = [(name, HOSTILE) for name in names for _ in range(20)]
    write_points(Path("new/points.csv"), rows, points.tolist())
    return Path("new/points.csv"), {**about, **found}


def pixels(path: Path) -> np.ndarray:
    picture = np.rint(255 * imread(path)).astype(int)
    assert picture.shape[1] == 1200
    return picture[..., :3]


def near(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.argwhere(np.abs(picture - colour).max(axis=-1) < 60)


def test_points_come_back_and_texts_are_one_line_of_eighty_characters():
    places = [(1.5, -2e-9, 3.0), (0.1, 2e9, 0.0), (4.0, 5.0, 6.0)]
    rows = [("b", "long " * 40), ("a", ' "x",\n\ty '), ("b", "")]
    write_points(Path("points.csv"), rows, places)
    with open("points.csv", newline="") as file:
        header, first, *_ = csv.reader(file)
    assert header == ["dataset", "x", "y", "z", "instruction"]
    assert first[0] == "b" and len(first[4]) == 80
    b, a = read_points(Path("points.csv"))
    assert (b.name, b.places, b.texts[1]) == ("b", (places[0], places[2]), "")
    assert (a.name, a.places, a.texts) == ("a", (places[1],), ('"x", y',))
    assert os.listdir() == ["points.csv"]


@pytest.mark.parametrize("projection", ["pca", "tsne"])
def test_the_picture_shows_each_dataset_in_its_colour(projection):
    path, measures = example(projection=projection)
    points = read_points(path)
    draw_picture(points, measures, Path("new/figure7.png"))
    whole = pixels(Path("new/figure7.png"))
    assert all(len(near(whole, colour)) > 200 for colour in COLOURS.values())
    draw_picture(points[:1], measures, Path("new/figure7.png"))
    assert not len(near(pixels(Path("new/figure7.png")), COLOURS["m<i>ath"]))
    assert sorted(os.listdir("new")) == ["figure7.png", "points.csv"]


def test_a_name_may_hold_any_character():
    path, measures = example(("$\\frac{$", "_b_"))
    draw_picture(read_points(path), measures, Path("figure7.png"))  # or it would be mathematics
    assert len(near(pixels(Path("figure7.png")), COLOURS["general"])) > 200


def test_eight_datasets_have_eight_looks():
    path, measures = example(tuple("abcdefgh"))
    draw_picture(read_points(path), measures, Path("figure7.png"))
    assert len(near(pixels(Path("figure7.png")), (213, 94, 0))) > 100


def test_the_heading_says_what_is_shown():
    _, measures = example()
    shares = measures["projection"]["explained_variance"]
    first, second = heading(measures)
    assert first == "Datasets as s_m<o>l$ embeds them"
    assert second.startswith("20 rows of each; mean of the last hidden states of prompt and answer")
    assert second.endswith(f"PCA, {sum(shares):.0%} of the variance")
    assert axis_labels(measures)[0] == f"PC 1 ({shares[0]:.1%})"
    measures["datasets"][0]["num_rows"] = 7
    assert heading(measures)[1].startswith("rows of each")
    _, measures = example(projection="tsne")
    assert re.search(r"t-SNE, perplexity 13, KL [\d.]+$", heading(measures)[1])
    assert axis_labels(measures) == ["t-SNE 1", "t-SNE 2", "t-SNE 3"]


def test_the_numbers_are_printed(capsys):
    _, measures = example()
    print_measures(measures)
    text = capsys.readouterr().out
    cells = [re.split(r"\s*│\s*", line.strip()) for line in text.splitlines() if "│" in line]
    assert cells[0] == ["general", "20 of 25", "100", "3"]
    s, n = measures["silhouette"]["full"], measures["neighbors"]
    (full,) = [line for line in cells if line[0] == "full space, cosine"]
    assert full[1] == f"{s['mean']:.3f} [{s['interval'][0]:.3f}, {s['interval'][1]:.3f}]"
    assert full[3:] == [f"{v:.3f}" for v in s["datasets"].values()]
    share, low, high = n["share"][1][0], n["low"][1][0], n["high"][1][0]
    assert cells[-1][0] == "m<i>ath"
    assert cells[-1][1] == f"{share:.1%} [{low:.1%}, {high:.1%}] / {20 / 39:.1%}"


def test_one_dataset_has_no_silhouette_and_that_is_said(capsys):
    print_measures(example(("alone",))[1])
    text = capsys.readouterr().out
    assert "silhouette: — (one dataset" in text and "labels shuffled" not in text


def test_the_page_is_one_file_and_texts_stay_texts():
    path, measures = example()
    draw_page(read_points(path), measures, Path("new/figure7.html"))
    page = Path("new/figure7.html").read_text()
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", page)
    assert "<title>Datasets as s_m&lt;o&gt;l$ embeds them</title>" in page
    assert "</script><script>document" not in page
    assert f"{measures['silhouette']['full']['mean']:.3f} [" in page
    assert sorted(os.listdir("new")) == ["figure7.html", "points.csv"]


@pytest.mark.browser
def test_the_page_works_offline_in_a_browser(tmp_path):
    path, measures = example()
    page = tmp_path / "figure7.html"
    draw_page(read_points(path), measures, page)
    with browser(tmp_path) as tab:
        tab.ask("Page.navigate", url=page.as_uri())
        traces = tab.wait_for(
            "(document.querySelector('.js-plotly-plot')?._fullLayout?.scene?._scene?.glplot) &&"
            "document.querySelector('.js-plotly-plot').data.map(t => [t.name, t.x.length])"
        )
        titles = tab.wait_for("[document.title, document.querySelector('.legend').textContent]")
        asked, complaints = tab.requested(), tab.errors()
    assert [count for _, count in traces] == [20, 20]
    assert titles[0] == "Datasets as s_m<o>l$ embeds them"  # no row has run its script
    assert "m<i>ath (20)" in titles[1]
    assert page.as_uri() in asked
    assert {url.split(":")[0] for url in asked} <= {"file", "data", "blob"}, asked
    assert not complaints
