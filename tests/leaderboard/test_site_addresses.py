"""Names of pages, dates, and what a link to the site shows."""

import io
import re
import string
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from leaderboard.site.build import RunFolder, build_site
from leaderboard.site.dated import date_of_build
from leaderboard.site.shared import checked_url, share_picture
from leaderboard.site.slugs import Wanted, slugs
from leaderboard.site.untrusted import host_of, metadata
from mimic_eval.records import UserError
from tests.makers.runs import BLOCK, NONE, binary, write_run

NAMES = (
    "LLaVA-OneVision · block 3-5", "llava_onevision block/3-5", "模型", "", "con", "NUL", "index",
    "../../etc/passwd", "<script>alert(1)</script>",
    "\u202eevil", "x" * 5000, "Café", "CAFÉ", "a" * 81, ".", "-", "Ⅷ", "٣",
)  # fmt: skip


def run(folder: Path, settings: dict[str, Any] = NONE, rights: Any = (True, False) * 6, **more: Any) -> Path:
    samples = [binary(i, right) for i, right in enumerate(rights)]
    return write_run(folder, {"mimic_counting": samples}, settings, metrics=("exact_match",), **more)


def built(out: Path, *folders: Path, **more: Any) -> Path:
    build_site([RunFolder(folder) for folder in folders], out, sources=(), title="Made", **more)
    return out


def test_names_of_pages_are_safe_on_every_system_and_differ() -> None:
    wanted = [Wanted(f"{i:08x}" + 24 * "0", name) for i, name in enumerate(NAMES)]
    wanted += [Wanted(f"{i:08x}" + 24 * "f", name, "team-a") for i, name in enumerate(NAMES)]
    names = slugs(wanted)
    assert len({name.casefold() for name in names.values()}) == 2 * len(NAMES)
    for name in names.values():
        assert set(name) <= set(string.ascii_lowercase + string.digits + "-_")
        assert len(name) < 160
        assert not re.fullmatch(r"con|prn|aux|nul|com\d|lpt\d|index", name)
    assert names[wanted[0].id] == "llava-onevision-block-3-5"
    assert names[wanted[1].id] == "llava-onevision-block-3-5-00000001"


def test_a_page_keeps_its_name_when_others_are_added() -> None:
    first = [Wanted("a" * 32, "one"), Wanted("b" * 32, "one")]
    more = [*first, Wanted("c" * 32, "one"), Wanted("d" * 32, "one bbbbbbbb"), Wanted("e" * 32, "One", "eve")]
    assert {name: text for name, text in slugs(more).items() if name in slugs(first)} == slugs(first)


@pytest.mark.parametrize("sender", ["a", "a--one", "one"])
def test_no_submission_takes_the_address_of_another_or_of_the_site(sender: str) -> None:
    ours = Wanted("1" * 32, "one · none")
    theirs = [Wanted(f"{i}" * 32, "one · none", name) for i, name in enumerate(("a", "a--one", "one"), 2)]
    others = [one for one in (ours, *theirs) if one.sender != sender]
    attack = Wanted("9" * 32, "one -- one · none", sender)
    alone, crowded = slugs(others), slugs([attack, *others])
    assert {key: crowded[key] for key in alone} == alone


def test_boards_of_some_docs_say_so_and_old_pages_go(tmp_path: Path) -> None:
    full = run(tmp_path / "a")
    some = run(tmp_path / "b", BLOCK, (True,) * 4)
    results = some / "1_results.json"
    results.write_text(results.read_text().replace('"original": 4', '"original": 12'))
    site = built(tmp_path / "site", full, some)
    assert {file.name for file in (site / "tasks").iterdir()} == {
        "counting-made.html",
        "counting-made-4-docs.html",
    }
    assert {file.name for file in (site / "models").iterdir()} == {"m-none.html", "m-block-3-5.html"}
    built(site, full)
    assert [file.name for file in (site / "tasks").iterdir()] == ["counting-made.html"]
    assert not list(site.rglob("*4-docs*"))


