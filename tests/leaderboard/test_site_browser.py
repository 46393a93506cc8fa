"""The leaderboard in a real browser: sorting, links, pairs, docs, dark mode, accessibility, no way out."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leaderboard.arms import read_arm
from leaderboard.comparison import TaskComparison, compare
from leaderboard.site.build import RunFolder, build_site
from mimic_tasks.catalog import Catalog
from mimic_tasks.locate import EMBEDDED
from tests.browsing import Visit
from tests.makers.docs_runs import docs_in, drawn, write_docs_run
from tests.makers.runs import BLOCK, NONE, binary, permuted, write_run
from tests.makers.studies import cell, write_study

pytestmark = pytest.mark.slow

EVIL = '"><script>document.title="owned"</script><img src=x onerror=\'document.title="owned"\'>'
EVIL_TASK = "mimic_counting_studied"
SUBMISSION = {
    "name": "team-a", "who": EVIL, "what": f"Sent 8B {EVIL}", "checkpoint": "https://example.org/x-8b",
    "hardware": EVIL, "link": "https://example.org/paper",
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("site")
    docs = {kind: own for kind, own in docs_in(EMBEDDED, limit=25).items() if kind in ("counting", "listing")}
    runs = [
        write_docs_run(at / "good", docs, drawn(1, 1.2, docs), {**NONE, "checkpoint": "made/x-7b"}),
        write_docs_run(at / "bad", docs, drawn(2, 0.1, docs), {**BLOCK, "checkpoint": "made/x-0.5b"}),
        write_docs_run(
            at / "coco",
            docs,
            drawn(3, 0.6, docs),
            {**BLOCK, "family": "qwen2_vl", "checkpoint": "made/q-2b"},
            label="coco",
        ),
    ]
    orders = [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
    rights = [(True, True, True)] * 4 + [(True, False, False)] * 5 + [(False, True, False)] * 3
    turned = [
        own for d, right in enumerate(rights) for own in permuted(d, orders, right, n_images=3, gt=str(d))
    ]
    task, metrics = "mimic_counting_permuted", ("exact_match_over_orders",)
    runs.append(
        write_run(at / "turned", {task: turned}, {**NONE, "checkpoint": "made/x-7b"}, metrics=metrics)
    )
    still = [own for d in range(12) for own in permuted(d, orders, (True,) * 3, n_images=3, gt=str(d))]
    runs.append(write_run(at / "still", {task: still}, {**BLOCK, "checkpoint": "made/x-7b"}, metrics=metrics))
    keys = [{"n_images": 2 + i % 3, "spread": 1 + i % 2} for i in range(60)]
    cells = [
        binary(i, i % 3 > 0, cell=",".join(f"{key}={value}" for key, value in own.items()), **own)
        for i, own in enumerate(keys)
    ]
    sweep, metrics = "mimic_counting_grid", ("exact_match", "exact_match_official")
    runs.append(write_run(at / "sweep", {sweep: cells}, {**NONE, "checkpoint": "made/x-7b"}, metrics=metrics))
    hostile = {**NONE, "checkpoint": EVIL, "family": EVIL, "mask": EVIL}
    evil = [binary(i, i % 2 > 0, EVIL, gt=EVIL, question=EVIL, response=EVIL, cell=EVIL) for i in range(6)]
    runs.append(write_run(at / "evil", {"mimic_counting": evil}, hostile, metrics=metrics))
    other = [binary(i, True, EVIL, gt=EVIL, question=EVIL, response=EVIL, cell=EVIL) for i in range(6)]
    sent = write_run(at / "sent", {"mimic_counting": other}, hostile, metrics=metrics)
    spec = {
        "id": "made:study", "title": f"Study {EVIL}", "paper": EVIL, "caveats": [EVIL], "tasks": [EVIL_TASK],
        "settings": [{"name": "none"}, {"name": "block"}], "output": [{"kind": "table"}, {"kind": "flips"}],
        "reported": {"source": EVIL, "columns": [{"name": EVIL, "task": EVIL_TASK}],
                     "rows": [{"model": EVIL, "setting": "none", "values": ["50.0"]}]},
        "claims": {"says": EVIL, "of": "change", "expect": "above 0"},
    }  # fmt: skip
    planned = [cell(name, tasks=[EVIL_TASK]) for name in ("none", "block")]
    studied = write_study(at / "studied", spec, planned, {"none": NONE, "block": BLOCK})
    for name, settings in (("none", NONE), ("block", BLOCK)):
        rows = [binary(i, i % 3 > 0, EVIL, gt=EVIL, question=EVIL) for i in range(6)]
        write_run(studied / "cells" / name, {EVIL_TASK: rows}, settings, metrics=metrics[:1])
    runs.append(studied)
    given = [*(RunFolder(folder) for folder in runs), RunFolder(sent, SUBMISSION)]
    build_site(given, at / "site", sources=[Catalog(EMBEDDED)], title="Made")
    return at / "site"


@pytest.fixture
def visit(browser: Any, site: Path) -> Iterator[Visit]:
    visit = Visit(browser, site)
    yield visit
    visit.close()


def names(page: Any) -> list[str]:
    found: list[str] = page.locator("table.sortable:visible tbody tr:visible th a").all_inner_texts()
    return found


def all_pages(site: Path) -> list[str]:
    return sorted(file.relative_to(site).as_posix() for file in site.rglob("*.html"))


def board_of(site: Path, task: str, entries: int = 1, data: str | None = None) -> dict[str, Any]:
    for file in sorted((site / "data/boards").glob("*.json")):
        board: dict[str, Any] = json.loads(file.read_text())
        if board["task"] == task and len(board["standings"]) == entries and data in (None, board["data"]):
            return board
    raise AssertionError(task)


def test_filters_leave_the_rows_that_fit_and_stand_in_the_address(visit: Visit) -> None:
    page = visit.open("index.html")
    everything = len(names(page))
    page.select_option("[name=family]", "qwen2_vl")
    assert names(page) == ["q-2b · block 3-5"]
    assert page.locator("#count").inner_text().startswith("1 of ")
    assert page.url.endswith("#family=qwen2_vl")
    page.select_option("[name=family]", "")
    page.select_option("[name=data]", "embedded")
    assert names(page) == ["x-7b · none", "x-0.5b · block 3-5"]
    page.fill("[name=name]", "X-7")
    assert names(page) == ["x-7b · none"]
    again = visit.open(page.url.rsplit("/", 1)[1])
    assert names(again) == ["x-7b · none"]
    assert again.input_value("[name=data]") == "embedded"
    again.select_option("[name=data]", "")
    again.fill("[name=name]", "")
    assert len(names(again)) == everything
    assert "#" not in again.url


def test_columns_sort_both_ways_by_number_and_the_address_says_it(visit: Visit, site: Path) -> None:
    board = board_of(site, "mimic_counting", entries=2, data="embedded")
    page = visit.open("index.html#data=embedded")
    head = page.locator(f'th[data-key="{board["id"]}"]')
    button = head.locator("button")
    button.focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert names(page) == ["x-7b · none", "x-0.5b · block 3-5"]
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert names(page) == ["x-0.5b · block 3-5", "x-7b · none"]
    again = visit.open(page.url.rsplit("/", 1)[1])
    assert names(again) == ["x-0.5b · block 3-5", "x-7b · none"]
    again.locator('table:visible th[data-key="name"] button').click()
    assert names(again) == ["x-0.5b · block 3-5", "x-7b · none"]
    again.locator('table:visible th[data-key="name"] button').click()
    assert names(again) == ["x-7b · none", "x-0.5b · block 3-5"]


def test_a_sentence_of_the_address_that_no_filter_has_is_ignored(visit: Visit) -> None:
    page = visit.open("index.html#family=nothing&sort=t1.nothing.up&data=%3Cb%3E")
    assert page.input_value("[name=family]") == ""
    assert len(names(page)) > 2


def counting(site: Path, a: str, b: str) -> TaskComparison:
    """Counting alone, as `mimic compare` compares two of the site's runs."""
    arms = [read_arm(site.parent / name) for name in (a, b)]
    arms = [replace(arm, samples={"mimic_counting": arm.samples["mimic_counting"]}) for arm in arms]
    (row,) = compare(arms).rows
    return row


