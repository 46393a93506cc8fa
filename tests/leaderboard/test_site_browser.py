"""The leaderboard in a real browser: sorting, links, pairs, docs, dark mode, accessibility, no way out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leaderboard.arms import read_arm
from leaderboard.comparison import TaskComparison, compare
from tests.browsing import Visit
from tests.makers.site import EVIL, all_pages, board_of, page_kinds

pytestmark = pytest.mark.slow


def names(page: Any) -> list[str]:
    found: list[str] = page.locator("table.sortable:visible tbody tr:visible th a").all_inner_texts()
    return found


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
    assert [rows.nth(i).locator("td").nth(3).inner_text() for i in range(3)] == ["100", "0", "0"]
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
        assert (
            page.locator("img:not([src^='../images/'], [src^='images/'], [src^='../studies/'])").count() == 0
        )
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


def test_nothing_overflows(browser: Any, site: Path) -> None:
    visit = Visit(browser, site, viewport={"width": 1440, "height": 900})
    for name in page_kinds(site):
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
    for name in page_kinds(site):
        page = visit.open(name)
        if name == "pairs.html":
            page.wait_for_selector("#docs tbody tr")
        found = axe.run(page).response
        assert len(found["passes"]) > 10
        serious = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
        assert [(v["id"], v["nodes"][0]["html"][:200]) for v in serious] == [], name


def test_the_first_page_is_small(site: Path) -> None:
    files = ("index.html", "site.css", "tables.js", "charts.js", "overview.js")
    assert sum((site / name).stat().st_size for name in files) < 300_000
