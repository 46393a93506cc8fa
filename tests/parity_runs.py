"""Models under every mask beside the oracle: the rows of the parity table (benchmarks/parity.py)."""

import shutil
import tempfile
import unittest.mock
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from parity_docs import FAMILIES, OPENING, Bools, Doc, FamilyCase, layers_of, score_of
from parity_oracle import Generated, Oracle, Sinks, attend, listening, widen_norms
from torch import Tensor

from model_adapters.adapter import MaskedModel
from model_adapters.answering import Answerer
from model_adapters.interventions.base import Relevance
from model_adapters.layout import Layout
from model_adapters.models import Internvl2Mask, LlavaOvMask, Qwen2VLMask
from model_adapters.relevance.asked import Asked
from model_adapters.relevance.choice import parse_relevance
from model_adapters.relevance.places import TokenPlaces
from model_adapters.relevance.sources import RelevanceSource
from model_adapters.sinks import CorpusDoc, calibrate, save_calibration

MODELS: dict[str, type[MaskedModel]] = {
    "llava_onevision": LlavaOvMask,
    "qwen2_vl": Qwen2VLMask,
    "internvl": Internvl2Mask,
}
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}
SCALED = torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
"""From an error in float32 to the same roundings in float64."""

AGAINST = ("oracle", "transformers' sdpa")
FACTOR = 3.0
"""A bar is this many times the error of the reference: ours rounds as often, and at other places."""

GAINS = {"q_proj": 0.5, "k_proj": 0.5, "v_proj": 2.0, "o_proj": 2.0, "down_proj": 0.3}
"""Factors on the decoder's random weights: softer attention that says more, so that rounding is not blown up
and the masks do far more than rounding does."""

HIDDEN, LAYERS, SHARE = 128, 4, 0.3
SEEDS = {"llava_onevision": 3, "qwen2_vl": 0, "internvl": 0}


@dataclass(frozen=True)
class Setup:
    """A checkpoint with planted sinks, its calibration, and docs.

    Attributes:
        case: the family.
        folder: the checkpoint.
        calibration: the file.
        sinks: the same numbers for the oracle.
        docs: eight.
    """

    case: FamilyCase
    folder: Path
    calibration: Path
    sinks: Sinks
    docs: tuple[Doc, ...]


@dataclass(frozen=True)
class Row:
    """A row of the table; differences are the largest over docs, steps and vocabulary.

    Attributes:
        family: its name.
        mask: of `MASKS`.
        against: `AGAINST`.
        dtype: ours.
        batch: docs at a time.
        scope: ``logits`` of the whole model, or ``attention``: what it gives in each layer and step, against
            the oracle on the same queries, keys and values, prompt and generated tokens.
        error: of ours against the truth.
        direct: of our logits against the reference in the same dtype, 8 docs at a time.
        reference: the reference's own error in this dtype; float64: in float32, scaled. Of attention: the
            oracle's weights and values rounded to this dtype, and summed in it by torch.
        tolerance: of `error`.
        edit: what the mask does to the true logits, or to the true attention.
        edited_docs: docs to which it does more than the tolerance.
        sinks: in the truth, over docs and layers.
        docs_with_sinks: docs that have sinks in two images or more in some layer.
        sinks_moved: (doc, layer, token)s that are a sink for one side only, each finding its own.
        same_text: docs with the truth's greedy answer, by the model as users build it; None: not compared.
    """

    family: str
    mask: str
    against: str
    dtype: str
    batch: int
    scope: str
    error: float
    direct: float | None
    reference: float
    tolerance: float
    edit: float
    edited_docs: int
    sinks: int
    docs_with_sinks: int
    sinks_moved: int
    same_text: int | None


