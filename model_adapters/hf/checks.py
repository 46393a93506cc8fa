"""What `hf_mask` must know of a model, established by running it: nothing is guessed (METHODS 14).

Small pictures of noise are shown to the model as it is loaded. What its decoder gets, before and after a
picture is exchanged, says whose tokens are whose; what its layers hand to their attention function says which
keys they let a token see; and with mask=none the scores must be those of the model's usual attention.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mimic_eval.records import UserError
from model_adapters.engine import IMPLEMENTATION, Engine, attach, decoder_layers
from model_adapters.hf import base_masks as masks
from model_adapters.hf.calls import CALLS, GRIDS, SHARINGS, Call, Processed, row_layouts
from model_adapters.hf.cells import CELLS, PaintedCell, painted_cell, parts_land
from model_adapters.hf.evidence import changed, first_inputs, painted, pictures, strength
from model_adapters.interventions.none.kernel import NoIntervention
from model_adapters.layout import Layout
from model_adapters.refusals import refusals

_ROUNDING = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""How far scores may differ between two ways to compute the same attention, as a share of the largest."""


NO_CALL = "its processor and model do not take several images in a prompt"


class Unknown(UserError):
    """Something that `hf_mask` cannot establish. The message says what, in a few words."""


@dataclass(frozen=True)
class Facts:
    """What is established of a model and its processor.

    Attributes:
        call: how the processor is called.
        markers: the ids of image tokens.
        sharing: how they are shared among the images of a prompt, of `SHARINGS`.
        grid: how an image's tokens lie on its picture, of `GRIDS`, or None if they have no places.
        no_grid: why they have none.
        delimiters: of `Family.delimiters`.
        bases: by kinds of base mask, the layers that have it.
        attention: the decoder layers with softmax attention.
        depth: all decoder layers.
        difference: of scores between mask=none and the model's usual attention, as a share of the largest.
    """

    call: Call
    markers: tuple[int, ...]
    sharing: str
    grid: str | None
    no_grid: str
    delimiters: tuple[str, ...]
    bases: Mapping[tuple[str, ...], tuple[int, ...]]
    attention: frozenset[int]
    depth: int
    difference: float

    @property
    def others(self) -> tuple[int, ...]:
        """The layers without softmax attention, which no intervention changes."""
        return tuple(layer for layer in range(self.depth) if layer not in self.attention)


Prompt = Callable[[Sequence[dict[str, Any]]], str]
"""From messages to the text of the chat template."""


