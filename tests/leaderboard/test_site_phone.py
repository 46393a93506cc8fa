"""The site on a phone: nothing is wider than the screen, tables become cards, names stay in one piece."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browsing import Visit
from tests.makers.site import board_of, page_kinds

pytestmark = pytest.mark.slow

BROKEN = """() => {
  const broken = [];
  for (const element of document.querySelectorAll("h1, h2, th, td, dt, dd, p, li, legend, label, nav a")) {
    const walk = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
      for (const word of walk.currentNode.data.matchAll(/[^\\s-]+/gu)) {
        const range = document.createRange();
        range.setStart(walk.currentNode, word.index);
        range.setEnd(walk.currentNode, word.index + word[0].length);
        const lines = new Set([...range.getClientRects()].map((rect) => Math.round(rect.top)));
        if (lines.size > 1 && word[0].length < 25) broken.push(word[0]);
      }
    }
  }
  return broken;
}"""


@pytest.fixture
def phone(browser: Any, site: Path) -> Iterator[Visit]:
    visit = Visit(browser, site, viewport={"width": 390, "height": 844})
    yield visit
    visit.close()


def test_no_page_and_no_table_is_wider_than_the_screen(phone: Visit, site: Path) -> None:
    names = page_kinds(site)
    assert {name.split("/")[0] for name in names} >= {
        "index.html",
        "tasks",
        "models",
        "docs",
        "studies",
        "pairs.html",
    }
    cards = 0
    for name in names:
        page = phone.open(name)
        if name == "pairs.html":
            page.wait_for_selector("#docs tbody tr")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
        wide = page.evaluate(
            "[...document.querySelectorAll('.scroll')].filter((one) => one.scrollWidth > one.clientWidth + 1)"
            ".map((one) => one.getAttribute('aria-label'))"
        )
        assert wide == [], name
        assert page.evaluate(BROKEN) == [], name
        cards += page.locator("table.cards").count()
    assert cards > 10


def test_a_cell_of_a_card_says_its_column_and_what_fits_stays_a_table(phone: Visit, site: Path) -> None:
    board = board_of(site, "mimic_counting", entries=2, data="embedded")
    page = phone.open(f"tasks/{board['id']}.html")
    table = page.get_by_role("region", name="Standings").locator("table")
    assert "cards" in table.get_attribute("class")
    cell = table.locator("tbody td").first
    assert cell.evaluate("(one) => getComputedStyle(one, '::before').content") == '"ours"'
    assert cell.get_attribute("role") == "cell"
    assert table.get_attribute("role") == "table"
    table.locator("thead button", has_text="official").click()
    assert table.locator("thead th").nth(2).get_attribute("aria-sort") == "descending"
    page.set_viewport_size({"width": 1200, "height": 800})
    page.wait_for_function("!document.querySelector('table.cards')")
    assert cell.evaluate("(one) => getComputedStyle(one, '::before').content") == "none"


def test_both_answers_of_a_pair_are_on_the_screen(phone: Visit, site: Path) -> None:
    board = board_of(site, "mimic_counting", entries=2, data="embedded")
    page = phone.open(f"pairs.html#board={board['id']}")
    page.wait_for_selector("#docs tbody tr")
    boxes = [page.locator("#docs tbody tr").first.locator("td.answer").nth(i).bounding_box() for i in (0, 1)]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert 0 <= boxes[0]["x"] < boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    assert boxes[1]["x"] + boxes[1]["width"] <= 390
    assert abs(boxes[0]["width"] - boxes[1]["width"]) < 2


def test_without_scripts_wide_tables_scroll(browser: Any, site: Path) -> None:
    visit = Visit(browser, site, java_script_enabled=False, viewport={"width": 390, "height": 844})
    board = board_of(site, "mimic_counting", entries=2, data="embedded")
    page = visit.open(f"tasks/{board['id']}.html")
    region = page.get_by_role("region", name="Standings")
    assert region.get_attribute("tabindex") == "0"
    assert region.locator("table.cards").count() == 0
    region.locator("td.n").first.scroll_into_view_if_needed()
    visit.close()
