"""Our models in the parity table (benchmarks/parity.py): checkpoints with planted sinks, and their calls."""

import shutil
import tempfile
import unittest.mock
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model_adapters.adapter import MaskedModel
from model_adapters.answering import Answerer
from model_adapters.families import model_names
from model_adapters.interventions.base import LayerView, Relevance
from model_adapters.layout import Layout
from model_adapters.models import model_class
from model_adapters.passes import PassInput, groups_of
from model_adapters.picture import as_pictures
from model_adapters.relevance.choice import parse_relevance
from model_adapters.relevance.places import TokenPlaces
from model_adapters.relevance.query import Query
from model_adapters.relevance.sources import RelevanceSource
from model_adapters.sinks import CorpusDoc, calibrate, save_calibration
from model_adapters.sinks.calibration import Calibration, SinkDimension
from model_adapters.sinks.inputs import visit_inputs
from model_adapters.sinks.score import visual_tokens
from tests.makers.parity_docs import EDGES, OPENING, SIGMA, WITH_SINKS, Bools, Doc, FamilyCase, score_of
from tests.oracles.parity import Generated, Sinks, listening, widen_norms

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}

GAINS = {"q_proj": 0.5, "k_proj": 0.5, "v_proj": 2.0, "o_proj": 2.0, "down_proj": 0.3}
"""Factors on the decoder's random weights: softer attention that says more, so that rounding is not blown up
and the masks do far more than rounding does."""

HIDDEN, LAYERS, SHARE = 128, 4, 0.3
EXTREME = (5, 21)
"""Dimensions of `extreme_sinks`."""
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


def make_setup(case: FamilyCase, folder: Path) -> Setup:
    """Write a checkpoint of a family and calibrate it.

    Args:
        case: the family.
        folder: new.
    """
    from model_adapters import tiny
    from model_adapters.loading import load_family
    from model_adapters.sinks.planted import plant_sinks

    name = case.name
    checkpoint = folder / name
    make: Any = case.make or getattr(tiny, f"make_tiny_{name}")
    make(checkpoint, seed=SEEDS.get(name, 0), hidden=HIDDEN, layers=LAYERS)
    how: dict[str, Any] = {"dtype": torch.float32, "device": "cpu", "peft": None}
    families = model_of(case).families
    model, family = load_family(families[0], str(checkpoint), others=families[1:], **how)
    with torch.no_grad():
        for layer in model.get_decoder().layers:
            for part, weight in layer.named_parameters():
                weight.mul_(GAINS.get(part.split(".")[-2], 1.0))
    if case.tau is not None:
        plant_sinks(model, family, share=SHARE)
    with tempfile.TemporaryDirectory(dir=folder) as fresh:  # the open file is not written over
        model.bfloat16().save_pretrained(fresh)
        for file in Path(fresh).iterdir():
            shutil.move(file, checkpoint / file.name)
    docs = tuple(case.docs)
    model, family = load_family(families[0], str(checkpoint), others=families[1:], **how)
    corpus = [CorpusDoc(doc.images, prompt_of(family, doc), str(i)) for i, doc in enumerate(docs)]
    found = calibrate(model, family, corpus, source="parity", seed=0, checkpoint=str(checkpoint))
    if case.tau is None:
        found = extreme_sinks(model, family, docs, found)
    save_calibration(found, folder / f"{name}.json")
    indices, mu, sigma = zip(*((own.index, own.mu, own.sigma) for own in found.dimensions), strict=True)
    tau = found.tau if case.tau is None else case.tau
    assert tau is not None
    sinks = Sinks(case.score, tau, indices, mu, sigma)
    return Setup(case, checkpoint, folder / f"{name}.json", sinks, docs)


def model_of(case: FamilyCase) -> type[MaskedModel]:
    """The lmms-eval model of a family."""
    return model_class(case.model or model_names(case.name)[0])


