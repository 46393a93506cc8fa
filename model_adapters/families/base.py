"""What an adapter asks of a family."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from PIL import Image
from torch import Tensor

from mimic_eval.records import UserError
from mimic_eval.records.registry import import_target
from model_adapters.checkpoint_files import CheckpointFiles
from model_adapters.layout import Layout, runs_of
from model_adapters.pooling import pool_image, shorten
from model_adapters.relevance.places import TokenPlaces, grid, joined
from model_adapters.template import limited
from model_adapters.template_places import image_text, inline, moves_images, within_text

DELIMITERS = ("before", "after", "closing")
"""The text token before an image's tokens, the one after them, and the image's `closing_tokens`."""


class PreparedBatch(NamedTuple):
    """Model inputs of a batch, and the layout of each row."""

    inputs: Any
    layouts: tuple[Layout, ...]


class ImageFeatures(NamedTuple):
    """What the decoder gets for one image.

    Attributes:
        tokens: (P, D), for its placeholders.
        deep: further maps (P, D), which the model adds in its first decoder layers (DeepStack); mostly none.
    """

    tokens: Tensor
    deep: tuple[Tensor, ...] = ()


def begins_with_first_token(tokenizer: Any, prompts: Sequence[str]) -> bool:
    """Whether all texts have the tokenizer's first token, as templates of Gemma and Idefics3 write it."""
    first = tokenizer.bos_token
    return first is not None and all(prompt.startswith(first) for prompt in prompts)