def test_the_date_stays_while_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    site = built(tmp_path / "site", run(tmp_path / "a"))
    assert "Last changed on 2026-01-01" in (site / "index.html").read_text()
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    before = {file: file.read_bytes() for file in site.rglob("*") if file.is_file()}
    built(site, tmp_path / "a")
    assert {file: file.read_bytes() for file in site.rglob("*") if file.is_file()} == before
    built(site, tmp_path / "a", run(tmp_path / "b", BLOCK))
    assert f"Last changed on {datetime.now(UTC):%Y-%m-%d}" in (site / "index.html").read_text()
    assert date_of_build("2020-02-02") == "2020-02-02"


@pytest.mark.parametrize("epoch", ["today", "1e9", "9" * 30])
def test_a_wrong_epoch_is_one_line(epoch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    with pytest.raises(UserError, match=r"SOURCE_DATE_EPOCH must be seconds since 1970, .*; got"):
        date_of_build(None)


def test_links_show_title_words_and_a_picture_if_the_address_is_known(tmp_path: Path) -> None:
    folders = run(tmp_path / "a"), run(tmp_path / "b", {**BLOCK, "checkpoint": '"><script>'}, (True,) * 12)
    plain = built(tmp_path / "plain", *folders)
    site = built(tmp_path / "site", *folders, url="https://example.org/board")
    pages = {file.relative_to(site).as_posix(): file.read_text() for file in site.rglob("*.html")}
    for name, page in pages.items():
        shown = "" if name == "index.html" else name
        assert f'<meta property="og:url" content="https://example.org/board/{shown}">' in page
        assert '<meta property="og:image" content="https://example.org/board/images/share.jpg">' in page
        assert re.search(r'<meta property="og:title" content="[^"<>]+">', page)
        assert re.search(r'<meta property="og:description" content="[^"<>]+">', page)
    for page in plain.rglob("*.html"):
        assert "og:image" not in page.read_text()
        assert "og:title" in page.read_text()
    assert (site / "images/share.jpg").stat().st_size < 100_000
    assert not (plain / "images").exists()


def test_the_picture_of_links_has_the_size_that_they_are_drawn_in() -> None:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (300, 200), "red").save(out, "JPEG")
    for title in ("Made", "模型 " * 200, ""):
        data = share_picture(title, [out.getvalue()] * 6)
        assert data == share_picture(title, [out.getvalue()] * 6)
        picture = Image.open(io.BytesIO(data))
        assert picture.size == (1200, 630)
        assert picture.getpixel((200, 400))[0] > 240  # type: ignore[index]


@pytest.mark.parametrize(
    "url", ["example.org", "ftp://x.org/", "https://x.org/?a=1", 'https://x.org/"><b>', "https://"]
)
def test_the_address_of_a_site_is_checked(url: str) -> None:
    with pytest.raises(UserError, match=r"--url must be the address of the site"):
        checked_url(url)


def test_links_of_senders_are_https_and_show_their_host(tmp_path: Path) -> None:
    file = tmp_path / "submission.toml"
    about = 'who = "a"\nwhat = "b"\ncheckpoint = "c"\nhardware = "d"\n'
    for key in ("link", "paper", "code"):
        file.write_text(f'{about}{key} = "https://example.org/x"\n')
        assert metadata(file)[key] == "https://example.org/x"
        for wrong in ("http://example.org", "javascript:alert(1)", "https://user@evil.org/", "//evil.org"):
            file.write_text(f'{about}{key} = "{wrong}"\n')
            with pytest.raises(UserError, match=f"'{key}' must be an https address"):
                metadata(file)
    assert [host_of(link) for link in ("https://ArXiv.org/abs/1", "https://a.b:8/c", "x", None)] == [
        "arxiv.org",
        "a.b",
        "",
        "",
    ]
