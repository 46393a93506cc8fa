"""What of a response is the answer, in plain characters: no reasoning, tags, chat turns, Markdown or LaTeX.

Every step is linear in the length of the response.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from mimic_tasks.scoring.chinese import in_english

_REASONING = (
    "think|thinking|thought|thoughts|reason|reasoning|analysis|reflection|scratchpad|rationale|summary|caption|"
    "observation|plan|cot"
)
_ANSWER = "answer|final_answer|final|conclusion|result|output|response"
_REASONING_START = re.compile(
    rf"<(?:{_REASONING}|seed:think)>|\[(?:think|thinking)\]|\u25c1think\u25b7|<\|begin_of_thought\|>"
    r"|<\|channel\|>(?:analysis|commentary)\b",
    re.I,
)
_REASONING_END = re.compile(
    rf"</(?:{_REASONING}|seed:think)>|\[/(?:think|thinking)\]|\u25c1/think\u25b7|<\|end_of_thought\|>"
    r"|<\|channel\|>final<\|message\|>",
    re.I,
)
_ANSWER_START = re.compile(rf"<(?:{_ANSWER})>|<\|begin_of_(?:box|solution)\|>", re.I)
_ANSWER_END = re.compile(rf"</(?:{_ANSWER})>|<\|end_of_(?:box|solution)\|>", re.I)
_TURN_START = re.compile(
    r"\A\s*(?:(?:<s>|<bos>|<\|(?:im_start|start_header_id|start)\|>)\s*)*"
    r"(?:(?:assistant|model|gpt|ai)\s*(?::|\n|<\|(?:end_header_id|message)\|>)\s*|<\|(?:assistant|model)\|>\s*)?",
    re.I,
)
_TURN_END = re.compile(
    r"</s>|<eos>|<end_of_utterance>|<end_of_turn>|<\|(?:im_end|im_start|endoftext|eot_id|end|return|eom_id"
    r"|end[_\u2581]of[_\u2581]sentence|user|system|observation)\|>"
    r"|\n[ \t]*(?:user|human)[ \t]*:",
    re.I,
)
_MARKUP = re.compile(
    r"<(box|quad|img)>[^<]*</\1>|<\|(box|quad|point)_start\|>[^<]*<\|\2_end\|>"
    r"|</?(?:ref|box|points?|image|img)(?![a-z])[^<>]*>|<\|\w+\|>",
    re.I,
)
_QUESTION = re.compile(r"\A\W*(?:question|q)[ \t]*[0-9]{0,3}[ \t]*:", re.I)
_ITS_ANSWER = re.compile(r"(?<![^\W_])(?:answer|a)[ \t]*:", re.I)
_NEXT_QUESTION = re.compile(
    r"(?<![^\W_])Question ?[0-9]{0,3} ?:|(?:\A|\n)[ #*]*(?i:question|q) ?[0-9]{0,3} ?:"
)
_FENCE = re.compile(r"```[ \t]*[A-Za-z]*[ \t]*(?=\n|\Z)|```")
_LATEX_WORD = re.compile(r"\\(?:text|textbf|mathbf|mathrm|boxed|fbox|underline|emph)\s*\{([^{}\\]*)\}")
_LATEX_CHARACTERS = re.compile(r"\\[()\[\]$,!]|\$\$?(?=[^$\s])|(?<=[^$\s])\$")
_HTML = re.compile(r"</?(?:b|i|em|strong|p|u|code|span|ul|ol|div)[ \t]*/?>", re.I)
_HTML_LINE = re.compile(r"<(?:br|li)[ \t]*/?>|</li>", re.I)
_EMPHASIS = re.compile(r"\*\*|__|~~|`+|(?<![\w*])\*(?=\w)|(?<=[\w.)])\*(?![\w*])")
_HEADING = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|#{2,6}(?=[^\s#])|>[ \t]+(?![0-9]))", re.M)
_TABLE_RULE = re.compile(r"^[ \t]*\|?(?:[ \t]*:?-{2,}:?[ \t]*\|)+(?:[ \t]*:?-{2,}:?)?[ \t]*$", re.M)
_TABLE_EDGE = re.compile(r"^[ \t]*\|[ \t]*|[ \t]*\|[ \t]*$", re.M)
_DOTTED = re.compile(r"(?<![^\W_.])(?:[A-Za-z]\.){1,5}[A-Za-z](?![^\W_])\.?(?=[\s,;:!?)\"']|\Z)")
_ABBREVIATED = re.compile(r"(?<![^\W_])(vs|etc|approx|fig|figs)\.(?=\s*[^\s.])", re.I)
_QUOTES = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u02bc": "'", "\u201c": '"', "\u201d": '"', "\u00b4": "'", "\u00a0": " "}
)
_SPACES = re.compile(r"[^\S\n]+")
_LINE_ENDS = re.compile(r"(?: ?\n ?)+")
_UNSEEN = re.compile("[\u200b-\u200f\u2060\ufeff\ufe0e\ufe0f\u00ad]")
_BRACKETS = re.compile(r"[\[\]{}\"]|(?<![^\W_])'(?=[^\W_])|(?<=[^\W_])'(?![^\W_])")


def answer_text(response: str) -> str:
    """The answer in `response` as plain text, "" where there is none (reasoning that never ends).

    Reasoning (`<think>` and its like, closed or not) is dropped; of `<answer>` and `\\boxed{}` only the
    inside is read; a repeated question before the answer, all from a next `Question:` or turn on, and where
    in an image something is (`<box>`, `<point>`) is dropped; JSON becomes lines `key: value`; Markdown, LaTeX
    and HTML lose their marks; full-width characters, Chinese numbers, counters and names of images become
    plain English.
    """
    text = response.replace("\r\n", "\n").replace("\r", "\n")
    text = _inside_tags(_without_reasoning(text))
    text = unicodedata.normalize("NFKC", _UNSEEN.sub("", text)).translate(_QUOTES)
    text = _MARKUP.sub(" ", _this_turn(_LINE_ENDS.sub("\n", _SPACES.sub(" ", text))))
    text = _without_json(_boxed(text))
    return _plain(in_english(text)).strip()


def _without_reasoning(text: str) -> str:
    """What follows the last block of reasoning; what precedes the first, where nothing follows."""
    end = 0
    for match in _REASONING_END.finditer(text):
        end = match.end()
    start = _REASONING_START.search(text, end)
    answer = _ANSWER_START.search(text, start.end()) if start else None
    rest = text[answer.start() :] if answer else text[end : start.start() if start else len(text)]
    if rest.strip() or (start is None and not end):
        return rest
    first = _REASONING_START.search(text)
    return text[: first.start()] if first else rest


def _inside_tags(text: str) -> str:
    start = None
    for match in _ANSWER_START.finditer(text):
        start = match.end()
    if start is None:
        return _ANSWER_END.sub(" ", text)
    end = _ANSWER_END.search(text, start)
    return text[start : end.start() if end else len(text)]


def _this_turn(text: str) -> str:
    """Without the echoed question, the role's name, and everything after the end of the turn."""
    text = _TURN_START.sub("", text, count=1)
    end = _TURN_END.search(text)
    text = text[: end.start()] if end else text
    question = _QUESTION.match(text)
    if question:
        answer = _ITS_ANSWER.search(text, question.end())
        text = text[answer.end() :] if answer else ""
    following = _NEXT_QUESTION.search(text)
    return text[: following.start()] if following else text


