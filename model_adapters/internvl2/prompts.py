"""InternVL2's prompt formats by the config's `template`, as chat templates of the native processor.

Sources: `conversation.py` beside the original checkpoints. The image text is METHODS 12's; like the native
checkpoints' own template, each image is followed by a line break.
"""

import json
from typing import NamedTuple

from mimic_eval.records import UserError, nearest

_SYSTEM_2 = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，"
    "英文名叫InternVL, 是一个有用无害的人工智能助手。"
)
_SYSTEM_2_5 = (
    "你是书生·万象，英文名是InternVL，"
    "是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)


_TEMPLATE = (
    "{% set opening, closing = OPENING, CLOSING %}"
    "{% if messages[0]['role'] != 'system' %}"
    "{{ opening.replace('ROLE', 'system') + SYSTEM + closing }}{% endif %}"
    "{% for message in messages %}{{ opening.replace('ROLE', message['role']) }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\\n' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ closing }}{% endfor %}"
    "{% if add_generation_prompt %}{{ opening.replace('ROLE', 'assistant') }}{% endif %}"
)


class PromptFormat(NamedTuple):
    """How a conversation is written.

    Attributes:
        system: the system message unless a conversation brings its own.
        opening: what begins a turn, with ``ROLE`` for its role.
        end: the token that ends a turn and an answer.
        after: what follows that token.
    """

    system: str
    opening: str = "<|im_start|>ROLE\n"
    end: str = "<|im_end|>"
    after: str = ""

    def chat_template(self) -> str:
        """A jinja template for messages whose images are placeholders."""
        text = _TEMPLATE
        values = {"OPENING": self.opening, "CLOSING": self.end + self.after, "SYSTEM": self.system}
        for name, value in values.items():
            text = text.replace(name, json.dumps(value, ensure_ascii=False))
        return text


FORMATS = {
    "Hermes-2": PromptFormat(_SYSTEM_2),
    "internlm2-chat": PromptFormat(_SYSTEM_2),
    "internvl2_5": PromptFormat(_SYSTEM_2_5, after="\n"),
    "phi3-chat": PromptFormat(_SYSTEM_2, opening="<|ROLE|>\n", end="<|end|>"),
}


def prompt_format(template: str) -> PromptFormat:
    """The format that a config's `template` names.

    Raises:
        UserError: an unknown one.
    """
    if template not in FORMATS:
        raise UserError(nearest("template", template, FORMATS))
    return FORMATS[template]