def test_head_to_head_shows_discordant_docs_first_and_what_the_test_says(visit: Visit, site: Path) -> None:
    board = board_of(site, "mimic_counting", entries=2, data="embedded")
    good, bad = (own["entry"] for own in board["standings"])
    page = visit.open(f"pairs.html#board={board['id']}&a={bad}&b={good}")
    page.wait_for_selector("#docs tbody tr")
    said = page.locator(".sentence").inner_text()
    row = counting(site, "bad", "good")
    scores = (100 * row.score_b.estimate, 100 * row.score_a.estimate)
    words = row.sentence[row.sentence.index("(+") :].replace(
        "n = 25)", "n = 25; unscored docs count as wrong)"
    )
    assert (
        said == "Counting: x-7b · none {:.1f} % vs x-0.5b · block 3-5 {:.1f} % ".format(*scores) + words + "."
    )
    assert said.endswith(": better.")
    kinds = page.locator("#docs tbody th small").all_inner_texts()
    assert len(kinds) == 25
    first = kinds.count("only B right")
    assert first > 10
    assert kinds[:first] == ["only B right"] * first
    assert set(kinds[first:]) == {"both the same score"}
    points = float(said.split("(+")[1].split(" ")[0])
    assert points == pytest.approx(100 * (first - kinds.count("only A right")) / 25, abs=0.05)
    page.select_option("[name=a]", good)
    page.select_option("[name=b]", bad)
    page.wait_for_function("document.querySelector('.sentence').textContent.endsWith(': worse.')")
    row = counting(site, "good", "bad")
    words = row.sentence[row.sentence.index("(-") : row.sentence.index("; n = 25")]
    assert words in page.locator(".sentence").inner_text()
    assert page.url.endswith(f"#board={board['id']}&a={good}&b={bad}")
    assert page.locator("#docs tbody th small").first.inner_text() == "only A right"