def make_setup(name: str, folder: Path) -> Setup:
    """Write a checkpoint of a family and calibrate it.

    Args:
        name: the family.
        folder: new.
    """
    from model_adapters import tiny
    from model_adapters.loading import load_family
    from model_adapters.sinks.planted import plant_sinks

    case = FAMILIES[name]
    checkpoint = folder / name
    make: Any = getattr(tiny, f"make_tiny_{name}")
    make(checkpoint, seed=SEEDS[name], hidden=HIDDEN, layers=LAYERS)
    model, family = load_family(
        MODELS[name].families[0], str(checkpoint), dtype=torch.float32, device="cpu", peft=None
    )
    with torch.no_grad():
        for layer in model.get_decoder().layers:
            for part, weight in layer.named_parameters():
                weight.mul_(GAINS.get(part.split(".")[-2], 1.0))
    plant_sinks(model, family, share=SHARE)
    with tempfile.TemporaryDirectory(dir=folder) as fresh:  # the open file is not written over
        model.bfloat16().save_pretrained(fresh)
        for file in Path(fresh).iterdir():
            shutil.move(file, checkpoint / file.name)
    docs = tuple(case.docs)
    model, family = load_family(
        MODELS[name].families[0], str(checkpoint), dtype=torch.float32, device="cpu", peft=None
    )
    corpus = [CorpusDoc(doc.images, prompt_of(family, doc), str(i)) for i, doc in enumerate(docs)]
    found = calibrate(model, family, corpus, source="parity", seed=0, checkpoint=str(checkpoint))
    save_calibration(found, folder / f"{name}.json")
    indices, mu, sigma = zip(*((own.index, own.mu, own.sigma) for own in found.dimensions), strict=True)
    sinks = Sinks(case.score, case.tau, indices, mu, sigma)
    return Setup(case, checkpoint, folder / f"{name}.json", sinks, docs)


def prompt_of(family: Any, doc: Doc) -> str:
    """A doc's text by our families."""
    content = [{"type": "image"} for _ in doc.images] + [{"type": "text", "text": doc.text}]
    return str(family.prompt([{"role": "user", "content": content}]))


# Ours


@dataclass(frozen=True)
class Call:
    """One call of `Engine.attend`."""

    layer: int
    scale: float
    query: Tensor
    key: Tensor
    value: Tensor
    out: Tensor


class Weighted(RelevanceSource):
    """``relevance=oracle`` with a c that differs from token to token, in float64."""

    def __init__(self) -> None:
        super().__init__(parse_relevance("oracle"))

    def relevance(
        self,
        asked: Sequence[Asked],
        places: Sequence[Sequence[TokenPlaces]],
        layouts: Sequence[Layout],
        **options: Any,
    ) -> Relevance:
        """See `RelevanceSource.relevance`."""
        grounded = super().relevance(asked, places, layouts, **options).grounded
        score = torch.zeros(grounded.shape, dtype=torch.float64)
        for row, layout in zip(score, layouts, strict=True):
            for m, image in enumerate(layout.images):
                scores = [score_of(m, t) for t in range(image.length)]
                row[image.indices()] = torch.tensor(scores, dtype=torch.float64)
        return Relevance(grounded, score.where(grounded, 0.0))


