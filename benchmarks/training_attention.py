"""Forward and backward of one attention layer at the shape of LLaVA-OV-0.5B (METHODS 11), and its memory.

    make bench        or        python benchmarks/training_attention.py --images 10 --rounds 3

`block` is the engine's block masking. `masked` is SDPA with the release's boolean N x N mask, keys copied for
all heads, as the release trains. `dense` is ordinary causal attention of the engine (`mask=none`). Query, key
and value need gradients; a step is the attention and the gradients of all three. Between the images lies
text of 0 or `--text` tokens. Memory is the most that a step holds beside its inputs: the tensors that the
backward pass needs are in it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from counting import INTERVENTIONS, Shape, attention_with_mask, draw, peak_bytes
from measuring import Record, Spread, parser_of, print_table, turns
from torch import Tensor

from model_adapters.interventions.base import LayerView
from model_adapters.interventions.block.reference import block_mask
from model_adapters.layout import Layout, Span

TEXT_BEFORE, TEXT_BETWEEN, TEXT_AFTER = 14, 12, 40
SHAPE = Shape()

Step = Callable[[], list[Tensor]]


def layout_of(images: int, tokens: int, text: int) -> Layout:
    """`images` images of `tokens` tokens, `text` tokens between two of them."""
    starts = [TEXT_BEFORE + m * (tokens + text) for m in range(images)]
    return Layout(starts[-1] + tokens + TEXT_AFTER, 0, tuple(Span(at, at + tokens) for at in starts))


def steps_of(
    layout: Layout, shape: Shape, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> dict[str, Step]:
    """A step of each way: it returns the gradients of query, key and value."""
    qkv = [x.to(device) for x in draw(layout, shape, dtype=dtype)]
    mask, scale = block_mask(layout).to(device), shape.width**-0.5
    view = LayerView((layout,))
    ways: dict[str, Callable[..., Tensor]] = {
        "block": lambda *x: INTERVENTIONS["block"].prefill(*x, view, scale=scale),
        "masked": lambda *x: attention_with_mask(*x, mask, scale=scale),
        "dense": lambda *x: INTERVENTIONS["none"].prefill(*x, view, scale=scale),
    }
    towards = torch.randn(qkv[0].shape, generator=torch.Generator().manual_seed(1)).to(device, dtype)

    def step(way: Callable[..., Tensor]) -> list[Tensor]:
        inputs = [x.detach().requires_grad_() for x in qkv]
        way(*inputs).backward(towards)
        return [x.grad for x in inputs if x.grad is not None]

    return {name: partial(step, way) for name, way in ways.items()}


def row_of(
    layout: Layout,
    shape: Shape,
    *,
    rounds: int,
    peak: Callable[[Callable[[], object]], int | None],
    **options: Any,
) -> dict[str, Any]:
    """Seconds, peak bytes and the largest relative error of block's gradients against masked's.

    Args:
        layout: of one sequence.
        shape: of the layer.
        rounds: how often each way is measured.
        peak: bytes that a call holds at most.
        **options: `clock` and `settle` of `turns`, `device` and `dtype` of `steps_of`.
    """
    timing = {name: options.pop(name) for name in ("clock", "settle") if name in options}
    steps = steps_of(layout, shape, **options)
    pairs = zip(steps["block"](), steps["masked"](), strict=True)
    error = max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)
    seconds = turns(steps, rounds=rounds, warm_up=False, **timing)
    block = seconds["block"]
    return {
        "length": layout.length,
        "seconds": seconds,
        "ratios": {f"block_over_{name}": block / seconds[name] for name in ("masked", "dense")},
        "peak_bytes": {name: peak(step) for name, step in steps.items()},
        "error": error,
    }


def stored(row: dict[str, Any]) -> dict[str, Any]:
    """For JSON."""
    parts = {
        name: {key: value.record() for key, value in row[name].items()} for name in ("seconds", "ratios")
    }
    return row | parts


def shown(row: dict[str, Any]) -> list[str]:
    """The cells of a table."""
    spreads: list[Spread] = list(row["ratios"].values())
    peaks = [row["peak_bytes"][name] for name in row["seconds"]]
    return [
        str(row["length"]),
        *(spread.shown(3) for spread in row["seconds"].values()),
        *(spread.shown(3) for spread in spreads),
        *("" if peak is None else f"{peak / 2**20:.0f}" for peak in peaks),
        f"{row['error']:.0e}",
    ]


HEADERS = ["N", "block s", "masked s", "dense s", "block / masked", "block / dense",
           "block MiB", "masked MiB", "dense MiB", "gradients off by"]  # fmt: skip


def main() -> None:
    """Run, print the table, write the JSON."""
    parser = parser_of(__doc__, rounds=2)
    parser.add_argument("--images", type=int, nargs="+", default=[10])
    parser.add_argument("--tokens", type=int, default=729)
    parser.add_argument(
        "--text", type=int, default=TEXT_BETWEEN, help="tokens between two images, in the second row"
    )
    args = parser.parse_args()
    if args.quick:
        args.images, args.tokens, args.rounds = [2, 4], 16, 1
    record = Record("training_attention", args)
    rows = []
    for images in args.images:
        for text in (0, args.text):
            layout = layout_of(images, args.tokens, text)
            row = row_of(layout, SHAPE, rounds=args.rounds, clock=args.clock, peak=peak_bytes_of_step)
            rows.append({"images": images, "text": text, **row})
    print_table(
        f"Forward and backward of one layer, {args.tokens} tokens an image, float32",
        [[row["images"], row["text"], *shown(row)] for row in rows],
        ["images", "text between", *HEADERS],
    )
    record.write(rows=[stored(row) for row in rows])


def peak_bytes_of_step(step: Callable[[], object]) -> int:
    """`peak_bytes` with gradients."""
    return peak_bytes(step, gradients=True)


if __name__ == "__main__":
    main()