def _boxed(text: str) -> str:
    """The inside of `\\boxed{}` where there is one; several are read in place of their commands."""
    starts = [match.end() for match in re.finditer(r"\\(?:boxed|fbox)\s*\{", text)]
    for _ in range(3):
        text_before, text = text, _LATEX_WORD.sub(r" \1 ", text) if len(starts) != 1 else text
        if text == text_before:
            break
    if len(starts) != 1:
        return text
    depth = 1
    for match in re.finditer(r"[{}]", text[starts[0] :]):
        depth += 1 if match.group() == "{" else -1
        if depth == 0:
            return _LATEX_WORD.sub(r" \1 ", text[starts[0] : starts[0] + match.start()])
    return _LATEX_WORD.sub(r" \1 ", text[starts[0] :])


def _without_json(text: str) -> str:
    """JSON that is all of the text or between fences becomes lines; fences are removed."""
    parts = _FENCE.split(text)
    return "\n".join(
        _lines_of_json(part) if i % 2 or len(parts) == 1 else part for i, part in enumerate(parts)
    )


def _lines_of_json(text: str) -> str:
    if text.strip()[:1] not in ("{", "["):
        return text
    try:
        return "\n".join(_rendered(json.loads(text)))
    except (ValueError, RecursionError):
        return text


def _rendered(value: Any) -> Iterator[str]:
    """Lines that say what JSON says; yes and no become the name and its denial, coordinates nothing."""
    if isinstance(value, dict):
        for key, inside in value.items():
            name = str(key).replace("_", " ")
            if isinstance(inside, bool):
                yield name if inside else f"no {name}"
            elif isinstance(inside, dict):
                yield from _rendered(inside)
            else:
                lines = list(_rendered(inside))
                if lines:
                    yield f"{name}: {', '.join(lines)}"
    elif isinstance(value, list):
        if value and all(isinstance(item, int | float) for item in value) and len(value) > 1:
            return
        for item in value:
            yield from _rendered(item)
    elif value is not None:
        yield str(value)


def _plain(text: str) -> str:
    text = _HTML_LINE.sub("\n", _HTML.sub("", text))
    text = _LATEX_CHARACTERS.sub(" ", _HEADING.sub("", _EMPHASIS.sub("", text)))
    text = _TABLE_EDGE.sub("", _TABLE_RULE.sub("", text))
    text = _DOTTED.sub(lambda match: match.group().replace(".", ""), text)
    return _BRACKETS.sub(" ", _ABBREVIATED.sub(r"\1", text))