def test_a_doc_of_a_pair_opens_in_the_viewer_with_its_pictures_and_boxes(visit: Visit, site: Path) -> None:
    board = board_of(site, "mimic_counting", entries=2, data="embedded")
    page = visit.open(f"pairs.html#board={board['id']}")
    page.locator("#docs tbody th a").first.click()
    page.wait_for_selector("article:target")
    doc = page.locator("article:target")
    pictures = doc.locator("img")
    count = pictures.count()
    assert count == int(doc.locator("dl.facts dd").first.inner_text())  # N
    for i in range(count):
        pictures.nth(i).scroll_into_view_if_needed()
        page.wait_for_function(
            "(i) => document.querySelectorAll('article:target img')[i].naturalWidth > 0", arg=i
        )
        assert pictures.nth(i).get_attribute("alt").startswith(f"Image {i + 1} of {count}, id ")
    assert doc.locator(".box:visible").count() == 0
    page.check("#boxes-targets")
    targets = doc.locator(".box:visible").count()
    page.check("#boxes-all")
    assert 0 < targets < doc.locator(".box:visible").count()
    assert doc.locator("tbody tr").count() == 2


def test_answers_across_orders_stand_beside_their_order(visit: Visit, site: Path) -> None:
    board = board_of(site, "mimic_counting_permuted", entries=2)
    page = visit.open(f"docs/{board['id']}-1.html")
    rows = page.locator("article").nth(4).locator("tbody tr", has_text="none")
    assert [rows.nth(i).locator("td").first.inner_text() for i in range(3)] == [
        "1, 2, 3",
        "2, 3, 1",
        "3, 1, 2",
    ]
    assert [rows.nth(i).locator("td").nth(3).inner_text() for i in range(3)] == ["1", "0", "0"]
    assert "3 orders of the images" in page.locator("summary").nth(4).inner_text()


def test_charts_and_heat_maps_are_drawn_with_their_words(visit: Visit, site: Path) -> None:
    board = board_of(site, "mimic_counting_grid")
    page = visit.open(f"tasks/{board['id']}.html")
    chart = page.locator("figure svg[role=img]").first
    assert "score against images in the doc (N)" in chart.get_attribute("aria-label")
    assert chart.locator(".mark").count() == 3
    entry = board["standings"][0]["entry"]
    page = visit.open(f"models/{entry}.html")
    grid = page.locator("table", has_text="Cells: n_images down, spread across")
    assert grid.locator("tbody tr").count() == 3
    assert grid.locator("thead th").all_inner_texts() == ["n_images", "spread 1", "spread 2"]
    page = visit.open("robustness.html")
    assert page.locator("figure .series").count() == 2
    assert page.locator("td", has_text="1 of 2").count() == 1


