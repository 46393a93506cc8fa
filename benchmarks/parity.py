"""The parity table: whole models under every intervention against an oracle that shares no code with them.

    python benchmarks/parity.py [--families llava_onevision qwen2_vl internvl] [--steps 6]

Checkpoints in the real architectures with random weights and planted sinks; 8 docs of 1 to 4 images. The
oracle (tests/oracles/parity.py) is transformers' own class with attention written out row by row. Its float64
run, doc by doc, is the truth. Ours runs as a user runs it (`Answerer.reply`), 1 doc at a time and 8. Both
generate the tokens of the oracle's own greedy answer, so that every step's logits are compared. Models in
float64 have float64 RMS norms on both sides (transformers' round to float32, and hide what is smaller).

Bars:

- float32, bfloat16: `FACTOR` times the error of the oracle itself in that dtype against the truth;
- float64: `FACTOR` times the float32 error of the oracle, scaled by the ratio of the rounding units.

In bfloat16 the sinks are those of the truth for both: whether a token's score reaches tau is a yes or no that
rounding may turn over. In float32 and float64 each side finds its own, and they must be the same.

Writes a JSON file with versions and load under benchmarks/results/.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import torch
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.makers.parity_docs import BESIDE, FAMILIES, MASKS
from tests.oracles.parity_models import GAINS, HIDDEN, LAYERS, SEEDS, SHARE, make_setup
from tests.oracles.parity_runs import AGAINST, FACTOR, Comparison


def main() -> None:
    """Run, print the table, write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", nargs="+", choices=sorted(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    from transformers.utils import logging

    logging.disable_progress_bar()
    start, rows = time.time(), []
    for name in args.families:
        with tempfile.TemporaryDirectory() as folder:
            comparison = Comparison(make_setup(FAMILIES[name], Path(folder)), steps=args.steps)
            rows += comparison.rows("none", against=AGAINST[1])
            for mask in (*MASKS, *BESIDE):
                rows += comparison.rows(mask)
    header = ("family", "mask", "against", "scope", "dtype", "batch", "error", "bar", "edit", "docs edited",
              "sinks", "moved", "same text")  # fmt: skip
    shown = [
        (
            row.family,
            row.mask,
            row.against,
            row.scope,
            row.dtype,
            row.batch,
            f"{row.error:.1e}{'' if row.error <= row.tolerance else ' !'}",
            f"{row.tolerance:.1e}",
            f"{row.edit:.1e}",
            row.edited_docs,
            row.sinks,
            row.sinks_moved,
            "" if row.same_text is None else f"{row.same_text}/8",
        )
        for row in rows
    ]
    print(tabulate(shown, headers=header))
    now = datetime.now(UTC)
    record = {
        "date": now.isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.executable).name, "benchmarks/parity.py", *sys.argv[1:]]),
        "seconds": round(time.time() - start),
        "steps": args.steps,
        "factor": FACTOR,
        "checkpoints": {"hidden": HIDDEN, "layers": LAYERS, "share": SHARE, "gains": GAINS, "seeds": SEEDS},
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "cores": os.cpu_count(),
        "versions": versions(),
        "failed": [asdict(row) for row in rows if row.error > row.tolerance],
        "rows": [asdict(row) for row in rows],
    }
    path = args.out or Path(__file__).parent / "results" / f"{now:%Y-%m-%d}-parity.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"Wrote {path}")


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "numpy")} | {
        "python": platform.python_version()
    }


if __name__ == "__main__":
    main()
