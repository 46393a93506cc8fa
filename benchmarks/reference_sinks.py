"""What masks of sinks do to a reference checkpoint that has sinks: held-out scenes, with the real commands.

    python benchmarks/reference_sinks.py [--name NAME] [--docs 50] [--work FOLDER] [--out FILE.json]

`mimic calibrate` finds the sink dimension. The plain docs of benchmarks/reference.py run with each mask, and
`mimic compare` compares them with mask=none: paired tests, and the share of answers that change with its
Wilson interval. `mimic diagnose` gives what sinks get of the attention, by layer. Relevance is the oracle's.
"""

import argparse
import json
import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from reference import MODELS, TASKS, build_data, evaluate, run

TAU = 8
"""Of the ratio score, which is at most sqrt(128) = 11.3 in a decoder of width 128."""
MASKS = {
    "mask_only": "mask_only",
    "unmask_only": "unmask_only,relevance=oracle",
    "ar": "ar,relevance=oracle",
    "var": "var",
}


def attention(folder: Path) -> dict[str, dict[str, float]]:
    """The share of attention that sinks get, by layer: of image rows and of the rows that predict the answer.

    Averaged over heads, rows and the docs that have sinks, from ``diagnose.parquet``.
    """
    table = pq.read_table(folder / "diagnose.parquet").to_pylist()
    having = {(row["task"], row["doc"]) for row in table if row["key_sink"] and row["mass"]}
    table = [row for row in table if (row["task"], row["doc"]) in having]
    totals: dict[tuple[str, int], list[float]] = {}
    for row in table:
        kind = "answer" if row["query"] in ("last", "answer") else "images"
        if row["query"] in ("last", "answer") or row["query"].startswith("image"):
            mass = totals.setdefault((kind, row["layer"]), [0.0, 0.0])
            mass[1] += row["mass"]
            mass[0] += row["mass"] if row["key_sink"] else 0.0
    shares: dict[str, dict[str, float]] = {}
    for (kind, layer), (sinks, everything) in sorted(totals.items()):
        shares.setdefault(kind, {})[str(layer)] = round(sinks / everything, 4)
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="llava_onevision_sinks")
    parser.add_argument("--work", type=Path, default=Path("build/reference"))
    parser.add_argument("--docs", type=int, default=50, help="a quarter of the docs per task")
    parser.add_argument("--out", type=Path, default=Path(f"benchmarks/results/{date.today()}-sinks.json"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    plain = build_data(options.work, options.docs, only=("plain",))["plain"]
    work = options.work / "sinks" / options.name
    work.mkdir(parents=True, exist_ok=True)
    model = MODELS[next(family for family in MODELS if options.name.startswith(family))]
    calibration = work / "calibration.json"
    if not calibration.is_file():
        run("mimic", "calibrate", model, "--pretrained", f"embedded:{options.name}", "--data", plain,
            "--out", calibration)  # fmt: skip
    evaluate(model, options.name, "none", plain, work / "none")
    for mask, arguments in MASKS.items():
        how = f"{arguments},tau={TAU},calibration={calibration}"
        evaluate(model, options.name, how, plain, work / mask)
    folders = [work / mask for mask in ("none", *MASKS)]
    if not (work / "compare").is_dir():
        run("mimic", "compare", *folders, "--out", work / "compare")
    tasks = ",".join(f"mimic_{task}" for task in TASKS)
    if not (work / "diagnose" / "diagnose.json").is_file():
        run("mimic", "diagnose", "--model", model, "--model_args",
            f"pretrained=embedded:{options.name},mask=none", "--tasks", tasks, "--docs", 25,
            "--sinks", f"calibration={calibration},tau={TAU}", "--out", work / "diagnose",
            MIMIC_DATA=str(plain))  # fmt: skip
    found = json.loads(calibration.read_text())
    record: dict[str, Any] = {
        "date": str(date.today()),
        "machine": platform.machine(),
        "versions": {
            package: version(package) for package in ("torch", "transformers", "lmms-eval", "mimic-eval")
        },
        "checkpoint": f"{model}:{options.name}",
        "tau": TAU,
        "calibration": {key: found[key] for key in ("dimensions", "layers", "corpus")},
        "attention": attention(work / "diagnose"),
        "compare": json.loads((work / "compare" / "compare.json").read_text()),
        "diagnose": json.loads((work / "diagnose" / "diagnose.json").read_text()),
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(f"Wrote {options.out}")


if __name__ == "__main__":
    main()
