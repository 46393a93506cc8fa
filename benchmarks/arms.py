"""What the mask does in the training of a reference checkpoint: several seeds with it and without it.

    python benchmarks/arms.py [--work FOLDER] [--steps N] [--seeds N] [--out FILE.json]

All arms go on from one checkpoint, with the same batches for a seed: `mimic train-reference --start` without
a mask and with `--mask block`. Each is evaluated as it was trained, by the real command, on the plain docs of
benchmarks/reference.py. A training or run that is there already is not repeated.
"""

import argparse
import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

from learning import doc_scores, over_seeds
from measuring import versions
from reference import TASKS, build_data, run

MODEL = "llava_ov_mask"
ARMS = ("none", "block")
RECIPE = (
    "--across", "--count-classes", 3, "--extra", 6, "--oddone-weight", 6, "--common-weight", 2,
    "--scenes", 4000, "--scene-seed", 5003, "--docs", 3000, "--learning-rate", 0.0005,
)  # fmt: skip


def evaluate(checkpoint: object, mask: str, data: Path, out: Path) -> None:
    """One run of the real command."""
    if not list(out.rglob("*_results.json")):
        run("lmms_eval", "--tasks", ",".join(f"mimic_{task}" for task in TASKS), "--model", MODEL,
            "--model_args", f"pretrained={checkpoint},mask={mask},batch_size=8", "--log_samples",
            "--output_path", out, MIMIC_DATA=str(data))  # fmt: skip


def arm(work: Path, data: Path, start: str, mask: str, seed: int, steps: int) -> None:
    """A training and its evaluation."""
    out = work / f"train-{mask}-{seed}"
    if not (out / "training.json").is_file():
        run("mimic", "train-reference", "llava_onevision", "--start", start, "--mask", mask, "--seed",
            seed, "--steps", steps, "--exam-every", steps, *RECIPE, "--out", out)  # fmt: skip
    evaluate(out, mask, data, work / f"runs/{mask}-{seed}")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/reference"))
    parser.add_argument("--docs", type=int, default=50, help="a quarter of the docs per task")
    parser.add_argument("--checkpoint", default="embedded:llava_onevision", help="what all arms start from")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(f"benchmarks/results/{date.today()}-arms.json"))
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    data = build_data(work, given.docs, only=("plain",))["plain"]
    work = work / "arms"
    with ThreadPoolExecutor(given.jobs) as pool:
        jobs = [
            pool.submit(arm, work, data, given.checkpoint, mask, seed, given.steps)
            for seed in range(given.seeds)
            for mask in ARMS
        ]
        for job in jobs:
            job.result()
    for mask in ARMS:
        evaluate(given.checkpoint, mask, data, work / f"runs/base-{mask}")
    of_arm = {mask: [doc_scores(work / f"runs/{mask}-{s}") for s in range(given.seeds)] for mask in ARMS}
    of_arm["mask added"] = [doc_scores(work / "runs/base-block")]
    base = doc_scores(work / "runs/base-none")
    pairs = (("base", "none"), ("none", "block"), ("base", "mask added"))
    record = {
        "date": date.today().isoformat(),
        "versions": versions(),
        "checkpoint": given.checkpoint,
        "steps": given.steps,
        "recipe": " ".join(map(str, RECIPE)),
        **over_seeds(base, of_arm, pairs),
    }
    given.out.write_text(json.dumps(record, indent=1) + "\n")
    print(f"Wrote {given.out}")


if __name__ == "__main__":
    main()
