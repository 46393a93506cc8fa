"""Attention alone at the true shape of LLaVA-OV-0.5B (METHODS 11): block split, dense causal, dense masked.

    make bench        or        python benchmarks/attention.py --images 10 --threads 2

All three run in one process, in turns, so that the ratios share the machine's noise. Writes a JSON file with
versions and load under benchmarks/results/.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch.nn.functional import scaled_dot_product_attention

from model_adapters.interventions import BlockMask, LayerView
from model_adapters.interventions.reference import block_mask
from model_adapters.layout import Layout, Span

HEADS, KV_HEADS, WIDTH = 14, 2, 64
TEXT_BEFORE, TEXT_AFTER = 14, 40


def layout_of(images: int, tokens: int) -> Layout:
    """`images` adjacent images of `tokens` tokens between some text."""
    spans = tuple(Span(TEXT_BEFORE + m * tokens, TEXT_BEFORE + (m + 1) * tokens) for m in range(images))
    return Layout(spans[-1].end + TEXT_AFTER, 0, spans)


def measure(images: int, tokens: int, repeats: int) -> dict[str, float]:
    """Median seconds of each way over `repeats` rounds, and the largest difference of their results."""
    layout = layout_of(images, tokens)
    generator = torch.Generator().manual_seed(0)
    n, scale = layout.length, WIDTH**-0.5
    query = torch.randn(1, HEADS, n, WIDTH, generator=generator)
    key, value = (torch.randn(1, KV_HEADS, n, WIDTH, generator=generator) for _ in range(2))
    keys, values = (x.repeat_interleave(HEADS // KV_HEADS, dim=1) for x in (key, value))
    mask = block_mask(layout)
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "block": lambda: BlockMask().prefill(query, key, value, LayerView((layout,)), scale=scale),
        "dense": lambda: scaled_dot_product_attention(query, keys, values, is_causal=True, scale=scale),
        "masked": lambda: scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scale),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:  # the first round warms up
                times[name].append(time.perf_counter() - start)
    difference = (ways["block"]() - ways["masked"]()).abs().max().item()
    return {name: statistics.median(spent) for name, spent in times.items()} | {"difference": difference}


def main() -> None:
    """Run, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[2, 5, 10])
    parser.add_argument("--tokens", type=int, default=729)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    print(
        f"{HEADS} x {WIDTH} heads, {KV_HEADS} for keys, {args.tokens} tokens an image, {args.threads} threads"
    )
    print(" images  block s  dense s  masked s  dense/block  masked/block  difference")
    for images in args.images:
        row = {"images": images, **measure(images, args.tokens, args.repeats)}
        row |= {
            "dense_over_block": row["dense"] / row["block"],
            "masked_over_block": row["masked"] / row["block"],
        }
        rows.append(row)
        print(
            f"{images:7d}  {row['block']:7.3f}  {row['dense']:7.3f}  {row['masked']:8.3f}  "
            f"{row['dense_over_block']:11.1f}  {row['masked_over_block']:12.1f}  {row['difference']:10.1e}"
        )
    now = datetime.now(UTC)
    record = {
        "date": now.isoformat(timespec="seconds"),
        "shape": {
            "heads": HEADS,
            "kv_heads": KV_HEADS,
            "width": WIDTH,
            "tokens": args.tokens,
            "dtype": "float32",
        },
        "threads": args.threads,
        "repeats": args.repeats,
        "load": os.getloadavg()[0],
        "cores": os.cpu_count(),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "rows": rows,
    }
    path = Path(__file__).parent / "results" / f"{now:%Y-%m-%d}-attention.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"Wrote {path}")


if __name__ == "__main__":
    main()
