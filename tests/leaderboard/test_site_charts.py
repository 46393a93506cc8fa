"""The site's charts: how entries look, what is drawn against what, and where the marks stand."""

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from leaderboard.site.build import RunFolder, build_site
from leaderboard.site.charts import ChartPoint, Series, line_chart
from leaderboard.site.controls import cell_grid, controls_drawn
from leaderboard.site.looks import DARK, DASHES, LIGHT, MARKERS, look_of
from leaderboard.site.pages import Pages
from leaderboard.site.results import Point
from tests.makers.runs import BLOCK, NONE, binary, listing, write_run

EXACT = ("exact_match", "exact_match_official")
PLAIN = look_of(0)


def counting(folder: Path, settings: dict[str, Any], *, date: str = "1", **more: Any) -> Path:
    samples = [
        binary(i, i % 3 > 0, **{name: values[i % len(values)] for name, values in more.items()})
        for i in range(48)
    ]
    return dated(write_run(folder, {"mimic_counting": samples}, settings, metrics=EXACT), date)


def dated(folder: Path, date: str) -> Path:
    """The run with its date in the results, as lmms-eval writes it."""
    (results,) = folder.glob("*_results.json")
    results.write_text(json.dumps({**json.loads(results.read_text()), "date": date}))
    return folder


def built(out: Path, *folders: Path) -> Path:
    build_site([RunFolder(folder) for folder in folders], out, sources=(), title="Made")
    return out


def looks(site: Path) -> dict[str, int]:
    models = [json.loads(file.read_text()) for file in (site / "data/models").glob("*.json")]
    return {model["label"]: model["look"] for model in models}


def points(**scores: float) -> list[Point]:
    return [Point(name.replace("_", "="), 12, 0, score, 0.0, 1.0, "") for name, score in scores.items()]


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def lab(colour: str) -> tuple[float, float, float]:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    xyz = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089,
    )
    x, y, z = (value ** (1 / 3) if value > 0.008856 else 7.787 * value + 16 / 116 for value in xyz)
    return (116 * y - 16, 500 * (x - y), 200 * (y - z))


def test_colours_can_be_seen_on_light_and_dark_pages_and_told_apart() -> None:
    style = Pages("x").assets()["site.css"]
    light, dark = re.findall(r"--ground: (#\w+); --card: (#\w+);", style)
    for grounds, colours in ((light, LIGHT), (dark, DARK)):
        for ground, colour in itertools.product(grounds, colours):
            ground = f"#{ground[1:] * 2}" if len(ground) == 4 else ground
            assert contrast(ground, colour) >= 3.5, (ground, colour)  # WCAG 1.4.11 wants 3
        assert min(math.dist(lab(a), lab(b)) for a, b in itertools.combinations(colours, 2)) > 20
        for number, colour in enumerate(colours):
            assert f"--c{number}: {colour};" in style


def test_looks_differ_in_print_too() -> None:
    made = [look_of(number) for number in range(320)]
    assert len(set(made)) == 320
    assert len({(one.colour, one.marker) for one in made[:64]}) == 64
    for first in range(0, 64, 8):
        row = made[first : first + 8]
        assert len({one.marker for one in row}) == len({one.colour for one in row}) == 8
    assert {len(LIGHT), len(DARK), len(MARKERS)} == {8}
    assert {one.dash for one in made} == set(range(len(DASHES)))


def test_an_entry_keeps_its_look_when_runs_are_added(tmp_path: Path) -> None:
    b = counting(tmp_path / "b", BLOCK, date="20260102")
    c = counting(tmp_path / "c", {**BLOCK, "checkpoint": "x"}, date="20260103")
    site = built(tmp_path / "site", b, c)
    before = looks(site)
    assert before == {"m · block 3-5": 0, "x · block 3-5": 1}
    newer = counting(tmp_path / "a", NONE, date="20260104")
    assert looks(built(tmp_path / "other", newer, b, c)) == {**before, "m · none": 2}  # from nothing
    older = counting(tmp_path / "0", {**NONE, "checkpoint": "y"}, date="20250101")
    again = counting(tmp_path / "again", BLOCK, date="20260105")
    assert looks(built(site, older, newer, again, c))["x · block 3-5"] == 1  # an older one, into the site
    assert looks(site)["m · block 3-5"] == 0  # run again
    assert sorted(looks(site).values()) == [0, 1, 2, 3]
    assert looks(built(site, older, newer, again, c)) == looks(site)


