"""What commands with tables and figures can make."""

from enum import StrEnum


class Format(StrEnum):
    """The form of a table."""

    text = "text"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    json = "json"


class Paper(StrEnum):
    """The width of a figure for a paper in inches: of a column or of a page."""

    column = "3.3"
    page = "6.75"
