"""What `mimic diagnose heads` prints."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mimic_eval.records.reading import read_json

if TYPE_CHECKING:
    from leaderboard.diagnosis.heads import Search

_SHOWN = 10


def render_heads(found: "Search", folder: Path, files: Sequence[Path]) -> str:
    """The best heads, and the commands that block them and the controls."""
    from tabulate import tabulate

    from leaderboard.diagnosis.heads import EDGES

    rows = [
        (
            rank,
            head.layer,
            head.head,
            f"{head.score.estimate:.4f}",
            "-" if head.score.low is None else f"[{head.score.low:.4f}, {head.score.high:.4f}]",
        )
        for rank, head in enumerate(found.chosen[:_SHOWN], start=1)
    ]
    gone = f"; {found.left_out} docs without truth boxes are left out" if found.left_out else ""
    lines = [
        tabulate(rows, headers=("rank", "layer", "head", "share in boxes", "95 %"), disable_numparse=True),
        f"The best of {found.best} chosen heads, from {found.docs} docs{gone}; all {len(found.ranked)} are "
        f"in {files[0].with_name('heads.csv')}.",
        "Docs that chose the heads must not judge them: run the commands on other docs.",
        "",
    ]
    run = read_json(folder / "run.json")
    checkpoint = run["run"].get("checkpoint")
    args = "" if str(checkpoint).startswith("embedded:") else f"pretrained={checkpoint},"
    for file in files:
        words = [
            *("lmms_eval", "--tasks", run["tasks"], "--model", run["model"], "--model_args"),
            f"{args}mask=knockout,edges={EDGES[found.rows]},layers=all,heads=@{file}",
            *("--log_samples", "--output_path", f"runs/{file.stem}"),
        ]
        lines.append(shlex.join(words))
    return "\n".join(lines)
