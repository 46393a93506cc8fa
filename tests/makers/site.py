"""A leaderboard with boards of every kind, some of its names and answers hostile."""

import json
from pathlib import Path
from typing import Any

from leaderboard.site.build import RunFolder, build_site
from mimic_tasks.catalog import Catalog
from mimic_tasks.locate import EMBEDDED
from tests.makers.docs_runs import docs_in, drawn, write_docs_run
from tests.makers.runs import BLOCK, NONE, binary, permuted, write_run
from tests.makers.studies import cell, write_study

EXACT = ("exact_match", "exact_match_official")
TASK = "mimic_counting"
EVIL = '"><script>document.title="owned"</script><img src=x onerror=\'document.title="owned"\'>'
EVIL_TASK = "mimic_counting_studied"
SUBMISSION = {
    "name": "team-a", "who": EVIL, "what": f"Sent 8B {EVIL}", "checkpoint": "https://example.org/x-8b",
    "hardware": EVIL, "link": "https://example.org/paper",
}  # fmt: skip


def counting(folder: Path, rights: Any, settings: dict[str, Any], **more: Any) -> Path:
    """A run of Counting with these answers right."""
    samples = [binary(i, right, n_images=2 + i % 3, spread=1) for i, right in enumerate(rights)]
    return write_run(folder, {TASK: samples}, settings, metrics=EXACT, **more)


def built(out: Path, *folders: Path, sources: Any = ()) -> Path:
    """The site of some runs."""
    build_site([RunFolder(folder) for folder in folders], out, sources=sources, title="Made")
    return out


def texts(site: Path) -> dict[str, str]:
    """The pages of a site by name."""
    return {str(file.relative_to(site)): file.read_text() for file in sorted(site.rglob("*.html"))}


def make_site(at: Path) -> Path:
    """Build it in a folder; the runs are beside it."""
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


def all_pages(site: Path) -> list[str]:
    return sorted(file.relative_to(site).as_posix() for file in site.rglob("*.html"))


def board_of(site: Path, task: str, entries: int = 1, data: str | None = None) -> dict[str, Any]:
    for file in sorted((site / "data/boards").glob("*.json")):
        board: dict[str, Any] = json.loads(file.read_text())
        if board["task"] == task and len(board["standings"]) == entries and data in (None, board["data"]):
            return board
    raise AssertionError(task)


def page_kinds(site: Path) -> list[str]:
    """The last page of each folder, and all of the others."""
    last = {name if "/" not in name else name.split("/")[0]: name for name in all_pages(site)}
    grid, turned = board_of(site, "mimic_counting_grid"), board_of(site, "mimic_counting_permuted", 2)
    pages = [
        f"tasks/{grid['id']}.html",
        f"models/{grid['standings'][0]['entry']}.html",
        f"docs/{turned['id']}-1.html",
    ]
    return sorted({*last.values(), *pages})
