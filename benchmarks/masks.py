"""What each mask costs: a decoder's prefill and generated tokens, over those of `mask=none`.

    make bench        or        python benchmarks/masks.py --images 4 10 --layers 2 --threads 2

At the width of LLaVA-OV-0.5B (METHODS 11) with some of its layers, random weights and inputs; sinks (of text
too), relevance, boxes and delimiters are given, so that what finds them is not in the times. Each mask has
its usual arguments and changes every layer: in half of them it costs half of the difference. A mask of
several passes is run pass by pass; the pictures that its passes encode are not in the times, their number is
shown. Times are in turns; give --clock cpu where others work.
"""

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import counting
import torch
from measuring import Record, parser_of, print_table, turns
from PIL import Image
from prefill import SHAPES, Decoder
from torch import Tensor

from model_adapters.engine import IMPLEMENTATION, Engine
from model_adapters.interventions import INTERVENTIONS
from model_adapters.layout import Layout
from model_adapters.options import AdapterOptions
from model_adapters.passes import PassInput
from model_adapters.picture import Picture
from model_adapters.relevance.query import Query

WAYS: dict[str, dict[str, Any]] = {
    "none": {},
    "block": {},
    "ar": {},
    "mask_only": {},
    "unmask_only": {},
    "var": {},
    "sofa": {},
    "knockout": {"edges": "question>image[target]+answer>image[target]"},
    "dab": {},
    "delimiters": {},
    "orders": {},
    "focus": {"shared_noise": True},
}


@dataclass(frozen=True)
class Way:
    """One mask, ready to run.

    Attributes:
        prefill: gives the cache of the last pass.
        decode: some tokens after a cache.
        passes: over a doc.
        pictures: that they encode.
    """

    prefill: Callable[[], Any]
    decode: Callable[[Any], None]
    passes: int
    pictures: int


def query_of(images: int) -> Query:
    """A Counting doc whose first image shows the target."""
    pictures = tuple(Picture(Image.new("RGB", (8, 8), (m, 0, 0))) for m in range(images))
    box = {"class": "dog", "x": 0, "y": 0, "width": 4, "height": 4, "small": False, "crowd": False}
    boxes: Any = tuple(({**box, "target": m == 0},) for m in range(images))
    return Query("a doc", "How many dogs?", pictures, kind="counting", targets=("dog",), boxes=boxes)


def ways_of(decoder: Decoder, layout: Layout, tokens: int) -> dict[str, Way]:
    """Each mask with its usual arguments."""
    shape, model = decoder.shape, decoder.model
    inputs = torch.randn(1, layout.length, shape.hidden, generator=torch.Generator().manual_seed(1))
    inputs = inputs.to(decoder.device, decoder.dtype)
    token = inputs[:, -1:]
    sinks, relevance = counting.given(layout, device=decoder.device)
    with_text = sinks.clone()
    with_text[0, 0] = True
    query = query_of(len(layout.images))
    delimiters = torch.zeros_like(sinks)
    delimiters[0, [image.end - 1 for image in layout.images]] = True
    given_all = {"relevance": relevance, "queries": [query], "delimiters": delimiters}
    ways: dict[str, Way] = {}
    for name, arguments in WAYS.items():
        layers = {} if INTERVENTIONS.get(name).default_layers == "none" else {"layers": "all"}
        options = AdapterOptions.parse({"mask": name, **layers, **arguments})
        intervention = options.intervention()
        given = with_text if "text_sinks" in intervention.needs else sinks
        engine = Engine(
            intervention, options.layer_set(shape.layers), find_sinks=lambda *_, given=given: given
        )
        shown = intervention.passes.expand(PassInput(query.pictures, "", query, "seed"))

        @torch.inference_mode()
        def prefill(engine: Engine = engine, passes: int = len(shown)) -> Any:
            model.set_attn_implementation(IMPLEMENTATION)
            hooks = engine.watch(model)
            try:
                with engine.running(model, [layout], **given_all):
                    for _ in range(passes):
                        cache = model(inputs_embeds=inputs, use_cache=True).past_key_values
                    return cache, given_sinks(model)
            finally:
                for hook in hooks:
                    hook.remove()

        @torch.inference_mode()
        def decode(made: Any, engine: Engine = engine, passes: int = len(shown)) -> None:
            cache, held = made
            with engine.running(model, [layout], **given_all):
                given_sinks(model, held)
                for _ in range(passes):
                    if extra := cache.get_seq_length() - layout.length:
                        cache.crop(-extra)
                    for _ in range(tokens):
                        model(inputs_embeds=token, past_key_values=cache, use_cache=True)

        pictures = {picture.sha256 for row in shown for picture in row.pictures}
        ways[name] = Way(prefill, decode, len(shown), len(pictures))
    return ways


