"""The table of model types as text for a terminal and as the page `docs/families.md`."""

from collections.abc import Sequence
from importlib.metadata import version

from model_adapters.survey import WAYS, Line, counts

_INTRO = """# Model types

Every model type that transformers {version} registers for images and text, and whether the interventions
run on it. Nothing here is taken from a list: `mimic families` writes a tiny checkpoint of each type with
random weights, loads it as a user's, and compares the scores in float32 with those of transformers' own
attention, for `mask=none` and, with the mask written out, for `mask=block`, on two padded prompts with
two and three images. `mimic families --write docs/families.md` makes this page again; `mimic families
--type gemma3` tries one type.

A type is taken **by name** where a family says more of it than can be found out (where tiles lie in a
picture, what the vision tower gives apart from the decoder); **by `hf_mask`** where everything needed is
established from the processor and the model as they are loaded; **refused** where it is not, with the
reason; and **not tried** where no tiny checkpoint that runs could be made of its classes, which says
nothing of real ones: `hf_mask` establishes the same for a real checkpoint, or refuses it.
"""
_MASKS = """
*Base masks*: what each layer lets a token see before any intervention, with the number of layers of the
tiny checkpoint. Interventions compose with them: a key must be allowed by both. Layers without softmax
attention are never changed, and no intervention counts them. *Places*: image tokens lie on a grid over
the picture, so that `relevance=oracle` and `grounded_clip` can be used. *none*, *block*: the largest
difference of scores as a share of the largest score.
"""


def count_line(lines: Sequence[Line]) -> str:
    """How many types are taken in each way, in one line."""
    totals = counts(lines)
    return f"{len(lines)} model types: " + ", ".join(f"{totals[way]} {way}" for way in WAYS)


def text_line(line: Line) -> str:
    """One type, for a terminal."""
    if line.way in ("by name", "by hf_mask"):
        models = ", ".join(line.models)
        return f"{line.model_type:24} {models}: none {line.none:.0e}, block {line.block:.0e}"
    return f"{line.model_type:24} {line.way}: {line.reason}"


def page(lines: Sequence[Line]) -> str:
    """The page, in Markdown."""
    taken = [line for line in lines if line.way in ("by name", "by hf_mask")]
    parts = [_INTRO.format(version=version("transformers")), f"{count_line(lines)}.\n", "## Taken", _MASKS]
    parts.append("| model type | `--model` | base masks | places | none | block |\n|---|---|---|---|---|---|")
    for line in taken:
        models = ", ".join(f"`{name}`" for name in line.models)
        cells = (line.masks or "-", "yes" if line.places else "no", f"{line.none:.0e}", f"{line.block:.0e}")
        parts.append(f"| {line.model_type} | {models} | " + " | ".join(cells) + " |")
    for way in ("refused", "not tried"):
        parts += [f"\n## {way.capitalize()}\n", "| model type | reason |\n|---|---|"]
        parts += [f"| {own.model_type} | {_cell(own.reason)} |" for own in lines if own.way == way]
    return "\n".join(parts) + "\n"


def _cell(text: str) -> str:
    """Text that ends no cell of a table and is no HTML."""
    return text.replace("|", "\\|").replace("<", "&lt;")
