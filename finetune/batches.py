"""From samples of a mixture to the tensors of a training step, through the processor of the family.

A sample is rendered by the family's chat template as an evaluation's prompt is, with each answer and its end
token behind its prompt. Where answers begin and end is marked in the text by a special token that is added to
a copy of the tokenizer and taken out of the tokens again: so a prompt has the tokens that it has alone, an
answer those that a model would generate, and the processor sees all of a sample's images at once.
"""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from mimic_eval.records import IMAGE_MARK, UserError, interleaved, without_marks
from mimic_tasks.images import BrokenImage, decode_strict, read_picture
from model_adapters.families.base import Family
from model_adapters.image_marks import image_tokens
from model_adapters.layout import Layout

IGNORED = -100
"""The label of a token that is not learnt (torch's `cross_entropy`)."""

_CUT = "<|mimic_cut|>"
_PLACEHOLDER = "mimicanswer{}x"
_LEADING = re.compile(rf"(?:\s*{re.escape(IMAGE_MARK)})+\s*")
_NOT_TOKENS = ("pixel_values", "image_sizes", "image_grid_thw", "batch_num_images")


class TurnLike(Protocol):
    """A turn: ``system`` (first), ``user`` or ``assistant``, and its text with `IMAGE_MARK` at each image."""

    @property
    def role(self) -> str: ...

    @property
    def text(self) -> str: ...


class SampleLike(Protocol):
    """A sample of a mixture (`finetune.mixture.Sample`)."""

    @property
    def id(self) -> str: ...

    @property
    def file(self) -> Path: ...

    @property
    def line(self) -> int: ...

    @property
    def images(self) -> tuple[Path, ...]: ...

    @property
    def turns(self) -> Sequence[TurnLike]: ...


@dataclass(frozen=True)
class Rows:
    """Samples that go through the model at once.

    Attributes:
        samples: B of them.
        inputs: of the model; what is per token is (B, N), padded on the left.
        labels: int (B, N), `IGNORED` where nothing is learnt.
        layouts: of the rows.
    """

    samples: tuple[SampleLike, ...]
    inputs: dict[str, Tensor]
    labels: Tensor
    layouts: tuple[Layout, ...]


