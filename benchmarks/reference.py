"""How good the reference checkpoints are: held-out scenes, scored through the real command.

    python benchmarks/reference.py [CHECKPOINT ...] [--work FOLDER] [--out FILE.json]

A checkpoint is MODEL:NAME, as in llava_ov_mask:llava_onevision; default: all embedded ones. Measured are docs
of 1-4 images of all tasks, the same docs with noise instead of pictures beside the best constant answer, and
the ready-made sweeps over N (up to 16), s, d and k. Each checkpoint runs with the mask of its training.
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from leaderboard.runs import read_runs
from mimic_eval.records import content_hash
from model_adapters.loading import EMBEDDED
from stats import f1_from_counts, wilson

BIN = Path(sys.executable).parent
SEED = 2002  # of no training
MODELS = {
    "llava_onevision": "llava_ov_mask",
    "qwen2_vl": "qwen2_vl_mask",
    "qwen2_5_vl": "qwen2_5_vl_mask",
    "internvl": "internvl2_mask",
}
TASKS = ("counting", "listing", "common", "oddone")
SWEEPS = (
    "counting_n",
    "counting_spread",
    "counting_distractors",
    "counting_k",
    "listing_n",
    "common_n",
    "oddone_n",
)
MOST = {"n_images": 16, "distractors": 8}


def run(*words: object, **variables: str) -> None:
    """A command; its output goes on the terminal's stderr."""
    done = subprocess.run(
        [str(BIN / str(words[0])), *map(str, words[1:])], env={**os.environ, **variables}, stdout=sys.stderr
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))} ended with {done.returncode}")


DATA = ("plain", "noise", "sweeps")


def build_data(work: Path, docs: int, only: Sequence[str] = DATA) -> dict[str, Path]:
    """The task folders: plain docs, the same with noise, and the sweeps."""
    folders = {name: work / name for name in only}
    scenes = work / "scenes"
    if not scenes.is_dir():
        run("mimic", "scenes", "--out", scenes, "--n", 400, "--seed", SEED)
    source = ("--annotations", scenes / "annotations/instances_scenes.json", "--images", scenes / "images")
    if not folders["plain"].is_dir():
        run(
            "mimic",
            "build",
            *source,
            "--out",
            folders["plain"],
            "--docs",
            4 * docs,
            "--n-images",
            "1-4",
            "--seed",
            SEED,
        )
    if "noise" in folders and not folders["noise"].is_dir():
        make_noise(folders["plain"], folders["noise"])
    if "sweeps" in folders and not folders["sweeps"].is_dir():
        files = [_shortened(name, work) for name in SWEEPS]
        run(
            "mimic",
            "sweep",
            *files,
            *source,
            "--out",
            folders["sweeps"],
            "--docs",
            docs,
            "--seed",
            SEED,
            "--allow-fewer",
        )
    return folders


def _shortened(name: str, work: Path) -> Path:
    """A ready-made sweep without its largest cells: training knew up to 6 images."""
    (file,) = Path("mimic_tasks/sweeps").rglob(f"{name}.yaml")
    sweep = yaml.safe_load(file.read_text())
    for axis, values in sweep["vary"].items():
        if axis in MOST:
            sweep["vary"][axis] = [value for value in values if value <= MOST[axis]]
    out = work / f"{name}.yaml"
    out.write_text(yaml.safe_dump(sweep, sort_keys=False))
    return out


def make_noise(plain: Path, out: Path) -> None:
    """A task folder whose every picture is uniform noise of its size; its docs have hashes of their own."""
    import io
    import shutil

    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(SEED)
    shutil.copytree(plain, out)
    for file in out.glob("*/test.parquet"):
        table = pq.read_table(file)
        made: dict[bytes, bytes] = {}
        rows = table.column("images").to_pylist()
        for row in rows:
            for image in row:
                if image["bytes"] not in made:
                    size = Image.open(io.BytesIO(image["bytes"])).size[::-1]
                    noise, buffer = rng.integers(0, 256, (*size, 3), dtype=np.uint8), io.BytesIO()
                    Image.fromarray(noise).save(buffer, format="PNG")
                    made[image["bytes"]] = buffer.getvalue()
                image["bytes"] = made[image["bytes"]]
        docs = zip(rows, *(table.column(name).to_pylist() for name in ("question", "gt")), strict=True)
        hashes = [
            content_hash(
                kind=file.parent.name.split("_")[0],
                question=question,
                gt=gt,
                image_hashes=[hashlib.sha256(image["bytes"]).hexdigest() for image in row],
            )
            for row, question, gt in docs
        ]
        for name, values in (("images", rows), ("content_hash", hashes)):
            place = table.schema.get_field_index(name)
            field = table.schema.field(place)
            table = table.set_column(place, field, pa.array(values, field.type))
        pq.write_table(table, file)


