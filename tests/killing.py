"""Runs a command and kills it (SIGKILL) at every change that it makes below a folder, one process a change.

``python killing.py SCENARIO FOLDER [STEP]`` prints JSON. A child process is forked for each trial, in which
an audit hook counts files opened for writing, renamed, removed and made beside or below the output, and kills
the process at the given one. Then the same command runs undisturbed in another child, and the folder must be
that of a run without a kill, to the byte and without a file or folder too many.
"""

import contextlib
import hashlib
import importlib
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate")


def contents(folder: Path) -> dict[str, str]:
    """Every file's digest and every folder below a folder (or of a file alone)."""
    if folder.is_file():
        return {"": hashlib.sha256(folder.read_bytes()).hexdigest()}
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "/"
        for path in sorted(folder.rglob("*"))
    }


def changes(action: Callable[[Path], Any], out: Path, *, kill_at: int | None = None) -> tuple[int, int]:
    """Run an action in a child; returns its exit code (negative: a signal) and the number of changes."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        count = 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if event not in _EVENTS or (event == "open" and not _writes(arguments)):
                return
            if not any(
                str(own).startswith(str(out.parent)) for own in arguments[:2] if isinstance(own, str | Path)
            ):
                return
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        code = 0
        try:
            action(out)
        except BaseException:  # noqa: BLE001 - the child's, told to the parent
            traceback.print_exc()
            code = 1
        os.write(writer, json.dumps([count, sorted(sys.modules)]).encode())
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    count, modules = json.loads(text) if text else (0, [])
    for module in modules:  # so that the next child has them already
        if module not in sys.modules and module.partition(".")[0] != "__main__":
            with contextlib.suppress(Exception):
                importlib.import_module(module)
    return os.waitstatus_to_exitcode(status), count


def _writes(arguments: tuple[Any, ...]) -> bool:
    flags = arguments[2] if len(arguments) > 2 else 0
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def trials(
    action: Callable[[Path], Any], folder: Path, name: str, *, step: int = 1, first: int = 1
) -> dict[str, Any]:
    """Kill an action at every change (every `step`-th from `first`) and run it again; what went wrong."""
    clean, out = folder / "clean" / name, folder / "killed" / name
    shutil.rmtree(clean.parent, ignore_errors=True)
    clean.parent.mkdir(parents=True)
    code, total = changes(action, clean)
    assert code == 0, f"the undisturbed run ended with {code}"
    wanted = contents(clean)
    assert total
    assert wanted
    killed, wrong = 0, []
    for kill_at in [n for n in range(first, total + 1, step) if n > 0]:
        shutil.rmtree(out.parent, ignore_errors=True)
        out.parent.mkdir(parents=True)
        code, _ = changes(action, out, kill_at=kill_at)
        killed += code == -signal.SIGKILL
        code, _ = changes(action, out)
        found = contents(out) if out.exists() else {}
        if code or found != wanted:
            names = sorted(key for key in {**wanted, **found} if wanted.get(key) != found.get(key))
            wrong.append([kill_at, code, names[:5]])
    code, _ = changes(action, out)  # finished: the same command once more
    again = contents(out) == wanted and code == 0
    return {"changes": total, "killed": killed, "wrong": wrong, "finished again": again}


def actions(scenario: str, folder: Path) -> tuple[Callable[[Path], Any], str]:
    """A command's function, its inputs made below `folder`, and the name of what it writes."""
    from mimic_tasks.build import build
    from mimic_tasks.scenes import make_scenes
    from tests.makers import coco as coco_maker
    from tests.makers.builds import options

    made = coco_maker.make_coco(folder / "coco")
    if scenario == "build":
        return lambda out: build(options(made, out, docs=4), progress=False), "out"
    if scenario == "scenes":
        return lambda out: make_scenes(out, n=4, size=64, progress=False), "out"
    if scenario in ("sweep", "embed"):
        from mimic_tasks.embed import embed
        from mimic_tasks.source_files import SourceFiles
        from mimic_tasks.sweeps import parse_sweep
        from mimic_tasks.sweeps.building import SweepOptions, build_sweeps

        spec = parse_sweep({"name": "n", "task": "common", "docs": 2, "vary": {"n_images": [2, 3]}})
        sources = SourceFiles((made.annotations,), (made.images,))
        if scenario == "sweep":
            return lambda out: build_sweeps(SweepOptions((spec,), sources, out), progress=False), "out"
        build_sweeps(SweepOptions((spec,), sources, folder / "sweep"), progress=False)
        return lambda out: embed(folder / "sweep", out), "out"
    if scenario == "tiny":
        from typer.testing import CliRunner

        from mimic_eval.cli.commands import app
        from model_adapters import tiny

        assert tiny

        def checkpoint(out: Path) -> None:
            done = CliRunner().invoke(app, ["tiny-checkpoint", str(out)], catch_exceptions=False)
            assert done.exit_code == 0, done.output

        return checkpoint, "out"
    if scenario == "show":
        from mimic_tasks.locate import EMBEDDED
        from mimic_tasks.show import summarize_folder
        from mimic_tasks.show.page import write_page

        summary = summarize_folder(EMBEDDED, limit=2)
        return lambda out: write_page(summary, out), "page.html"
    assert scenario == "site"
    from leaderboard.site.build import RunFolder, build_site
    from mimic_tasks.locate import EMBEDDED
    from tests.makers.docs_runs import docs_in, drawn, write_docs_run

    docs = docs_in(EMBEDDED, limit=6)
    for i in range(2):
        write_docs_run(
            folder / "runs" / f"r{i}", docs, drawn(i, 0.6, docs), {"mask": "none", "pretrained": f"m{i}"}
        )
    given = [RunFolder(folder / "runs")]
    return lambda out: build_site(given, out, sources=[], title="t"), "out"


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))  # where `tests` is
    scenario, folder = sys.argv[1], Path(sys.argv[2])
    step, first = (int(text) for text in (*sys.argv[3:], "1", "1")[:2])
    folder.mkdir(parents=True, exist_ok=True)
    action, name = actions(scenario, folder)
    print(json.dumps(trials(action, folder, name, step=step, first=first)))


if __name__ == "__main__":
    main()
