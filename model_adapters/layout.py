"""Which tokens of a decoder sequence are images, text and padding (METHODS 1, 14)."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor


class Span(NamedTuple):
    """A half-open token range [start, end)."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Tokens in the span."""
        return self.end - self.start

    @property
    def spans(self) -> tuple["Span", ...]:
        """As of `ImageTokens`: the span itself."""
        return (self,)

    def indices(self, device: torch.device | None = None) -> Tensor:
        """int (length,): its tokens."""
        return torch.arange(self.start, self.end, device=device)

    def moved(self, by: int) -> "Span":
        """The span `by` tokens to the right."""
        return Span(self.start + by, self.end + by)


@dataclass(frozen=True)
class ImageTokens:
    """The tokens of one image that other tokens cut into several spans, as row and column tokens do.

    What lies between the spans is text (METHODS 14). An image of one span is a plain `Span`; both have the
    same properties.

    Attributes:
        spans: at least one, rising, apart.
    """

    spans: tuple[Span, ...]

    @property
    def start(self) -> int:
        """The first token."""
        return self.spans[0].start

    @property
    def end(self) -> int:
        """One past the last token."""
        return self.spans[-1].end

    @property
    def length(self) -> int:
        """Tokens in all spans."""
        return sum(span.length for span in self.spans)

    def indices(self, device: torch.device | None = None) -> Tensor:
        """int (length,): its tokens, rising."""
        return torch.cat([span.indices(device) for span in self.spans])

    def moved(self, by: int) -> "ImageTokens":
        """All spans `by` tokens to the right."""
        return ImageTokens(tuple(span.moved(by) for span in self.spans))


def image_tokens(spans: Iterable[Span]) -> Span | ImageTokens:
    """An image from its spans: adjacent ones are joined, and one alone is a `Span`.

    Args:
        spans: at least one, in order.
    """
    joined: list[Span] = []
    for span in spans:
        if joined and joined[-1].end == span.start and span.length:
            joined[-1] = Span(joined[-1].start, span.end)
        else:
            joined.append(span)
    return joined[0] if len(joined) == 1 else ImageTokens(tuple(joined))


def runs_of(row: Tensor, token: int) -> list[Span]:
    """The longest runs of a token.

    Args:
        row: int (N,).
        token: its id.
    """
    inside = (row == token).int().cpu()
    edges = torch.nn.functional.pad(inside, (1, 1)).diff()
    starts, ends = ((edges == step).nonzero().flatten().tolist() for step in (1, -1))
    return [Span(start, end) for start, end in zip(starts, ends, strict=True)]


def padding_of(attended: Tensor) -> tuple[int, int]:
    """Padding tokens on the left and on the right of a row.

    Args:
        attended: int or bool (N,), 1 = a token, 0 = padding (a row of `attention_mask`).

    Raises:
        ValueError: no token, or padding between tokens.
    """
    tokens = attended.nonzero()[:, 0]
    if not len(tokens):
        raise ValueError("a row holds nothing but padding")
    first, last = int(tokens[0]), int(tokens[-1])
    if last - first + 1 != len(tokens):
        raise ValueError("a row has padding between its tokens")
    return first, len(attended) - 1 - last


@dataclass(frozen=True)
class Layout:
    """The tokens of one sequence of a batch.

    Attributes:
        length: tokens of the sequence with its padding, the batch's N.
        padding: padding tokens on the left, as evaluations pad.
        images: the tokens of each image in order, within [padding, end), apart or adjacent; of each one span
            or several. No image has tokens between those of another.
        right_padding: padding tokens on the right, as trainers pad.

    Raises:
        ValueError: padding on all tokens; spans that overlap, fall, are empty or leave [padding, end).
    """

    length: int
    padding: int = 0
    images: tuple[Span | ImageTokens, ...] = ()
    right_padding: int = 0

    def __post_init__(self) -> None:
        if self.padding < 0 or self.right_padding < 0 or self.padding + self.right_padding >= self.length:
            raise ValueError(
                f"padding must leave one of {self.length} tokens at least, got {self.padding} on the left "
                f"and {self.right_padding} on the right"
            )
        object.__setattr__(self, "images", tuple(image_tokens(image.spans) for image in self.images))
        end = self.padding
        for span in self.spans:
            if not end <= span.start < span.end <= self.end:
                raise ValueError(
                    f"image spans must rise within [{self.padding}, {self.end}), got {list(self.images)}"
                )
            end = span.end

    @property
    def end(self) -> int:
        """One past the last token that is no padding."""
        return self.length - self.right_padding

    @property
    def spans(self) -> tuple[Span, ...]:
        """The spans of all images in order."""
        return tuple(span for image in self.images for span in image.spans)

    def image_numbers(self, device: torch.device | None = None) -> Tensor:
        """int (N): the number of each token's image from 0, -1 at text and padding."""
        numbers, lengths, end = [], [], 0
        for number, image in enumerate(self.images):
            for span in image.spans:
                numbers += [-1, number]
                lengths += [span.start - end, span.length]
                end = span.end
        return torch.tensor([*numbers, -1], device=device).repeat_interleave(
            torch.tensor([*lengths, self.length - end], device=device), output_size=self.length
        )

    @property
    def tokens(self) -> slice:
        """The tokens that are no padding."""
        return slice(self.padding, self.end)

    def is_token(self, device: torch.device) -> Tensor:
        """bool (N,): True = no padding."""
        index = torch.arange(self.length, device=device)
        return (index >= self.padding) & (index < self.end)

    @property
    def text(self) -> tuple[Span, ...]:
        """The runs of text tokens between the padding and the images, those within images among them."""
        runs, start = [], self.padding
        for span in (*self.spans, Span(self.end, self.end)):
            if span.start > start:
                runs.append(Span(start, span.start))
            start = span.end
        return tuple(runs)

    @property
    def text_prefix(self) -> Span:
        """The text before the first image; empty if an image comes first."""
        return Span(self.padding, self.images[0].start if self.images else self.end)


@lru_cache(maxsize=4)
def tokens_of(layouts: tuple[Layout, ...], device: torch.device) -> Tensor:
    """bool (B, N): True = no padding. Each layer asks at each generated token: it is made once for a batch.

    Args:
        layouts: B layouts of length N.
        device: of the result, which is not to be changed.
    """
    with torch.inference_mode(False):  # a training that comes later may keep it for its backward pass
        return torch.stack([layout.is_token(device) for layout in layouts])
