"""Texts that others wrote, made fit for pages, tables and messages."""


def printable(text: str) -> str:
    """The text with a sign of its own, U+FFFD, in place of each that cannot be printed."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