def test_head_to_head_says_who_is_steadier(visit: Visit, site: Path) -> None:
    board = board_of(site, "mimic_counting_permuted", entries=2)
    ids = {own["label"].split(" · ")[1]: own["entry"] for own in board["standings"]}
    page = visit.open(f"pairs.html#board={board['id']}&a={ids['none']}&b={ids['block 3-5']}")
    told = page.locator("#result p", has_text="pairs of orders that agree").inner_text()
    assert told.startswith(
        "Counting (permuted), pairs of orders that agree: x-7b · block 3-5 vs x-7b · none (+44.4 points, "
    )
    assert "; paired permutation, p = " in told
    assert told.endswith("; n = 12): steadier.")
    page = visit.open(f"pairs.html#board={board['id']}&a={ids['block 3-5']}&b={ids['none']}")
    told = page.locator("#result p", has_text="pairs of orders that agree").inner_text()
    assert told.endswith("; n = 12): less steady.")


def test_no_page_is_owned_breaks_or_asks_for_anything_outside(visit: Visit, site: Path) -> None:
    pages = all_pages(site)
    assert len(pages) > 15
    for name in pages:
        page = visit.open(name)
        assert page.title() != "owned", name
        assert page.locator("script:not([src])").count() == 0
        assert page.locator("img:not([src^='../images/']):not([src^='../studies/'])").count() == 0
        names = page.evaluate(
            "[...document.querySelectorAll('*')].flatMap((element) => element.getAttributeNames())"
        )
        assert not [own for own in names if own.startswith("on") or own in ("style", "srcdoc")]
    evil = next(b for b in map(json.loads, (f.read_text() for f in (site / "data/boards").glob("*.json")))
                if b["docs"] == 6)  # fmt: skip
    page = visit.open(f"pairs.html#board={evil['id']}")
    page.wait_for_selector("#docs tbody tr")
    assert EVIL in page.locator("#docs").inner_text()
    assert page.locator("#docs img, #docs script").count() == 0
    assert page.title() != "owned"


def test_basic_pages_work_without_scripts(browser: Any, site: Path) -> None:
    visit = Visit(browser, site, java_script_enabled=False)
    page = visit.open("index.html")
    assert len(names(page)) > 3
    assert not page.locator("#filters").is_visible()
    page.locator("table.sortable th a").first.click()
    assert page.locator("h1").inner_text()
    page = visit.open("pairs.html")
    assert "Choosing a pair needs scripts" in page.locator("main").inner_text()
    board = board_of(site, "mimic_counting", entries=2, data="embedded")
    page = visit.open(f"docs/{board['id']}-1.html")
    page.check("#boxes-all")
    assert page.locator(".box:visible").count() > 0
    visit.close()


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_overflows(browser: Any, site: Path, width: int) -> None:
    visit = Visit(browser, site, viewport={"width": width, "height": 900})
    for name in all_pages(site):
        page = visit.open(name)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
    visit.close()


def test_dark_and_light_are_followed(browser: Any, site: Path) -> None:
    grounds = {}
    for scheme in ("dark", "light"):
        page = Visit(browser, site, color_scheme=scheme).open("index.html")
        grounds[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert grounds == {"dark": "rgb(22, 24, 26)", "light": "rgb(250, 250, 248)"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, site: Path, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()
    visit = Visit(browser, site, color_scheme=scheme)
    kinds: dict[str, str] = {}
    for name in all_pages(site):  # the first page of each folder, and all of the others
        kinds.setdefault(name if "/" not in name else name.split("/")[0], name)
    grid = board_of(site, "mimic_counting_grid")
    for name in [*kinds.values(), f"tasks/{grid['id']}.html", f"models/{grid['standings'][0]['entry']}.html"]:
        page = visit.open(name)
        if name == "pairs.html":
            page.wait_for_selector("#docs tbody tr")
        found = axe.run(page).response
        assert len(found["passes"]) > 10
        serious = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
        assert [(v["id"], v["nodes"][0]["html"][:200]) for v in serious] == [], name


def test_the_first_page_is_small(site: Path) -> None:
    files = ("index.html", "site.css", "overview.js")
    assert sum((site / name).stat().st_size for name in files) < 300_000
