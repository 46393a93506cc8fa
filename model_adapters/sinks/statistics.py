"""Finding a model's sink dimensions and the statistics of its z-score over a few dozen docs (METHODS 6)."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from mimic_eval.records import UserError
from mimic_eval.records.progress import progress_bar
from model_adapters.families.base import Family, PreparedBatch
from model_adapters.sinks.calibration import (
    HASH_LENGTH,
    Calibration,
    Corpus,
    LayerMagnitudes,
    SinkDimension,
    model_config,
)
from model_adapters.sinks.inputs import visit_inputs
from model_adapters.sinks.score import DEFAULT_TAU, ratio_score, visual_tokens, z_score
from model_adapters.sinks.streaming import Largest, Magnitudes, Moments

MIN_MAGNITUDE = 100.0
MIN_RATIO = 1000.0


class CorpusDoc(NamedTuple):
    """A doc as the model gets it.

    Attributes:
        images: in order, RGB.
        prompt: the text, chat template applied.
        content_hash: of the doc, for the record.
    """

    images: Sequence[Image.Image]
    prompt: str
    content_hash: str


@dataclass
class _FirstPass:
    """What the first pass over the docs gathers; the second needs all of it."""

    layers: list[Magnitudes]
    moments: Moments
    digest: Any = field(default_factory=hashlib.sha256)
    hashes: set[str] = field(default_factory=set)
    images: int = 0
    tokens: int = 0
    visual: int = 0


def calibrate(
    model: Any,
    family: Family,
    docs: Sequence[CorpusDoc],
    *,
    source: str,
    seed: int,
    checkpoint: str,
    min_magnitude: float = MIN_MAGNITUDE,
    min_ratio: float = MIN_RATIO,
    ratio_tau: float = DEFAULT_TAU,
    progress: bool = False,
) -> Calibration:
    """Find the sink dimensions of a model, and mu, sigma and tau of its z-score.

    Three passes, one doc at a time: the first finds magnitudes (over all tokens but padding) and moments
    (over visual tokens, see `Calibration`), the second how many visual tokens the ratio score flags, the
    third the z-score that as many reach, exactly. What is held between docs grows with the flagged tokens
    only.

    Args:
        model: loaded with `engine.IMPLEMENTATION`.
        family: the model's.
        docs: read up to three times in order; each is decoded when it is read, and dropped after it.
        source: the task folder, for the record.
        seed: of the draw of docs, for the record.
        checkpoint: the folder or Hub id, for the record.
        min_magnitude: a sink dimension's largest magnitude is above this,
        min_ratio: and above this multiple of the median magnitude of the same layer's input.
        ratio_tau: the ratio score's threshold that tau of the z-score matches.
        progress: show a bar on stderr.

    Raises:
        UserError: no docs, no images in them, or a layer's input that is not finite.
    """
    if not docs:
        raise UserError("there are no docs to calibrate on")
    with progress_bar(total=3 * len(docs), what="Calibrating", unit="doc", hidden=not progress) as bar:
        first = _first_pass(model, family, docs, bar)
        layers = _layers(first.layers)
        sink_dimensions = _dimensions(first, min_magnitude=min_magnitude, min_ratio=min_ratio)
        flagged = _flagged(model, family, docs, sink_dimensions, ratio_tau, bar) if sink_dimensions else 0
        tau = _tau(model, family, docs, sink_dimensions, flagged, bar) if sink_dimensions else None
    corpus = Corpus(
        source=source,
        seed=seed,
        docs=len(docs),
        images=first.images,
        tokens=first.tokens,
        visual_tokens=first.visual,
        digest=first.digest.hexdigest(),
        hashes=frozenset(first.hashes),
    )
    return Calibration(
        dimensions=sink_dimensions,
        tau=tau,
        ratio_tau=float(ratio_tau),
        flagged=flagged,
        layers=layers,
        corpus=corpus,
        min_magnitude=float(min_magnitude),
        min_ratio=float(min_ratio),
        checkpoint=checkpoint,
        dtype=str(model.dtype).removeprefix("torch."),
        config=model_config(model),
        versions={name: version(name) for name in ("mimic-eval", "torch", "transformers")},
    )


def _first_pass(model: Any, family: Family, docs: Sequence[CorpusDoc], bar: Any) -> _FirstPass:
    text = model.config.get_text_config()
    width, depth = int(text.hidden_size), int(text.num_hidden_layers)
    first = _FirstPass([Magnitudes(width, model.device) for _ in range(depth)], Moments(width, model.device))
    for number, doc in enumerate(docs, 1):
        batch, padding, visual = _prepared(family, doc, model.device)

        def see(layer: int, hidden: Tensor, *, padding: int = padding, visual: Tensor = visual) -> None:
            first.layers[layer].add(hidden[0, padding:])
            first.moments.add(hidden[0, visual])

        visit_inputs(model, family, batch, see)
        broken = [i for i, entry in enumerate(first.layers) if not entry.largest.isfinite().all()]
        if broken:
            name = str(model.dtype).removeprefix("torch.")
            raise UserError(
                f"the input of layer {broken[0]} is not finite on doc {number} in {name}: "
                "run in bfloat16 or float32"
            )
        first.digest.update(f"{doc.content_hash}\n".encode())
        first.hashes.add(doc.content_hash[:HASH_LENGTH])
        first.images += len(doc.images)
        first.tokens += batch.layouts[0].length - padding
        first.visual += int(visual.sum())
        bar.update()
    if first.visual == 0:
        raise UserError("the docs to calibrate on show no images")
    return first


def _tau(
    model: Any,
    family: Family,
    docs: Sequence[CorpusDoc],
    sink_dimensions: Sequence[SinkDimension],
    flagged: int,
    bar: Any,
) -> float:
    """The z-score that `flagged` visual tokens, counted in each layer, reach; the next number if it is 0."""
    indices = [entry.index for entry in sink_dimensions]
    mu, sigma = [entry.mu for entry in sink_dimensions], [entry.sigma for entry in sink_dimensions]
    scores = Largest(max(1, flagged))
    for doc in docs:
        batch, _, visual = _prepared(family, doc, model.device)

        def see(layer: int, hidden: Tensor, *, visual: Tensor = visual) -> None:
            scores.add(z_score(hidden[0, visual], indices, mu, sigma))

        visit_inputs(model, family, batch, see)
        bar.update()
    return scores.least if flagged else math.nextafter(scores.least, math.inf)


def _flagged(
    model: Any,
    family: Family,
    docs: Sequence[CorpusDoc],
    sink_dimensions: Sequence[SinkDimension],
    tau: float,
    bar: Any,
) -> int:
    """How many visual tokens, counted in each layer, have a ratio score above `tau`."""
    indices = [entry.index for entry in sink_dimensions]
    counts: list[Tensor] = []
    for doc in docs:
        batch, _, visual = _prepared(family, doc, model.device)

        def see(layer: int, hidden: Tensor, *, visual: Tensor = visual) -> None:
            counts.append((ratio_score(hidden[0, visual], indices) > tau).sum())

        visit_inputs(model, family, batch, see)
        bar.update()
    return sum(int(count) for count in counts)


def _prepared(family: Family, doc: CorpusDoc, device: torch.device) -> tuple[PreparedBatch, int, Tensor]:
    """A doc as a batch of one, its padding, and which of its tokens are visual, bool (N,)."""
    batch = family.prepare([doc.images], [doc.prompt])
    return batch, batch.layouts[0].padding, visual_tokens(batch.layouts, device=device)[0]


def _layers(layers: Sequence[Magnitudes]) -> tuple[LayerMagnitudes, ...]:
    return tuple(
        LayerMagnitudes(entry.median, float(entry.largest.max()), int(entry.largest.argmax()))
        for entry in layers
    )


def _dimensions(first: _FirstPass, *, min_magnitude: float, min_ratio: float) -> tuple[SinkDimension, ...]:
    """The dimensions that pass both thresholds in one layer at least."""
    largest = torch.stack([entry.largest for entry in first.layers]).double()  # (layers, D)
    median = torch.tensor([entry.median for entry in first.layers], dtype=torch.float64)[:, None]
    passes = (largest > min_magnitude) & (largest > min_ratio * median)
    multiple = largest / median.clamp(min=torch.finfo(torch.float64).tiny)
    mean, deviation = first.moments.mean, first.moments.deviation
    sink_dimensions = []
    for index in passes.any(dim=0).nonzero().flatten().tolist():
        layer = int(torch.where(passes[:, index], multiple[:, index], 0).argmax())
        sink_dimensions.append(
            SinkDimension(
                index=index,
                mu=float(mean[index]),
                sigma=float(deviation[index]),
                largest=float(largest[layer, index]),
                layer=layer,
            )
        )
    return tuple(sink_dimensions)
