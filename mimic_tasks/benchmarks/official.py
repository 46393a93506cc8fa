"""The official scores, with their faults, so that they can be compared with published numbers.

Of lmms-eval 0.7.3's tasks unless another source is named. The tests compare with its functions on random
answers.
"""

import random
import re
from collections.abc import Sequence
from typing import Any

from mimic_tasks.benchmarks.spec import Row

_LEADING = re.compile(r"^\s*([A-Z])\.")
_MIRB_LETTERS = ("A", "B", "C", "D", "E")
_MMT_LETTERS = "ABCDEFGHI"
_LIBENCH_MARKS = (*';/[]"{}()=+\\_-><@`,?!',)


def _leading_letter(response: str) -> str:
    match = _LEADING.match(response)
    return match[1] if match else response


def muirbench(row: Row, response: str) -> float:
    """``B.`` at the start, or the whole answer, equals the truth."""
    return float(_leading_letter(response).lower().strip() == row["answer"].lower().strip())


def mirb(row: Row, response: str) -> float:
    """A letter exactly; else the truth is within the answer, or is one of its numbers."""
    truth = row["answers"]
    if truth in _MIRB_LETTERS:
        return float(_leading_letter(response) == truth)
    truths = [value for one in (truth if isinstance(truth, list) else [truth]) for value in _mirb_form(one)]
    values = {
        value
        for key in _mirb_keys(response)
        for one in (key, *_mirb_numbers(key))
        for value in _mirb_form(one)
    }
    return float(
        any(
            any(isinstance(want, str) and want in value for want in truths)
            if isinstance(value, str)
            else value in truths
            for value in values
        )
    )


def _mirb_form(text: str) -> list[Any]:
    text = text.strip()
    try:
        float(text.replace(",", ""))
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]
    return [round(float(text.replace(",", "")), 2)]


def _mirb_numbers(text: str) -> list[str]:
    return [
        *re.findall(r"-?\b\d{1,3}(?:,\d{3})+\b", text),
        *re.findall(r"-?\d+(?:\.\d+)?[eE][+-]?\d+", text),
        *re.findall(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])", text),
    ]


def _mirb_keys(response: str) -> list[str]:
    """The shortest end after a key word of each line; the whole answer if there is none."""
    text = response.strip().strip(".").lower()
    lines = re.split(r"\.\s(?=[A-Z])|\n", text)
    words = ["could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result "]
    keys = []
    for number, line in enumerate(lines):
        if number == len(lines) - 1:
            words.append("=")
        shortest = ""
        for end in (line.split(word)[-1].strip() for word in words if word in line):
            if not shortest or len(end) < len(shortest):
                shortest = end
        if shortest and shortest not in (":", ",", ".", "!", "?", ";", "'"):
            keys.append(shortest)
    return keys or [text]


def blink(row: Row, response: str) -> float:
    """A letter by four rules, one after the other."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    valid = letters[: len(row.get("choices") or [])] or letters
    return float(_blink_letter(response.strip(), valid) == row["answer"].strip("()"))


def _blink_letter(text: str, valid: str) -> str:
    first = text.split("\n", 1)[0].strip()
    short = re.match(rf"^\(?([{valid}])\)?[\.\s:,)]*$", first, re.IGNORECASE) if len(first) <= 4 else None
    if short:
        return short[1].upper()
    stated = rf"answers?(?:\s+is)?\s*[:\-]?\s*\(?([{valid}])\)?(?![A-Za-z])"
    for letters in (re.findall(stated, text, re.IGNORECASE), re.findall(rf"\(([{valid}])\)", text)):
        if letters:
            return str(letters[-1]).upper()
    leading = re.match(rf"[\(\s]*([{valid}])[\)\.\s]*", text, re.IGNORECASE)
    return leading[1].upper() if leading else ""


def mantis(row: Row, response: str) -> float:
    """The first letter of any word of the answer; without one, or beyond the options, the option's text."""
    answer, truth = response, row["answer"].strip("()\n ")
    for words in ("final answer:", "the answer is", "answer:"):
        if words in response.lower():
            answer = response[response.lower().index(words) + len(words) :].strip()
            break
    if row["question_type"] != "multi-choice":
        return float(truth.lower() == answer.lower())
    letter = truth if len(truth) == 1 else next((c for c in truth if c.isalpha()), truth)
    options = row["options"]
    chosen = (
        answer[8]
        if re.match(r"Answer: [A-Z]", answer)
        else next((c for c in answer if c.isalpha()), "").upper()
    )
    if chosen and ord(chosen[0]) - ord("A") < len(options):
        return float(chosen == letter.upper())
    index = ord(letter.upper()) - ord("A")
    if index >= len(options):
        return 0.0
    option = options[index]
    for start in (f"{letter}.", f"{letter}:", f"({letter})"):
        if option.startswith(start):
            option = option[len(start) :]
            break
    return float(response.strip() == option.strip())


