"""Several passes over one doc, whose logits are combined at each decoding step (METHODS 5: FOCUS, orders).

Each pass is a row of the batch with a prompt and a cache. At each step the logits of a doc's passes become
one, from which the next token is chosen for all of them. A row is so not a doc: a doc has a group of rows.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from model_adapters.picture import Picture

if TYPE_CHECKING:
    from model_adapters.relevance.query import Query


@dataclass(frozen=True, eq=False)
class PassInput:
    """What the model gets of a doc in one pass.

    Attributes:
        pictures: in order.
        prompt: the text, chat template applied.
        query: what relevance may know; None without a source of relevance.
        seed: of what is drawn for the doc: its content hash, or that of its name.
    """

    pictures: tuple[Picture, ...]
    prompt: str
    query: "Query | None" = None
    seed: str = ""

    @property
    def images(self) -> tuple[Image.Image, ...]:
        """RGB, in order."""
        return tuple(picture.image for picture in self.pictures)


class NotFinite(ArithmeticError):
    """The model's scores are no numbers.

    Attributes:
        row: of the batch.
    """

    def __init__(self, row: int) -> None:
        super().__init__(f"the scores of row {row} of the batch are not finite")
        self.row = row


class Passes:
    """How many rows answer one doc. This one is the default: one row for each doc.

    An intervention whose `passes` is a subclass answers each doc in several: `expand` says what they get,
    `weights` (or `combine`) how their logits become one.

    Attributes:
        seeded: what `expand` makes depends on `PassInput.seed`, which so belongs to the journal's key.
    """

    seeded: bool = False

    def expand(self, doc: PassInput) -> tuple[PassInput, ...]:
        """The passes over a doc, at least one; the same at each call.

        Args:
            doc: as the task gives it.
        """
        return (doc,)

    def weights(self, rows: int) -> Sequence[float]:
        """The weight of each pass's logits, in the order of `expand`; their mean unless a subclass says more.

        Args:
            rows: passes over one doc.
        """
        return [1 / rows] * rows

    def combine(self, logits: Tensor, groups: Sequence[slice]) -> Tensor:
        """The logits of each doc at one decoding step.

        Args:
            logits: float32 (R, V), of all rows of the batch, before any processing.
            groups: the rows of each of B docs.

        Returns:
            (B, V); those of a doc of one row as they are.
        """
        docs = []
        for group in groups:
            rows_of_doc = logits[group]
            if len(rows_of_doc) > 1:
                rows_of_doc = (
                    rows_of_doc * rows_of_doc.new_tensor(self.weights(len(rows_of_doc)))[:, None]
                ).sum(dim=0, keepdim=True)
            docs.append(rows_of_doc)
        return torch.cat(docs)


def groups_of(rows: Sequence[int]) -> tuple[slice, ...]:
    """The rows of each doc in the batch.

    Args:
        rows: how many each doc has.
    """
    groups, start = [], 0
    for count in rows:
        groups.append(slice(start, start + count))
        start += count
    return tuple(groups)


@contextmanager
def combined(model: Any, passes: Passes, groups: Sequence[slice]) -> Iterator[None]:
    """While it is entered, a model gives all rows of a doc the combined logits of its passes.

    Docs of one row each leave the model as it is.

    Args:
        model: of transformers, or such a one within PEFT.
        passes: of the intervention.
        groups: the rows of each doc.
    """
    sizes = [group.stop - group.start for group in groups]
    if max(sizes) == 1:
        yield
        return

    def combine(module: Any, args: Any, output: Any) -> Any:
        last = output.logits[:, -1].float()
        check_finite(last)
        docs = passes.combine(last, groups)
        repeats = torch.tensor(sizes, device=docs.device)
        output.logits = docs.repeat_interleave(repeats, dim=0)[:, None]
        return output

    base = model.get_base_model() if hasattr(model, "peft_config") else model
    handle = base.register_forward_hook(combine)
    try:
        yield
    finally:
        handle.remove()


def check_finite(scores: Tensor) -> None:
    """Refuse scores that are no numbers, as half precision makes them when it overflows.

    Args:
        scores: (R, V).

    Raises:
        NotFinite: a NaN or an infinity.
    """
    wrong = (scores.isnan() | scores.isposinf()).any(dim=-1)
    if bool(wrong.any()):
        raise NotFinite(int(wrong.nonzero()[0]))
