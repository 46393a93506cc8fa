"""What the outside models of `relevance=` cost a picture, one by one and in batches.

    make bench        or        python benchmarks/relevance_cost.py --threads 2

Grounding DINO (shape of SwinT-OGC), SAM (ViT-B, 1,024 points) and CLIP (ViT-L/14-336) with random float32
weights, through the code that an evaluation and `mimic ground` use: pictures of 640 x 480, one phrase. How
many of SAM's masks are good enough, and so the cost of its last step, depends on the weights. A single round
has no warm-up. Runs read what `mimic ground` stored, in milliseconds a picture.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path

from measuring import Record, Spread, parser_of, print_table, turns

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

PHRASE, QUESTION = "dog", "How many dogs are there?"


def main() -> None:
    """Run, print the table, write the JSON."""
    from model_adapters.relevance.cache import OutputCache
    from model_adapters.relevance.clip import Clip
    from model_adapters.relevance.grounding import GroundingDino, caption_of
    from model_adapters.relevance.outside import OutsideModel
    from model_adapters.relevance.sam import Sam
    from tests.makers.outside import make_clip, make_grounding, make_sam, picture

    kinds = {
        "grounding": (GroundingDino, make_grounding, caption_of([PHRASE])),
        "sam": (Sam, make_sam, ""),
        "clip": (Clip, make_clip, QUESTION),
    }
    parser = parser_of(__doc__, rounds=3)
    parser.add_argument("--pictures", type=int, default=4, help="pictures, and the size of the batch")
    parser.add_argument("--models", nargs="*", choices=list(kinds), default=list(kinds))
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16")
    args = parser.parse_args()
    args.rounds = 1 if args.quick else args.rounds
    images = [picture(i, (64, 48) if args.quick else (640, 480)) for i in range(args.pictures)]
    keys = [str(i) for i in range(args.pictures)]
    rows, results = [], {}
    record = Record("relevance_cost", args)
    with tempfile.TemporaryDirectory() as name:
        for kind in args.models:
            model_class, make, text = kinds[kind]
            folder = Path(name) / kind
            make(folder, large=not args.quick)
            model: OutsideModel = model_class(
                str(folder), cache=OutputCache(Path(name) / "kept"), dtype=args.dtype
            )

            def compute(at_once: int, model: OutsideModel = model, text: str = text) -> None:
                if isinstance(model, Clip):
                    model.forget()
                for start in range(0, len(images), at_once):
                    part = slice(start, start + at_once)
                    model.outputs(images[part], keys[part], [[text]] * len(images[part]))

            ways = {"one": partial(compute, 1), "batch": partial(compute, len(images))}
            size = sum(weight.numel() for weight in model.loaded.model.parameters())
            spent = turns(ways, rounds=args.rounds, clock=args.clock, warm_up=args.rounds > 1)
            seconds = {
                way: Spread(tuple(s / len(images) for s in times.values)) for way, times in spent.items()
            }
            gain = spent["one"] / spent["batch"]
            shown = [
                seconds["one"].shown(2),
                seconds["batch"].shown(2),
                gain.shown(2),
            ]
            rows.append([model.title, f"{size / 1e6:.0f}", *shown])
            results[kind] = {
                "parameters": size,
                "seconds_a_picture": {way: times.record() for way, times in seconds.items()},
                "one_over_batch": gain.record(),
            }
    head = ["", "million parameters", "one by one", f"batches of {len(images)}", "ratio"]
    print_table("Seconds a picture", rows, head)
    record.write(pictures=args.pictures, dtype=args.dtype, models=results)


if __name__ == "__main__":
    main()