class Ours:
    """One of our models, as a user builds it.

    Args:
        setup: the checkpoint.
        mask: of `MASKS`.
        dtype: of `DTYPES`; float64 is the float32 model with its weights widened.
    """

    def __init__(self, setup: Setup, mask: str, dtype: str) -> None:
        arguments: dict[str, Any] = {"mask": mask.removesuffix("_masking_empty_rows")}
        if mask == "ar_masking_empty_rows":
            arguments["empty_rows"] = "mask"
        if mask in OPENING:
            arguments["relevance"] = "oracle"
        if mask in (*OPENING, "mask_only"):
            arguments |= {
                "calibration": str(setup.calibration),
                "score": setup.sinks.kind,
                "tau": setup.sinks.tau,
            }
        self.model = MODELS[setup.case.name](
            pretrained=str(setup.folder),
            dtype="bfloat16" if dtype == "bfloat16" else "float32",
            device="cpu",
            journal="off",
            **arguments,
        )
        if dtype == "float64":
            widen_norms(self.model.model.double())
        self.opening = mask in OPENING

    def texts(self, docs: Sequence[Doc], *, steps: int) -> list[str]:
        """Greedy answers of one batch, with ``relevance=oracle`` where it is needed."""
        given = self._given(docs)
        return [answer.text for answer in self.model.reply(*given[:2], greedy(steps), asked=given[2])]

    def logits(
        self,
        docs: Sequence[Doc],
        forced: Tensor,
        *,
        fixed: Sequence[Mapping[int, Bools]] | None = None,
    ) -> Generated:
        """Those of one batch that generates given tokens; arguments as `Oracle.run`."""
        engine = self.model.engine
        finder, found = engine.find_sinks, [dict[int, Bools]() for _ in docs]

        def find(hidden: Tensor, layouts: tuple[Layout, ...], layer: int) -> Tensor:
            if fixed is None:
                assert finder is not None
                sinks = finder(hidden, layouts, layer)
            else:
                sinks = torch.zeros(hidden.shape[:2], dtype=torch.bool)
                for own, layout, given in zip(sinks, layouts, fixed, strict=True):
                    own[layout.padding :] = torch.from_numpy(given[layer])
            for own, layout, kept in zip(sinks, layouts, found, strict=True):
                kept[layer] = own[layout.padding :].numpy()
            return sinks

        answerer = Answerer(
            self.model.model, self.model.family, engine, relevance=Weighted() if self.opening else None
        )
        images, prompts, asked = self._given(docs)
        engine.find_sinks = None if finder is None else find
        try:
            with listening(self.model.model, forced) as heard:
                answers = answerer.reply(images, prompts, greedy(forced.shape[1]), asked=asked)
        finally:
            engine.find_sinks = finder
        return Generated(torch.stack(heard, dim=1), forced, [answer.text for answer in answers], found)

    @contextmanager
    def watched(self) -> Iterator[list[Call]]:
        """What attention is given and gives, in all layers and steps."""
        engine, calls = self.model.engine, list[Call]()
        attend = engine.attend

        def watch(
            query: Tensor, key: Tensor, value: Tensor, *rest: Any, layer: int, scale: float, **more: Any
        ) -> Tensor:
            out = attend(query, key, value, *rest, layer=layer, scale=scale, **more)
            calls.append(Call(layer, scale, *(x.clone() for x in (query, key, value, out))))
            return out

        with unittest.mock.patch.object(engine, "attend", watch):
            yield calls

    def _given(self, docs: Sequence[Doc]) -> tuple[list[list[Any]], list[str], list[Asked]]:
        prompts = [prompt_of(self.model.family, doc) for doc in docs]
        return [list(doc.images) for doc in docs], prompts, [asked_of(doc) for doc in docs]


def asked_of(doc: Doc) -> Asked:
    """A Counting doc about dogs, which are in the doc's boxes; a cat is in the corner of each picture."""
    boxes: list[tuple[Any, ...]] = []
    for image, box in zip(doc.images, doc.boxes, strict=True):
        own = [_annotated("cat", (0.0, 0.0, 0.2, 0.2), image.size)]
        boxes.append(tuple([*own, _annotated("dog", box, image.size)] if box else own))
    return Asked("doc", doc.text, doc.images, kind="counting", targets=("dog",), boxes=tuple(boxes))


def _annotated(name: str, box: Sequence[float], size: tuple[int, int]) -> dict[str, Any]:
    (x0, y0, x1, y1), (width, height) = box, size
    corner = {"x": x0 * width, "y": y0 * height, "width": (x1 - x0) * width, "height": (y1 - y0) * height}
    return {"class": name, **corner, "target": name == "dog", "small": False, "crowd": False}


def greedy(steps: int) -> dict[str, Any]:
    """Generation settings as a task gives them."""
    return {"max_new_tokens": steps, "do_sample": False, "temperature": 0, "until": []}


# The rows


