"""A whole decoder's prefill at the true shape of LLaVA-OV-0.5B (METHODS 11), random weights and inputs.

    make bench        or        python benchmarks/prefill.py --images 2 10 --threads 2

`none`, `block` in the second half of the layers, and `ar` in all layers (four sinks, 15 % of the visual
tokens in G, both given) go through our engine; `masked` is the same model with transformers' SDPA and the
release's boolean N x N mask, made beforehand, in the second half. Times are in turns. Operations are counted
for more images than are timed: attention from the spans, the whole model by torch's `FlopCounterMode` on the
meta device, and by the same counter with attention as the spans need it.

The counter takes every attention call for a full T x S, so causal attention counts double; it does not see
norms, rotations, activations, the softmax, or the making of a mask.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from counting import INTERVENTIONS, Shape, block_pairs, causal_pairs, given, layout_of
from measuring import Record, parser_of, print_table, turns
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from model_adapters.engine import IMPLEMENTATION, Engine, register
from model_adapters.interventions.block.reference import block_mask
from model_adapters.layout import Layout


@dataclass(frozen=True)
class DecoderShape:
    """Of a Qwen2 decoder, without its vocabulary."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    mlp: int

    def make(self, device: str, dtype: torch.dtype) -> Any:
        """The decoder with random weights."""
        from transformers import Qwen2Config, Qwen2Model

        config = Qwen2Config(
            vocab_size=8, hidden_size=self.hidden, intermediate_size=self.mlp, dtype=dtype,
            num_hidden_layers=self.layers, num_attention_heads=self.heads, num_key_value_heads=self.kv_heads,
            max_position_embeddings=131072,
        )  # fmt: skip
        torch.manual_seed(0)
        with torch.device(device):
            return Qwen2Model._from_config(config, dtype=dtype).eval()

    @property
    def attention(self) -> Shape:
        return Shape(self.heads, self.kv_heads, self.hidden // self.heads)


WAYS = ("none", "block", "masked", "ar")
RATIOS = ("none_over_block", "masked_over_block", "ar_over_none")
SHAPES = {
    "0.5B": DecoderShape(24, 896, 14, 2, 4864),
    "7B": DecoderShape(28, 3584, 28, 4, 18944),
    "quick": DecoderShape(4, 112, 14, 2, 224),
}


class Decoder:
    """A decoder that is run in each way.

    Args:
        shape: of it.
        device: where.
        dtype: of weights and inputs.
    """

    def __init__(self, shape: DecoderShape, device: str, dtype: torch.dtype) -> None:
        register()
        self.shape, self.device, self.dtype = shape, device, dtype
        self.model = shape.make(device, dtype)
        self.second_half = range(shape.layers // 2, shape.layers)

    def ways(self, layout: Layout, names: Sequence[str] = WAYS) -> dict[str, Callable[[], Tensor]]:
        """The last hidden state (1, N, hidden) in each way."""
        inputs = torch.randn(1, layout.length, self.shape.hidden, generator=torch.Generator().manual_seed(1))
        inputs = inputs.to(self.device, self.dtype)
        sinks, relevance = given(layout, device=self.device)
        engines = {
            "none": Engine(INTERVENTIONS["none"], frozenset()),
            "block": Engine(INTERVENTIONS["block"], frozenset(self.second_half)),
            "ar": Engine(
                INTERVENTIONS["ar"], frozenset(range(self.shape.layers)), find_sinks=lambda *_: sinks
            ),
        }
        engines["ar"].watch(self.model)
        ways: dict[str, Callable[[], Tensor]] = {}
        for name, engine in engines.items():

            def run(engine: Engine = engine) -> Tensor:
                self.model.set_attn_implementation(IMPLEMENTATION)
                with engine.running(self.model, [layout], relevance=relevance):
                    return self._forward(inputs)

            ways[name] = run
        if "masked" not in names:  # N x N is too much for many images
            return ways
        mask = block_mask(layout)[None, None].to(self.device)

        def masked() -> Tensor:
            self.model.set_attn_implementation("sdpa")
            with self._mask(mask):
                return self._forward(inputs)

        return ways | {"masked": masked}

    @torch.inference_mode()
    def _forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.model(inputs_embeds=inputs, use_cache=True).last_hidden_state
        return out

    @contextmanager
    def _mask(self, mask: Tensor) -> Iterator[None]:
        """The second half of the layers is given a mask (1, 1, N, N)."""

        def give(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return args, {**kwargs, "attention_mask": mask}

        attentions = [self.model.layers[i].self_attn for i in self.second_half]
        hooks = [own.register_forward_pre_hook(give, with_kwargs=True) for own in attentions]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def measure(
    decoder: Decoder, images: int, tokens: int, rounds: int, names: Sequence[str], clock: str = "wall"
) -> dict[str, Any]:
    """Seconds of each way, ratios, the largest differences, and on a GPU the most memory of each."""
    layout = layout_of(images, tokens)
    ways = decoder.ways(layout, names)
    on_gpu = decoder.device.startswith("cuda")
    settle = torch.cuda.synchronize if on_gpu else lambda: None
    row: dict[str, Any] = {"images": images, "length": layout.length}
    memory: dict[str, int] = {}
    outs: dict[str, Tensor] = {}

    def kept(name: str) -> Callable[[], None]:
        def run() -> None:
            outs[name] = ways[name]()

        return run

    def fresh(name: str) -> None:
        gc.collect()
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()

    times = turns(
        {name: kept(name) for name in names},
        rounds=rounds, clock=clock, warm_up=images < 4 or on_gpu, fresh=fresh, settle=settle,
    )  # fmt: skip
    if on_gpu:
        for name in names:
            fresh(name)
            ways[name]()
            memory[name] = torch.cuda.max_memory_allocated()
    row["seconds"] = times
    row["ratios"] = {f"{name}_over_none": times[name] / times["none"] for name in names if name != "none"}
    if {"block", "masked"} <= set(names):
        row["ratios"] |= {"none_over_block": times["none"] / times["block"],
                          "masked_over_block": times["masked"] / times["block"]}  # fmt: skip
        row["difference"] = (outs["block"] - outs["masked"]).abs().max().item()
        row["edit"] = (outs["block"] - outs["none"]).abs().max().item()
    return row | ({"peak_memory": memory} if memory else {})


def count(shape: DecoderShape, images: Sequence[int], tokens: int) -> list[dict[str, float]]:
    """Operations of the attention of one masked layer, of all layers, and of the whole prefill."""
    rows = []
    decoder = Decoder(shape, "meta", torch.float32)
    masked = len(decoder.second_half)
    for number in images:
        layout = layout_of(number, tokens)
        inputs = torch.empty(1, layout.length, shape.hidden, device="meta")
        counted: dict[str, float] = {}
        linear = 0.0
        for name, layers in (("none", frozenset[int]()), ("block", frozenset(decoder.second_half))):
            decoder.model.set_attn_implementation(IMPLEMENTATION)
            with (
                Engine(INTERVENTIONS[name], layers).running(decoder.model, [layout]),
                FlopCounterMode(display=False) as seen,
            ):
                decoder._forward(inputs)
            own = {str(op): flops for op, flops in seen.get_flop_counts()["Global"].items()}
            counted[name] = float(sum(own.values()))
            linear = float(own["aten.addmm"] + own["aten.mm"])
        causal = shape.attention.flops(causal_pairs(layout))
        block = shape.attention.flops(block_pairs(layout))
        none_all, block_all = shape.layers * causal, (shape.layers - masked) * causal + masked * block
        rows.append({
            "images": number, "length": layout.length, "layer_causal": causal, "layer_block": block,
            "attention_none": none_all, "attention_block": block_all,
            "model_none": linear + none_all, "model_block": linear + block_all,
            "counter_none": counted["none"], "counter_block": counted["block"],
            "saved_in_masked_layers": 1 - block / causal,
            "saved_of_attention": 1 - block_all / none_all,
            "saved_of_model": (none_all - block_all) / (linear + none_all),
            "saved_by_counter": 1 - counted["block"] / counted["none"],
        })  # fmt: skip
    return rows


def main() -> None:
    """Run, print the tables, write the JSON."""
    parser = parser_of(__doc__, rounds=2)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="0.5B")
    parser.add_argument("--layers", type=int, help="fewer of them: more rounds in the same time")
    parser.add_argument("--images", type=int, nargs="*", default=[2, 10])
    parser.add_argument("--ar-images", type=int, nargs="*", default=[4])
    parser.add_argument("--count-images", type=int, nargs="+", default=[2, 4, 5, 8, 10, 16, 20, 35])
    parser.add_argument("--tokens", type=int, default=730)
    parser.add_argument("--device", default="cpu", help="make gpu measures a GPU")
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    if args.quick:
        args.shape, args.tokens, args.images, args.ar_images = "quick", 50, [2, 4], [2]
    record = Record("prefill", args)
    shape = replace(SHAPES[args.shape], **({"layers": args.layers} if args.layers else {}))
    decoder = Decoder(shape, args.device, getattr(torch, args.dtype))
    measure(decoder, 1, args.tokens, 0, ["none"])  # warms up
    found: list[dict[str, Any]] = []
    for images, names in [
        *((images, ["none", "block", "masked"]) for images in args.images),
        *((images, ["none", "ar"]) for images in args.ar_images),
    ]:
        found.append(measure(decoder, images, args.tokens, args.rounds, names, args.clock))
    title = f"{args.shape}: {shape.layers} layers, {shape.hidden} wide, {args.dtype} on {args.device}"
    print_table(f"Whole prefill, seconds ({title}; {args.tokens} tokens an image)", [
        [row["images"], row["length"],
         *(row["seconds"][name].shown(2) if name in row["seconds"] else "" for name in WAYS),
         *(row["ratios"][name].shown(2) if name in row["ratios"] else "" for name in RATIOS)]
        for row in found
    ], ["images", "N", *WAYS, "none / block", "masked / block", "ar / none"])  # fmt: skip
    counted = count(shape, args.count_images, args.tokens)
    timed = {row["images"]: row["ratios"]["block_over_none"] for row in found if "block" in row["seconds"]}
    print_table("What block in the second half saves", [
        [row["images"], row["length"], f"{row['layer_causal'] / 1e9:.1f} to {row['layer_block'] / 1e9:.1f}",
         f"-{row['saved_in_masked_layers']:.1%}", f"-{row['saved_of_attention']:.1%}",
         f"{row['model_none'] / 1e12:.2f} to {row['model_block'] / 1e12:.2f}",
         f"-{row['saved_of_model']:.1%}", f"-{row['saved_by_counter']:.1%}",
         f"{timed[row['images']].median - 1:+.1%}" if row["images"] in timed else ""]
        for row in counted
    ], ["images", "N", "GFLOP of a masked layer's attention", "masked layers' attention", "all attention",
        "TFLOP of the model", "whole model", "whole model by torch's counter", "time"])  # fmt: skip
    record.write(
        shape=asdict(shape) | {"name": args.shape, "tokens": args.tokens, "dtype": args.dtype,
                               "device": args.device},
        rows=[{**row, **{part: {name: spread.record() for name, spread in row[part].items()}
                         for part in ("seconds", "ratios")}} for row in found],
        flops=counted,
    )  # fmt: skip


if __name__ == "__main__":
    main()
