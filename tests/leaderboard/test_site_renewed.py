"""A site that is built again: what is made in several processes, and what is not made again."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leaderboard.site import doc_pages, pieces, ranks
from leaderboard.site.build import RunFolder, build_site
from leaderboard.site.workers import in_processes
from mimic_eval.records import UserError
from tests.makers.runs import BLOCK, NONE, binary, write_run


def run(folder: Path, settings: dict[str, Any], right: Callable[[int], bool]) -> Path:
    samples = [binary(i, right(i)) for i in range(12)]
    return write_run(folder, {"mimic_counting": samples}, settings, metrics=("exact_match",))


def built(out: Path, *folders: Path) -> Path:
    build_site([RunFolder(folder) for folder in folders], out, sources=(), title="Made")
    return out


def files(site: Path) -> dict[str, bytes]:
    return {
        file.relative_to(site).as_posix(): file.read_bytes() for file in site.rglob("*") if file.is_file()
    }


def test_results_of_processes_come_in_order_and_errors_at_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(3))
    here = os.getpid()
    found = list(in_processes(lambda n: (n, os.getpid()), range(20), least=2))
    assert [n for n, _ in found] == list(range(20))
    assert len({process for _, process in found}) == 3
    assert here not in {process for _, process in found}
    assert [p for _, p in in_processes(lambda n: (n, os.getpid()), range(3), least=4)] == [here] * 3

    def refuse(n: int) -> int:
        if n == 4:
            raise UserError("the fifth is wrong")
        if n == 7:
            os._exit(1)
        return n

    results = in_processes(refuse, range(20), least=2)
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(UserError, match="the fifth is wrong"):
        next(results)
    with pytest.raises(RuntimeError, match="a process of the build was killed"):
        list(in_processes(refuse, [5, 6, 7, 8], least=2))


def test_a_site_made_in_processes_has_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(4):
        run(tmp_path / f"runs/{i}", {**NONE, "checkpoint": f"m{i}"}, lambda n, i=i: n % (i + 2) == 0)
    alone = files(built(tmp_path / "alone", tmp_path / "runs"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(2))
    monkeypatch.setattr(pieces, "_WORTH", 2)
    monkeypatch.setattr(ranks, "_WORTH", 2)
    monkeypatch.setattr(ranks, "_CHUNK", 2)
    monkeypatch.setattr(doc_pages, "_MANY_ROWS", 1)
    assert files(built(tmp_path / "site", tmp_path / "runs")) == alone


def test_docs_are_not_rendered_again_unless_what_they_show_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = run(tmp_path / "a", NONE, lambda n: n % 2 == 0)
    block = run(tmp_path / "b", BLOCK, lambda n: n % 3 == 0)
    site = built(tmp_path / "site", none, block)
    before = files(site)
    with monkeypatch.context() as patch:
        patch.setattr(doc_pages, "board_docs", lambda *_: pytest.fail("docs were rendered again"))
        patch.setattr(ranks, "_test", lambda *_: pytest.fail("a pair was tested again"))
        built(site, none, block)
    assert files(site) == before
    page = site / "docs/counting-made-1.html"
    for damage in (page.unlink, lambda: page.write_text("x"), (site / "data/parts.json").unlink):
        damage()
        built(site, none, block)
        assert files(site) == before
    for text in (
        "{",
        "[]",
        '{"version": 3, "parts": 1}',
        '{"version": 3, "parts": {"docs counting-made": {}}}',
    ):
        (site / "data/parts.json").write_text(text)
        built(site, none, block)
        assert files(site) == before
    other = run(tmp_path / "b", BLOCK, lambda n: n % 4 == 0)
    built(site, none, other)
    assert files(site) == files(built(tmp_path / "fresh", none, other)) | {
        name: data for name, data in files(site).items() if name in ("data/built.json", "data/looks.js")
    }


def test_names_of_files_in_the_record_of_parts_stay_in_the_site(tmp_path: Path) -> None:
    none = run(tmp_path / "a", NONE, lambda n: True)
    site = built(tmp_path / "site", none)
    (tmp_path / "mine.txt").write_text("mine")
    record = json.loads((site / "data/parts.json").read_text())
    record["parts"]["docs counting-made"]["files"] = {"../mine.txt": "0" * 64}
    (site / "data/parts.json").write_text(json.dumps(record))
    built(site, none)
    built(site, run(tmp_path / "c", BLOCK, lambda n: False))
    assert (tmp_path / "mine.txt").read_text() == "mine"
