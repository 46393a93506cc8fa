"""Published numbers, shown beside ours and never ranked with them (METHODS 2.2)."""

from typing import NamedTuple


class Reported(NamedTuple):
    """A row as its paper prints it, in percent, by the official scoring, or None if it prints nothing."""

    model: str
    setting: str
    common: float | None
    counting: float | None
    oddone: float | None
    listing: float | None
    average: float
    note: str = ""


SOURCE = "arXiv 2601.07812, official scoring of the official data"

ROWS = (
    Reported("LLaVA-OV-0.5B", "base", 44.7, 29.7, 8.3, 22.8, 26.4),
    Reported("LLaVA-OV-0.5B", "full fine-tune", 68.5, 37.8, 41.0, 34.5, 45.5),
    Reported("LLaVA-OV-0.5B", "block-masked LoRA", 68.9, 35.8, 50.9, 42.0, 49.4),
    Reported("LLaVA-OV-7B", "base", 71.5, 29.7, 58.1, 56.6, 54.0),
    Reported("LLaVA-OV-7B", "block-masked", 75.5, 51.2, 72.1, 55.0, 63.8, "the four average 63.5"),
    Reported("LLaVA-OV-0.5B", "mask depth: none", None, None, None, None, 46.1),
    Reported("LLaVA-OV-0.5B", "mask depth: layers 0-23", None, None, None, None, 37.7),
    Reported("LLaVA-OV-0.5B", "mask depth: layers 0-11", None, None, None, None, 38.1),
    Reported("LLaVA-OV-0.5B", "mask depth: layers 12-23", None, None, None, None, 49.4),
)
