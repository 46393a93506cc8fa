"""Filters, keys and addresses of doc pages and of head to head, in a real browser."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.browsing import Visit
from tests.makers.site import EVIL, board_of

pytestmark = pytest.mark.slow


def index_of(site: Path, board: str) -> list[dict[str, Any]]:
    """The docs of a board as the filters know them."""
    record = json.loads((site / f"data/docs/{board}.js").read_text().split("\n")[1])
    names = ("key", "number", "question", "gt", "n", "page", "classes", "images", "marks")
    return [dict(zip(names, row, strict=True)) for row in record["docs"]]


def shown(page: Any) -> list[int]:
    """The numbers of the docs on a doc page."""
    return [int(text.split()[1]) for text in page.locator("article:visible h2").all_inner_texts()]


@pytest.fixture(scope="module")
def board(site: Path) -> dict[str, Any]:
    return board_of(site, "mimic_counting", entries=2, data="embedded")


def test_the_index_says_who_is_right_what_is_asked_and_where(site: Path, board: dict[str, Any]) -> None:
    docs = index_of(site, board["id"])
    assert len(docs) == 25
    for doc in docs:
        page, anchor = doc["page"].split("#")
        article = re.search(rf'<article id="{anchor}".*?</article>', (site / page).read_text(), re.DOTALL)
        assert article is not None
        rights = re.findall(r'<tr class="(\w+)">', article[0])
        assert doc["marks"] == "".join({"right": "1", "wrong": "0"}[right] for right in rights)
        assert f"Doc {doc['number']} " in article[0]
        assert len(doc["classes"]) == 1
        assert doc["classes"][0].rstrip("s") in doc["question"] or doc["classes"][0] == "person"
        assert str(len(doc["images"])) == doc["n"]
    ((good, _), (bad, _)) = json.loads((site / f"data/docs/{board['id']}.js").read_text().split("\n")[1])[
        "entries"
    ]
    assert [good, bad] == [standing["entry"] for standing in board["standings"]]


def test_docs_are_filtered_over_all_pages_and_the_address_holds_it(
    visit: Visit, site: Path, board: dict[str, Any]
) -> None:
    docs = index_of(site, board["id"])
    page = visit.open(f"docs/{board['id']}-1.html")
    assert page.locator("#count").inner_text() == "25 docs"
    assert len(shown(page)) == 20
    page.select_option("[name=show]", "differ")
    differ = [doc["number"] for doc in docs if len(set(doc["marks"])) > 1]
    assert shown(page) == [number for number in differ if number < 20]
    assert page.locator("#count").inner_text() == f"{len(differ)} of 25 docs, {len(shown(page))} on this page"
    page.select_option("[name=show]", "wrong")
    page.select_option("[name=entry]", board["standings"][1]["entry"])
    n = docs[0]["n"]
    page.select_option("[name=n]", n)
    want = [doc["number"] for doc in docs if doc["marks"][1] == "0" and doc["n"] == n]
    assert shown(page) == [number for number in want if number < 20]
    assert page.locator("tr.chosen:visible").count() == len(shown(page))
    address = page.url.split("/docs/")[1]
    assert address.endswith(f"#show=wrong&entry={board['standings'][1]['entry']}&n={n}")
    again = visit.open(f"docs/{address}")
    assert shown(again) == [number for number in want if number < 20]
    again.locator("nav.pages").first.locator("a").first.click()  # the other page, with the same filters
    again.wait_for_url("**-2.html#*")
    again.wait_for_selector("#filters:visible")
    assert shown(again) == [number for number in want if number >= 20]
    again = visit.open(f"docs/{board['id']}-1.html#class={docs[0]['classes'][0]}")
    assert shown(again) == [doc["number"] for doc in docs[:20] if doc["classes"] == docs[0]["classes"]]
    again.fill("[name=q]", "no such words")
    assert shown(again) == []
    assert again.locator("#none").inner_text() == "No doc fits the filters."
    again = visit.open(f"docs/{board['id']}-1.html#show=%3Cb%3E&n=99&entry=x")  # an address of another site
    assert len(shown(again)) == 20


def at(page: Any) -> str:
    text: str = page.evaluate(
        "document.activeElement.closest('article')?.querySelector('h2').textContent ?? ''"
    )
    return text.split("#")[0].strip()


def test_keys_step_through_the_docs_that_fit_over_pages(
    visit: Visit, site: Path, board: dict[str, Any]
) -> None:
    page = visit.open(f"docs/{board['id']}-1.html")
    page.keyboard.press("j")
    assert at(page) == "Doc 0"
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert at(page) == "Doc 1"
    docs = index_of(site, board["id"])
    wanted = [doc["number"] for doc in docs if doc["marks"][1] == "0"]
    last, beyond = [n for n in wanted if n < 20][-1], next(n for n in wanted if n >= 20)
    anchor = docs[last]["page"].split("#")[1]
    query = f"show=wrong&entry={board['standings'][1]['entry']}"
    page = visit.open(f"docs/{board['id']}-1.html#{query}&at={anchor}")
    assert at(page) == f"Doc {last}"
    page.keyboard.press("j")
    page.wait_for_url(f"**/{board['id']}-2.html#{query}&at=*")
    assert at(page) == f"Doc {beyond}"
    page.keyboard.press("k")
    page.wait_for_url(f"**/{board['id']}-1.html#{query}&at=*")
    assert at(page) == f"Doc {last}"


def test_keys_are_not_taken_from_fields_or_with_modifiers_and_can_be_switched_off(
    visit: Visit, board: dict[str, Any]
) -> None:
    page = visit.open(f"docs/{board['id']}-1.html")
    assert "j next doc, k previous, / search" in " ".join(page.locator("form#filters").inner_text().split())
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "q"
    page.keyboard.type("jk/")
    assert page.input_value("[name=q]") == "jk/"
    page.keyboard.press("Escape")
    page.fill("[name=q]", "")
    page.evaluate("document.activeElement.blur()")
    for key in ("Control+j", "Alt+j", "Meta+j", "Control+/"):
        page.keyboard.press(key)
        assert at(page) == ""
    page.uncheck("[name=keys]")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("j")
    assert at(page) == ""
    assert page.url.endswith("#keys=off")
    page = visit.open(page.url.split("/site/")[1])
    assert not page.is_checked("[name=keys]")


def test_a_pair_is_filtered_and_has_thumbnails(visit: Visit, site: Path, board: dict[str, Any]) -> None:
    docs = index_of(site, board["id"])
    good, bad = (standing["entry"] for standing in board["standings"])
    page = visit.open(f"pairs.html#board={board['id']}&a={good}&b={bad}")
    page.wait_for_selector("#docs tbody tr")
    for entry in (good, bad):
        look = json.loads((site / f"data/models/{entry}.json").read_text())["look"]
        assert page.locator(f"#result svg.key path.f{look % 8}").count() == 1  # as in the charts
    numbers = lambda: {int(text[4:]) for text in page.locator("#docs tbody th a").all_inner_texts()}  # noqa: E731
    assert len(numbers()) == 25
    want = {
        "score": {doc["number"] for doc in docs if doc["marks"][0] != doc["marks"][1]},
        "wrong-a": {doc["number"] for doc in docs if doc["marks"][0] == "0"},
        "wrong-b": {doc["number"] for doc in docs if doc["marks"][1] == "0"},
        "wrong": {doc["number"] for doc in docs if doc["marks"] == "00"},
    }
    for show, chosen in want.items():
        page.select_option("[name=show]", show)
        assert numbers() == chosen, show
    page.select_option("[name=show]", "wrong-b")
    n = docs[0]["n"]
    page.select_option("[name=n]", n)
    chosen = {doc["number"] for doc in docs if doc["marks"][1] == "0" and doc["n"] == n}
    assert numbers() == chosen
    assert page.locator("#count").inner_text() == f"{len(chosen)} of 25 docs"
    assert page.url.endswith(f"&a={good}&b={bad}&show=wrong-b&n={n}")
    page = visit.open(page.url.split("/site/")[1])
    page.wait_for_selector("#docs tbody tr")
    assert numbers() == chosen
    row = page.locator("#docs tbody tr").first
    assert row.locator("img").count() == int(n)
    page.wait_for_function("document.querySelector('#docs img').naturalWidth > 0")
    assert row.locator(f"img[loading=lazy][alt='Image 1 of {n}']").bounding_box()["width"] == 56
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("j")
    first = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("j")
    assert (
        page.evaluate("document.activeElement.textContent")
        == page.locator("#docs tbody th a").nth(1).inner_text()
    )
    page.keyboard.press("k")
    assert page.evaluate("document.activeElement.textContent") == first
    page.select_option("[name=b]", good)  # the same twice: no filters are left over
    page.wait_for_selector("text=choose two")
    assert not page.locator("#filters").is_visible()


def test_hostile_texts_stay_texts_in_filters(visit: Visit, site: Path) -> None:
    boards = [json.loads(file.read_text()) for file in (site / "data/boards").glob("*.json")]
    (evil,) = (one for one in boards if one["docs"] == 6 and one["task"] == "mimic_counting")
    for name in (f"docs/{evil['id']}-1.html", f"pairs.html#board={evil['id']}"):
        page = visit.open(name)
        page.wait_for_selector("#filters:visible")
        page.fill("[name=q]", EVIL)
        assert page.locator("#count").inner_text().startswith("6 ")
        assert page.locator("form option b, form option img, #docs script, #none img").count() == 0
        assert page.title() != "owned"
    assert "<" not in (site / f"data/docs/{evil['id']}.js").read_text()


def test_classes_come_from_the_truth_where_pictures_are_missing(site: Path) -> None:
    listing = board_of(site, "mimic_listing", entries=1, data="coco")
    for doc in index_of(site, listing["id"]):
        assert doc["classes"] == sorted(doc["gt"].split(", "))