def given_sinks(model: Any, held: Any = None) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """The sinks that the prompt's layers had; with `held`, put those back for its generated tokens."""
    from model_adapters.engine import attach

    run = attach(model).run
    assert run is not None
    if held is not None:
        run.sinks.update(held[0])
        run.text_sinks.update(held[1])
    return dict(run.sinks), dict(run.text_sinks)


def measure(decoder: Decoder, images: int, args: Namespace) -> list[dict[str, Any]]:
    """A row for each mask."""
    layout = counting.layout_of(images, args.tokens)
    ways = ways_of(decoder, layout, args.generated)
    made: dict[str, Any] = {}

    def prefill(name: str) -> Callable[[], None]:
        def run() -> None:
            made.clear()
            made[name] = ways[name].prefill()

        return run

    def decode(name: str) -> Callable[[], None]:
        return lambda: ways[name].decode(made[name])

    how = {"rounds": args.rounds, "clock": args.clock, "warm_up": False}
    prefills = turns({name: prefill(name) for name in ways}, **how)
    decodes = turns({name: decode(name) for name in ways}, fresh=lambda name: prefill(name)(), **how)
    return [
        {"images": images, "length": layout.length, "mask": name, "passes": way.passes,
         "pictures": way.pictures, "prefill": prefills[name], "decode": decodes[name],
         "prefill_over_none": prefills[name] / prefills["none"],
         "decode_over_none": decodes[name] / decodes["none"]}
        for name, way in ways.items()
    ]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print the table, write the JSON."""
    parser = parser_of(__doc__, rounds=3)
    parser.add_argument("--layers", type=int, default=2, help="of 24: more rounds in the same time")
    parser.add_argument("--images", type=int, nargs="+", default=[4, 10])
    parser.add_argument("--tokens", type=int, default=729)
    parser.add_argument("--generated", type=int, default=8)
    args = parser.parse_args(argv)
    if args.quick:
        args.tokens, args.images, args.generated = 20, [2], 2
    record = Record("masks", args)
    shape = replace(SHAPES["quick" if args.quick else "0.5B"], layers=args.layers)
    decoder = Decoder(shape, "cpu", torch.float32)
    rows = [row for images in args.images for row in measure(decoder, images, args)]
    print_table(f"Over mask=none ({shape.layers} layers, float32, {args.tokens} tokens an image)", [
        [row["images"], row["length"], row["mask"], row["passes"], row["pictures"],
         row["prefill"].shown(2), row["prefill_over_none"].shown(2), row["decode_over_none"].shown(2)]
        for row in rows
    ], ["images", "N", "mask", "passes", "pictures encoded", "prefill, s", "prefill / none",
        f"{args.generated} tokens / none"])  # fmt: skip
    parts = ("prefill", "decode", "prefill_over_none", "decode_over_none")
    record.write(
        shape=asdict(shape) | {"tokens": args.tokens, "dtype": "float32"},
        rows=[{**row, **{part: row[part].record() for part in parts}} for row in rows],
    )


if __name__ == "__main__":
    main()
