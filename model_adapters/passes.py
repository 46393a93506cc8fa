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


class StepCounts:
    """What is counted of docs at each decoding step; nothing is read back from the device before `docs`."""

    def __init__(self) -> None:
        self._steps: list[dict[tuple[int, str], Tensor]] = []

    def begin(self) -> None:
        """Begin the next step."""
        self._steps.append({})

    def add(self, doc: int, name: str, count: Tensor) -> None:
        """Enter a count of this step.

        Args:
            doc: of the batch.
            name: free.
            count: int or bool ().
        """
        self._steps[-1][doc, name] = count.long()

    def docs(self, steps: Sequence[int]) -> list[dict[str, int]]:
        """The sums of each doc over its steps; those after its end are left out.

        Args:
            steps: of each doc, up to the token that ends it.
        """
        sums: list[dict[str, int]] = [{} for _ in steps]
        for number, counts in enumerate(self._steps):
            for (doc, name), count in counts.items():
                if number < steps[doc]:
                    sums[doc][name] = sums[doc].get(name, 0) + int(count)
        return sums


class Passes:
    """How many rows answer one doc. This one is the default: one row for each doc.

    An intervention whose `passes` is a subclass answers each doc in several: `expand` says what they get,
    `weights` (or `combine_doc`) how their logits become one.

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

    def combine_doc(self, logits: Tensor, doc: int, counts: StepCounts) -> Tensor:
        """The logits of a doc in several passes at one decoding step: their weighted sum.

        A token that a pass makes impossible (-inf) stays so whatever the weights.

        Args:
            logits: float32 or wider (R, V), of the doc's rows, before any processing.
            doc: of the batch.
            counts: of this step.

        Returns:
            (V,).
        """
        total = (logits * logits.new_tensor(self.weights(len(logits)))[:, None]).sum(dim=0)
        return total.masked_fill(logits.isneginf().any(dim=0), float("-inf"))

    def combine(self, logits: Tensor, groups: Sequence[slice], counts: StepCounts | None = None) -> Tensor:
        """The logits of each doc at one decoding step.

        Args:
            logits: float32 or wider (R, V), of all rows of the batch, before any processing.
            groups: the rows of each of B docs.
            counts: of all steps; the next one begins.

        Returns:
            (B, V); those of a doc of one row as they are.
        """
        counts = StepCounts() if counts is None else counts
        counts.begin()
        docs = []
        for doc, group in enumerate(groups):
            rows = logits[group]
            docs.append(rows[0] if len(rows) == 1 else self.combine_doc(rows, doc, counts))
        return torch.stack(docs)


def has_several(passes: Passes) -> bool:
    """Whether docs may take more than one pass: it is not the default."""
    return type(passes) is not Passes


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
def combined(model: Any, passes: Passes, groups: Sequence[slice]) -> Iterator[StepCounts]:
    """While it is entered, a model gives all rows of a doc the combined logits of its passes.

    Docs of one row each leave the model as it is.

    Args:
        model: of transformers, or such a one within PEFT.
        passes: of the intervention.
        groups: the rows of each doc.

    Yields:
        What was counted at the steps so far.
    """
    counts = StepCounts()
    sizes = [group.stop - group.start for group in groups]
    if max(sizes) == 1:
        yield counts
        return

    def combine(module: Any, args: Any, output: Any) -> Any:
        last = output.logits[:, -1]
        last = last.to(torch.promote_types(last.dtype, torch.float32))
        check_finite(last)
        docs = passes.combine(last, groups, counts)
        repeats = torch.tensor(sizes, device=docs.device)
        output.logits = docs.repeat_interleave(repeats, dim=0)[:, None]
        return output

    base = model.get_base_model() if hasattr(model, "peft_config") else model
    handle = base.register_forward_hook(combine)
    try:
        yield counts
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
