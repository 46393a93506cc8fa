"""Upstream's `llava_hf`, `qwen2_vl` and `internvl_hf` beside our models: docs a second, on the same work.

    make bench        or        python benchmarks/peers.py --families qwen2_vl --scales long --threads 2

Checkpoints in the real architectures with random float32 weights and planted sinks, docs of the embedded
Counting task (2 to 6 images), 16 new tokens each, all in one process and in turns. A model is made anew for
each of its runs, so that nothing is kept from the one before, and only `generate_until` is timed. Upstream
runs at batch 1, all that it allows (`qwen2_vl` takes more and then changes its answers).

First, untimed: that both give the same texts on prompts of the same length. For this, one thing is made equal
in each upstream model (`Peer.equal`); its time as a user gets it, without that, is reported apart.

Scale `short` has 50 tokens an image and a small model: what counts is the work beside the arithmetic, and
decoding, as on a GPU. Scale `long` has 200 to 260: the prefill's arithmetic counts, as on a CPU at the true
shapes.
"""

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from measuring import Record, Spread, parser_of, print_table, turns
from peers_models import (
    PEERS,
    SCALES,
    answers,
    make_checkpoint,
    ours,
    pixels,
    prompt_lengths,
    read_docs,
    upstream,
)


class Case:
    """One family at one scale.

    Args:
        family: which.
        scale: a key of `SCALES`.
        folder: for its checkpoint.
        docs: how many, or None for the scale's number.
    """

    def __init__(self, family: str, scale: str, folder: Path, docs: int | None) -> None:
        from mimic_eval.cli.calibrate import calibrate

        self.family, self.scale, self.peer = family, SCALES[scale], PEERS[family]
        self.checkpoint = folder / family
        with quiet():
            make_checkpoint(family, self.checkpoint, self.scale)
            calibrate(self.peer.ours, pretrained=str(self.checkpoint), docs=6)
        self.docs = read_docs(docs or self.scale.docs, side=pixels(self.scale, family))
        self.ar = {"mask": "ar", "relevance": "oracle", "tau": self.scale.tau}

    def makers(self, batches: tuple[int, ...] = (1, 8)) -> dict[str, Callable[[], Any]]:
        """Each way's model, made anew."""
        most = max(batches)
        ways: dict[str, Callable[[], Any]] = {
            "upstream": lambda: self._upstream(equal=True),
            "as a user gets it": lambda: self._upstream(equal=False),
        }
        for batch in batches:
            ways[f"none, {batch}"] = lambda batch=batch: self._ours(mask="none", batch_size=batch)
        ways[f"none, {most}, no cache"] = lambda: self._ours(mask="none", batch_size=most, feature_cache=0)
        ways[f"hf_mask, {most}"] = lambda: self._ours(model="hf_mask", mask="none", batch_size=most)
        ways[f"block, {most}"] = lambda: self._ours(mask="block", batch_size=most)
        ways[f"ar, {most}"] = lambda: self._ours(**self.ar, batch_size=most)
        return ways

    def _upstream(self, *, equal: bool) -> Any:
        return upstream(self.family, self.checkpoint, self.scale, equal=equal)

    def _ours(self, **arguments: Any) -> Any:
        return ours(self.family, self.checkpoint, **arguments)

    def answers(self, model: Any, *, chat: bool) -> list[str]:
        """The texts of all docs."""
        return answers(model, self.docs, chat=chat)

    def check(self) -> dict[str, Any]:
        """Whether both say the same on prompts of the same length, and how many docs an edit changes."""
        from mimic_eval.records import announced_effects

        texts, lengths, edited = {}, {}, 0
        for name, make in self.makers().items():
            with quiet():
                model = make()
                lengths[name] = prompt_lengths(model)
                texts[name] = self.answers(model, chat=self._chat(name))
                if name.startswith("ar"):
                    edits = announced_effects()["edits"]
                    edited = edits["docs"] - edits["docs_unchanged"]
        theirs = texts["upstream"]
        return {
            "docs_that_ar_edits": edited,
            "docs": len(theirs),
            "tokens": sum(lengths["upstream"]),
            "same_lengths": sorted(lengths["upstream"]) == sorted(lengths["none, 1"]),
            "tokens_as_a_user_gets_it": sum(lengths["as a user gets it"]),
            "different_texts": len(set(theirs)),
            "empty_texts": sum(not text for text in theirs),
            "same_as_upstream": {
                name: sum(a == b for a, b in zip(theirs, own, strict=True)) for name, own in texts.items()
            },
        }

    def _chat(self, way: str) -> bool:
        return self.peer.chat or way not in ("upstream", "as a user gets it")

    def measure(self, rounds: int, clock: str) -> dict[str, Spread]:
        """Docs a second of each way."""
        made: dict[str, Any] = {}
        makers = self.makers()

        def fresh(name: str) -> None:
            made.clear()
            with quiet():
                made[name] = makers[name]()

        def run(name: str) -> Callable[[], None]:
            def answer() -> None:
                with quiet():
                    self.answers(made[name], chat=self._chat(name))

            return answer

        seconds = turns(
            {name: run(name) for name in makers}, rounds=rounds, clock=clock, warm_up=False, fresh=fresh
        )
        return {name: Spread(tuple(len(self.docs) / s for s in own.values)) for name, own in seconds.items()}