class Batcher:
    """Makes `Rows` of samples.

    Args:
        family: around the checkpoint's processor, which is not changed.
        end_tokens: the texts that end an answer in generation, the most likely first.

    Attributes:
        end: the text of the token behind each answer.
    """

    def __init__(self, family: Family, *, end_tokens: Sequence[str]) -> None:
        self.family = copy.deepcopy(family)
        tokenizer = self.family.processor.tokenizer
        tokenizer.add_special_tokens(
            {"additional_special_tokens": [_CUT]}, replace_extra_special_tokens=False
        )
        self._cut = int(tokenizer.convert_tokens_to_ids(_CUT))
        self._marks = tuple(mark for mark in image_tokens(self.family.processor) if mark != IMAGE_MARK)
        self._lead, self.end = self._around_answers(end_tokens)
        self._has_system = self._takes_system()

    def rows(self, samples: Sequence[SampleLike]) -> Rows:
        """The tensors of some samples.

        Raises:
            UserError: a picture that cannot be opened or shown, or turns that are no questions with answers.
        """
        images = [[self._picture(sample, path) for path in sample.images] for sample in samples]
        made = self.family.prepare(images, [self.text(sample) for sample in samples])
        return self._cut_out(tuple(samples), dict(made.inputs), made.layouts)

    def text(self, sample: SampleLike) -> str:
        """A sample as the chat template writes it, up to the end of its last answer, with its cuts.

        Raises:
            UserError: turns that are not questions with answers, or an image in an answer.
        """
        turns = _in_turn(sample.turns)
        system = turns.pop(0)[1] if turns and turns[0][0] == "system" else None
        roles = [role for role, _ in turns]
        if not turns or roles != ["user", "assistant"] * (len(turns) // 2):
            raise self._refused(sample, f"its turns must be user, assistant, ..., got {', '.join(roles)}")
        messages: list[dict[str, Any]] = []
        answers = []
        for number, (role, text) in enumerate(turns):
            if role == "user":
                first = f"{system}\n\n" if number == 0 and system and not self._has_system else ""
                messages.append({"role": role, "content": self._content(text, before=first)})
            elif IMAGE_MARK in text:
                raise self._refused(sample, f"an answer holds {IMAGE_MARK}; images can be in questions only")
            else:
                answers.append(without_marks(text, self._marks).strip())
                held = [{"type": "text", "text": _PLACEHOLDER.format(number)}]
                messages.append({"role": role, "content": held})
        written = self.family.prompt(messages[:1], system=system if self._has_system else None)
        for number, answer in enumerate(answers):
            written += f"{_CUT}{self._lead}{answer}{self.end}{_CUT}"
            if number < len(answers) - 1:
                written += self._behind(messages[: 2 * number + 3])
        return written

    def _behind(self, messages: list[dict[str, Any]]) -> str:
        """What the template writes between the last answer and the next one, from its end token on."""
        held = messages[-2]["content"][0]["text"]
        behind = self.family.prompt(messages).partition(held)[2]
        return behind.lstrip().removeprefix(self.end) if behind.lstrip().startswith(self.end) else behind

    def _content(self, text: str, *, before: str) -> list[dict[str, Any]]:
        """A user's text with its images at their marks; those before all text as an evaluation has them.

        Args:
            text: with marks.
            before: text for a template without a place for the system.
        """
        text = without_marks(text, self._marks)
        leading = _LEADING.match(text)
        first = 0
        if leading:
            first, text = leading[0].count(IMAGE_MARK), text[leading.end() :]
        parts: list[dict[str, Any]] = [{"type": "image"}] * first
        for part in interleaved(before + text, text.count(IMAGE_MARK)).parts:
            parts.append({"type": "image"} if part is None else {"type": "text", "text": part})
        return parts

    def _picture(self, sample: SampleLike, path: Path) -> Any:
        try:
            picture = decode_strict(read_picture(path))
        except BrokenImage as error:
            raise self._refused(sample, f"picture {path} {error}") from error
        reason = self.family.unscorable(picture)
        if reason:
            raise self._refused(sample, f"picture {path} is {reason}")
        return picture

    @staticmethod
    def _refused(sample: SampleLike, why: str) -> UserError:
        return UserError(f"{sample.file}, line {sample.line}, sample '{sample.id}': {why}")

    def _around_answers(self, candidates: Sequence[str]) -> tuple[str, str]:
        """What stands before an answer and after it: the template's space, and the token that ends a turn.

        Raises:
            UserError: the template leaves out earlier answers.
        """
        held = _PLACEHOLDER.format(1)
        messages = [
            {"role": role, "content": [{"type": "text", "text": text}]}
            for role, text in (("user", "?"), ("assistant", held), ("user", "?"))
        ]
        first = self.family.prompt(messages[:1])
        before, found, behind = self.family.prompt(messages).partition(held)
        if not found:
            raise UserError("the checkpoint's chat template leaves out earlier answers: it cannot be trained")
        lead = before.removeprefix(first) if before.startswith(first) else ""
        end = next((token for token in candidates if behind.lstrip().startswith(token)), candidates[0])
        return "" if lead.strip() else lead, end

    def _takes_system(self) -> bool:
        try:
            self.family.prompt([{"role": "user", "content": [{"type": "text", "text": "?"}]}], system="Yes.")
        except UserError:
            return False
        return True

    def _cut_out(
        self, samples: tuple[SampleLike, ...], inputs: dict[str, Tensor], layouts: Sequence[Layout]
    ) -> Rows:
        """The rows without the cuts, padded on the left again; what lies between two of them is learnt."""
        ids = inputs["input_ids"]
        per_token = [name for name, x in inputs.items() if name not in _NOT_TOKENS and _is_per_token(x, ids)]
        attended = inputs["attention_mask"].bool()
        cuts = (ids == self._cut) & attended
        chosen = [mask & ~cut for mask, cut in zip(attended, cuts, strict=True)]
        length = max(int(row.sum()) for row in chosen)
        made = {name: x for name, x in inputs.items() if name not in per_token}
        for name in per_token:
            pad = self.family.pad_token_id if name == "input_ids" else 0
            made[name] = torch.full((len(ids), length), pad, dtype=inputs[name].dtype)
        labels = torch.full((len(ids), length), IGNORED)
        moved = []
        for b, row in enumerate(chosen):
            start = length - int(row.sum())
            for name in per_token:
                made[name][b, start:] = inputs[name][b, row]
            learnt = (cuts[b].cumsum(0) % 2 == 1)[row]
            labels[b, start:][learnt] = ids[b, row][learnt]
            moved.append(_moved(layouts[b], cuts[b], start, length))
        return Rows(samples, made, labels, tuple(moved))


def _in_turn(turns: Sequence[TurnLike]) -> list[tuple[str, str]]:
    """Roles and texts; what one side says in several turns is one."""
    said: list[tuple[str, str]] = []
    for turn in turns:
        if said and said[-1][0] == turn.role:
            said[-1] = (turn.role, f"{said[-1][1]}\n{turn.text}")
        else:
            said.append((turn.role, turn.text))
    return said


def _is_per_token(x: Any, ids: Tensor) -> bool:
    return isinstance(x, Tensor) and x.shape == ids.shape and not x.is_floating_point()


def _moved(layout: Layout, cuts: Tensor, start: int, length: int) -> Layout:
    """The layout of a row after its cuts are taken out; no image holds one."""
    before = cuts.cumsum(0)
    images = tuple(image.moved(start - layout.padding - int(before[image.start])) for image in layout.images)
    return Layout(length, start, images)


def end_tokens(model: Any, tokenizer: Any) -> tuple[str, ...]:
    """The texts of the tokens that end an answer in generation; the tokenizer's own first.

    Args:
        model: with its generation config.
        tokenizer: of the checkpoint.

    Raises:
        UserError: there are none.
    """
    named = model.generation_config.eos_token_id
    ids = [] if named is None else named if isinstance(named, list) else [named]
    texts = [tokenizer.eos_token, *(tokenizer.convert_ids_to_tokens(int(number)) for number in ids)]
    known = tuple(dict.fromkeys(text for text in texts if text))
    if not known:
        raise UserError("the checkpoint names no token that ends an answer (eos_token_id)")
    return known
