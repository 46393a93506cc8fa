"""Eight orders of the same docs: what the cache of vision features saves, beside the most that it can save.

    make bench        or        python benchmarks/orders.py --families qwen2_vl --threads 2

With V seconds for the vision tower and preprocessing of an order and L for the language part, a run without a
cache takes 8 (V + L) and the best with one V + 8 L. V and L are clocked in the runs without a cache: V around
the image processor and `get_image_features`, L is the rest of the wall time. Preprocessing overlaps with the
model in another thread, so that L comes out a little small, and the bound a little high.

The checkpoints have random weights and the ratio V / L of about the published ones' (LLaVA-OV-0.5B 0.9,
Qwen2-VL-2B 2). All runs take turns in one process, a model made anew for each.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any

from measuring import Record, Spread, parser_of, print_table, turns
from peers import quiet
from peers_models import PEERS, SCALES, answers, make_checkpoint, ours, pixels, read_docs

ORDERS = 8
NEEDED_IMAGES = 4  # fewer have not eight orders


class Clock:
    """Seconds that a model spends on vision: clocks are put around its functions.

    Args:
        model: one of ours.
        clock: of the run.
    """

    def __init__(self, model: Any, clock: str) -> None:
        self._now = time.thread_time if clock == "cpu" else time.perf_counter
        self.preprocessing = self.encoding = 0.0
        images = model.family.processor.image_processor
        images.preprocess = self._clocked("preprocessing", images.preprocess)
        inner = model.model.model
        inner.get_image_features = self._clocked("encoding", inner.get_image_features)

    def _clocked(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)  # `generate` reads the signature
        def clocked(*args: Any, **kwargs: Any) -> Any:
            start = self._now()
            try:
                return call(*args, **kwargs)
            finally:
                setattr(self, part, getattr(self, part) + self._now() - start)

        return clocked


def permuted_docs(count: int, side: int | None) -> Any:
    """`ORDERS` rows for each of the first docs with enough images, as the permuted tasks show them."""
    from mimic_tasks.permuted.expand import expand
    from mimic_tasks.permuted.orders import Orders

    docs = read_docs(60, side=side)
    chosen = [i for i, images in enumerate(docs["n_images"]) if images >= NEEDED_IMAGES][:count]
    return expand(docs.select(chosen).flatten_indices(), Orders(f"random:{ORDERS}"))


def measure(
    family: str, scale: str, folder: Path, docs: int, batch: int, rounds: int, clock: str
) -> dict[str, Any]:
    """The speed-up of the cache, and V and L, of one family."""
    checkpoint = folder / family
    with quiet():
        make_checkpoint(family, checkpoint, SCALES[scale], sinks=False)
        rows = permuted_docs(docs, pixels(SCALES[scale], family))
    made: dict[str, Any] = {}
    clocks: list[Clock] = []
    texts: dict[str, list[str]] = {}
    arguments: dict[str, dict[str, Any]] = {"off": {"feature_cache": 0}, "on": {}}

    def fresh(name: str) -> None:
        made.clear()
        with quiet():
            made[name] = ours(family, checkpoint, mask="none", batch_size=batch, **arguments[name])
        if name == "off":
            clocks.append(Clock(made[name], clock))

    def run(name: str) -> Callable[[], None]:
        def answer() -> None:
            with quiet():
                texts[name] = answers(made[name], rows, chat=True)

        return answer

    seconds = turns({name: run(name) for name in arguments}, rounds=rounds, clock=clock, fresh=fresh)
    clocks = clocks[-rounds:]  # the first run warms up
    vision = Spread(tuple((clock.preprocessing + clock.encoding) / ORDERS for clock in clocks))
    language = Spread(
        tuple(s / ORDERS - v for s, v in zip(seconds["off"].values, vision.values, strict=True))
    )
    bound = Spread(
        tuple(
            ORDERS * (v + o) / (v + ORDERS * o) for v, o in zip(vision.values, language.values, strict=True)
        )
    )
    found: dict[str, Any] = {
        "family": family, "docs": docs, "orders": ORDERS, "batch": batch, "V": vision, "L": language,
        "preprocessing": Spread(tuple(clock.preprocessing / ORDERS for clock in clocks)),
        "V_over_L": vision / language, "bound": bound, "off": seconds["off"],
    }  # fmt: skip
    if "on" in seconds:
        speed_up = seconds["off"] / seconds["on"]
        found |= {"on": seconds["on"], "speed_up": speed_up, "of_bound": speed_up / bound,
                  "same_texts": sum(a == b for a, b in zip(texts["on"], texts["off"], strict=True)),
                  "texts": len(texts["on"]), "different_texts": len(set(texts["on"]))}  # fmt: skip
    return found


def main() -> None:
    """Run, print the table, write the JSON."""
    parser = parser_of(__doc__, rounds=3)
    parser.add_argument(
        "--families", nargs="+", choices=sorted(PEERS), default=["llava_onevision", "qwen2_vl"]
    )
    parser.add_argument("--docs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    args = parser.parse_args()
    scale = "orders"
    if args.quick:
        scale, args.docs, args.rounds = "quick", 1, 1
    from loguru import logger

    logger.remove()
    logger.add(sys.stdout, level="ERROR")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MIMIC_CACHE"] = str(Path(folder) / "cache")
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        record = Record("orders", args)
        found = [
            measure(family, scale, Path(folder), args.docs, args.batch, args.rounds, args.clock)
            for family in args.families
        ]
    columns = ["V", "L", "V_over_L", "off", "on", "speed_up", "bound", "of_bound"]
    headers = [
        "family",
        "V",
        "L",
        "V / L",
        "cache off",
        "on",
        "speed-up",
        "bound",
        "of the bound",
        "same texts",
    ]
    print_table(f"{ORDERS} orders of {args.docs} docs, batch {args.batch}; seconds, V and L of one order", [
        [row["family"], *(row[name].shown(2) if name in row else "" for name in columns),
         f"{row['same_texts']} of {row['texts']}" if "same_texts" in row else ""]
        for row in found
    ], headers)  # fmt: skip
    rows = [
        {name: part.record() if isinstance(part, Spread) else part for name, part in row.items()}
        for row in found
    ]
    record.write(scale=asdict(SCALES[scale]), rows=rows)


if __name__ == "__main__":
    main()
