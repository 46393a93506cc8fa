"""What the benchmarks share: turns, their spread, and the record of what they ran on.

All ways of a row run in one process and in turns, each round beginning with another way, so that a slow
moment of the machine falls on all of them. A ratio is taken round by round; its median and range are shown.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
"""``cpu``, seconds that this process had a core, is for a machine that others use at the same time."""


@dataclass(frozen=True)
class Spread:
    """Numbers of several rounds.

    Attributes:
        values: one for each round.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __truediv__(self, other: "Spread") -> "Spread":
        return Spread(tuple(a / b for a, b in zip(self.values, other.values, strict=True)))

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {"median": self.median, "least": min(self.values), "most": max(self.values),
                "rounds": len(self.values)}  # fmt: skip

    def shown(self, digits: int) -> str:
        """``1.16 (1.13-1.17)``; a single round has no range."""
        if len(self.values) == 1:
            return f"{self.median:.{digits}f}"
        return f"{self.median:.{digits}f} ({min(self.values):.{digits}f}-{max(self.values):.{digits}f})"


def turns(
    ways: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    clock: str = "wall",
    warm_up: bool = True,
    fresh: Callable[[str], None] = lambda name: None,
    settle: Callable[[], None] = lambda: None,
) -> dict[str, Spread]:
    """Seconds of each way, in turns.

    Args:
        ways: name -> what is measured.
        rounds: how many times each way is measured.
        clock: one of `CLOCKS`.
        warm_up: run each way once before.
        fresh: called with a way's name before each of its runs, outside of the time.
        settle: called at both ends of the time (to wait for a GPU).
    """
    now = CLOCKS[clock]
    names, spent = list(ways), {name: [] for name in ways}
    for turn in range(-int(warm_up), rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            fresh(name)
            settle()
            start = now()
            ways[name]()
            settle()
            if turn >= 0:
                spent[name].append(now() - start)
    return {name: Spread(tuple(seconds)) for name, seconds in spent.items()}


def parser_of(doc: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """The options of every benchmark: threads, rounds, clock, quick sizes and the file."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=rounds, help="how often each way is measured")
    parser.add_argument(
        "--clock", choices=list(CLOCKS), default="wall", help="cpu: beside others' work, with --threads 1"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, as CI runs it: no time means much")
    parser.add_argument("--out", type=Path, help="the JSON file [default: benchmarks/results/DATE-NAME.json]")
    return parser


class Record:
    """The JSON file of one benchmark: what it ran on, from its start, and its rows.

    Args:
        name: of the benchmark.
        args: parsed by `parser_of`; threads are set here.
    """

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        import torch

        if args.clock == "cpu" and args.threads > 1:
            raise SystemExit(
                "--clock cpu needs --threads 1: it counts the waiting of several threads as work"
            )
        torch.set_num_threads(args.threads)
        self.name = name
        self.quick = bool(args.quick)
        self._out: Path | None = args.out
        self._start = time.perf_counter()
        self._content: dict[str, Any] = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": " ".join([f"python benchmarks/{name}.py", *sys.argv[1:]]),
            "quick": self.quick,
            "clock": args.clock,
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "load_before": os.getloadavg()[0],
            "machine": platform.machine(),
            "versions": versions(),
        }

    def write(self, **parts: Any) -> Path:
        """Write the file, and say where; a quick run without ``--out`` leaves no file among the results."""
        content = self._content | {
            "load_after": os.getloadavg()[0],
            "seconds": round(time.perf_counter() - self._start, 1),
            **parts,
        }
        folder = RESULTS.parents[1] / "build" / "quick" if self.quick else RESULTS
        suffix = "-cpu" if content["clock"] == "cpu" else ""
        path = self._out or folder / f"{self._content['date'][:10]}-{self.name}{suffix}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(
            f"{content['clock']} seconds; {content['seconds']} s in all, {content['threads']} threads on "
            f"{content['cores']} cores, "
            f"load {content['load_before']:.1f} before and {content['load_after']:.1f} after. Wrote {path}\n"
        )
        return path


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    names = ("torch", "transformers", "lmms-eval", "numpy", "mimic-eval")
    return {name: version(name) for name in names} | {"python": platform.python_version()}


def print_table(title: str, rows: Sequence[Sequence[object]], headers: Sequence[str]) -> None:
    """A table with its title, in the Markdown form that docs/speed.md holds."""
    from tabulate import tabulate

    print(f"\n{title}\n")
    print(tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True), "\n", flush=True)
