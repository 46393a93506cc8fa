"""Whole models with interventions written out row by row, in transformers' own classes.

The oracle is a checkpoint in transformers' class with an attention function of its own. It takes
transformers' eager mask (so left padding is transformers'), makes each row's causal weights in float64, and
edits them as METHODS 3 and 4 say it. Spans come from the token ids, grounded tokens from rectangles, sinks
from the layers' inputs (METHODS 6) seen by hooks. Of our code it uses none but the numbers of a calibration,
pictures of noise, and the readable definitions of the masks of several passes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model_adapters.interventions.focus.noise import draw
from model_adapters.interventions.focus.reference import focus_logits, replaced_images
from model_adapters.interventions.orders.reference import mean_logits, shifted
from tests.makers.parity_docs import (
    BESIDE,
    Bools,
    Doc,
    FamilyCase,
    Floats,
    layers_of,
    overlap,
    score_of,
)
from tests.oracles.parity_rows import Row, attend

NAME = "parity_oracle"


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function: the weights of each doc, row by row."""
    oracle: Oracle = module.parity_oracle
    layer = int(module.layer_idx)
    seen = (attention_mask > -1).numpy()[:, 0]  # additive: 0, or the least number of the dtype
    mask = oracle.mask if layer in oracle.layers and oracle.mask not in BESIDE else "none"
    out = attend(query, key, value, seen, oracle.rows, mask=mask, layer=layer, scale=scaling).edited
    return out.to(query.dtype).transpose(1, 2).contiguous(), None


def widen_norms(model: Any) -> None:
    """Let a float64 model's RMS norms work in float64: transformers' hide what is smaller than float32 sees.

    Args:
        model: changed in place.
    """

    def widened(norm: Any) -> Callable[[Tensor], Tensor]:
        gemma = not hasattr(norm, "variance_epsilon")
        epsilon = norm.eps if gemma else norm.variance_epsilon

        def forward(hidden: Tensor) -> Tensor:
            mean = hidden.square().mean(-1, keepdim=True)
            weight = 1 + norm.weight if gemma else norm.weight
            out: Tensor = weight * hidden * torch.rsqrt(mean + epsilon)
            return out

        return forward

    for module in model.modules():
        if hasattr(module, "scalar_embed_scale"):  # Gemma's embeddings, times a root that float32 rounds
            module.embed_scale = torch.tensor(module.scalar_embed_scale, dtype=torch.float64)
        if type(module).__name__.endswith("RMSNorm"):
            assert module.weight.dtype == torch.float64
            module.forward = widened(module)


@dataclass(frozen=True)
class Sinks:
    """How sinks are found: METHODS 6, with a calibration's numbers."""

    kind: str
    tau: float
    dimensions: tuple[int, ...]
    mu: tuple[float, ...]
    sigma: tuple[float, ...]

    def scores(self, hidden: Floats) -> Floats:
        """Of each token of an input (N, D)."""
        own = hidden[:, list(self.dimensions)]
        if self.kind == "z":
            z: Floats = ((own - np.array(self.mu)) / np.array(self.sigma)).max(axis=1)
            return z
        rms = np.sqrt((hidden**2).mean(axis=1))
        ratio: Floats = np.abs(own).max(axis=1) / np.where(rms > 0, rms, 1.0)
        return ratio

    def found(self, hidden: Floats) -> Bools:
        """Which tokens of an input (N, D) are sinks, were they visual."""
        scores = self.scores(hidden)
        return scores >= self.tau if self.kind == "z" else scores > self.tau


