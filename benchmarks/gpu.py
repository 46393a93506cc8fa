"""Whether all of it is right and fast on one GPU, in at most 8 minutes (`make gpu`).

    make gpu        or        python benchmarks/gpu.py --device cuda:0

1. Parity: each mask in bfloat16 and float16 against its definition as a matrix, in float32, of the same
   (rounded) query, key and value; padded rows on both sides. An error up to `TOLERANCE` roundings of the
   largest value passes.
2. The kernel for sequences of different lengths (`varlen`) against attention written out.
3. Seconds and peak memory of one layer's attention at the true shapes, 8 to 64 images of 729 tokens.
4. Seconds and peak memory of a whole prefill of the same shapes.
5. Forward and backward of one layer's attention: block against SDPA with the release's mask, seconds, peak
   memory and gradients (`training_attention`).
6. One training step with and without activation checkpointing: equal gradients, peak memory of each.

The exit status is 1 if a check of 1, 2, 5 or 6 fails; the file is written all the same.
"""

import gc
import json
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import torch
import training_attention
from counting import INTERVENTIONS, Shape, draw, given, layout_of
from measuring import Record, parser_of, print_table, turns
from prefill import SHAPES, Decoder, DecoderShape, measure
from torch import Tensor

from model_adapters import varlen
from model_adapters.engine import IMPLEMENTATION, Engine
from model_adapters.interventions.base import Intervention, LayerView, Relevance
from model_adapters.interventions.block.kernel import BlockMask
from model_adapters.interventions.block.reference import block_mask
from model_adapters.interventions.dab.kernel import AttentionBalancing
from model_adapters.interventions.dab.reference import balanced_weights
from model_adapters.interventions.knockout.edges import parse_edges
from model_adapters.interventions.knockout.kernel import Knockout
from model_adapters.interventions.knockout.reference import blocked_pairs
from model_adapters.interventions.reference import (
    causal_mask,
    causal_weights,
    masked_attention,
    weighted,
    weights_by_factors,
)
from model_adapters.interventions.remasking.kernel import AttentionRemasking, UnmaskOnly
from model_adapters.interventions.remasking.reference import (
    remasked_weights,
    weights_with_links,
    weights_without_sinks,
)
from model_adapters.interventions.sofa.kernel import Sofa
from model_adapters.interventions.sofa.reference import factors
from model_adapters.interventions.var.kernel import AttentionRedistribution
from model_adapters.interventions.var.reference import redistributed_weights
from model_adapters.layout import Layout

TOLERANCE = 4.0
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
EDGES = "question>image[2]+image>later+image>prefix"
MASKS: dict[str, Intervention] = {
    **INTERVENTIONS,
    "block, prefix=true": BlockMask(prefix=True),
    "ar, empty_rows=mask": AttentionRemasking(empty_rows="mask"),
    "ar, links=later_tokens": AttentionRemasking(links="later_tokens"),
    "unmask_only, links=later_tokens": UnmaskOnly(links="later_tokens"),
    "var": AttentionRedistribution(),
    "sofa": Sofa(),
    "sofa, own_image=true": Sofa(own_image=True),
    "knockout": Knockout(parse_edges(EDGES)),
    "dab": AttentionBalancing(),
}


def oracle(name: str, query: Tensor, key: Tensor, value: Tensor, layout: Layout, facts: Any) -> Tensor:
    """One doc (H, N, D) by the definition of a mask as a matrix, on the CPU.

    Args:
        name: of `MASKS`.
        query: (H, N, D), float32.
        key: (KV, N, D).
        value: (KV, N, D).
        layout: of length N.
        facts: sinks bool (N), grounded bool (N) and score (N).
    """
    scale = query.shape[-1] ** -0.5
    if name.startswith("block"):
        mask = block_mask(layout, prefix="prefix" in name)
        return masked_attention(query, key, value, mask, scale=scale)
    seen = causal_mask(layout)
    if name.startswith("sofa"):
        factor = _factors(layout, "own_image" in name)
        return weighted(weights_by_factors(query, key, factor.float(), scale=scale), value)
    if name == "knockout":
        mask = seen & ~_blocked(layout)
        return masked_attention(query, key, value, mask, scale=scale)
    alpha = causal_weights(query, key, layout, scale=scale)
    sinks, grounded, score = facts
    if name == "var":
        alpha = redistributed_weights(alpha, layout, sinks, torch.zeros_like(sinks))
    elif name == "dab":
        alpha = balanced_weights(alpha, layout, seen)
    links = "later_tokens" if "later_tokens" in name else "later_images"
    if name.startswith("unmask_only"):
        alpha = weights_with_links(alpha, layout, sinks, grounded, score, links=links)
    elif name.startswith("ar"):
        rows = "mask" if "empty_rows" in name else "keep"
        alpha = remasked_weights(alpha, layout, sinks, grounded, score, links=links, empty_rows=rows)
    elif name == "mask_only":
        alpha = weights_without_sinks(alpha, sinks)
    return weighted(alpha, value)


