"""Planning at the scale of COCO train: seconds and peak memory of `mimic build --plan-only`, by docs a task.

    python benchmarks/planning.py [--docs 1000 10000 100000] [--out FILE.json]

The annotation file is made here: 118,287 images and 860,001 boxes, most of an image's boxes of few classes.
Each number of docs is planned in a fresh process; the JSON's own parse time is measured in another.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mimic_tasks.coco_classes import COCO_CLASSES

IMAGES, BOXES = 118_287, 860_001
MIMIC = Path(sys.executable).with_name("mimic")


def make_annotations(path: Path) -> None:
    """A COCO instances file of train2017's size; no picture exists."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(len(COCO_CLASSES)) * 0.5)
    image = np.sort(rng.integers(0, IMAGES, BOXES))
    label = rng.choice(len(COCO_CLASSES), BOXES, p=shares)
    same = rng.random(BOXES) < 0.6
    for i in np.flatnonzero(same[1:] & (image[1:] == image[:-1])) + 1:
        label[i] = label[i - 1]
    side = np.minimum(np.exp(rng.normal(4, 1, (BOXES, 2))), 400).round(2)
    corner = (rng.random((BOXES, 2)) * 60).round(2)
    crowd = rng.random(BOXES) < 0.01
    outline = rng.integers(0, 400, (BOXES, 24)).astype(float)
    annotations = [
        {
            "id": a + 1,
            "image_id": int(image[a]) + 1,
            "category_id": COCO_CLASSES[label[a]].id,
            "bbox": [*corner[a].tolist(), *side[a].tolist()],
            "area": float(side[a].prod()),
            "iscrowd": int(crowd[a]),
            "segmentation": {"size": [480, 640], "counts": [0, 100, 307100]}
            if crowd[a]
            else [outline[a].tolist()],
        }
        for a in range(BOXES)
    ]
    images = [
        {"id": i + 1, "file_name": f"{i + 1:012d}.jpg", "width": 640, "height": 480} for i in range(IMAGES)
    ]
    data = {
        "info": {},
        "images": images,
        "annotations": annotations,
        "categories": [c._asdict() for c in COCO_CLASSES],
    }
    path.write_text(json.dumps(data), encoding="utf-8")


def timed(arguments: list[str]) -> tuple[float, float, str]:
    """Seconds, peak memory in GB and the output of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{arguments}: exit status {status}")
    return time.perf_counter() - start, usage.ru_maxrss / 1e6, out


def measure(file: Path, docs: list[int]) -> dict[str, Any]:
    """All runs, and what they ran on."""
    parse, _, _ = timed([sys.executable, "-c", f"import json; json.load(open({str(file)!r}))"])
    print(f"json.load alone: {parse:.1f} s")
    runs = []
    for n in docs:
        seconds, memory, out = timed(
            [
                str(MIMIC),
                "build",
                "--annotations",
                str(file),
                "--images",
                ".",
                "--docs",
                str(n),
                "--plan-only",
            ]
        )
        planned = {kind: task["docs"] for kind, task in json.loads(out)["tasks"].items()}
        runs.append(
            {"docs": n, "planned": planned, "seconds": round(seconds, 1), "peak_GB": round(memory, 2),
             "times_the_parse": round(seconds / parse, 2)}
        )  # fmt: skip
        print(runs[-1], flush=True)
    return {
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": {name: version(name) for name in ("mimic-eval", "numpy", "pycocotools")}
        | {"python": platform.python_version()},
        "file": {"images": IMAGES, "boxes": BOXES, "MB": round(file.stat().st_size / 1e6)},
        "parse_seconds": round(parse, 1),
        "runs": runs,
    }


def main() -> None:
    """Measure, print, and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--docs", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make_annotations(options.make)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "instances_made.json"
        # in a process of its own: a child's peak memory counts what its parent held when it was started
        subprocess.run([sys.executable, __file__, "--make", str(file)], check=True)
        result = measure(file, options.docs)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
