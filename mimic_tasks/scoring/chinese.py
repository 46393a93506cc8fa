"""Chinese (and Japanese) numbers, counters and names of images in plain English; all else stays."""

import re

_DIGITS = {c: i for i, c in enumerate("\u96f6\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b\u4e5d")} | {
    "\u3007": 0,
    "\u4e24": 2,
    "\u5169": 2,
}
_UNITS = {"\u5341": 10, "\u767e": 100}
_CHARS = "".join((*_DIGITS, *_UNITS))
_COUNTERS = (
    "\u53ea\u96bb\u4e2a\u500b\u6761\u689d\u5934\u982d\u5339\u8f86\u8f1b\u67b6\u8258\u53f0\u81fa\u628a\u5f20\u5f35"
    "\u672c\u74f6\u676f\u652f\u6839\u4ef6\u4f4d\u540d\u53cc\u96d9\u5757\u584a\u7247\u9897\u9846\u68f5\u6735\u682a"
    "\u4e32\u7897\u76d8\u76e4\u4eba\u982d\u7fbd\u3064\u8f2a"
)
_NUMBER = rf"(?:[0-9]+|[{_CHARS}]+)"
_PICTURE = r"(?:\u56fe\u7247|\u5716\u7247|\u56fe\u50cf|\u5716\u50cf|\u7167\u7247|\u56fe|\u5716|\u753b\u50cf)"
_IMAGE = re.compile(
    rf"\u7b2c(?P<n>{_NUMBER})(?:[\u5f20\u5f35\u5e45\u4e2a\u500b]{_PICTURE}?|{_PICTURE})(?:[\u4e2d\u91cc\u88e1\u4e0a])?"
    rf"|{_PICTURE}(?P<m>[0-9]+)"
)
_EACH = re.compile(rf"\u6bcf[\u5f20\u5f35\u5e45]?{_PICTURE}?")
_IMAGES = re.compile(rf"{_NUMBER}[\u5f20\u5f35\u5e45]{_PICTURE}?|{_PICTURE}")
_TOTAL = re.compile(
    r"(?:\u603b\u5171|\u7e3d\u5171|\u4e00\u5171|\u5171\u6709|\u5168\u90e8\u3067|\u5408\u8ba1|\u5408\u8a08|\u603b\u8ba1|\u7e3d\u8a08|\u603b\u6570"
    r"|\u7e3d\u6578|\u5408\u308f\u305b\u3066|\u5171)(?:\u662f|\u4e3a|\u70ba|\u6709|:)*"
)
_NONE = re.compile(r"\u6ca1\u6709|\u6c92\u6709|\u3044\u307e\u305b\u3093")
_OR = re.compile(r"\u6216\u8005|\u6216|\u5230|\u81f3")
_ANSWER = re.compile(r"\u7b54\u6848(?:\u662f|\u4e3a|\u70ba|:)*|\u7b54\u3048(?:\u306f|:)*")
_COUNTED = re.compile(rf"(?P<n>{_NUMBER})(?=[{_COUNTERS}])")
_ALONE = re.compile(rf"(?<![\u3400-\u9fff])[{_CHARS}]+(?![\u3400-\u9fff])")
_WIDE = "[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
_EDGE = re.compile(rf"(?<={_WIDE})(?=[A-Za-z0-9])|(?<=[A-Za-z0-9])(?={_WIDE})")
_ANY = re.compile(_WIDE)
_CHARACTERS = str.maketrans(
    {"\u3001": ", ", "\u3002": ". ", "\u300c": '"', "\u300d": '"', "\u300a": '"', "\u300b": '"'}
)


def in_english(text: str) -> str:
    """`text` with what a reader of counts and lists needs of its Chinese in English, the rest untouched.

    Numbers before a counter or alone (`\u4e09\u53ea` is 3), names of images, "in total", "none", "or"
    and "answer".
    """
    if not _ANY.search(text) and "\u3001" not in text:
        return text
    text = text.translate(_CHARACTERS)
    text = _IMAGE.sub(lambda match: f" image {value(match['n'] or match['m'])} ", text)
    text = _TOTAL.sub(" total: ", text)
    text = _EACH.sub(" each image ", text)
    text = _IMAGES.sub(" images ", text)
    text = _ANSWER.sub(" answer: ", _OR.sub(" or ", _NONE.sub(" none ", text)))
    text = _COUNTED.sub(lambda match: f" {value(match['n'])} ", text)
    text = _ALONE.sub(lambda match: str(value(match.group())), text)
    return _EDGE.sub(" ", text)


def value(number: str) -> str:
    """The digits of a Chinese number below 1000 (`\u5341\u4e8c` is 12); other numbers as they are."""
    if number.isascii() or len(number) > 5:
        return number
    total = current = 0
    for character in number:
        if character in _UNITS:
            total += max(current, 1) * _UNITS[character]
            current = 0
        else:
            current = current * 10 + _DIGITS[character]
    return str(total + current)