@cache
def _factors(layout: Layout, own_image: bool) -> Tensor:
    """Of `sofa`, token by token: slow, so once for both dtypes."""
    return factors(layout, causal_mask(layout), sigma=0.5, own_image=own_image)


@cache
def _blocked(layout: Layout) -> Tensor:
    """Of `knockout`, token by token too."""
    return blocked_pairs(layout, EDGES)


def parity(shape: Shape, tokens: int, device: str) -> list[dict[str, Any]]:
    """The largest error of each mask in each dtype, in roundings of the largest value.

    Args:
        shape: of the attention.
        tokens: of an image.
        device: where the masks run; the definitions run on the CPU.
    """
    plain = layout_of(4, tokens)
    shift = 5
    moved = tuple(image.moved(shift) for image in plain.images)
    n = plain.length + shift
    layouts = (Layout(n, shift, moved), Layout(n, 0, plain.images, shift))
    sinks, relevance = given(plain)
    facts = [
        torch.cat([torch.nn.functional.pad(x, (shift, 0)), torch.nn.functional.pad(x, (0, shift))])
        for x in (sinks, relevance.grounded, relevance.score)
    ]
    rows = []
    for dtype_name, dtype in DTYPES.items():
        qkv = [x.expand(2, -1, -1, -1).contiguous() for x in draw(Layout(n), shape, dtype=dtype)]
        there = [x.to(device) for x in qkv]
        view = LayerView(
            layouts, 0, facts[0].to(device), Relevance(*(x.to(device) for x in facts[1:])),
            text_sinks=torch.zeros_like(facts[0]).to(device),
        )  # fmt: skip
        for name, mask in MASKS.items():
            got = mask.prefill(*there, view, scale=shape.width**-0.5).float().cpu()
            error = largest = 0.0
            for b, layout in enumerate(layouts):
                doc = [x[b].float() for x in qkv]
                want = oracle(name, *doc, layout, [fact[b] for fact in facts])[:, layout.tokens]
                error = max(error, (got[b, :, layout.tokens] - want).abs().max().item())
                largest = max(largest, want.abs().max().item())
            roundings = error / (torch.finfo(dtype).eps * largest)
            rows.append({"mask": name, "dtype": dtype_name, "error": error, "roundings": roundings,
                         "passes": roundings <= TOLERANCE})  # fmt: skip
    return rows


def kernel_rows(shapes: Mapping[str, Shape], tokens: int, device: str, rounds: int) -> list[dict[str, Any]]:
    """What computes block masking at each shape, and whether the packed kernel agrees with attention."""
    rows = []
    for shape_name, shape in shapes.items():
        for dtype_name, dtype in DTYPES.items():
            kernel = BlockMask().kernel(torch.device(device), dtype, shape.heads, shape.kv_heads, shape.width)
            row: dict[str, Any] = {"shape": shape_name, "dtype": dtype_name, "kernel": kernel}
            if kernel == "varlen":
                row |= _packed(shape, tokens, dtype, device, rounds)
            rows.append(row)
    return rows


def _packed(shape: Shape, tokens: int, dtype: torch.dtype, device: str, rounds: int) -> dict[str, Any]:
    """Error and seconds of the packed kernel with images of different lengths."""
    lengths = tuple(tokens - 7 * i for i in range(8))
    query, key, value = (x[0].transpose(0, 1).to(device).contiguous()
                         for x in draw(Layout(sum(lengths)), shape, dtype=dtype))  # fmt: skip
    scale = shape.width**-0.5
    packed = partial(varlen.attend_packed, query, key, value, lengths, lengths, scale=scale)
    got, start, error, largest = packed().float().cpu(), 0, 0.0, 0.0
    for length in lengths:
        doc = [x[start : start + length].transpose(0, 1).float().cpu() for x in (query, key, value)]
        want = weighted(causal_weights(*doc[:2], Layout(length), scale=scale), doc[2]).transpose(0, 1)
        error = max(error, (got[start : start + length] - want).abs().max().item())
        largest = max(largest, want.abs().max().item())
        start += length
    roundings = error / (torch.finfo(dtype).eps * largest)
    seconds = turns({"packed": packed}, rounds=rounds, settle=partial(settle, device))["packed"]
    return {"error": error, "roundings": roundings, "passes": roundings <= TOLERANCE,
            "seconds": seconds.record()}  # fmt: skip


