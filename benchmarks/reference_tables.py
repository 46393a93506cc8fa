"""Write the reference checkpoints' tables in docs/training.md and docs/comparing.md from result files.

    python benchmarks/reference_tables.py

Each table stands between two comments, ``<!-- reference: NAME RESULTS.json -->`` and ``<!-- end -->``, and is
made from the file with this name in benchmarks/results.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

PAGES, RESULTS = (Path("docs/training.md"), Path("docs/comparing.md")), Path("benchmarks/results")
ORDER = (
    "llava_onevision",
    "llava_onevision_sinks",
    "llava_onevision_block",
    "qwen2_vl",
    "qwen2_5_vl",
    "internvl",
)
Results = Mapping[str, Any]


def _score(cell: Results) -> str:
    if "interval" not in cell:
        return f"{cell['micro_f1']:.3f}"
    return f"{cell['accuracy']:.3f} [{cell['interval'][0]:.3f}, {cell['interval'][1]:.3f}]"


def _short(cell: Results) -> str:
    return f"{cell.get('micro_f1', cell.get('accuracy')):.3f}"


def _exact(cell: Results) -> str:
    return f"{cell['exact']:.3f}"


Row = tuple[str, str, str, Callable[[Results], str], str]
PLAIN: Sequence[Row] = (
    ("Listing F1, N = 1", "listing", "n_images=1", _short, "0.95"),
    ("Listing F1, N = 1-4", "listing", "all", _score, ""),
    ("Listing, all of the answer right", "listing", "all", _exact, ""),
    ("Common, N = 2-4", "common", "all", _score, "0.9"),
    *((f"... N = {n}", "common", f"n_images={n}", _short, "") for n in (2, 3, 4)),
    ("Odd-One, N = 3-4", "oddone", "all", _score, "0.9"),
    ("Counting, N = 1-4", "counting", "all", _score, ""),
    ("... N = 2", "counting", "n_images=2", _short, "0.75"),
    ("... N = 4", "counting", "n_images=4", _short, "0.5"),
)
SWEEPS: Sequence[tuple[str, str, str, Sequence[int]]] = (
    ("Listing F1 over N", "listing_n", "n_images={}", (2, 4, 6, 8, 12, 16)),
    ("Common over N", "common_n", "n_images={}", (2, 3, 4, 6, 8)),
    ("Odd-One over N", "oddone_n", "n_images={}", (3, 4, 6, 8)),
    ("Counting over N", "counting_n", "n_images={}", (3, 4, 6, 8, 12, 16)),
    ("Counting over spread", "counting_spread", "spread={}", (1, 2, 3, 4)),
    ("Counting, spread 1, over distractors", "counting_distractors", "spread=1,distractors={}", (0, 2, 4, 8)),
    ("Counting, spread 3, over distractors", "counting_distractors", "spread=3,distractors={}", (0, 2, 4, 8)),
    ("Counting over k classes per question", "counting_k", "k={}", (1, 2, 3, 4, 5)),
)


def tables(checkpoints: Results) -> dict[str, str]:
    """The tables in Markdown, by name.

    Args:
        checkpoints: of the results file, by MODEL:NAME.
    """
    by_name = {key.split(":")[1]: found for key, found in checkpoints.items()}
    names = [name for name in ORDER if name in by_name]
    head = ["", *(f"`{name}`" for name in names)]
    plain = [
        [title, *(show(by_name[name]["plain"][task][cell]) for name in names), target]
        for title, task, cell, show, target in PLAIN
    ]
    noise = []
    for title, task, show in (
        ("Listing, all right", "listing", _exact),
        ("Common", "common", _short),
        ("Odd-One", "oddone", _short),
        ("Counting", "counting", _short),
    ):
        cells = [by_name[name]["noise"][task]["all"] for name in names]
        noise.append([title, *map(show, cells), f"{cells[0]['best_constant']:.3f}"])
    sweeps = []
    for title, task, key, values in SWEEPS:
        cells = [
            ", ".join(
                f"{float(_short(by_name[name]['sweeps'][task]['cell=' + key.format(value)])):.2f}"
                for value in values
            )
            for name in names
        ]
        sweeps.append([f"{title} {', '.join(map(str, values))}", *cells])
    return {
        "scores": _markdown([*head, "target"], plain),
        "noise": _markdown([*head, "best constant answer"], noise),
        "sweeps": _markdown(["sweep", *head[1:]], sweeps),
    }


def masks(record: Results) -> str:
    """The table of what masks of sinks change, from the results of benchmarks/reference_sinks.py."""
    rows = []
    for row in record["compare"]["rows"]:
        if row["a"] != record["compare"]["baseline"]:
            continue
        flips, delta = row["flips"], row["delta"]
        rows.append(
            [
                f"`{row['b'].split()[0]}`",
                row["task"].removeprefix("mimic_"),
                f"{row['score_a']['estimate']:.3f}",
                f"{row['score_b']['estimate']:.3f}",
                f"{delta['estimate']:+.3f} [{delta['low']:+.3f}, {delta['high']:+.3f}]",
                f"{flips['estimate']:.3f} [{flips['low']:.3f}, {flips['high']:.3f}]",
            ]
        )
    order = list(dict.fromkeys(row[0] for row in rows))
    head = ["mask", "task", "score without", "with", "difference", "answers that change"]
    return _markdown(head, sorted(rows, key=lambda row: order.index(row[0])))


def arms(record: Results) -> str:
    """Percent with and without the mask in training, from the results of benchmarks/arms.py."""
    rows = []
    for task, scores in record["scores"].items():
        cells = [f"{100 * scores['base']:.1f}", f"{100 * scores['mask added'][0]:.1f}"]
        for arm in ("none", "block"):
            seeds = [100 * score for score in scores[arm]]
            cells.append(f"{sum(seeds) / len(seeds):.1f} ({min(seeds):.1f}-{max(seeds):.1f})")
        made = record["differences"][task]["block - none"]
        low, high = 100 * made["low"], 100 * made["high"]
        cells.append(f"{100 * made['estimate']:+.1f} [{low:+.1f}, {high:+.1f}]")
        rows.append([task.removeprefix("mimic_"), *cells, f"{made['p']:.2g}"])
    return _markdown(
        ["task", "before", "before, mask added", "no mask", "block", "block - no mask", "p"], rows
    )


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def rewritten(page: str, results: Path) -> str:
    """The page with its tables made again.

    Args:
        page: in Markdown.
        results: the folder of the results files.

    Raises:
        ValueError: the page has no table.
    """

    def made(match: re.Match[str]) -> str:
        found = json.loads((results / match["file"]).read_text(encoding="utf-8"))
        name = match["name"]
        special = {"masks": masks, "arms": arms}
        table = special[name](found) if name in special else tables(found["checkpoints"])[name]
        return f"{match['open']}{table}\n<!-- end -->"

    place = r"(?P<open><!-- reference: (?P<name>\w+) (?P<file>\S+) -->\n).*?\n<!-- end -->"
    page, places = re.subn(place, made, page, flags=re.DOTALL)
    if not places:
        raise ValueError("the page has no table")
    return page


def main() -> None:
    for page in PAGES:
        page.write_text(rewritten(page.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")
        print(f"Wrote {page}")


if __name__ == "__main__":
    main()