def test_an_entry_is_drawn_the_same_on_every_page(tmp_path: Path) -> None:
    """Before, the best entry of each chart was blue: an entry changed its colour from page to page."""
    runs = []
    for number, (settings, best) in enumerate(((NONE, "counting"), (BLOCK, "common"))):
        tasks = {
            f"mimic_{task}": [
                binary(i, i % 8 > (0 if task == best else 5), kind=task, n_images=2 + i % 2)
                for i in range(48)
            ]
            for task in ("counting", "common")
        }
        run = write_run(tmp_path / str(number), tasks, settings, metrics=EXACT)
        runs.append(dated(run, f"2026010{number}"))
    site = built(tmp_path / "site", *runs)
    drawn: dict[str, set[str]] = {}
    for page in [*site.glob("tasks/*.html"), *site.glob("models/*.html")]:
        text = page.read_text()
        titled = re.search(r"<h1>(.*?)</h1>", text)
        assert titled is not None
        for title, mark in re.findall(r'<g class="mark.*?<title>(.*?)</title>.*?(<path class="f.*?/>)', text):
            look = re.search(r'class="(f\d)".* d="([^"]+)"', mark)
            assert look is not None
            heading = re.sub("<.*?>", "", titled[1]).strip()
            name = heading if page.parent.name == "models" else title.split(", ")[0]
            drawn.setdefault(name, set()).add(look[1] + look[2])
    keys = re.findall(
        r'<svg class="key".*?class="(f\d)".*? d="([^"]+)"/></svg> <a [^>]*>(\w+)',
        (site / "index.html").read_text(),
    )
    for colour, marker, name in keys:
        drawn[{"none": "m · none", "block": "m · block 3-5"}[name]].add(colour + marker)
    assert len(keys) == 2
    assert drawn == {"m · none": {f"f0{MARKERS[0]}"}, "m · block 3-5": {f"f1{MARKERS[1]}"}}


def test_numbers_are_at_their_distance_and_marks_say_what_they_lack() -> None:
    made = [
        ChartPoint("2", 0.0, 0.0, 0.2, 10),
        ChartPoint("4", 1.0, 0.5, 1.0, 9),
        ChartPoint("10", 0.5, None, None, 12),
        ChartPoint("12", 0.5, 0.4, 0.6, 60),
    ]
    chart = line_chart("t", "x", [Series("m", PLAIN, made)])
    (line,) = chart.lines
    xs = [mark.x for mark in line.marks]
    assert (xs[1] - xs[0]) / (xs[2] - xs[0]) == pytest.approx(2 / 8, abs=1e-3)
    assert (line.marks[0].y, line.marks[1].y) == (chart.bottom, chart.top)
    assert [mark.bounded for mark in line.marks] == [True, True, False, True]
    assert [mark.pale for mark in line.marks] == [False, True, False, False]
    at = [f"{mark.x:.1f} {mark.y:.1f}" for mark in line.marks]
    assert line.path == f"M{at[2]}L{at[3]}"
    assert line.pale_path == f"M{at[0]}L{at[1]}L{at[2]}"
    assert line.band == ""  # a band would say that the third interval has no width
    assert chart.open
    assert chart.pale
    assert chart.alt == (
        "t. m: 2: 0.0 % (0.0 to 20.0; n 10); 4: 100.0 % (50.0 to 100.0; n 9); "
        "10: 50.0 % (no interval; n 12); 12: 50.0 % (40.0 to 60.0; n 60)"
    )
    assert [tick.text for tick in chart.y] == ["0", "25", "50", "75", "100"]


