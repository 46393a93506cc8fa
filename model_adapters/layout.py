"""Which tokens of a decoder sequence are images, text and padding (METHODS 1)."""

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Layout:
    """The tokens of one sequence of a batch.

    Attributes:
        length: tokens of the sequence with its padding, the batch's N.
        padding: padding tokens, all on the left.
        images: the span of each image in order, behind the padding, apart or adjacent.

    Raises:
        ValueError: spans that overlap, fall, are empty or leave [padding, length).
    """

    length: int
    padding: int = 0
    images: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.padding < self.length:
            raise ValueError(f"padding must be within 0-{self.length - 1}, got {self.padding}")
        end = self.padding
        for span in self.images:
            if not end <= span.start < span.end <= self.length:
                raise ValueError(
                    f"image spans must rise within [{self.padding}, {self.length}), got {list(self.images)}"
                )
            end = span.end

    @property
    def text(self) -> tuple[Span, ...]:
        """The runs of text tokens between the padding, the images and the end."""
        runs, start = [], self.padding
        for span in (*self.images, Span(self.length, self.length)):
            if span.start > start:
                runs.append(Span(start, span.start))
            start = span.end
        return tuple(runs)

    @property
    def text_prefix(self) -> Span:
        """The text before the first image; empty if an image comes first."""
        return Span(self.padding, self.images[0].start if self.images else self.length)
