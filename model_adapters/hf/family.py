"""Any model of transformers for images and text, by what its processor and itself show (`checks`)."""

from collections.abc import Sequence
from typing import Any, ClassVar

from PIL import Image

from mimic_eval.records import UserError
from model_adapters.families.base import Family, ImageFeatures, PreparedBatch
from model_adapters.hf.calls import GRIDS, SHARINGS, Processed, image_positions, row_layouts, runs_at
from model_adapters.hf.checks import Facts, Probe, Unknown
from model_adapters.layout import Layout
from model_adapters.relevance.places import TokenPlaces, grid

_LAYOUTS = "mimic_layouts"
"""Where a batch has its layouts: the text that its images were replaced by is no input of the model."""


class HfFamily(Family):
    """A checkpoint of any type of `AutoModelForImageTextToText`.

    Nothing is known of it beforehand: `around` establishes what an adapter needs by running the model on
    small pictures, and refuses it with the reason where something cannot be established.

    Attributes:
        facts: what is established.
    """

    model_type = "any type of AutoModelForImageTextToText"
    name = "hf_mask"
    by_evidence = True
    has_features = False
    facts: ClassVar[Facts]

    @staticmethod
    def model_class() -> Any:
        """See `Family.model_class`."""
        from transformers import AutoModelForImageTextToText

        return AutoModelForImageTextToText

    @classmethod
    def takes(cls, model_type: str) -> bool:
        """See `Family.takes`."""
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

        return model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    @classmethod
    def around(cls, processor: Any, model: Any, *, pretrained: str) -> Family:
        """See `Family.around`; the model must attend as transformers has it by default.

        Raises:
            UserError: something that cannot be established.
        """
        try:
            if not getattr(getattr(processor, "tokenizer", None), "is_fast", False):
                raise Unknown("its processor has no tokenizer in the tokenizer.json format")
            facts = Probe(model, processor, cls(processor).prompt).establish()
        except Unknown as reason:
            raise UserError(
                f"pretrained={pretrained} ({model.config.model_type}): hf_mask refuses it, because {reason}"
            ) from reason
        use_our_attention(model)
        kind = type(
            cls.__name__,
            (cls,),
            {
                "__module__": cls.__module__,
                "model_type": model.config.model_type,
                "nested": facts.call.nested,
                "delimiters": facts.delimiters,
                "has_places": facts.grid is not None,
                "facts": facts,
            },
        )
        made: Family = kind(processor)
        return made

    @property
    def attention_layers(self) -> frozenset[int] | None:
        """See `Family.attention_layers`."""
        return self.facts.attention

    def prepare(self, images: Sequence[Sequence[Image.Image]], prompts: Sequence[str]) -> PreparedBatch:
        """See `Family.prepare`."""
        made = self.facts.call(self.processor, images, prompts)
        sizes = [[image.size for image in row] for row in images]
        sharing = SHARINGS[self.facts.sharing]
        layouts = row_layouts(made, sizes, self.facts.markers, sharing, self.processor)
        setattr(made.inputs, _LAYOUTS, layouts)
        return PreparedBatch(made.inputs, layouts)

    def image_counts(self, inputs: Any) -> list[int]:
        """See `Family.image_counts`: runs of image tokens."""
        return [len(runs_at(image_positions(row, self.facts.markers))) for row in inputs["input_ids"]]

    def layouts(self, inputs: Any, images: Sequence[int]) -> tuple[Layout, ...]:
        """See `Family.layouts`; of a batch that `prepare` did not make, each image one run of tokens."""
        known: tuple[Layout, ...] | None = vars(inputs).get(_LAYOUTS) if hasattr(inputs, "__dict__") else None
        if known is not None:
            return known
        sharing = SHARINGS["one run for each image"]
        sizes = [[(0, 0)] * count for count in images]
        return row_layouts(Processed(inputs, None), sizes, self.facts.markers, sharing, self.processor)

    def places(self, inputs: Any, images: Sequence[Sequence[Image.Image]]) -> list[list[TokenPlaces]]:
        """See `Family.places`."""
        if self.facts.grid is None:
            raise UserError(
                f"hf_mask: this model's image tokens have no places, because {self.facts.no_grid}"
            )
        layouts = self.layouts(inputs, [len(row) for row in images])
        lay, number = GRIDS[self.facts.grid], 0
        rows: list[list[TokenPlaces]] = []
        for layout in layouts:
            rows.append([])
            for image in layout.images:
                shape = lay(inputs, number, image.spans)
                if shape is None:
                    raise ValueError(
                        f"image {number + 1} of the batch has {image.length} tokens, which are no grid"
                    )
                rows[-1].append(grid(*shape))
                number += 1
        return rows

    def image_features(
        self, model: Any, batch: PreparedBatch, chosen: Sequence[int] | None = None
    ) -> list[ImageFeatures]:
        """Not known of a model of any type: `has_features` is False."""
        raise UserError(
            "hf_mask shows pictures through the model's forward pass: leave pool and feature_cache out"
        )


def use_our_attention(model: Any) -> None:
    """From here on a decoder that was loaded with transformers' default attention calls the engine's."""
    from model_adapters.engine import IMPLEMENTATION, attach, decoder_layers

    for layer in decoder_layers(model):
        for module in layer.modules():
            config: Any = getattr(module, "config", None)
            if hasattr(config, "_attn_implementation_internal"):
                config._attn_implementation_internal = IMPLEMENTATION
    attach(model)
