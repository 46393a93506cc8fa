"""What `relevance=grounded_clip` costs an image, apart from the model under evaluation.

    make bench        or        python benchmarks/relevance_cost.py --threads 2

Grounding DINO (shape of SwinT-OGC) and CLIP (ViT-L/14-336) with random float32 weights, through the code
that an evaluation uses: one picture of 640 x 480 at a time, one phrase. Outputs are kept on disk, so that
a picture and a phrase are looked at once on a machine: `kept` is the second time.
"""

import sys
import tempfile
from itertools import count
from pathlib import Path

import torch
from measuring import Record, parser_of, print_table, turns

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

PHRASE = "dog"


def main() -> None:
    """Run, print the table, write the JSON."""
    from model_adapters.relevance.cache import OutputCache
    from model_adapters.relevance.clip import Clip
    from model_adapters.relevance.grounding import GroundingDino
    from tests.makers.outside import make_clip, make_grounding, picture

    args = parser_of(__doc__, rounds=5).parse_args()
    args.rounds = 1 if args.quick else args.rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        record = Record("relevance_cost", args)
        make_grounding(folder / "grounding", large=not args.quick)
        make_clip(folder / "clip", large=not args.quick)
        cache = OutputCache(folder / "kept")
        grounding = GroundingDino(str(folder / "grounding"), cache=cache)
        clip = Clip(str(folder / "clip"), cache=cache)
        centres = torch.rand(729, 2, generator=torch.Generator().manual_seed(0))
        numbers = count()
        shown = picture(0, (640, 480))

        def detect(key: str) -> None:
            grounding.boxes(shown, key, [PHRASE])

        def compare(key: str) -> None:
            clip.cosines(shown, key, "How many dogs are there?", centres)

        ways = {
            "Grounding DINO": lambda: detect(f"new {next(numbers)}"),
            "CLIP": lambda: compare(f"new {next(numbers)}"),
            "both, kept": lambda: (detect("old"), compare("old")),
        }
        spent = turns(ways, rounds=args.rounds, clock=args.clock)
        sizes = {
            "Grounding DINO": sum(own.numel() for own in grounding.loaded.model.parameters()),
            "CLIP": sum(own.numel() for own in clip.loaded.model.parameters()),
        }
    rows = [
        [name, f"{sizes[name] / 1e6:.0f}" if name in sizes else "", own.shown(3)]
        for name, own in spent.items()
    ]
    print_table("relevance=grounded_clip, an image and a phrase", rows, ["", "million parameters", "seconds"])
    record.write(parameters=sizes, seconds_an_image={name: own.record() for name, own in spent.items()})


if __name__ == "__main__":
    main()
