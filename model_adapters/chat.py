"""What upstream asks of a model under ``--apply_chat_template``: ours apply theirs in any case."""

from collections.abc import Mapping, Sequence
from typing import Any

from model_adapters.families.base import Family


class ChatTemplated:
    """A model whose family has a chat template.

    Attributes:
        family: around the processor.
    """

    family: Family

    @property
    def chat_template(self) -> str:
        """The template's text, for upstream's record."""
        return str(self.family.processor.chat_template)

    @property
    def tokenizer_name(self) -> str:
        """The checkpoint's name, for upstream's request cache."""
        return str(self.family.processor.tokenizer.name_or_path).replace("/", "__")

    def apply_chat_template(self, chat: Sequence[Mapping[str, Any]]) -> str:
        """Turns of plain text through the template; upstream logs it, and no answer is made from it."""
        turns = []
        for turn in chat:
            content = turn["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            turns.append({"role": turn["role"], "content": parts})
        return self.family.prompt(turns)
