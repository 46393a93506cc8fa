"""The leaderboard at scale: 100 runs of four tasks of 600 docs, built, built again, and with one run more.

    python benchmarks/board.py --work /tmp/leaderboard

Makes glyph scenes, docs and run folders (answers drawn from a skill for each run, scored by our scoring),
then times `mimic leaderboard build` in fresh processes and prints a table in Markdown. Needs 1 GB of disk.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.makers.docs_runs import docs_in, drawn, write_docs_run

BIN = Path(sys.executable).parent
MASKS = ("none", "block", "ar", "var", "sofa")
SIZES = ("0.5b", "2b", "7b", "8b")


def main() -> None:
    """Make what is missing, then time three builds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="a folder for data, runs and the site")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--docs", type=int, default=600)
    args = parser.parse_args()
    data = make_data(args.work, args.docs)
    runs, site = args.work / "runs", args.work / "site"
    make_runs(runs, data, args.runs)
    print("| build | seconds | of CPU | peak memory, MB |\n|---|---|---|---|")
    measure(f"{args.runs} runs x 4 tasks x {args.docs} docs, from nothing", runs, data, site)
    measure("again, nothing changed", runs, data, site)
    make_runs(runs, data, args.runs + 1)
    measure("again, one run more", runs, data, site)
    size = sum(file.stat().st_size for file in site.rglob("*") if file.is_file())
    names = ("index.html", "site.css", "tables.js", "charts.js", "overview.js")
    first = sum((site / name).stat().st_size for name in names)
    print(f"\nSite: {size / 1e6:.0f} MB; first page with style and scripts: {first / 1e3:.0f} KB")


def make_data(work: Path, docs: int) -> Path:
    """A task folder with so many docs of each task."""
    folder = work / f"data-{docs}"
    if not folder.is_dir():
        scenes = work / "scenes"
        call("scenes", "--out", scenes, "--n", 400, "--seed", 1)
        annotations, images = scenes / "annotations/instances_scenes.json", scenes / "images"
        call("build", "--annotations", annotations, "--images", images, "--docs", docs, "--out", folder)
    return folder


def call(*arguments: object) -> None:
    """A `mimic` command."""
    subprocess.run([BIN / "mimic", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def make_runs(folder: Path, data: Path, count: int) -> None:
    """Run folders ``000`` to ``count - 1``; those that exist stay."""
    missing = [number for number in range(count) if not (folder / f"{number:03}").is_dir()]
    docs = docs_in(data) if missing else {}
    for number in missing:
        mask = MASKS[number % len(MASKS)]
        settings = {
            "checkpoint": f"made/llava-{SIZES[number % len(SIZES)]}-{number:03}",
            "family": "llava_onevision",
            "mask": mask,
            "layers": "none" if mask == "none" else "12-23",
            "depth": 24,
        }
        answer = drawn(number, random.Random(number).uniform(0.2, 0.9), docs)
        date = f"20260101_{number:06}"
        write_docs_run(folder / f"{number:03}", docs, answer, settings, date=date, label="scenes")


def measure(name: str, runs: Path, data: Path, site: Path) -> None:
    """Time a build; print its row."""
    before = time.perf_counter()
    command = [BIN / "mimic", "leaderboard", "build", runs, "--data", data, "--out", site]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("the build failed")
    seconds, cpu = time.perf_counter() - before, usage.ru_utime + usage.ru_stime
    print(f"| {name} | {seconds:.1f} | {cpu:.1f} | {usage.ru_maxrss / 1024:.0f} |", flush=True)


if __name__ == "__main__":
    main()
