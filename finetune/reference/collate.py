"""From conversations to the tensors of a training step, through the processor of the family."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from finetune.reference.lessons import Conversation
from mimic_tasks.images import decode_strict
from model_adapters.families.base import Family, PreparedBatch
from model_adapters.layout import Layout

if TYPE_CHECKING:
    from finetune.reference.sight import Sight
    from finetune.reference.tallies import Tallies

IGNORED = -100
"""The label of a token that is not learnt (torch's `cross_entropy`)."""

PER_TOKEN = ("input_ids", "attention_mask", "mm_token_type_ids")
"""Inputs with an entry for each token; all others are for each image or row."""


class Collator:
    """Makes a batch: what an evaluation's prompt is, then each answer with its end token and further turns.

    The prompt is tokenized apart from its answer, as in an evaluation. Only answers are learnt. Rows are
    padded on the left, where the engine expects it.

    Args:
        family: around the processor.
        sight: has the visual tokens of all pictures, or None for their pixels.
        tallies: of the pictures, where visual tokens learn them too.
        task_weight: of an answer to the first question in the loss; those of further turns have 1.
    """

    def __init__(
        self,
        family: Family,
        sight: "Sight | None" = None,
        tallies: "Tallies | None" = None,
        task_weight: int = 1,
    ) -> None:
        self.family = family
        self._task_weight = task_weight
        self._tallies = tallies
        self._sight = sight
        self._tokenizer = family.processor.tokenizer
        self._end = int(self._tokenizer.eos_token_id)

    def __call__(self, batches: Sequence[Sequence[Conversation]]) -> dict[str, Any]:
        """See the class.

        Args:
            batches: one batch of conversations, as the data loader of `Trainer` hands it over.

        Returns:
            The model's inputs, ``labels`` int (B, N) and ``layouts``; ``features`` in place of pixels where
            there is a `sight`; ``tallies`` int (B, N), where there are `tallies`; ``weights`` float (B, N) of
            the labels, where `task_weight` is not 1.
        """
        (conversations,) = batches
        first = [
            prompt(self.family, conversation.turns[0].question, len(conversation.images))
            for conversation in conversations
        ]
        if self._sight is None:
            images = [[decode_strict(path.read_bytes()) for path in one.images] for one in conversations]
            made = self.family.prepare(images, first)
        else:
            made = self._sight.prepare([one.images for one in conversations], first)
        tails = [self._tail(conversation) for conversation in conversations]
        layouts = _lengthened(made.layouts, [len(tail) for tail, _ in tails])
        batch = self._joined(made, layouts, tails)
        if self._tallies is not None:
            batch["tallies"] = torch.full_like(batch["labels"], IGNORED)
            for row, layout, one in zip(batch["tallies"], layouts, conversations, strict=True):
                for image, tally in zip(layout.images, self._tallies.of(one.images), strict=True):
                    row[image.indices()] = tally
        if self._task_weight != 1:
            batch["weights"] = torch.ones(batch["labels"].shape)
            for row, (_, labels) in zip(batch["weights"], tails, strict=True):
                begin = len(row) - len(labels)
                row[begin : begin + labels.index(self._end) + 1] = self._task_weight
        return {**batch, "layouts": layouts}

    def _tail(self, conversation: Conversation) -> tuple[list[int], list[int]]:
        """The tokens behind the first prompt, and their labels."""
        tokens: list[int] = []
        labels: list[int] = []
        for number, turn in enumerate(conversation.turns):
            if number:
                question_tokens = self._ids(prompt(self.family, turn.question, 0))
                tokens += question_tokens
                labels += [IGNORED] * len(question_tokens)
            answer = [*self._ids(turn.answer), self._end]
            tokens += answer
            labels += answer
        return tokens, labels

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _joined(
        self,
        made: PreparedBatch,
        layouts: Sequence[Layout],
        tails: Sequence[tuple[list[int], list[int]]],
    ) -> dict[str, Tensor]:
        """Prompts and tails in rows of one length; what is not per token stays as it is."""
        per_token = [name for name in PER_TOKEN if name in made.inputs]
        shape = (len(tails), layouts[0].length)
        joined = {name: x for name, x in made.inputs.items() if name not in per_token}
        for name in per_token:
            joined[name] = torch.zeros(shape, dtype=made.inputs[name].dtype)
        joined["input_ids"].fill_(self.family.pad_token_id)
        joined["labels"] = torch.full(shape, IGNORED)
        for b, (tail, labels) in enumerate(tails):
            end = shape[1] - len(tail)
            for name in per_token:
                joined[name][b, layouts[b].padding : end] = made.inputs[name][b, made.layouts[b].padding :]
            joined["input_ids"][b, end:] = torch.tensor(tail)
            joined["attention_mask"][b, end:] = 1
            joined["labels"][b, end:] = torch.tensor(labels)
        return joined


def _lengthened(layouts: Sequence[Layout], more: Sequence[int]) -> tuple[Layout, ...]:
    """The layouts of rows that each get some tokens more at their end, padded on the left to one length."""
    wanted = [layout.length - layout.padding + tokens for layout, tokens in zip(layouts, more, strict=True)]
    length = max(wanted)
    moved = []
    for layout, tokens in zip(layouts, wanted, strict=True):
        by = length - tokens - layout.padding
        moved.append(Layout(length, length - tokens, tuple(image.moved(by) for image in layout.images)))
    return tuple(moved)


def prompt(family: Family, question: str, images: int) -> str:
    """The text that an evaluation shows for a framed question behind some images."""
    content = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": question}]
    return family.prompt([{"role": "user", "content": content}])
