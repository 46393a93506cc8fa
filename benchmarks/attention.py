"""Attention alone at the true shape of LLaVA-OV-0.5B (METHODS 11): block and ar beside what they replace.

    make bench        or        python benchmarks/attention.py --images 2 5 10 --threads 2

`dense` is ordinary causal attention, keys already copied for all heads. `masked` is SDPA with the release's
boolean N x N mask. `Eq. 10` is Attention Remasking on the materialised weights (H, N, N), its links made
beforehand: as written, and in place with as few passes over the matrix as we could find. ar has four sinks
and 15 % of the visual tokens in G. Then memory of one layer, and operations counted from the spans.
"""

from collections.abc import Callable

import torch
from counting import (
    GROUNDED,
    INTERVENTIONS,
    SINKS,
    Shape,
    attention_with_mask,
    block_pairs,
    causal_pairs,
    draw,
    given,
    layout_of,
    peak_bytes,
    prefill,
    watched,
)
from measuring import Record, Spread, parser_of, print_table, turns
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from model_adapters.interventions.base import LayerView
from model_adapters.interventions.block.reference import block_mask
from model_adapters.interventions.reference import causal_mask
from model_adapters.layout import Layout

SHAPE = Shape()
SCALE = SHAPE.width**-0.5


class Materialised:
    """Eq. 9 and 10 on the weights themselves, a doc's links and causal mask made once.

    Args:
        layout: one doc's.
    """

    def __init__(self, layout: Layout) -> None:
        sinks, relevance = given(layout)
        n = layout.length
        owner = torch.full((n,), -1)
        for m, span in enumerate(layout.images):
            owner[span.start : span.end] = m
        keys = relevance.grounded[0] & ~sinks[0]
        opened = (owner[:, None] >= 0) & (owner[None, :] > owner[:, None]) & keys
        raised = relevance.score[0].exp() * opened
        self.sinks = sinks[0].nonzero()[:, 0]
        self.is_sink = sinks[0]
        self.pi = torch.nan_to_num(raised / raised.sum(dim=-1, keepdim=True))
        self.linked = opened.any(dim=-1)
        self.rows = int(self.linked.nonzero()[0]), int(self.linked.nonzero()[-1]) + 1
        self.ahead = ~causal_mask(layout)

    def alpha(self, query: Tensor, keys: Tensor) -> Tensor:
        """Causal weights (H, N, N)."""
        scores = query[0] @ keys[0].transpose(1, 2)
        return scores.mul_(SCALE).masked_fill_(self.ahead, float("-inf")).softmax(dim=-1)

    def as_written(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(1, H, N, D)."""
        alpha = self.alpha(query, keys)
        eta = alpha[:, :, self.sinks].sum(dim=-1, keepdim=True)
        others = alpha.masked_fill(self.is_sink, 0.0)
        rest = others / others.sum(dim=-1, keepdim=True)
        edited = (1 - eta) * rest + eta * self.pi
        return (torch.where(self.linked[:, None] & (eta > 0), edited, alpha) @ values[0])[None]

    def in_place(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(1, H, N, D): 1 - eta is the sum of the others, so that Eq. 10 divides by nothing."""
        alpha = self.alpha(query, keys)
        part = alpha[:, self.rows[0] : self.rows[1]]
        eta = part[:, :, self.sinks].sum(dim=-1, keepdim=True)
        part[:, :, self.sinks] = 0
        part.addcmul_(eta, self.pi[self.rows[0] : self.rows[1]])
        return (alpha @ values[0])[None]


def measure_block(images: int, tokens: int, rounds: int, clock: str = "wall") -> dict[str, Spread | float]:
    """Seconds of block, dense and masked, and the largest difference of block and masked."""
    layout = layout_of(images, tokens)
    query, key, value = draw(layout, SHAPE)
    keys, values = (x.repeat_interleave(SHAPE.heads // SHAPE.kv_heads, dim=1) for x in (key, value))
    mask = block_mask(layout)
    ways: dict[str, Callable[[], Tensor]] = {
        "block": lambda: prefill("block", (query, key, value), layout),
        "dense": lambda: scaled_dot_product_attention(query, keys, values, is_causal=True, scale=SCALE),
        "masked": lambda: attention_with_mask(query, key, value, mask, scale=SCALE),
    }
    difference = (ways["block"]() - ways["masked"]()).abs().max().item()
    return {**turns(ways, rounds=rounds, clock=clock), "difference": difference}


def measure_ar(images: int, tokens: int, rounds: int, clock: str = "wall") -> dict[str, Spread | float]:
    """Seconds of ar, dense and Eq. 10 in two forms, and the largest differences from ar."""
    layout = layout_of(images, tokens)
    query, key, value = draw(layout, SHAPE)
    keys, values = (x.repeat_interleave(SHAPE.heads // SHAPE.kv_heads, dim=1) for x in (key, value))
    sinks, relevance = given(layout)
    view, eq10 = LayerView((layout,), 0, sinks, relevance), Materialised(layout)
    ways: dict[str, Callable[[], Tensor]] = {
        "ar": lambda: INTERVENTIONS["ar"].prefill(query, key, value, view, scale=SCALE),
        "dense": lambda: scaled_dot_product_attention(query, keys, values, is_causal=True, scale=SCALE),
        "written": lambda: eq10.as_written(query, keys, values),
        "in_place": lambda: eq10.in_place(query, keys, values),
    }
    out = ways["ar"]()
    difference = max((out - ways[name]()).abs().max().item() for name in ("written", "in_place"))
    edit = (out - ways["dense"]()).abs().max().item()
    return {**turns(ways, rounds=rounds, clock=clock), "difference": difference, "edit": edit}


def memory_rows(tokens: int) -> list[dict[str, float | int | str]]:
    """One layer of each intervention at growing N: the largest tensor in elements, the peak in bytes."""
    rows: list[dict[str, float | int | str]] = []
    for name in INTERVENTIONS:
        for images in (2, 4, 8):
            layout = layout_of(images, tokens)
            qkv = draw(layout, SHAPE)
            with watched() as watch:
                prefill(name, qkv, layout)
            peak = peak_bytes(lambda name=name, qkv=qkv, layout=layout: prefill(name, qkv, layout))
            rows.append({"mask": name, "images": images, "length": layout.length, "largest": watch.largest,
                         "input": qkv[0].numel(), "peak_bytes": peak})  # fmt: skip
    return rows


def flop_rows(images: list[int], tokens: int) -> list[dict[str, float]]:
    """Needed attention operations of one layer, causal and block."""
    rows = []
    for count in images:
        layout = layout_of(count, tokens)
        causal, block = (SHAPE.flops(pairs(layout)) for pairs in (causal_pairs, block_pairs))
        rows.append({"images": count, "length": layout.length, "causal": causal, "block": block,
                     "saved": 1 - block / causal})  # fmt: skip
    return rows


def stored(row: dict[str, Spread | float]) -> dict[str, object]:
    """For JSON."""
    return {name: value.record() if isinstance(value, Spread) else value for name, value in row.items()}


def main() -> None:
    """Run, print the tables, write the JSON."""
    parser = parser_of(__doc__, rounds=7)
    parser.add_argument("--images", type=int, nargs="+", default=[2, 5, 10])
    parser.add_argument("--ar-images", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--count-images", type=int, nargs="+", default=[2, 4, 5, 8, 10, 16, 20, 35])
    parser.add_argument("--tokens", type=int, default=729)
    args = parser.parse_args()
    if args.quick:
        args.images, args.ar_images, args.tokens, args.rounds = [2, 4], [2], 49, 2
    record = Record("attention", args)
    shape = f"{SHAPE.heads} x {SHAPE.width} heads, {SHAPE.kv_heads} for keys, {args.tokens} tokens an image"
    found: dict[str, list[dict[str, object]]] = {"block": [], "ar": []}
    shown: list[list[object]] = []
    with torch.inference_mode():
        for images in args.images:
            row = measure_block(images, args.tokens, args.rounds, args.clock)
            block, dense, masked = (row[name] for name in ("block", "dense", "masked"))
            ratios = {"dense_over_block": dense / block, "masked_over_block": masked / block}
            found["block"].append({"images": images, **stored(row | ratios)})
            shown.append([images, *(x.shown(3) for x in (block, dense, masked)),
                          *(x.shown(1) for x in ratios.values()), f"{row['difference']:.0e}"])  # fmt: skip
    headers = ["images", "block", "dense", "masked", "dense / block", "masked / block", "off by"]
    print_table(f"Block, seconds a layer ({shape})", shown, headers)
    shown = []
    with torch.inference_mode():
        for images in args.ar_images:
            row = measure_ar(images, args.tokens, args.rounds, args.clock)
            ar, dense, written, in_place = (row[name] for name in ("ar", "dense", "written", "in_place"))
            ratios = {"ar_over_dense": ar / dense, "written_over_ar": written / ar,
                      "in_place_over_ar": in_place / ar}  # fmt: skip
            found["ar"].append({"images": images, **stored(row | ratios)})
            shown.append([images, *(x.shown(3) for x in (ar, dense, written, in_place)),
                          *(x.shown(2) for x in ratios.values()), f"{row['difference']:.0e}"])  # fmt: skip
    print_table(f"AR, seconds a layer ({SINKS} sinks, {GROUNDED:.0%} grounded)", shown,
                ["images", "ar", "dense", "Eq. 10", "in place", "ar / dense", "Eq. 10 / ar", "in place / ar",
                 "off"])  # fmt: skip
    memory = memory_rows(min(args.tokens, 256))
    print_table("Memory of one layer", [
        [row["mask"], row["length"], f"{row['largest'] / row['input']:.2f}",
         f"{row['largest'] / row['length'] ** 2:.2f}", f"{row['peak_bytes'] / row['length']:.0f}"]
        for row in memory
    ], ["mask", "N", "largest tensor / query", "largest tensor / N^2", "peak bytes / N"])  # fmt: skip
    flops = flop_rows(args.count_images, args.tokens)
    print_table("Attention operations of one layer, counted from the spans", [
        [row["images"], row["length"], f"{row['causal'] / 1e9:.2f}", f"{row['block'] / 1e9:.2f}",
         f"-{row['saved']:.1%}"] for row in flops
    ], ["images", "N", "causal GFLOP", "block GFLOP", "block"])  # fmt: skip
    record.write(
        shape={"heads": SHAPE.heads, "kv_heads": SHAPE.kv_heads, "width": SHAPE.width,
               "tokens": args.tokens, "dtype": "float32"},
        rounds=args.rounds, **found, memory=memory, flops=flops,
    )  # fmt: skip


if __name__ == "__main__":
    main()
