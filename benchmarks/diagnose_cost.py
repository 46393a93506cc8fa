"""What watching costs: a decoder's prefill with sums of attention in all layers, over the prefill alone.

    make bench        or        python benchmarks/diagnose_cost.py --threads 1

At the true shape of LLaVA-OV-0.5B (METHODS 11), random weights and inputs. `watched` is what
`mimic diagnose` adds to `none` and `ar`: sums by layer, head, group of rows and group of keys, sinks told
apart, and entropies. Memory is the most that one layer's sums hold (torch's own count on the CPU), beside
what one N x N matrix for each head would take. Times are in turns; give --clock cpu where others work.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import counting
import torch
from measuring import Record, Spread, parser_of, print_table, turns
from prefill import SHAPES, Decoder

from model_adapters.diagnostics.sums import AttentionSums
from model_adapters.engine import IMPLEMENTATION, Engine
from model_adapters.interventions.base import LayerView

WAYS = ("none", "ar")


def runs_of(decoder: Decoder, images: int, tokens: int) -> dict[str, Callable[[], None]]:
    """Each way plain and watched."""
    layout = counting.layout_of(images, tokens)
    shape, model = decoder.shape, decoder.model
    inputs = torch.randn(1, layout.length, shape.hidden, generator=torch.Generator().manual_seed(1))
    inputs = inputs.to(decoder.device, decoder.dtype)
    sinks, relevance = counting.given(layout, device=decoder.device)
    every = frozenset(range(shape.layers))
    ways: dict[str, Callable[[], None]] = {}
    for name in WAYS:
        for watched in (False, True):
            sums = AttentionSums(every, depth=shape.layers, sinks=True)
            engine = Engine(
                counting.INTERVENTIONS[name], every, find_sinks=lambda *_: sinks,
                observers=(sums,) if watched else (),
            )  # fmt: skip
            engine.watch(model)

            def run(engine: Engine = engine, sums: AttentionSums = sums) -> None:
                sums.begin([None])
                model.set_attn_implementation(IMPLEMENTATION)
                with engine.running(model, [layout], relevance=relevance):
                    decoder._forward(inputs)

            ways[f"{name}, watched" if watched else name] = run
    return ways


def memory_of(decoder: Decoder, images: int, tokens: int, name: str) -> int:
    """The most bytes that the sums of one layer hold."""
    layout, shape = counting.layout_of(images, tokens), decoder.shape.attention
    query, key, _ = counting.draw(layout, shape)
    view = LayerView((layout,), 0, *counting.given(layout))
    sums = AttentionSums(frozenset({0}), depth=1, sinks=True)

    def run() -> None:
        sums.begin([None])
        sums.observe(query, key, view, counting.INTERVENTIONS[name], scale=shape.width**-0.5)

    return counting.peak_bytes(run)


def ratios_of(times: dict[str, Spread]) -> dict[str, Spread]:
    """Watched over plain, round by round."""
    return {name: times[f"{name}, watched"] / times[name] for name in WAYS}


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print the tables, write the JSON."""
    parser = parser_of(__doc__, rounds=3)
    parser.add_argument("--layers", type=int, help="fewer of them: more rounds in the same time")
    parser.add_argument("--images", type=int, nargs="+", default=[4])
    parser.add_argument("--memory-images", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--tokens", type=int, default=729)
    args = parser.parse_args(argv)
    if args.quick:
        args.tokens, args.images, args.memory_images = 40, [2], [2, 4]
    record = Record("diagnose_cost", args)
    shape = SHAPES["quick" if args.quick else "0.5B"]
    shape = replace(shape, **({"layers": args.layers} if args.layers else {}))
    decoder = Decoder(shape, "cpu", torch.float32)
    rows: list[dict[str, Any]] = []
    for images in args.images:
        times = turns(runs_of(decoder, images, args.tokens), rounds=args.rounds, clock=args.clock)
        ratios = ratios_of(times)
        length = counting.layout_of(images, args.tokens).length
        rows.append({"images": images, "length": length, "seconds": times, "ratios": ratios})
    print_table(f"Prefill, seconds ({shape.layers} layers, float32; {args.tokens} tokens an image)", [
        [row["images"], row["length"], name, row["seconds"][name].shown(2),
         row["seconds"][f"{name}, watched"].shown(2), row["ratios"][name].shown(2)]
        for row in rows for name in WAYS
    ], ["images", "N", "mask", "plain", "watched", "watched / plain"])  # fmt: skip
    held = [
        {
            "images": images,
            "length": counting.layout_of(images, args.tokens).length,
            "bytes": {name: memory_of(decoder, images, args.tokens, name) for name in WAYS},
            "square": 4 * shape.heads * counting.layout_of(images, args.tokens).length ** 2,
        }
        for images in args.memory_images
    ]
    print_table("Memory of one layer's sums, MiB", [
        [row["images"], row["length"], *(f"{row['bytes'][name] / 2**20:.0f}" for name in WAYS),
         f"{row['square'] / 2**20:.0f}"]
        for row in held
    ], ["images", "N", *WAYS, "N x N of each head"])  # fmt: skip
    record.write(
        shape=asdict(shape) | {"tokens": args.tokens, "dtype": "float32"},
        rows=[{**row, **{part: {name: spread.record() for name, spread in row[part].items()}
                         for part in ("seconds", "ratios")}} for row in rows],
        memory=held,
    )  # fmt: skip


if __name__ == "__main__":
    main()