def samples(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The samples of a run by the task's short name."""
    (run_,) = read_runs(folder)
    return {task.removeprefix("mimic_"): rows for task, rows in run_.samples.items()}


def evaluate(model: str, name: str, mask: str, data: Path, out: Path) -> dict[str, list[dict[str, Any]]]:
    """The samples of one run of the real command."""
    if not list(out.rglob("*_results.json")):
        tasks = ",".join(f"mimic_{file.parent.name}" for file in sorted(data.glob("*/test.parquet")))
        run(
            "lmms_eval", "--tasks", tasks, "--model", model, "--batch_size", 8, "--log_samples",
            "--model_args", f"pretrained=embedded:{name},mask={mask}", "--output_path", out,
            "--verbosity", "WARNING", MIMIC_DATA=str(data), OMP_NUM_THREADS="1",
        )  # fmt: skip
    return samples(out)


def columns(data: Path, task: str) -> list[dict[str, Any]]:
    """What a doc's score is grouped by, in file order."""
    names = ["gt", "n_images", "spread", "distractors", "k", "cell"]
    return list(pq.read_table(data / task / "test.parquet", columns=names).to_pylist())


def scored(task: str, sample: Mapping[str, Any]) -> Any:
    """The headline of a sample: 0 or 1, or Listing's counts."""
    return sample["f1"]["counts"] if task.startswith("listing") else sample["exact_match"]["score"]


def summary(task: str, rows: Sequence[tuple[Mapping[str, Any], Any]]) -> dict[str, Any]:
    """Score, n and interval of docs; the best constant answer beside it."""
    gts = [doc["gt"] for doc, _ in rows]
    constant = max(map(gts.count, set(gts)))
    if task.startswith("listing"):
        recalled, generated, relevant = (sum(int(score[i]) for _, score in rows) for i in range(3))
        exact = sum(score[0] == score[1] == score[2] for _, score in rows)
        return {
            "n": len(rows),
            "micro_f1": f1_from_counts(recalled, generated, relevant).f1,
            "exact": exact / len(rows),
            "best_constant": constant / len(rows),
        }
    right = sum(float(score) for _, score in rows)
    own = wilson(round(right), len(rows))
    best = wilson(constant, len(rows))
    return {
        "n": len(rows),
        "accuracy": own.estimate,
        "interval": [own.low, own.high],
        "best_constant": best.estimate,
        "best_constant_interval": [best.low, best.high],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", nargs="*", metavar="MODEL:NAME")
    parser.add_argument("--work", type=Path, default=Path("build/reference"))
    parser.add_argument("--docs", type=int, default=100, help="docs a cell")
    parser.add_argument("--out", type=Path, default=Path(f"benchmarks/results/{date.today()}-reference.json"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    data = build_data(options.work, options.docs)
    asked = options.checkpoints or [
        f"{MODELS[next(m for m in MODELS if folder.name.startswith(m))]}:{folder.name}"
        for folder in sorted(EMBEDDED.iterdir())
        if folder.is_dir()
    ]
    found: dict[str, Any] = {}
    for checkpoint in asked:
        model, name = checkpoint.split(":")
        note = json.loads((EMBEDDED / name / "training.json").read_text())["recipe"]
        found[checkpoint] = measure(model, name, note["mask"], data, options.work / "runs" / name)
    record = {
        "date": str(date.today()),
        "machine": platform.machine(),
        "versions": {own: version(own) for own in ("torch", "transformers", "lmms-eval", "mimic-eval")},
        "seed": SEED,
        "checkpoints": found,
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    print(f"Wrote {options.out}")


def measure(model: str, name: str, mask: str, data: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """All numbers of one checkpoint, by data, task and cell."""
    found: dict[str, Any] = {}
    for kind, folder in data.items():
        own: dict[str, Any] = {}
        for task, rows in sorted(evaluate(model, name, mask, folder, out / kind).items()):
            docs = columns(folder, task)
            pairs = [(docs[int(row["doc_id"])], scored(task, row)) for row in rows]
            axis = "cell" if kind == "sweeps" else "n_images"
            cells = defaultdict(list)
            for pair in pairs:
                cells[str(pair[0][axis])].append(pair)
            own[task] = {"all": summary(task, pairs)} | {
                f"{axis}={value}": summary(task, some) for value, some in sorted(cells.items())
            }
        found[kind] = own
    return found


if __name__ == "__main__":
    main()
