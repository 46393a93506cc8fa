"""From conversations to the tensors of a training step, through the family's own processor."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from finetune.lessons import Conversation
from mimic_tasks.images import decode_strict
from model_adapters.families import Family
from model_adapters.layout import Layout, Span

IGNORED = -100
"""The label of a token that is not learnt (torch's `cross_entropy`)."""

_PER_TOKEN = ("input_ids", "attention_mask", "mm_token_type_ids")


class Collator:
    """Makes a batch: what an evaluation's prompt is, then each answer with its end token and further turns.

    The prompt is tokenized apart from its answer, as in an evaluation. Only answers are learnt. Rows are
    padded on the left, where the engine expects it.

    Args:
        family: around the processor.
    """

    def __init__(self, family: Family) -> None:
        self.family = family
        self._tokenizer = family.processor.tokenizer
        self._end = int(self._tokenizer.eos_token_id)

    def __call__(self, batches: Sequence[Sequence[Conversation]]) -> dict[str, Any]:
        """See the class.

        Args:
            batches: one batch of conversations, as the data loader of `Trainer` hands it over.

        Returns:
            The model's inputs, ``labels`` int (B, N) and ``layouts``.
        """
        (conversations,) = batches
        images = [[decode_strict(path.read_bytes()) for path in own.images] for own in conversations]
        first = [prompt(self.family, own.turns[0].question, len(own.images)) for own in conversations]
        made = self.family.prepare(images, first)
        tails = [self._tail(own) for own in conversations]
        return {**self._joined(made.inputs, made.layouts, tails), "layouts": self._moved(made.layouts, tails)}

    def _tail(self, conversation: Conversation) -> tuple[list[int], list[int]]:
        """The tokens behind the first prompt, and their labels."""
        tokens: list[int] = []
        labels: list[int] = []
        for number, turn in enumerate(conversation.turns):
            if number:
                asked = self._ids(prompt(self.family, turn.question, 0))
                tokens += asked
                labels += [IGNORED] * len(asked)
            answer = [*self._ids(turn.answer), self._end]
            tokens += answer
            labels += answer
        return tokens, labels

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _joined(
        self, inputs: Any, layouts: Sequence[Layout], tails: Sequence[tuple[list[int], list[int]]]
    ) -> dict[str, Tensor]:
        """Prompts and tails in rows of one length; what is not per token stays as it is."""
        per_token = [name for name in _PER_TOKEN if name in inputs]
        heads = [layout.length - layout.padding for layout in layouts]
        length = max(head + len(tail) for head, (tail, _) in zip(heads, tails, strict=True))
        shape = (len(tails), length)
        joined = {name: x for name, x in inputs.items() if name not in per_token}
        for name in per_token:
            joined[name] = torch.zeros(shape, dtype=inputs[name].dtype)
        joined["input_ids"].fill_(self.family.pad_token_id)
        joined["labels"] = torch.full(shape, IGNORED)
        for b, (layout, (tail, labels)) in enumerate(zip(layouts, tails, strict=True)):
            end = length - len(tail)
            for name in per_token:
                joined[name][b, end - heads[b] : end] = inputs[name][b, layout.padding :]
            joined["input_ids"][b, end:] = torch.tensor(tail)
            joined["attention_mask"][b, end:] = 1
            joined["labels"][b, end:] = torch.tensor(labels)
        return joined

    @staticmethod
    def _moved(layouts: Sequence[Layout], tails: Sequence[tuple[list[int], list[int]]]) -> tuple[Layout, ...]:
        """The layouts of the joined rows."""
        heads = [layout.length - layout.padding for layout in layouts]
        length = max(head + len(tail) for head, (tail, _) in zip(heads, tails, strict=True))
        moved = []
        for layout, head, (tail, _) in zip(layouts, heads, tails, strict=True):
            padding = length - len(tail) - head
            by = padding - layout.padding
            spans = tuple(Span(span.start + by, span.end + by) for span in layout.images)
            moved.append(Layout(length, padding, spans))
        return tuple(moved)


def prompt(family: Family, question: str, images: int) -> str:
    """The text that an evaluation shows for a framed question behind some images."""
    content = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": question}]
    return family.prompt([{"role": "user", "content": content}])