class Comparison:
    """All of a family that its rows share.

    Args:
        setup: the checkpoint.
        steps: tokens that are generated.
    """

    def __init__(self, setup: Setup, *, steps: int = 6) -> None:
        self.setup = setup
        self.steps = steps
        self._references: dict[tuple[str, str], Oracle] = {}
        self._truths: dict[tuple[str, str], Truth] = {}
        self._logits_of: dict[tuple[str, str, str], Tensor] = {}

    def reference(self, dtype: str, against: str = AGAINST[0]) -> Oracle:
        """The oracle, or transformers' own attention, in a dtype."""
        key = (dtype, against)
        if key not in self._references:
            how = {"attention": "sdpa"} if against == AGAINST[1] else {}
            own = self.setup
            self._references[key] = Oracle(own.case, own.folder, own.sinks, DTYPES[dtype], **how)
        return self._references[key]

    def truth(self, mask: str, against: str = AGAINST[0]) -> "Truth":
        """The float64 reference under a mask, doc by doc."""
        key = (mask, against)
        if key not in self._truths:
            exact, docs, steps = self.reference("float64", against), self.setup.docs, self.steps
            free = [exact.run([doc], mask, steps=steps) for doc in docs]
            pad = exact.processor.tokenizer.pad_token_id
            answers = [own.tokens[0] for own in free]
            filled = [torch.nn.functional.pad(own, (0, steps - len(own)), value=pad) for own in answers]
            alone = [
                exact.run([doc], mask, steps=steps, weighted=True, forced=own[None])
                for doc, own in zip(docs, filled, strict=True)
            ]
            tokens, logits = torch.stack(filled), torch.cat([own.logits for own in alone])
            bare = exact.run(docs, "none", steps=steps, forced=tokens).logits
            self._truths[key] = Truth(
                tokens,
                [own.texts[0] for own in free],
                logits,
                (logits - bare).abs().amax(dim=(1, 2)),
                [own.sinks[0] for own in alone],
            )
        return self._truths[key]

    def rows(
        self,
        mask: str,
        *,
        against: str = AGAINST[0],
        dtypes: Iterable[str] = DTYPES,
        batches: Iterable[int] = (1, 8),
    ) -> list[Row]:
        """The rows of a mask: logits for each dtype and batch, attention for each dtype.

        Args:
            mask: of `MASKS`; against transformers' own attention: ``none``.
            against: of `AGAINST`.
            dtypes: of `DTYPES`.
            batches: how many docs at a time.
        """
        rows, batches = list[Row](), tuple(batches)
        for dtype in dtypes:
            ours = Ours(self.setup, mask, dtype)
            rows += [self._logits(ours, mask, against, dtype, batch) for batch in batches]
            if against == AGAINST[0]:
                rows.append(self._attention(ours, mask, dtype))
        return rows

    def _logits(self, ours: Ours, mask: str, against: str, dtype: str, batch: int) -> Row:
        docs, truth = self.setup.docs, self.truth(mask, against)
        same, reference = self._same(mask, against, dtype)
        parts = [slice(first, first + batch) for first in range(0, len(docs), batch)]
        found = [ours.logits(docs[part], truth.tokens[part]) for part in parts]
        made = found
        if dtype == "bfloat16":
            made = [ours.logits(docs[p], truth.tokens[p], fixed=truth.sinks[p]) for p in parts]
        got = torch.cat([own.logits for own in made])
        texts = None
        if dtype != "bfloat16":
            said = [text for part in parts for text in ours.texts(docs[part], steps=self.steps)]
            texts = sum(a == b for a, b in zip(said, truth.texts, strict=True))
        return self._row(
            mask,
            dtype,
            batch,
            truth.edits,
            [own for generated in found for own in generated.sinks],
            scope="logits",
            against=against,
            error=apart(got, truth.logits),
            direct=apart(got, same),
            reference=reference,
            same_text=texts,
        )

    def _same(self, mask: str, against: str, dtype: str) -> tuple[Tensor, float]:
        """The reference's logits in a dtype, and its own error (float64: of float32, scaled)."""
        truth = self.truth(mask, against)
        key = (mask, against, dtype)
        if key not in self._logits_of:
            self._logits_of[key] = (
                self.reference(dtype, against)
                .run(
                    self.setup.docs,
                    mask,
                    steps=self.steps,
                    weighted=True,
                    forced=truth.tokens,
                    fixed=truth.sinks if dtype == "bfloat16" else None,
                )
                .logits
            )
        same = self._logits_of[key]
        if dtype == "float64":
            return same, self._same(mask, against, "float32")[1] * SCALED
        return same, apart(same, truth.logits)

    def _attention(self, ours: Ours, mask: str, dtype: str) -> Row:
        docs, truth, oracle = self.setup.docs, self.truth(mask), self.reference("float64")
        fixed = truth.sinks if dtype == "bfloat16" else None
        with ours.watched() as calls:
            made = ours.logits(docs, truth.tokens, fixed=fixed)
        inputs = oracle.inputs(docs)
        own = inputs["attention_mask"].bool().numpy()
        known = oracle.known(docs, inputs["input_ids"], weighted=True)
        for row, sinks in zip(known, truth.sinks, strict=True):
            row.sinks |= {layer: padded(found, len(row.image)) for layer, found in sinks.items()}
        changed = layers_of(mask, oracle.depth)
        error = reference = 0.0
        edits = torch.zeros(len(docs), dtype=torch.float64)
        for call in calls:
            count, keys = call.query.shape[2], call.key.shape[2]
            seen = np.tril(np.ones((count, keys), dtype=bool), keys - count)
            seen = seen & np.pad(own, ((0, 0), (0, keys - own.shape[1])), constant_values=True)[:, None]
            want = attend(
                call.query,
                call.key,
                call.value,
                seen,
                known,
                mask=mask if call.layer in changed else "none",
                layer=call.layer,
                scale=call.scale,
                dtype=DTYPES["float32" if dtype == "float64" else dtype],
            )
            real = torch.from_numpy(seen.any(axis=-1))[:, None, :, None]
            error = max(error, apart(call.out * real, want.edited))
            reference = max(reference, apart(want.rounded, want.edited))
            edits = torch.maximum(edits, (want.edited - want.plain).abs().amax(dim=(1, 2, 3)))
        assert len(calls) == oracle.depth * self.steps
        return self._row(
            mask,
            dtype,
            len(docs),
            edits,
            made.sinks,
            scope="attention",
            against=AGAINST[0],
            error=error,
            direct=None,
            reference=reference * (SCALED if dtype == "float64" else 1),
            same_text=None,
        )

    def _row(
        self,
        mask: str,
        dtype: str,
        batch: int,
        edits: Tensor,
        found: Sequence[Mapping[int, Bools]],
        *,
        reference: float,
        **more: Any,
    ) -> Row:
        """A row with what all have: bar, edits and sinks (`found`: ours)."""
        exact, docs = self.reference("float64"), self.setup.docs
        sinks = self.truth(mask, more["against"]).sinks
        several = 0
        for doc, layers in zip(docs, sinks, strict=True):
            image = exact.known([doc], exact.inputs([doc])["input_ids"], weighted=False)[0].image
            several += max(len(set(image[own].tolist())) for own in layers.values()) >= 2
        return Row(
            family=self.setup.case.name,
            mask=mask,
            dtype=dtype,
            batch=batch,
            reference=reference,
            tolerance=FACTOR * reference,
            edit=float(edits.max()),
            edited_docs=int((edits > FACTOR * reference).sum()),
            sinks=sum(int(own.sum()) for layers in sinks for own in layers.values()),
            docs_with_sinks=several,
            sinks_moved=sum(
                int((own ^ layers[layer]).sum())
                for layers, theirs in zip(sinks, found, strict=True)
                for layer, own in theirs.items()
            ),
            **more,
        )


@dataclass(frozen=True)
class Truth:
    """The float64 reference under a mask, doc by doc.

    Attributes:
        tokens: (B, T), its greedy answers with a constant c, filled up with padding tokens.
        texts: these answers.
        logits: (B, T, V), while it generates `tokens` with c of `score_of`.
        edits: (B), the largest difference of `logits` from those without a mask.
        sinks: of each doc and layer, bool over its own tokens.
    """

    tokens: Tensor
    texts: list[str]
    logits: Tensor
    edits: Tensor
    sinks: list[dict[int, Bools]]


def padded(flags: Bools, length: int) -> Bools:
    """Flags of a doc's own tokens in a row padded on the left."""
    return np.pad(flags, (length - len(flags), 0))


def apart(a: Tensor, b: Tensor) -> float:
    """The largest difference."""
    return float((a.double() - b.double()).abs().max())