def mmt(row: Row, response: str) -> float:
    """A letter in brackets, alone, or with a full stop; **without any, a letter at random**.

    Upstream draws it in the order of the docs; here it depends on the doc and the answer only.
    """
    valid = [letter for letter in _MMT_LETTERS if row.get(letter)]
    return float(mmt_letter(response, valid, seed=f"{row.get('index')}|{response}") == row["answer"].strip())


def mmt_letter(response: str, valid: Sequence[str], *, seed: str) -> str:
    """The letter that counts as the answer."""
    text = response.strip()
    for character in ",.!?;:'":
        text = text.strip(character)
    text = f" {text} "
    for form in ("({})", " {} ", "{}."):
        letters = [letter for letter in valid if form.format(letter) in text]
        if letters:
            return (
                max(letters, key=lambda letter: text.rfind(f" {letter} ")) if len(letters) > 1 else letters[0]
            )
    return random.Random(seed).choice(list(valid)) if valid else ""


def libench(row: Row, response: str) -> float:
    """Multiple choice: both sides reduced to a letter or a text. Open: ROUGE-L of 512 characters."""
    if row["question_type"] == "multi-choice":
        return float(_libench_form(row["answer"]) == _libench_form(response))
    return rouge_l(response[:512], row["answer"])


def _libench_form(text: str) -> str:
    option = re.match(r"^([A-E])\.\s*(.+)$", text.strip(), re.IGNORECASE)
    if option:
        return option[1].upper()
    text = text.replace("\n", " ").replace("\t", " ").strip()
    out = text
    commas = re.search(r"(\d)(\,)(\d)", text) is not None
    for mark in _LIBENCH_MARKS:
        spaced = f"{mark} " in text or f" {mark}" in text or commas
        out = out.replace(mark, "" if spaced else " ")
    out = re.sub(r"(?!<=\d)(\.)(?!\d)", "", out, count=int(re.UNICODE))
    out = out.strip("'").strip('"').strip(")").strip("(").strip().lower()
    letter = re.search(r"\b([A-E])\b", out, re.IGNORECASE)
    return letter[1].upper() if letter else out


def rouge_l(response: str, truth: str) -> float:
    """ROUGE-L as the package rouge 1.0.1 has it: sentences end at full stops, words count once.

    An answer or a truth without a sentence is 0; the package raises there.
    """
    sentences, references = (
        [" ".join(part.split()).split(" ") for part in text.split(".") if part] for text in (response, truth)
    )
    if not sentences or not references:
        return 0.0
    union: set[str] = set()
    for reference in references:
        for sentence in sentences:
            union |= set(_common(reference, sentence))
    recall = len(union) / len({word for part in references for word in part})
    precision = len(union) / len({word for part in sentences for word in part})
    return 2.0 * (precision * recall / (precision + recall + 1e-8))


def _common(a: Sequence[str], b: Sequence[str]) -> list[str]:
    """A longest common subsequence: of several, the one that ends earliest in `b`."""
    length = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            length[i][j] = length[i - 1][j - 1] + 1 if x == y else max(length[i - 1][j], length[i][j - 1])
    words, i, j = [], len(a), len(b)
    while i and j:
        if a[i - 1] == b[j - 1]:
            words.append(a[i - 1])
            i, j = i - 1, j - 1
        elif length[i - 1][j] > length[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return words


def mmiu(row: Row, response: str) -> float:
    """A letter alone is taken (MMIU's evaluate.py); it is right if it occurs in the truth.

    What is no letter goes to a judge there, which maps it to a letter; here it is wrong.
    """
    answer = response.strip()
    if not answer or answer in ("image none", "model error or image error", "image error", "model error"):
        return 0.0
    answer = re.sub(r"^[.,()]+|[.,()]+$", "", answer.replace("\u00a0", "").strip()).strip().lower()
    truth = row["output"]
    letter = len(answer) == 1 and answer in "abcdefghijklmn"
    return float(letter and truth is not None and answer in truth.strip().lower())


def mibench(row: Row, response: str) -> float:
    """The truth's text is within the answer, as in Migician's public evaluation of the set."""
    return float(row["answer"].strip().strip(".") in response)