class Oracle:
    """A checkpoint in transformers' own class, attending as METHODS' formulas say.

    Args:
        case: the family.
        checkpoint: the folder.
        sinks: how they are found.
        dtype: of weights and activations; weights of attention are float64 always, and norms of a float64
            model are widened (`widen_norms`).
        attention: ``parity_oracle``, or transformers' own.
    """

    def __init__(
        self, case: FamilyCase, checkpoint: Path, sinks: Sinks, dtype: torch.dtype, *, attention: str = NAME
    ) -> None:
        from transformers import AttentionInterface, AttentionMaskInterface, AutoProcessor
        from transformers import AutoModelForImageTextToText as Model
        from transformers.masking_utils import eager_mask

        AttentionInterface.register(NAME, _attention)
        AttentionMaskInterface.register(NAME, eager_mask)
        how = {"text_config": attention, "vision_config": "sdpa"}
        self.case, self.sinks = case, sinks
        self.model = Model.from_pretrained(checkpoint, dtype=dtype, attn_implementation=how).eval()
        if dtype == torch.float64:
            widen_norms(self.model)
        self.processor = (case.processor or AutoProcessor.from_pretrained)(checkpoint)
        self.processor.tokenizer.padding_side = "left"
        self.mask, self.layers, self.rows = "none", frozenset[int](), list[Row]()
        layers = self.model.get_decoder().layers
        self.depth = len(layers)
        self.near: float = np.inf
        for number, layer in enumerate(layers):
            layer.self_attn.parity_oracle = self
            layer.register_forward_pre_hook(self._looker(number), with_kwargs=True)
            layer.register_forward_hook(self._scaler(number))
        self.fixed: Sequence[Mapping[int, Bools]] | None = None
        self.keeps_all = attention == NAME  # keys that a sliding window has left behind too

    def _looker(self, layer: int) -> Callable[..., None]:
        """A hook that finds the prompt's sinks in a layer's input."""

        def look(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            for b, row in enumerate(self.rows):
                visual = row.image >= 0
                if hidden.shape[1] != len(visual) or layer in row.sinks:
                    continue
                if self.fixed is not None:
                    row.sinks[layer] = np.zeros(len(visual), dtype=bool)
                    row.sinks[layer][len(visual) - len(self.fixed[b][layer]) :] = self.fixed[b][layer]
                    continue
                own = hidden[b].double().numpy()
                scored = np.ones_like(visual) if self.mask == "var" else visual  # VAR: those of text too
                row.sinks[layer] = self.sinks.found(own) & scored
                away = np.abs(self.sinks.scores(own)[scored] / self.sinks.tau - 1)
                self.near = min(self.near, float(away.min()))

        return look

    def _scaler(self, layer: int) -> Callable[..., Any]:
        """A hook that scales the prompt's delimiters in a layer's output (METHODS 5)."""

        def scale(module: Any, args: Any, out: Any) -> Any:
            hidden = out[0] if isinstance(out, tuple) else out
            if self.mask != "delimiters" or layer not in self.layers:
                return out
            if hidden.shape[1] != len(self.rows[0].image):
                return out
            scaled = hidden.clone()
            for b, row in enumerate(self.rows):
                for token in row.delimiters:
                    scaled[b, token] = 8 * hidden[b, token]
            return (scaled, *out[1:]) if isinstance(out, tuple) else scaled

        return scale

    def inputs(self, docs: Sequence[Doc]) -> Any:
        """Padded on the left, in the model's dtype; by transformers' own way from messages to tensors."""
        if self.case.prompt is not None:
            images = [image for doc in docs for image in doc.images]
            texts = [self.case.prompt(doc) for doc in docs]
            made = self.processor(images=images, text=texts, padding=True, return_tensors="pt")
            return made.to("cpu", self.model.dtype)
        chats = []
        for doc in docs:
            shown: list[Any] = [{"type": "image", "image": image} for image in doc.images]
            chats.append([{"role": "user", "content": [*shown, {"type": "text", "text": doc.text}]}])
        made = self.processor.apply_chat_template(
            chats,
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        )
        return made.to("cpu", self.model.dtype)

    def known(self, docs: Sequence[Doc], ids: Tensor, *, weighted: bool) -> list[Row]:
        """What the edits need of a batch beside sinks."""
        config = self.model.config
        token = getattr(config, "image_token_id", None) or config.image_token_index
        found = []
        for doc, own in zip(docs, ids.tolist(), strict=True):
            row = Row(np.full(len(own), -1), np.zeros(len(own), dtype=bool), np.zeros(len(own)))
            spans = self.case.spans(own, token, len(doc.images))
            assert len(spans) == len(doc.images)
            for m, parts in enumerate(spans):
                tokens = [t for start, end in parts for t in range(start, end)]
                row.image[tokens] = m
                places = self.case.places(doc.images[m], len(tokens))
                assert len(places) == len(tokens)
                row.grounded[tokens] = [overlap(place, doc.boxes[m]) for place in places]
                if weighted:
                    row.score[tokens] = [score_of(m, t) for t in range(len(tokens))]
            if self.case.delimiters is not None and len(doc.images) > 1:
                row.delimiters = self.case.delimiters(spans)
            found.append(row)
        return found

    @torch.inference_mode()
    def run(
        self,
        docs: Sequence[Doc],
        mask: str,
        *,
        steps: int,
        weighted: bool = False,
        forced: Tensor | None = None,
        fixed: Sequence[Mapping[int, Bools]] | None = None,
    ) -> "Generated":
        """Generate for one batch.

        Args:
            docs: the batch.
            mask: one of `MASKS` or `BESIDE`.
            steps: tokens to generate.
            weighted: c is `score_of`; else constant.
            forced: (B, steps), tokens that are generated whatever the logits say.
            fixed: sinks of each doc and layer, bool over its own tokens; None: they are found.
        """
        from transformers import DynamicCache

        if mask in ("focus", "orders"):
            return self._run_passes(docs, mask, steps=steps, forced=forced)
        inputs = self.inputs(docs)
        self.mask, self.layers, self.fixed = mask, layers_of(mask, self.depth), fixed
        self.rows = self.known(docs, inputs["input_ids"], weighted=weighted)
        with listening(self.model, forced) as logits:
            pad = self.processor.tokenizer.pad_token_id
            cache = {"past_key_values": DynamicCache()} if self.keeps_all else {}
            out = self.model.generate(
                **inputs, **cache, max_new_tokens=steps, do_sample=False, pad_token_id=pad
            )
        own = inputs["attention_mask"].sum(dim=1).tolist()
        sinks = [
            {layer: found[-count:] for layer, found in row.sinks.items()}
            for row, count in zip(self.rows, own, strict=True)
        ]
        new = out[:, inputs["input_ids"].shape[1] :]
        texts = self.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
        return Generated(torch.stack(logits, dim=1), new, texts, sinks)

    def _run_passes(
        self, docs: Sequence[Doc], mask: str, *, steps: int, forced: Tensor | None
    ) -> "Generated":
        """Generate in several passes, each without a mask (METHODS 5); the passes all get the same tokens."""
        groups = [passes_of(mask, doc) for doc in docs]
        rows = [doc for group in groups for doc in group]
        repeats = torch.tensor([len(group) for group in groups])
        combine = mean_logits if mask == "orders" else partial(focus_logits, lam=0.1)

        def logits(tokens: Tensor) -> Tensor:
            """(B, T, V)."""
            given = tokens.repeat_interleave(repeats, dim=0)
            made = self.run(rows, "none", steps=tokens.shape[1], forced=given).logits
            made = made.to(torch.promote_types(made.dtype, torch.float32))
            of_docs = [
                torch.stack([combine(list(own[:, t])) for t in range(own.shape[1])])
                for own in made.split(repeats.tolist())
            ]
            return torch.stack(of_docs)

        if forced is None:
            forced = torch.zeros(len(docs), 0, dtype=torch.long)
            for _ in range(steps):
                room = torch.nn.functional.pad(forced, (0, 1))
                forced = torch.cat([forced, logits(room)[:, -1:].argmax(dim=-1)], dim=1)
        texts = self.processor.tokenizer.batch_decode(forced, skip_special_tokens=True)
        return Generated(logits(forced), forced, texts, self.run(docs, "none", steps=1).sinks)


def passes_of(mask: str, doc: Doc) -> list[Doc]:
    """What each pass over a doc shows; noise is drawn for a doc without a hash."""
    count = len(doc.images)
    if mask == "orders":
        return [replace(doc, images=tuple(doc.images[m] for m in order)) for order in shifted(count)]
    passes = []
    for number, replaced in enumerate(replaced_images(count)):
        shown = [
            draw("imagenet_uniform", image.size, f"0//{number}/{m}") if m in replaced else image
            for m, image in enumerate(doc.images)
        ]
        passes.append(replace(doc, images=tuple(shown)))
    return passes


@dataclass
class Generated:
    """What a batch generated.

    Attributes:
        logits: (B, T, V), those of the prompt's last row first, in the model's dtype.
        tokens: (B, T).
        texts: of each doc.
        sinks: of each doc and layer, bool over its own tokens.
    """

    logits: Tensor
    tokens: Tensor
    texts: list[str]
    sinks: list[dict[int, Bools]]


@contextmanager
def listening(model: Any, forced: Tensor | None = None) -> Iterator[list[Tensor]]:
    """The logits (B, V) of each step as the head gives them; then `forced` (B, T) tokens win, if given."""
    heard: list[Tensor] = []

    def hear(module: Any, args: Any, out: Tensor) -> Tensor | None:
        heard.append(out[:, -1].clone())
        if forced is None:
            return None
        changed = out.clone()
        chosen = forced[:, len(heard) - 1, None]
        changed[:, -1] = changed[:, -1].scatter(1, chosen, out.max().item() * 2 + 1000)
        return changed

    handle = model.get_output_embeddings().register_forward_hook(hear)
    try:
        yield heard
    finally:
        handle.remove()
