"""What commands with a table can print."""

from enum import StrEnum


class Format(StrEnum):
    """The form of a table."""

    text = "text"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    json = "json"