def test_cells_of_two_keys_make_a_grid() -> None:
    made = [Point(f"n={n},s={s}", n, 0, n / 10, None, None, "") for n in (10, 2) for s in (1, 2)][:3]
    grid = cell_grid(made)
    assert grid is not None
    assert (grid.row_key, grid.rows, grid.columns) == ("n", ("2", "10"), ("1", "2"))
    assert grid.values == ((made[2], None), (made[0], made[1]))
    assert cell_grid([made[0]._replace(value="n=1")]) is None


def test_a_sweep_is_drawn_against_what_it_varies_alone() -> None:
    """d follows from s where N is fixed: before, a curve over d was beside that over s."""
    one = {
        "spread": points(**{"1": 0.5, "2": 0.6}),
        "distractors": points(**{"6": 0.6, "7": 0.5}),
        "cell": points(spread_1=0.5, spread_2=0.6),
    }
    assert [(own.key, own.controlled) for own in controls_drawn("counting", [one])] == [("spread", True)]
    grid = {**one, "cell": points(**{"spread=1,distractors_0": 0.5, "spread=2,distractors_0": 0.6})}
    drawn = controls_drawn("counting", [grid, {}])
    assert [own.key for own in drawn] == ["spread", "distractors", "cell"]
    (total,) = controls_drawn(
        "counting", [{"spread": one["spread"], "cell": points(total_4=0.5, total_8=0.5)}]
    )
    assert (total.key, total.title, total.prefix) == ("cell", "target objects in a doc", "total=")
    (irregular,) = controls_drawn("counting", [{"spread": one["spread"], "cell": points(a_1=0.5, b_8=0.5)}])
    assert irregular.key == "cell"


def test_docs_drawn_at_random_are_said_not_to_be_controlled(tmp_path: Path) -> None:
    site = built(tmp_path / "site", counting(tmp_path / "a", NONE, n_images=[2, 3, 4], spread=[1, 2]))
    for page in (next(site.glob("tasks/*.html")), next(site.glob("models/*.html"))):
        text = page.read_text()
        assert text.count('<figcaption><span class="tag">not controlled</span>') == 2
        assert "Docs with other values differ in other ways too." in text
    cells = [f"spread={s}" for s in (1, 2, 3)]
    run = counting(tmp_path / "b", NONE, spread=[1, 2, 3], distractors=[7, 6, 5], cell=cells)
    swept = built(tmp_path / "swept", run)
    for page in (next(swept.glob("tasks/*.html")), next(swept.glob("models/*.html"))):
        text = page.read_text()
        assert "not controlled" not in text
        assert re.findall('score against ([^;."]+)', text)[0] == "images with a target (s)"
        assert "images without a target (d)" not in text


def test_a_grid_has_a_line_for_each_value_of_its_shorter_key(tmp_path: Path) -> None:
    cells = [f"n_images={n},spread={s}" for n in (2, 4, 8) for s in (1, 2)]
    site = built(
        tmp_path / "site",
        counting(tmp_path / "a", NONE, n_images=[2, 2, 4, 4, 8, 8], spread=[1, 2], cell=cells),
    )
    text = next(site.glob("models/*.html")).read_text()
    assert re.findall(r'<span tabindex="0">(.*?)</span>', text) == ["spread = 1", "spread = 2"]
    assert len(re.findall("<figure", text)) == 1


def test_listing_counts_the_classes_to_list(tmp_path: Path) -> None:
    """The column k is the number of classes in the right answer; it was called the classes asked about."""
    (own,) = controls_drawn("listing", [{"k": points(**{"1": 0.5, "2": 0.6})}])
    assert (own.name, own.title) == ("classes to list", "classes to list")
    (own,) = controls_drawn("counting", [{"k": points(**{"1": 0.5, "2": 0.6})}])
    assert (own.name, own.title) == ("k", "classes asked about (k)")
    rows = [listing(i, (1, 1, 1 + i % 2), ["cat"], gt="cat", k=1 + i % 2) for i in range(30)]
    folder = write_run(tmp_path / "a", {"mimic_listing": rows}, NONE, metrics=("f1",))
    site = built(tmp_path / "site", folder)
    text = next(site.glob("tasks/*.html")).read_text()
    assert "Score by classes to list" in text
    docs = next(site.glob("docs/*.html")).read_text()
    assert "<dt>classes to list</dt><dd>2</dd>" in docs