class Family(ABC):
    """One architecture: how it is loaded, prompted, and where its image tokens lie.

    Its facts are attributes of the class, in `FAMILIES` under its `model_type`.

    Attributes:
        model_type: of the checkpoint's config.
        name: for messages.
        tiny: the function that writes a tiny random checkpoint (``package.module:function``, called as
            `make_tiny`), or None if there is none.
        nested: its processor takes a list of images for each row; else all images of the batch as one list.
        closing_tokens: tokens at the end of an image's span that are not of the picture; pooling keeps them.
        alone_differs: an image that is a row's only one has other features than among others.
        delimiters: the tokens that mark where an image starts and ends (METHODS 3, 5), of `DELIMITERS`.
        has_places: its tokens show parts of the picture; those of a resampler do not (METHODS 14).
        by_evidence: what it says is established from a loaded model, which attends as transformers has it by
            default until `around` has seen it.
        has_features: `image_features` is known.
        limits: arguments that limit what it looks at of a picture, of `vision_limits.LIMITS`.
        former_names: names that its weights had in adapters' files, keys of `lora.names.FORMER`.
        end_tokens: tokens that end an answer, besides those that the checkpoint names.
    """

    model_type: ClassVar[str]
    name: ClassVar[str]
    tiny: ClassVar[str | None] = None
    nested: ClassVar[bool] = False
    closing_tokens: ClassVar[int] = 0
    alone_differs: ClassVar[bool] = False
    delimiters: ClassVar[tuple[str, ...]] = ()
    has_places: ClassVar[bool] = True
    by_evidence: ClassVar[bool] = False
    has_features: ClassVar[bool] = True
    limits: ClassVar[tuple[str, ...]] = ()
    former_names: ClassVar[tuple[str, ...]] = ("nested",)
    end_tokens: ClassVar[tuple[str, ...]] = ()

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    @classmethod
    def takes(cls, model_type: str) -> bool:
        """Whether it is the family of a config's model type."""
        return model_type == cls.model_type

    @classmethod
    def around(cls, processor: Any, model: Any, *, pretrained: str) -> "Family":
        """The family of a loaded checkpoint.

        Args:
            processor: the checkpoint's.
            model: in evaluation mode, where it will run.
            pretrained: what the user calls the checkpoint.

        Raises:
            UserError: something that an adapter must know cannot be established.
        """
        return cls(processor)

    @property
    def attention_layers(self) -> frozenset[int] | None:
        """The decoder layers with softmax attention, or None for all; no other is changed (METHODS 14)."""
        return None

    @classmethod
    def make_tiny(cls, out: Path, **how: Any) -> None:
        """Write a tiny checkpoint with random weights.

        Args:
            out: the folder; it must be new or empty.
            **how: of the function that `tiny` names, `Making`'s among them.

        Raises:
            UserError: the family has none, or the folder is not empty.
        """
        if cls.tiny is None:
            raise UserError(f"family {cls.model_type} has no tiny checkpoint")
        import_target(cls.tiny, f"the tiny checkpoint of {cls.model_type}")(out, **how)

    @staticmethod
    @abstractmethod
    def model_class() -> Any:
        """transformers' class."""

    @classmethod
    def fits(cls, files: CheckpointFiles) -> bool:
        """Whether a checkpoint of a type that it takes is of this family, by its small files."""
        return True

    @classmethod
    def read_processor(cls, pretrained: str, files: CheckpointFiles, config: Any) -> Any:
        """A checkpoint's processor.

        Args:
            pretrained: a folder or a Hub id.
            files: its small files.
            config: transformers' config of it.
        """
        from transformers import AutoProcessor

        return AutoProcessor.from_pretrained(pretrained, trust_remote_code=False)

    @abstractmethod
    def layouts(self, inputs: Any, images: Sequence[int]) -> tuple[Layout, ...]:
        """The layout of each row, from the processor's own output.

        Args:
            inputs: the processor's output, padded on either side.
            images: how many images each row has.

        Raises:
            ValueError: the image tokens do not add up.
        """

    def image_counts(self, inputs: Any) -> list[int]:
        """How many images each row has, from the processor's output alone; here: runs of the image token.

        Args:
            inputs: the processor's output, padded on either side.
        """
        return [len(runs_of(row, self.processor.image_token_id)) for row in inputs["input_ids"]]

    def set_limits(self, model: Any, given: Mapping[str, int]) -> None:
        """Set limits of the processor, and of the model where it computes with them.

        Args:
            model: the model.
            given: by name, of `limits`.

        Raises:
            UserError: a limit that cannot be kept.
        """
        raise NotImplementedError(f"{type(self).__name__}.set_limits")

    def delimiter_tokens(self, layout: Layout) -> tuple[int, ...]:
        """The positions of all delimiters of a row, rising; empty for a family without any."""
        positions: set[int] = set()
        for span in layout.images:
            closing = range(span.end - self.closing_tokens, span.end)
            by_kind = {"before": (span.start - 1,), "after": (span.end,), "closing": closing}
            positions.update(*(by_kind[kind] for kind in self.delimiters))
        return tuple(sorted(p for p in positions if layout.padding <= p < layout.end))

    def places(self, inputs: Any, images: Sequence[Sequence[Image.Image]]) -> list[list[TokenPlaces]]:
        """Where the tokens of each image lie in its picture (METHODS 7).

        Args:
            inputs: the processor's output, before pooling.
            images: the images of each row, RGB.

        Returns:
            For each row, one for each of its images, as long as the image's span. Without `has_places`:
            each token shows all of the picture.
        """
        if self.has_places:
            raise NotImplementedError(f"{type(self).__name__}.places")
        layouts = self.layouts(inputs, [len(row) for row in images])
        return [[joined([grid(1, 1)] * span.length) for span in layout.images] for layout in layouts]

    @abstractmethod
    def image_features(
        self, model: Any, batch: PreparedBatch, chosen: Sequence[int] | None = None
    ) -> list[ImageFeatures]:
        """What the decoder gets for images of a batch.

        Args:
            model: the model; its vision tower and projector run here.
            batch: inputs on the model's device and in its dtype; with images.
            chosen: which images, counted through the batch's rows, at least one, or None for all.

        Returns:
            One for each, in that order, of as many tokens as the image has in the prompt.
        """

    def encoder_outputs(self, features: Sequence[ImageFeatures]) -> Any:
        """The features of all images of a batch, at least one, as the vision tower's output."""
        tokens = [image.tokens for image in features]
        if features[0].deep:
            from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

            maps = [list(layer) for layer in zip(*(image.deep for image in features), strict=True)]
            return BaseModelOutputWithDeepstackFeatures(pooler_output=tokens, deepstack_features=maps)
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        return BaseModelOutputWithPooling(pooler_output=tokens)

    def with_features(
        self, model: Any, batch: PreparedBatch, features: Sequence[ImageFeatures]
    ) -> PreparedBatch:
        """The batch with what the vision tower made of its pictures instead of their pixels.

        Args:
            model: one that `takes_features`.
            batch: with at least one image.
            features: of all images of the batch, in order, on any device.
        """
        _check_lengths(batch, features)
        there = [
            ImageFeatures(
                image.tokens.to(model.device), tuple(layer_map.to(model.device) for layer_map in image.deep)
            )
            for image in features
        ]
        rest = {name: x for name, x in batch.inputs.items() if name != "pixel_values"}
        return batch._replace(inputs={**rest, "mm_encoder_outputs": {"image": self.encoder_outputs(there)}})

    def unscorable(self, image: Image.Image) -> str | None:
        """Why this family's processor cannot take a picture, or None if it can."""
        return None

    def prepare(self, images: Sequence[Sequence[Image.Image]], prompts: Sequence[str]) -> PreparedBatch:
        """Preprocess a batch; texts are padded on the left.

        A text that begins with the first token (Gemma, Idefics3) gets no second one, as by transformers'
        `apply_chat_template`.

        Args:
            images: the images of each row, RGB.
            prompts: the text of each row, chat template applied.
        """
        self.processor.tokenizer.padding_side = "left"
        rows = [list(row) for row in images]
        pictures = rows if self.nested else [image for row in rows for image in row]
        inputs = self.processor(
            images=pictures if any(rows) else None,
            text=list(prompts),
            padding=True,
            add_special_tokens=not begins_with_first_token(self.processor.tokenizer, prompts),
            return_tensors="pt",
        )
        return PreparedBatch(inputs, self.layouts(inputs, [len(row) for row in rows]))

    def embedded(
        self,
        model: Any,
        batch: PreparedBatch,
        *,
        pool: int = 1,
        features: Sequence[ImageFeatures] | None = None,
    ) -> PreparedBatch:
        """The batch with embeddings instead of pictures, each image's tokens pooled in one dimension.

        All tokens of a span are one sequence, but for an image's `closing_tokens`, which stay.

        Args:
            model: the model.
            batch: inputs on the model's device and in its dtype.
            pool: window and stride; 1: the tokens stay as they are.
            features: what `image_features` gives for all images, or None to make them here.

        Returns:
            Inputs ``input_ids`` (B, N), ``attention_mask`` (B, N), ``inputs_embeds`` (B, N, D) and their
            layouts; `batch` itself if it shows no image.

        Raises:
            ValueError: the model's features do not fill the spans.
            UserError: the model adds feature maps in several layers, which cannot be pooled.
        """
        if not any(layout.images for layout in batch.layouts):
            return batch
        if features is None:
            features = self.image_features(model, batch)
        _check_lengths(batch, features)
        if any(image.deep for image in features):
            raise UserError(
                f"pool={pool}: {self.name} adds image features in several layers (DeepStack): leave it out"
            )
        made = (image.tokens for image in features)
        rows = [
            [
                piece
                for image in layout.images
                for piece in pool_image(next(made), image, pool, closing=self.closing_tokens)
            ]
            for layout in batch.layouts
        ]
        short = shorten(
            batch.inputs["input_ids"],
            batch.layouts,
            [[len(piece) for piece in row] for row in rows],
            pad=self.pad_token_id,
        )
        embeddings = model.get_input_embeddings()(short.ids)
        for b, (layout, row) in enumerate(zip(short.layouts, rows, strict=True)):
            for span, piece in zip(layout.spans, row, strict=True):
                embeddings[b, span.start : span.end] = piece.to(embeddings)
        inputs = {
            "input_ids": short.ids,
            "attention_mask": short.attention,
            "inputs_embeds": embeddings,
        }
        return PreparedBatch(inputs, short.layouts)

    @property
    def pad_token_id(self) -> int:
        """The padding token, or the end token of a tokenizer that has none."""
        tokenizer = self.processor.tokenizer
        return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)

    @cached_property
    def _image_text(self) -> str | None:
        """What the chat template writes for an image if it puts all images first, else None."""
        return image_text(self._rendered) if moves_images(self._rendered) else None

    def _rendered(self, messages: Sequence[Mapping[str, Any]]) -> str:
        how = {"tokenize": False, "add_generation_prompt": True}
        with limited():
            return str(self.processor.apply_chat_template(messages, **how))

    def prompt(self, messages: Sequence[dict[str, Any]], *, system: str | None = None) -> str:
        """The chat template's text for messages whose images are placeholders, at their places in the text.

        Args:
            messages: as the task shows a doc.
            system: a system instruction, put before them in the template's system role.

        Raises:
            UserError: the template fails, takes too long, or has no part for a system instruction.
        """
        first = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
        if any(map(within_text, messages)) and (image := self._image_text) is not None:
            messages = [inline(message, image) if within_text(message) else message for message in messages]
        text = self._rendered([*first, *messages])
        if system and system.strip() not in text:
            raise UserError(
                "--system_instruction: the checkpoint's chat template has no place for a system instruction; "
                "leave it out"
            )
        return text


def takes_features(model: Any) -> bool:
    """Whether `generate` of a model takes `Family.encoder_outputs` instead of pixels.

    Args:
        model: of transformers, or such a one within PEFT.
    """
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    return "mm_encoder_outputs" in signature(type(base).forward).parameters


def _check_lengths(batch: PreparedBatch, features: Sequence[ImageFeatures]) -> None:
    """Raise a ValueError unless each image has as many tokens as placeholders."""
    made = [len(image.tokens) for image in features]
    spans = [image.length for layout in batch.layouts for image in layout.images]
    if made != spans:
        raise ValueError(f"images of {made} tokens do not fill spans of {spans}")
