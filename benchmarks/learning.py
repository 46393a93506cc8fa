"""Does learning with the mask help? LoRA with and without it, on fresh scenes, evaluated on held-out ones.

    python benchmarks/learning.py [--work FOLDER] [--out FILE.json] [--learning-rate R] [--steps N]

From the embedded LLaVA-OneVision: scenes, export, and three trainings a seed on the same samples in the same
order (none; block, the paper's; the recipe of the release), each evaluated as it was trained by the real
command, beside the checkpoint itself; `mimic compare` for each seed, and over the seeds the mean of each
doc's scores. The questions of the export are put in the evaluation's frame, in which the checkpoint was
trained. A run that is there already is not repeated.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

from measuring import versions

from leaderboard.arms import read_arm
from mimic_tasks.prompts import framed
from stats import paired_mean_difference

BIN = Path(sys.executable).parent
TRAIN_SEED, HELD_OUT_SEED = 31001, 31002  # of no other training
CHECKPOINT = "embedded:llava_onevision"
TASKS = ("counting", "listing", "common", "oddone")
ARMS = {
    "none": ("--mask", "none"),
    "block": ("--mask", "block", "--layers", "second_half"),
    "released": ("--recipe", "released", "--mask", "block", "--layers", "second_half"),
}
MODEL_ARGS = {
    "none": "mask=none",
    "block": "mask=block,layers=second_half",
    "released": "mask=block,layers=second_half,variant=released",
}
BATCH = 16

DocScores = Mapping[str, Mapping[str, float]]
"""{task: {doc's hash: score}}."""


def run(*words: object) -> float:
    """A command, its output on stderr; its CPU seconds."""
    process = subprocess.Popen(
        [str(BIN / str(words[0])), *map(str, words[1:])], stdout=sys.stderr, start_new_session=True
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(map(str, words))} ended with {os.waitstatus_to_exitcode(status)}")
    return used.ru_utime + used.ru_stime


def scenes(work: Path, seed: int, n: int) -> tuple[object, ...]:
    """The options that name the annotations and pictures of scenes, made if they are not there."""
    out = work / f"scenes-{seed}"
    if not out.is_dir():
        run("mimic", "scenes", "--out", out, "--n", n, "--seed", seed)
    return ("--annotations", out / "annotations/instances_scenes.json", "--images", out / "images")


def training_files(work: Path) -> list[Path]:
    """The export's files, each question in the evaluation's frame."""
    source = scenes(work, TRAIN_SEED, 1000)
    if not (work / "export").is_dir():
        run("mimic", "export-training", *source, "--out", work / "export", "--docs", 400,
            "--max-images", 4, "--seed", TRAIN_SEED)  # fmt: skip
    files = []
    for task in TASKS:
        records = json.loads((work / f"export/{task}.json").read_text())
        for record in records:
            asked = record["conversations"][0]
            question = asked["value"].replace("<image>\n", "")
            asked["value"] = "<image>\n" * len(record["image"]) + framed(question)
        files.append(work / f"framed-{task}.json")
        files[-1].write_text(json.dumps(records))
    return files


def train(work: Path, files: Iterable[Path], arm: str, seed: int, steps: int, rate: float) -> None:
    """One training; its CPU seconds are written beside it."""
    out = work / f"train-{arm}-{seed}"
    if (out / "cpu_seconds.json").is_file():
        return
    data = [word for file in files for word in ("--data", file)]
    seconds = run("mimic", "finetune", "--pretrained", CHECKPOINT, *data, "--image-folder",
                  work / f"scenes-{TRAIN_SEED}/images", "--lora", *ARMS[arm], "--steps", steps,
                  "--batch", BATCH, "--rows", BATCH, "--no-checkpointing", "--learning-rate", rate,
                  "--seed", seed, "--out", out)  # fmt: skip
    (out / "cpu_seconds.json").write_text(json.dumps(round(seconds, 1)))


def evaluate(work: Path, arm: str, seed: int | None) -> None:
    """One run of the real command on the held-out docs; without a seed the checkpoint as it is."""
    out = work / (f"runs/{arm}-{seed}" if seed is not None else f"runs/base-{arm}")
    if list(out.rglob("*_results.json")):
        return
    peft = "" if seed is None else f",peft={work / f'train-{arm}-{seed}'}"
    os.environ["MIMIC_DATA"] = str(work / "held-out")
    run("lmms_eval", "--tasks", ",".join(f"mimic_{task}" for task in TASKS), "--model", "llava_ov_mask",
        "--model_args", f"pretrained={CHECKPOINT},{MODEL_ARGS[arm]}{peft},batch_size=8", "--log_samples",
        "--output_path", out)  # fmt: skip


def doc_scores(path: Path) -> dict[str, dict[str, float]]:
    """{task: {doc's hash: score}}; of Listing the doc's F1."""
    return {
        task: {sample.content_hash: float(sample.score or 0.0) for sample in samples}
        for task, samples in read_arm(path).samples.items()
    }


def summarize(work: Path, seeds: range) -> dict[str, Any]:
    """Scores by arm, task and seed, and paired differences of each doc's mean over the seeds."""
    of_arm = {arm: [doc_scores(work / f"runs/{arm}-{seed}") for seed in seeds] for arm in ARMS}
    base = doc_scores(work / "runs/base-none")
    return over_seeds(base, of_arm, (("base", "none"), ("none", "block"), ("none", "released")))


def over_seeds(
    base: DocScores, of_arm: Mapping[str, Sequence[DocScores]], pairs: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Scores of the base and of each seed of each arm, and paired differences of the docs' means over seeds.

    Args:
        base: the scores before the trainings.
        of_arm: those of each arm, seed by seed.
        pairs: (before, after), each ``base`` or an arm.
    """
    summary: dict[str, Any] = {"scores": {}, "differences": {}}
    for task, docs in base.items():
        table: dict[str, Mapping[str, float]] = {"base": docs}
        for arm, runs in of_arm.items():
            table[arm] = {d: sum(r[task][d] for r in runs) / len(runs) for d in docs}
        summary["scores"][task] = {
            "docs": len(docs),
            "base": _mean(docs.values()),
            **{arm: [_mean(r[task].values()) for r in runs] for arm, runs in of_arm.items()},
        }
        summary["differences"][task] = {}
        for before, after in pairs:
            made = paired_mean_difference([table[after][d] for d in docs], [table[before][d] for d in docs])
            summary["differences"][task][f"{after} - {before}"] = {
                "estimate": made.estimate,
                "low": made.low,
                "high": made.high,
                "p": made.pvalue,
            }
    return summary


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("build/learning"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--docs", type=int, default=60)
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    work, seeds = given.work.resolve(), range(given.seeds)
    work.mkdir(parents=True, exist_ok=True)
    files = training_files(work)
    source = scenes(work, HELD_OUT_SEED, 300)
    if not (work / "held-out").is_dir():
        run("mimic", "build", *source, "--out", work / "held-out", "--docs", given.docs, "--n-images", "2-4",
            "--seed", HELD_OUT_SEED)  # fmt: skip
    with ThreadPoolExecutor(given.jobs) as pool:
        jobs = [pool.submit(evaluate, work, "none", None)]
        for seed in seeds:
            jobs += [
                pool.submit(_both, work, files, arm, seed, given.steps, given.learning_rate) for arm in ARMS
            ]
        for job in jobs:
            job.result()
    for seed in seeds:
        runs = [work / "runs/base-none", *(work / f"runs/{arm}-{seed}" for arm in ARMS)]
        run("mimic", "compare", *runs, "--out", work / f"compare-{seed}")
    record = {
        "date": date.today().isoformat(),
        "command": f"python benchmarks/learning.py --learning-rate {given.learning_rate:g}",
        "versions": versions(),
        "steps": given.steps,
        "batch": BATCH,
        "learning_rate": given.learning_rate,
        "docs_per_task": given.docs,
        "training_cpu_seconds": {
            f"{arm}-{seed}": json.loads((work / f"train-{arm}-{seed}/cpu_seconds.json").read_text())
            for arm in ARMS
            for seed in seeds
        },
        "loss_of_last_step": {
            f"{arm}-{seed}": json.loads((work / f"train-{arm}-{seed}/training.json").read_text())["loss"][-1][
                1
            ]
            for arm in ARMS
            for seed in seeds
        },
        **summarize(work, seeds),
    }
    text = json.dumps(record, indent=1)
    print(text)
    if given.out:
        given.out.write_text(f"{text}\n")


def _both(work: Path, files: list[Path], arm: str, seed: int, steps: int, rate: float) -> None:
    train(work, files, arm, seed, steps, rate)
    evaluate(work, arm, seed)


if __name__ == "__main__":
    main()
