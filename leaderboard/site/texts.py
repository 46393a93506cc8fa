"""Texts that others wrote, made fit for pages, tables and messages."""


def printable(text: str) -> str:
    """The text with U+FFFD instead of each character that cannot be printed."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