def extreme_sinks(model: Any, family: Any, docs: Sequence[Doc], found: Calibration) -> Calibration:
    """A calibration in which the extreme of a model's visual tokens are sinks, about a fifth of them.

    Planting needs a decoder with biases. Tau is in the middle of a gap between scores, which rounding does
    not cross.

    Args:
        model: loaded with mimic's attention.
        family: the model's.
        docs: that are compared.
        found: the model's calibration, without a sink dimension.
    """
    parts: list[Tensor] = []
    for doc in docs:
        batch, heard = family.prepare([list(doc.images)], [prompt_of(family, doc)]), list[Tensor]()
        visit_inputs(model, family, batch, lambda layer, hidden, heard=heard: heard.append(hidden[0]))
        visual = visual_tokens(batch.layouts, device=model.device)[0]
        parts += [hidden[visual][:, list(EXTREME)] for hidden in heard]
    values = torch.cat(parts).double()
    mu, sigma = values.mean(dim=0), values.std(dim=0, correction=0)
    scores = ((values - mu) / sigma).amax(dim=1).sort().values
    near = scores[int(0.75 * len(scores)) : int(0.85 * len(scores))]
    widest = int(near.diff().argmax())
    dimensions = tuple(
        SinkDimension(index, float(mu[i]), float(sigma[i]), 0.0, 0) for i, index in enumerate(EXTREME)
    )
    return replace(found, dimensions=dimensions, tau=float(near[widest : widest + 2].mean()))


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
        asked: Sequence[Query],
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
        mask: of `MASKS` or `BESIDE`.
        dtype: of `DTYPES`; float64 is the float32 model with its weights widened.
    """

    def __init__(self, setup: Setup, mask: str, dtype: str) -> None:
        arguments: dict[str, Any] = {"mask": mask.removesuffix("_masking_empty_rows")}
        if mask == "ar_masking_empty_rows":
            arguments["empty_rows"] = "mask"
        arguments |= {"sofa": {"sigma": SIGMA}, "knockout": {"edges": EDGES}}.get(mask, {})
        if mask in OPENING:
            arguments["relevance"] = "uniform" if setup.case.latents else "oracle"
        if mask in WITH_SINKS:
            arguments |= {
                "calibration": str(setup.calibration),
                "score": setup.sinks.kind,
                "tau": setup.sinks.tau,
            }
        self.model = model_of(setup.case)(
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
        return [answer.text for answer in self.model.reply(*given[:2], greedy(steps), queries=given[2])]

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
            sizes = [len(answerer.passes.expand(PassInput(as_pictures(own), ""))) for own in images]
            tokens = forced.repeat_interleave(torch.tensor(sizes), dim=0)
            with listening(self.model.model, tokens) as heard:
                answers = answerer.reply(images, prompts, greedy(forced.shape[1]), queries=asked)
        finally:
            engine.find_sinks = finder
        if max(sizes) > 1:
            wide = [own.to(torch.promote_types(own.dtype, torch.float32)) for own in heard]
            heard = [answerer.passes.combine(own, groups_of(sizes)) for own in wide]
        return Generated(torch.stack(heard, dim=1), forced, [answer.text for answer in answers], found)

    @contextmanager
    def watched(self) -> Iterator[list[Call]]:
        """What attention is given and gives, in all layers and steps."""
        engine, calls = self.model.engine, list[Call]()
        attend = engine.attend

        def watch(query: Tensor, key: Tensor, value: Tensor, view: LayerView, *, scale: float) -> Tensor:
            out = attend(query, key, value, view, scale=scale)
            calls.append(Call(view.layer, scale, *(x.clone() for x in (query, key, value, out))))
            return out

        with unittest.mock.patch.object(engine, "attend", watch):
            yield calls

    def _given(self, docs: Sequence[Doc]) -> tuple[list[list[Any]], list[str], list[Query]]:
        prompts = [prompt_of(self.model.family, doc) for doc in docs]
        return [list(doc.images) for doc in docs], prompts, [asked_of(doc) for doc in docs]


def asked_of(doc: Doc) -> Query:
    """A Counting doc about dogs, which are in the doc's boxes; a cat is in the corner of each picture."""
    boxes: list[tuple[Any, ...]] = []
    for image, box in zip(doc.images, doc.boxes, strict=True):
        own = [_annotated("cat", (0.0, 0.0, 0.2, 0.2), image.size)]
        boxes.append(tuple([*own, _annotated("dog", box, image.size)] if box else own))
    return Query(
        "doc", doc.text, as_pictures(doc.images), kind="counting", targets=("dog",), boxes=tuple(boxes)
    )


def _annotated(name: str, box: Sequence[float], size: tuple[int, int]) -> dict[str, Any]:
    (x0, y0, x1, y1), (width, height) = box, size
    corner = {"x": x0 * width, "y": y0 * height, "width": (x1 - x0) * width, "height": (y1 - y0) * height}
    return {"class": name, **corner, "target": name == "dog", "small": False, "crowd": False}


def greedy(steps: int) -> dict[str, Any]:
    """Generation settings as a task gives them."""
    return {"max_new_tokens": steps, "do_sample": False, "temperature": 0, "until": []}