@contextlib.contextmanager
def quiet() -> Any:
    """No progress bars and no notices; an error is still raised."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield


def main() -> None:
    """Run, print the tables, write the JSON."""
    parser = parser_of(__doc__, rounds=3)
    parser.add_argument("--families", nargs="+", choices=sorted(PEERS), default=list(PEERS))
    parser.add_argument("--scales", nargs="+", choices=sorted(SCALES), default=["short", "long"])
    parser.add_argument("--docs", type=int, help="[default: 16 short ones, 8 long ones]")
    args = parser.parse_args()
    if args.quick:
        args.scales, args.rounds = ["quick"], 1
    from loguru import logger

    logger.remove()
    logger.add(sys.stdout, level="ERROR")
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MIMIC_CACHE"] = str(Path(folder) / "cache")
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        record = Record("peers", args)
        for scale in args.scales:
            for family in args.families:
                case = Case(family, scale, Path(folder) / scale, args.docs)
                checked = case.check()
                speed = case.measure(args.rounds, args.clock)
                found.append(
                    {"family": family, "scale": scale, "upstream": case.peer.upstream}
                    | {"made_equal": case.peer.equal, **checked, "docs_per_second": speed}
                    | {"over_upstream": {name: own / speed["upstream"] for name, own in speed.items()}}
                )
    ways = list(found[0]["docs_per_second"])
    print_table("The same work? Texts equal to upstream's", [
        [row["scale"], row["upstream"], row["docs"], row["tokens"], row["same_lengths"],
         row["different_texts"],
         *(row["same_as_upstream"][way] for way in ways[1:])] for row in found
    ], ["scale", "peer", "docs", "prompt tokens", "same lengths", "different texts", *ways[1:]])  # fmt: skip
    print_table("Docs a second (batch size behind the mask)", [
        [row["scale"], row["upstream"], *(row["docs_per_second"][way].shown(1) for way in ways)]
        for row in found
    ], ["scale", "peer", *ways])  # fmt: skip
    print_table("Docs a second over upstream's", [
        [row["scale"], row["upstream"], *(row["over_upstream"][way].shown(2) for way in ways[1:])]
        for row in found
    ], ["scale", "peer", *ways[1:]])  # fmt: skip
    for row in found:
        row["docs_per_second"], row["over_upstream"] = (
            {name: spread.record() for name, spread in row[part].items()}
            for part in ("docs_per_second", "over_upstream")
        )
    record.write(scales={name: asdict(SCALES[name]) for name in args.scales}, rows=found)


if __name__ == "__main__":
    main()