@dataclass
class Probe:
    """A model and its processor, and what is established of them.

    Attributes:
        model: in evaluation mode.
        processor: its.
        prompt: its chat template.
    """

    model: Any
    processor: Any
    prompt: Prompt

    def establish(self) -> Facts:
        """Everything, or the first thing that cannot be established.

        Raises:
            Unknown: what it is.
        """
        decoder = self._decoder()
        call, before = self._call()
        markers, sharing = self._shares(call, before)
        layouts = self._layouts(call, markers, sharing)
        grid, reason = self._grid(call, markers, sharing)
        bases, attention = self._bases(decoder, call, layouts)
        difference = self._same_scores(decoder, call, layouts)
        return Facts(
            call=call,
            markers=markers,
            sharing=sharing,
            grid=grid,
            no_grid=reason,
            delimiters=self._delimiters(call, layouts),
            bases=bases,
            attention=attention,
            depth=len(self._layers),
            difference=difference,
        )

    # the decoder

    def _decoder(self) -> Any:
        """The config that the decoder's attention reads."""
        if getattr(self.model.config, "is_encoder_decoder", False):
            raise Unknown("it is an encoder-decoder: its images are not tokens of the decoder's sequence")
        try:
            self._layers = decoder_layers(self.model)
        except (AttributeError, RuntimeError, NotImplementedError) as error:
            raise Unknown(f"its decoder is not one stack of layers ({_line(error)})") from error
        configs = {
            id(config): config
            for layer in self._layers
            for module in layer.modules()
            if hasattr(config := getattr(module, "config", None), "_attn_implementation_internal")
        }
        if len(configs) != 1:
            raise Unknown(f"its decoder's layers share {len(configs)} configs, one is expected")
        return next(iter(configs.values()))

    # the processor

    def _rows(self) -> list[list[Image.Image]]:
        """Two rows of different lengths, so that one is padded: three images and two."""
        drawn = pictures(5)
        return [drawn[:3], drawn[3:]]

    def _prompts(self, rows: Sequence[Sequence[Image.Image]]) -> list[str]:
        return [self.prompt(messages(len(row))) for row in rows]

    def _processed(self, call: Call, rows: Sequence[Sequence[Image.Image]]) -> Processed:
        made = call(self.processor, rows, self._prompts(rows))
        return made._replace(inputs=made.inputs.to(self.model.device, self.model.dtype))

    def _inputs(self, call: Call, rows: Sequence[Sequence[Image.Image]]) -> Any:
        return self._processed(call, rows).inputs

    def _call(self) -> tuple[Call, Tensor]:
        """A call whose output the model takes, and what the decoder gets."""
        reasons = []
        for call in CALLS:
            try:
                inputs = self._inputs(call, self._rows())
                if "input_ids" not in inputs or "attention_mask" not in inputs:
                    raise ValueError("its output has no input_ids or no attention_mask")
                return call, first_inputs(self.model, self._layers[0], inputs)
            except UserError:
                raise
            except refusals() as error:
                reasons.append(_line(error))
        raise Unknown(f"{NO_CALL}: {reasons[0]}")

    def _shares(self, call: Call, before: Tensor) -> tuple[tuple[int, ...], str]:
        """The ids of image tokens and how images share them, from what an exchanged picture changes."""
        rows = self._rows()
        made = self._processed(call, rows)
        ids = made.inputs["input_ids"].cpu()
        moved: list[list[Tensor]] = []
        for b, row in enumerate(rows):
            moved.append([])
            for m, picture in enumerate(row):
                other = [list(each) for each in rows]
                other[b][m] = painted(picture)
                again = self._inputs(call, other)
                if not torch.equal(again["input_ids"].cpu(), ids):
                    raise Unknown("the tokens of a prompt depend on what its pictures show")
                moved[b].append(changed(before, first_inputs(self.model, self._layers[0], again)))
        every = torch.stack(
            [torch.stack([tokens[b] for tokens in of_row]).any(dim=0) for b, of_row in enumerate(moved)]
        )
        for b, of_row in enumerate(moved):
            for m, tokens in enumerate(of_row):
                if not bool(tokens.any()):
                    raise Unknown("images do not reach the decoder as tokens of its sequence")
                if bool(tokens[[i for i in range(len(rows)) if i != b]].any()):
                    raise Unknown(f"image {m + 1} of one prompt changes tokens of another prompt")
        markers = tuple(sorted(set(ids[every].tolist())))
        if set(markers) & set(self._text_ids()):
            raise Unknown("images are put on tokens that text has too")
        for name, sharing in SHARINGS.items():
            try:
                layouts = row_layouts(made, _sizes(rows), markers, sharing, self.processor)
            except ValueError:
                continue
            numbers = torch.stack([layout.image_numbers() for layout in layouts])
            if all(
                bool((numbers[b][tokens[b]] == m).all())
                for b, of_row in enumerate(moved)
                for m, tokens in enumerate(of_row)
            ):
                return markers, name
        raise Unknown("which image token belongs to which image does not follow from its processor")

    def _text_ids(self) -> list[int]:
        """The ids of the text of a prompt without images."""
        return list(self.processor.tokenizer(self.prompt(messages(0)), add_special_tokens=False)["input_ids"])

    def _layouts(self, call: Call, markers: tuple[int, ...], sharing: str) -> tuple[Layout, ...]:
        rows = self._rows()
        return row_layouts(
            self._processed(call, rows), _sizes(rows), markers, SHARINGS[sharing], self.processor
        )

    def _delimiters(self, call: Call, layouts: Sequence[Layout]) -> tuple[str, ...]:
        """Which neighbours of all images are one special token."""
        inputs = self._inputs(call, self._rows())
        special = set(self.processor.tokenizer.all_special_ids)
        special |= set(self.processor.tokenizer.added_tokens_decoder)
        around: dict[str, set[int]] = {"before": set(), "after": set()}
        for row, layout in zip(inputs["input_ids"].cpu(), layouts, strict=True):
            for image in layout.images:
                around["before"].add(int(row[image.start - 1]) if image.start > layout.padding else -1)
                around["after"].add(int(row[image.end]) if image.end < layout.end else -1)
        return tuple(side for side, ids in around.items() if len(ids) == 1 and ids <= special)

    # places

    def _grid(self, call: Call, markers: tuple[int, ...], sharing: str) -> tuple[str | None, str]:
        """The first way to lay tokens on pictures under which painted parts move the tokens there."""
        rows = [[picture, picture] for picture in pictures(3)]  # two, as a picture alone may have tiles
        reason = "the number of an image's tokens is not that of a grid"
        made = self._processed(call, rows)
        layouts = row_layouts(made, _sizes(rows), markers, SHARINGS[sharing], self.processor)
        before = first_inputs(self.model, self._layers[0], made.inputs)
        fitting = {
            name: [make(made.inputs, 2 * b, layout.images[0].spans) for b, layout in enumerate(layouts)]
            for name, make in GRIDS.items()
        }
        fitting = {name: grids for name, grids in fitting.items() if all(grids)}
        for name, grids in fitting.items():
            moved: list[list[Tensor]] = [[] for _ in rows]
            boxes: list[list[PaintedCell]] = [[] for _ in rows]
            for across, down in CELLS:
                of_row = [painted_cell(grid, across, down) for grid in grids if grid is not None]
                other = [[painted(row[0], box.edges), row[1]] for row, box in zip(rows, of_row, strict=True)]
                after = first_inputs(self.model, self._layers[0], self._inputs(call, other))
                for b, (layout, box) in enumerate(zip(layouts, of_row, strict=True)):
                    moved[b].append(strength(before[b], after[b], layout.images[0].indices().tolist()))
                    boxes[b].append(box)
            if all(parts_land(torch.stack(m), b) for m, b in zip(moved, boxes, strict=True)):
                return name, ""
            reason = "a part of a picture does not move the token of its place on a grid"
        return None, reason

    # attention

    def _bases(
        self, decoder: Any, call: Call, layouts: Sequence[Layout]
    ) -> tuple[dict[tuple[str, ...], tuple[int, ...]], frozenset[int]]:
        """The kinds of base masks with their layers, and the layers that have softmax attention."""
        inputs = self._inputs(call, self._rows())
        with masks.looking(decoder) as seen:
            try:
                self._forward(inputs)
            except refusals() as error:
                raise Unknown(
                    f"its layers do not run with an attention function by name: {_line(error)}"
                ) from error
        if not seen.calls:
            raise Unknown("its decoder does not call the attention function that is registered by name")
        if seen.arguments:
            raise Unknown(
                f"its attention takes {', '.join(sorted(seen.arguments))}, which is not computed here"
            )
        if set(seen.masks) != set(seen.calls):
            raise Unknown("its decoder's layers get no mask that could be read")
        twice = [layer for layer, calls in seen.calls.items() if calls != 1]
        if twice or not set(seen.calls) <= set(range(len(self._layers))):
            raise Unknown("its decoder's layers call attention more than once, or under other numbers")
        with masks.short_windows(decoder) as lengths, masks.looking(decoder) as short:
            if lengths:
                self._forward(inputs)
        kinds = masks.base_masks(seen.masks, short.masks, lengths, layouts)
        bases: dict[tuple[str, ...], tuple[int, ...]] = {}
        for layer in sorted(kinds):
            bases[kinds[layer]] = (*bases.get(kinds[layer], ()), layer)
        refused = sorted({kind for of_row in bases for kind in of_row if kind not in masks.COMPOSED})
        if refused:
            raise Unknown(f"its base mask is not evaluated here: {', '.join(refused)}")
        return bases, frozenset(kinds)

    @torch.inference_mode()
    def _forward(self, inputs: Any) -> Tensor:
        """float32 (B, N, vocabulary) on the CPU: the scores of a prompt."""
        return torch.as_tensor(self.model(**inputs).logits).float().cpu()

    def _same_scores(self, decoder: Any, call: Call, layouts: Sequence[Layout]) -> float:
        """How far the scores of mask=none are from those of the model's usual attention.

        Those of a prompt and of the first generated tokens are compared.

        Raises:
            Unknown: farther than rounding.
        """
        inputs = self._inputs(call, self._rows())
        usual, steps = self._forward(inputs), self._generated(inputs)
        attach(self.model)
        engine = Engine(NoIntervention(), frozenset())
        with masks.implementation(decoder, IMPLEMENTATION), engine.running(self.model, layouts):
            try:
                ours, our_steps = self._forward(inputs), self._generated(inputs)
            except refusals() as error:
                raise Unknown(f"its layers need more than an attention function: {_line(error)}") from error
        tokens = torch.stack([layout.is_token(torch.device("cpu")) for layout in layouts])
        prompt = close(usual[tokens], ours[tokens], self.model.dtype, "mask=none")
        return max(prompt, close(steps, our_steps, self.model.dtype, "mask=none and generated tokens"))

    @torch.inference_mode()
    def _generated(self, inputs: Any) -> Tensor:
        """float32 (1 or 2, B, vocabulary) on the CPU: the scores of the first generated tokens."""
        tokenizer = self.processor.tokenizer
        made = self.model.generate(
            **inputs,
            max_new_tokens=2,
            min_new_tokens=2,
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
            return_dict_in_generate=True,
            output_logits=True,
        )
        return torch.stack(list(made.logits)).float().cpu()


def close(usual: Tensor, ours: Tensor, dtype: torch.dtype, name: str) -> float:
    """How far scores are apart, as a share of the largest.

    Args:
        usual: (..., vocabulary), of the reference.
        ours: the same.
        dtype: of the model.
        name: of the intervention.

    Raises:
        Unknown: farther than rounding, or not finite.
    """
    if not bool(usual.isfinite().all()):
        raise Unknown("its scores are not finite")
    difference = float((usual - ours).abs().max() / usual.abs().max().clamp(min=1e-9))
    if not difference <= _ROUNDING.get(dtype, 1e-4):
        raise Unknown(f"with {name} its scores differ by {difference:.1g} from what they should be")
    return difference


def messages(images: int) -> list[dict[str, Any]]:
    """A question about some images, with text before, between and after them."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": "Look at these."}]
    for number in range(images):
        parts += [{"type": "image"}, {"type": "text", "text": f"This was number {number + 1}."}]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": "What is in them?"}]}]


def _sizes(rows: Sequence[Sequence[Image.Image]]) -> list[list[tuple[int, int]]]:
    return [[picture.size for picture in row] for row in rows]


def _line(error: BaseException) -> str:
    """The first words of what a class of transformers says."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:120]}" if words else type(error).__name__
