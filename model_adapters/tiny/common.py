"""What the tiny checkpoints share: tokenizer, chat template, the scale of their weights and their note."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError
from model_adapters.loading import NOTE

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} "
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% endif %}{% endfor %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ '\n' + part['text'] }}"
    "{% endif %}{% endfor %}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_CORPUS_SIZE = 400
WEIGHT_SCALE = 0.2  # ten times the usual, so that answers depend on the images and not on the last token


def check_new(out: Path) -> None:
    """Refuse a folder with files.

    Raises:
        UserError: it is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} exists and is not empty: choose another folder, or remove it")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw weights from a seed, and leave torch's own state as it was."""
    import torch

    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.random.set_rng_state(state)


def write_note(out: Path, *, seed: int) -> None:
    """Say in the checkpoint that its weights are random."""
    note = {"kind": "random", "seed": seed, "description": "random weights: its answers mean nothing"}
    (out / NOTE).write_text(json.dumps(note) + "\n", encoding="utf-8")


def make_tokenizer(special_tokens: Sequence[str] = SPECIAL_TOKENS) -> Any:
    """A byte-level BPE tokenizer trained on sentences about numbers and things.

    Args:
        special_tokens: the padding token first; ``<|im_end|>`` among them ends an answer.
    """
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    numbers = "zero one two three four five six seven eight nine ten"
    things = "images number total object class category name answer question many every all list"
    lines = [
        f"{n} {t} {i}, how many {t} in the images?"
        for i in range(40)
        for n in numbers.split()[:5]
        for t in things.split()
    ]
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        lines[:_CORPUS_SIZE] + numbers.split(),
        vocab_size=512,
        special_tokens=list(special_tokens),
        show_progress=False,
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(special_tokens[1:]),
    )