def settle(device: str) -> None:
    """Wait for what runs on a GPU."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def peak_of(device: str, run: Callable[[], object]) -> int | None:
    """Most memory of the GPU during a call, beside what was there before; None on a CPU."""
    if not device.startswith("cuda"):
        run()
        return None
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    settle(device)
    return torch.cuda.max_memory_allocated() - before


@torch.inference_mode()
def attention_rows(
    shape: Shape, images: list[int], tokens: int, device: str, rounds: int
) -> list[dict[str, Any]]:
    """Seconds and peak bytes of one layer for `none`, `block` and `ar` in bfloat16."""
    rows = []
    for count in images:
        layout = layout_of(count, tokens)
        sinks, relevance = given(layout, device=device)
        view = LayerView((layout,), 0, sinks, relevance)
        qkv = [x.to(device) for x in draw(layout, shape, dtype=torch.bfloat16)]
        ways = {
            name: partial(INTERVENTIONS[name].prefill, *qkv, view, scale=shape.width**-0.5)
            for name in ("none", "block", "ar")
        }
        seconds = turns(ways, rounds=rounds, settle=partial(settle, device))
        peaks = {name: peak_of(device, way) for name, way in ways.items()}
        rows.append({"images": count, "length": layout.length, "peak_bytes": peaks,
                     "seconds": {name: spread.record() for name, spread in seconds.items()},
                     "none_over_block": (seconds["none"] / seconds["block"]).record(),
                     "ar_over_none": (seconds["ar"] / seconds["none"]).record()})  # fmt: skip
    return rows


def prefill_rows(
    shape: DecoderShape, images: list[int], tokens: int, device: str, rounds: int
) -> list[dict[str, Any]]:
    """Seconds and peak bytes of a whole prefill for `none`, `block` (second half) and `ar` (all layers)."""
    decoder = Decoder(shape, device, torch.bfloat16)
    measure(decoder, 1, tokens, 1, ["none"])  # warms up
    rows = []
    for count in images:
        row = measure(decoder, count, tokens, rounds, ["none", "block", "ar"])
        parts = ("seconds", "ratios")
        rows.append({**row, **{part: {k: v.record() for k, v in row[part].items()} for part in parts}})
    return rows


def training_attention_rows(
    shape: Shape, images: list[int], tokens: int, device: str, rounds: int
) -> list[dict[str, Any]]:
    """Forward and backward of one layer in bfloat16; gradients pass as in `parity`."""
    rows = []
    for count in images:
        layout = training_attention.layout_of(count, tokens, training_attention.TEXT_BETWEEN)
        row = training_attention.row_of(
            layout, shape, rounds=rounds, peak=partial(peak_of, device), settle=partial(settle, device),
            device=device, dtype=torch.bfloat16,
        )  # fmt: skip
        roundings = row["error"] / torch.finfo(torch.bfloat16).eps
        rows.append({"images": count, **row, "roundings": roundings, "passes": roundings <= TOLERANCE})
    return rows


def training(shape: DecoderShape, images: int, tokens: int, device: str) -> dict[str, Any]:
    """One step under block masking, with activation checkpointing and without: gradients and peak memory."""
    decoder = Decoder(shape, device, torch.bfloat16)
    model = decoder.model.train()
    model.set_attn_implementation(IMPLEMENTATION)
    layout = layout_of(images, tokens)
    inputs = torch.randn(1, layout.length, shape.hidden, generator=torch.Generator().manual_seed(1))
    inputs = inputs.to(device, torch.bfloat16)
    gradients: dict[str, Tensor] = {}
    peaks: dict[str, int | None] = {}
    for name in ("plain", "checkpointing"):
        if name == "checkpointing":
            model.gradient_checkpointing_enable()

        def step(name: str = name) -> None:
            model.zero_grad()
            engine = Engine(INTERVENTIONS["block"], frozenset(decoder.second_half))
            with engine.running(model, [layout]):
                model(
                    inputs_embeds=inputs, use_cache=False
                ).last_hidden_state.float().square().mean().backward()
            gradients[name] = model.layers[-1].self_attn.q_proj.weight.grad.float().cpu()

        peaks[name] = peak_of(device, step)
    difference = (gradients["plain"] - gradients["checkpointing"]).norm() / gradients["plain"].norm()
    return {"images": images, "length": layout.length, "peak_bytes": peaks,
            "relative_difference": difference.item(), "passes": difference.item() < 1e-2}  # fmt: skip


def gpu_name(device: str) -> str:
    """Of the device, for the record."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"


def _gib(peak: int | None) -> str:
    return "" if peak is None else f"{peak / 2**30:.2f}"


