"""What an adapter asks of a family."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from PIL import Image

from model_adapters.layout import Layout


class PreparedBatch(NamedTuple):
    """Model inputs of a batch, and the layout of each row."""

    inputs: Any
    layouts: tuple[Layout, ...]


class Family(ABC):
    """One architecture: how it is loaded, prompted, and where its image tokens lie.

    Attributes:
        model_type: of the checkpoint's config.
        name: for messages.
    """

    model_type: str
    name: str

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        processor.tokenizer.padding_side = "left"

    @staticmethod
    @abstractmethod
    def model_class() -> Any:
        """transformers' class."""

    @abstractmethod
    def layouts(self, inputs: Any, images: Sequence[int]) -> tuple[Layout, ...]:
        """The layout of each row, from the processor's own output.

        Args:
            inputs: the processor's output, padded on the left.
            images: how many images each row has.

        Raises:
            ValueError: the image tokens do not add up.
        """

    def prepare(self, images: Sequence[Sequence[Image.Image]], prompts: Sequence[str]) -> PreparedBatch:
        """Preprocess a batch: each row's images as one nested list, texts padded on the left.

        Args:
            images: the images of each row, RGB.
            prompts: the text of each row, chat template applied.
        """
        nested = [list(row) for row in images]
        inputs = self.processor(
            images=nested if any(nested) else None, text=list(prompts), padding=True, return_tensors="pt"
        )
        return PreparedBatch(inputs, self.layouts(inputs, [len(row) for row in nested]))

    def prompt(self, messages: Sequence[dict[str, Any]]) -> str:
        """The chat template's text for messages whose images are placeholders."""
        text = self.processor.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        return str(text)
