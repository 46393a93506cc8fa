"""Sorting by header cells, and charts that answer to the mouse and to the keyboard, in a real browser."""

from pathlib import Path
from typing import Any

import pytest

from tests.browsing import Visit
from tests.makers.site import board_of

pytestmark = pytest.mark.slow


def column(page: Any, number: int) -> list[str]:
    found: list[str] = (
        page.locator("table.sortable").first.locator(f"tbody tr > :nth-child({number})").all_inner_texts()
    )
    return found


def test_a_whole_header_cell_sorts_by_mouse_and_keyboard(visit: Visit, site: Path) -> None:
    page = visit.open("tasks.html")
    docs = page.locator("th", has_text="docs").first
    box = docs.bounding_box()
    page.mouse.click(box["x"] + 2, box["y"] + 2)  # beside the text, where nothing happened before
    assert docs.get_attribute("aria-sort") == "descending"
    numbers = [int(text) for text in column(page, 3)]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) > 1
    page.mouse.click(box["x"] + 2, box["y"] + 2)
    assert docs.get_attribute("aria-sort") == "ascending"
    assert [int(text) for text in column(page, 3)] == sorted(numbers)
    page.locator("th button", has_text="task").focus()
    page.keyboard.press("Space")
    assert (
        page.locator("th[aria-sort]").all_inner_texts() == ["task ▲"]
        or page.locator("th[aria-sort]").count() == 1
    )
    texts = column(page, 1)
    assert texts == sorted(texts, key=str.lower)


@pytest.mark.parametrize("name", ["index.html", "robustness.html", "task"])
def test_every_table_of_scores_sorts(visit: Visit, site: Path, name: str) -> None:
    board = board_of(site, "mimic_counting", entries=2, data="embedded")
    page = visit.open(f"tasks/{board['id']}.html" if name == "task" else name)
    for table in page.locator("table.sortable").all():
        head = table.locator("thead th").nth(1)
        head.click(position={"x": head.bounding_box()["width"] - 2, "y": 2})
        assert head.get_attribute("aria-sort") == "descending"


def test_a_mark_says_value_interval_and_n(visit: Visit, site: Path) -> None:
    board = board_of(site, "mimic_counting_grid")
    page = visit.open(f"tasks/{board['id']}.html")
    figure = page.locator("figure.chart").first
    figure.locator(".mark").first.locator("path").last.hover()
    said = figure.locator("output").inner_text()
    assert said == "2: 0.0 % (0.0 to 33.9; n 20)"  # 20 docs of 10 sets
    svg = figure.locator("svg").first
    svg.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert figure.locator("output").inner_text().startswith("3: 100.0 % (66.1 to 100.0; n 20)")
    page.keyboard.press("Escape")
    assert not figure.locator("output").is_visible()


def test_a_name_in_a_legend_highlights_its_line_by_mouse_and_keyboard(visit: Visit, site: Path) -> None:
    page = visit.open("robustness.html")
    figure = page.locator("figure.chart").first
    opacity = lambda: [  # noqa: E731
        float(one.evaluate("(line) => getComputedStyle(line).opacity"))
        for one in figure.locator(".series").all()
    ]
    assert opacity() == [1, 1]
    names = figure.locator(".legend a")
    names.nth(1).focus()
    page.keyboard.press("Shift+Tab")  # by the keyboard, so that the focus is visible
    page.wait_for_timeout(300)
    assert opacity() == [1, 0.15]
    names.nth(1).hover()
    page.locator("h1").click()
    names.nth(1).hover()
    page.wait_for_timeout(300)
    assert opacity() == [0.15, 1]
    assert names.first.get_attribute("href").startswith("models/")


def test_without_scripts_a_mark_still_has_its_words(browser: Any, site: Path) -> None:
    visit = Visit(browser, site, java_script_enabled=False)
    page = visit.open("robustness.html")
    title = page.locator("figure.chart .mark title").first
    assert "; n 12)" in title.text_content()
    page.locator(".legend a").nth(1).hover()
    page.wait_for_timeout(300)
    assert page.locator(".series").first.evaluate("(line) => getComputedStyle(line).opacity") == "0.15"
    visit.close()
