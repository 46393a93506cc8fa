"""Heads ranked by the share of their attention that lies in the truth boxes (METHODS 5, `heads=`)."""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from leaderboard.diagnosis.reading import read_run
from mimic_eval.records import UserError
from mimic_eval.records.folders import write_atomically
from stats import MeanInterval, mean_interval

ROWS = {"answer": ("last", "answer"), "question": ("question",), "text": ("question", "last", "answer")}
"""Name -> groups of rows: those that predict the answer, the question without its last token, or both."""

EDGES = {
    "answer": "answer>image+last>image",
    "question": "question>image",
    "text": "question>image+answer>image",
}
"""What of knockout blocks the attention of these rows to images."""


@dataclass(frozen=True)
class ScoredHead:
    """A head, from 0, with its mean score over docs."""

    layer: int
    head: int
    score: MeanInterval


@dataclass(frozen=True, eq=False)
class Search:
    """Heads by their score.

    Attributes:
        ranked: all of the watched layers, the best first.
        best: how many are chosen.
        docs: how many the scores are from.
        left_out: docs without truth boxes.
        rows: of `ROWS`.
    """

    ranked: tuple[ScoredHead, ...]
    best: int
    docs: int
    left_out: int
    rows: str

    @property
    def chosen(self) -> tuple[ScoredHead, ...]:
        """The best heads."""
        return self.ranked[: self.best]


def search(folder: Path, *, best: int, rows: str = "answer") -> Search:
    """Rank the heads of a diagnosed run.

    Args:
        folder: of the run.
        best: how many are chosen.
        rows: of `ROWS`.

    Raises:
        UserError: no finished run, no truth boxes, or more heads than there are.
    """
    run = read_run(folder)
    path = folder / "diagnose.parquet"
    if not (folder / "diagnose.json").is_file():
        raise UserError(f"{folder} is not finished: run the same `mimic diagnose` command again")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = ["task", "doc", "layer", "head", "query", "query_image", "key_in_box", "rows", "mass"]
        table = pq.read_table(path, columns=names, filters=[("query", "in", ROWS[rows])])
        shares, left_out = _shares(table, int(run["depth"]), int(run["heads"]))
    except (OSError, pa.ArrowException, KeyError, ValueError, IndexError) as error:
        raise UserError(f"{path} is damaged ({error}): delete {folder}, and diagnose again") from error
    if not len(shares):
        raise UserError(
            f"{folder}: none of its docs has truth boxes that can be mapped to image tokens; the search "
            "needs MIMIC tasks, and a model whose tokens show parts of a picture"
        )
    watched = [int(layer) for layer in run["watched"]]
    if best >= len(watched) * int(run["heads"]):
        raise UserError(f"--best must be below {len(watched) * int(run['heads'])}, the heads of {folder}")
    scored = [
        ScoredHead(layer, head, mean_interval(shares[:, layer, head]))
        for layer in watched
        for head in range(int(run["heads"]))
    ]
    ranked = sorted(scored, key=lambda head: (-head.score.estimate, head.layer, head.head))
    return Search(tuple(ranked), best, len(shares), left_out, rows)


def _shares(table: Any, depth: int, heads: int) -> tuple[npt.NDArray[np.float64], int]:
    """(D, L, H), attention in truth boxes over all attention, and how many docs have no boxes."""
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in ("doc", "layer", "head", "mass")}
    boxes = table["key_in_box"].to_pandas()
    keys = list(zip(table["task"].to_pylist(), columns["doc"], strict=True))
    place = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    doc = np.array([place[key] for key in keys], dtype=np.int64)
    at = (doc * depth + columns["layer"]) * heads + columns["head"]
    shape, size = (len(place), depth, heads), len(place) * depth * heads
    inside = (boxes == True).to_numpy(dtype=bool, na_value=False)  # noqa: E712
    total = np.bincount(at, columns["mass"], size).reshape(shape)
    in_boxes = np.bincount(at, columns["mass"] * inside, size).reshape(shape)
    known = np.bincount(doc, (~boxes.isna()).to_numpy(), len(place)) > 0
    share = np.divide(in_boxes, total, out=np.zeros(shape), where=total > 0)
    return np.clip(share[known], 0.0, 1.0), int((~known).sum())


def random_heads(found: Search, *, seed: int) -> list[tuple[int, int]]:
    """As many other heads, of the same layers as far as they have others: a control of the same size."""
    rng = np.random.default_rng(seed)
    chosen = {(head.layer, head.head) for head in found.chosen}
    free = sorted({(head.layer, head.head) for head in found.ranked} - chosen)
    drawn: list[tuple[int, int]] = []
    for layer in sorted({layer for layer, _ in chosen}):
        wanted = sum(of == layer for of, _ in chosen)
        others = [pair for pair in free if pair[0] == layer]
        drawn += [others[i] for i in rng.permutation(len(others))[:wanted]]
    rest = [pair for pair in free if pair not in drawn]
    drawn += [rest[i] for i in rng.permutation(len(rest))[: len(chosen) - len(drawn)]]
    return sorted(drawn)


def write_search(found: Search, folder: Path, out: Path, *, controls: int, seed: int) -> list[Path]:
    """The files: `heads.json`, `heads_random_1.json` and on, `heads_all.json`, and `heads.csv` of all.

    Returns:
        The files that ``heads=@FILE`` takes, the best heads first.
    """
    out.mkdir(parents=True, exist_ok=True)
    best = [(head.layer, head.head) for head in found.chosen]
    sets = {"heads": sorted(best)}
    sets |= {f"heads_random_{i + 1}": random_heads(found, seed=seed + i) for i in range(controls)}
    sets["heads_all"] = sorted((head.layer, head.head) for head in found.ranked)
    files = []
    for i, (name, pairs) in enumerate(sets.items()):
        content = {
            "heads": pairs, "from": str(folder), "rows": found.rows, "docs": found.docs,
            "control": name.split("_")[1] if "_" in name else None,
            "seed": seed + i - 1 if "random" in name else None,
        }  # fmt: skip
        files.append(out / f"{name}.json")
        write_atomically(files[-1], (json.dumps(content) + "\n").encode())
    write_atomically(out / "heads.csv", _csv(found).encode())
    return files


def _csv(found: Search) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["rank", "layer", "head", "share_in_boxes", "low", "high", "docs", "chosen"])
    for rank, head in enumerate(found.ranked, start=1):
        score = head.score
        ends = ["" if end is None else f"{end:.6g}" for end in (score.low, score.high)]
        writer.writerow(
            [rank, head.layer, head.head, f"{score.estimate:.6g}", *ends, score.n, rank <= found.best]
        )
    return out.getvalue()