def main() -> int:
    """Run, print the tables, write the JSON; 1 if a check fails, 2 without a GPU."""
    parser = parser_of(__doc__, rounds=5)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--tokens", type=int, default=729)
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print(
            "make gpu needs a GPU that torch can use, and there is none. "
            "python benchmarks/gpu.py --device cpu --quick tries the script itself.",
            file=sys.stderr,
        )
        return 2
    images = {"0.5B": [8, 16, 32, 64], "7B": [8, 16, 32]}
    shapes, few = {name: SHAPES[name] for name in images}, 128
    if args.quick:
        shapes, images, few, args.tokens, args.rounds = {"quick": SHAPES["quick"]}, {"quick": [2]}, 9, 16, 1
    record = Record("gpu", args)
    attention_shapes = {name: shape.attention for name, shape in shapes.items()}
    first = next(iter(shapes.values()))
    parts: dict[str, Any] = {"gpu": gpu_name(args.device)}

    parts["parity"] = parity(first.attention, few, args.device)
    print_table(f"Parity on {parts['gpu']}", [
        [row["mask"], row["dtype"], f"{row['error']:.1e}", f"{row['roundings']:.2f}", row["passes"]]
        for row in parts["parity"]
    ], ["mask", "dtype", "largest error", "in roundings", "passes"])  # fmt: skip
    parts["kernels"] = kernel_rows(attention_shapes, args.tokens, args.device, args.rounds)
    print_table("Kernel of block masking", [
        [row["shape"], row["dtype"], row["kernel"], f"{row['roundings']:.2f}" if "roundings" in row else ""]
        for row in parts["kernels"]
    ], ["shape", "dtype", "kernel", "error in roundings"])  # fmt: skip
    parts["attention"], parts["prefill"] = {}, {}
    for name, shape in shapes.items():
        rows = attention_rows(shape.attention, images[name], args.tokens, args.device, args.rounds)
        parts["attention"][name] = rows
        print_table(f"Attention of one layer, {name}, bfloat16", [
            [row["images"], row["length"],
             *(f"{1e3 * row['seconds'][way]['median']:.2f}" for way in ("none", "block", "ar")),
             f"{row['none_over_block']['median']:.2f}", f"{row['ar_over_none']['median']:.2f}",
             *(_gib(row["peak_bytes"][way]) for way in ("none", "block", "ar"))]
            for row in rows
        ], ["images", "N", "none ms", "block ms", "ar ms", "none / block", "ar / none",
            "none GiB", "block GiB", "ar GiB"])  # fmt: skip
    for name, shape in shapes.items():
        rows = prefill_rows(shape, images[name], args.tokens, args.device, max(1, args.rounds // 2))
        parts["prefill"][name] = rows
        print_table(f"Whole prefill, {name}, bfloat16", [
            [row["images"], row["length"],
             *(f"{row['seconds'][way]['median']:.3f}" for way in ("none", "block", "ar")),
             f"{row['ratios']['none_over_block']['median']:.2f}" if "none_over_block" in row["ratios"]
             else f"{1 / row['ratios']['block_over_none']['median']:.2f}",
             f"{row['ratios']['ar_over_none']['median']:.2f}",
             *(_gib(row.get("peak_memory", {}).get(way)) for way in ("none", "block", "ar"))]
            for row in rows
        ], ["images", "N", "none s", "block s", "ar s", "none / block", "ar / none",
            "none GiB", "block GiB", "ar GiB"])  # fmt: skip
    counts = [2] if args.quick else [10, 16]
    rows = training_attention_rows(first.attention, counts, args.tokens, args.device, args.rounds)
    parts["training_attention"] = [training_attention.stored(row) for row in rows]
    print_table("Forward and backward of one layer, bfloat16", [
        [row["images"], *training_attention.shown(row)] for row in rows
    ], ["images", *training_attention.HEADERS])  # fmt: skip
    parts["training"] = training(first, 2 if args.quick else 8, args.tokens, args.device)
    print_table("One training step", [[
        parts["training"]["length"], *(_gib(parts["training"]["peak_bytes"][way])
                                       for way in ("plain", "checkpointing")),
        f"{parts['training']['relative_difference']:.1e}", parts["training"]["passes"],
    ]], ["N", "plain GiB", "checkpointing GiB", "difference of gradients", "passes"])  # fmt: skip
    record.write(**parts)
    kernels = [row for row in parts["kernels"] if "passes" in row]
    checks = [*parts["parity"], *kernels, *parts["training_attention"], parts["training"]]
    failed = [row for row in checks if not row["passes"]]
    for row in failed:
        print(f"FAILED: {json.dumps(row)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
