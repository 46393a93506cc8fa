"""The page of a task folder in a real browser: its filters, its boxes, and no request to anywhere."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mimic_tasks.show import Summary, summarize_folder
from mimic_tasks.show.page import write_page
from mimic_tasks.source_files import SourceFiles
from mimic_tasks.sweeps import parse_sweep
from mimic_tasks.sweeps.building import SweepOptions, build_sweeps
from tests.browsing import Visit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def summary(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Summary:
    out = tmp_path_factory.mktemp("show") / "sweeps"
    sweeps = (
        parse_sweep({"name": "s", "task": "counting", "docs": 4, "fixed": {"n_images": 4, "total": "2-6"},
                     "vary": {"spread": [1, 2]}}),
        parse_sweep({"name": "n", "task": "common", "docs": 3, "vary": {"n_images": [2, 3]}}),
    )  # fmt: skip
    sources = SourceFiles((scenes / "annotations/instances_scenes.json",), (scenes / "images",))
    build_sweeps(SweepOptions(sweeps, sources, out), progress=False)
    return summarize_folder(out)


@pytest.fixture
def page(browser: Any, summary: Summary, tmp_path: Path) -> Iterator[Any]:
    file = tmp_path / "page.html"
    write_page(summary, file)
    visit = Visit(browser, file)
    yield visit.open()
    visit.close()


def shown(page: Any) -> list[str]:
    found: list[str] = page.locator("article:visible h3").all_inner_texts()
    return found


def test_filters_leave_the_docs_that_fit_and_count_them(page: Any, summary: Summary) -> None:
    docs = {doc.id: (task.kind, doc) for task in summary.tasks for doc in task.docs}
    assert len(shown(page)) == len(docs) == 14
    page.select_option("#by-task", "common_n")
    assert shown(page) == [name for name, (kind, _) in docs.items() if kind == "common_n"]
    page.select_option("#by-cell", "n_images=3")
    assert shown(page) == [name for name, (_, doc) in docs.items() if doc.cell == "n_images=3"]
    assert page.locator("#count").inner_text() == "3 of 14 docs"
    page.select_option("#by-task", "")
    page.select_option("#by-cell", "")
    page.select_option("#by-n", "4")
    assert shown(page) == [name for name, (kind, _) in docs.items() if kind == "counting_s"]
    page.select_option("#by-n", "")
    answer = summary.tasks[1].docs[0].answer
    page.fill("#by-text", answer.upper())
    assert shown(page) == [name for name, (_, doc) in docs.items() if answer in doc.search]
    page.fill("#by-text", "no such class")
    assert shown(page) == []
    assert page.locator("#count").inner_text() == "0 of 14 docs"


def test_boxes_are_shown_as_asked_and_pictures_are_drawn(page: Any) -> None:
    everything = page.locator("article .box").count()
    targets = page.locator("article .box.target").count()
    assert 0 < targets < everything
    for choice, visible in (("targets", targets), ("all", everything), ("none", 0)):
        page.check(f"#boxes-{choice}")
        assert page.locator("article .box:visible").count() == visible
    page.set_viewport_size({"width": 1200, "height": 900})
    colours = page.evaluate(
        """async () => {
            const images = [...document.querySelectorAll("defs image")].map((i) => i.getAttribute("href"));
            return await Promise.all(images.map(async (uri) => {
                const image = new Image();
                image.src = uri;
                await image.decode();
                return image.naturalWidth; })); }"""
    )
    assert colours
    assert set(colours) == {96}


def test_the_balance_of_each_sweep_is_a_table_with_its_test(page: Any) -> None:
    captions = page.locator(".balance caption").all_inner_texts()
    assert len(captions) == 3  # Common's answers are its classes: one table
    assert captions[0] == "Classes in each cell (chi-squared test: 0.0, p = 1)"
    head = page.locator(".balance").first.locator("thead th").all_inner_texts()
    assert head == ["", "spread=1", "spread=2"]
    cells = page.locator(".balance").first.locator("tbody td").all_inner_texts()
    assert sum(map(int, cells)) == 8


def test_nothing_overflows_on_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_meets_accessibility_rules(page: Any, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=scheme)
    found = Axe().run(page).response
    assert len(found["passes"]) > 10
    serious = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in serious] == []


def test_a_picture_has_the_same_boxes_and_text_on_the_page_and_on_the_site(summary: Summary) -> None:
    from leaderboard.site.pages import Pages

    views = summary.tasks[0].docs[0].images
    environment = Pages("x")._environment
    macros = environment.get_template("viewer.html.j2").module
    on_page, on_site = (
        macros.pictures([dataclasses.replace(view, source=source) for view in views], "../")
        for source in ("#p1", "images/1.jpg")
    )
    assert re.findall(r"<g class=.*</g>", on_page) == re.findall(r"<g class=.*</g>", on_site) != []
    assert re.findall(r'aria-label="(Image[^"]*)"', on_page) == re.findall(r'alt="(Image[^"]*)"', on_site)
    assert '<img src="../images/1.jpg"' in on_site
    assert "<img" not in on_page
