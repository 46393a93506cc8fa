"""Figures for a paper: as wide as a column or a page, without title and caption, one panel for each task."""

import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

FORMS = ("svg", "pdf")
"""The files of a figure."""

_SMALL = 4.0
"""Up to this width in inches there are two panels in a row, beyond it four."""

_LEGEND_LINE, _CHARACTER = 0.15, 0.056
"""Inches of a line and of a character of the legend."""

_STYLE = {
    "svg.fonttype": "none", "pdf.fonttype": 42, "text.parse_math": False, "font.size": 8.0,
    "axes.labelsize": 8.0, "axes.titlesize": 8.0, "xtick.labelsize": 7.0, "ytick.labelsize": 7.0,
    "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 2.5,
    "ytick.major.size": 2.5, "legend.fontsize": 7.0, "legend.frameon": False, "legend.title_fontsize": 7.0,
}  # fmt: skip


class Panel(NamedTuple):
    """One panel; `draw` takes matplotlib's axes and their width in inches, `look` is each label's style."""

    name: str
    draw: Callable[[Any, float], None]
    look: Mapping[str, Any]


def alike(panels: Sequence[Panel]) -> bool:
    """Whether one legend serves all panels: no label looks different in two of them."""
    looks: dict[str, Any] = {}
    return all(
        looks.setdefault(label, look) == look for panel in panels for label, look in panel.look.items()
    )


def render_paper(
    panels: Sequence[Panel], *, width: float, form: str, seed: str, legend: str = "", title: str = ""
) -> bytes:
    """The panels in one figure, with one legend below them. The same panels give the same bytes.

    Args:
        panels: drawn in this order; several ones have their name above.
        width: of the figure in inches.
        form: ``svg`` (text stays text) or ``pdf`` (fonts are embedded).
        seed: of the names inside an SVG.
        legend: its title.
        title: above a figure that is not for a paper.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    columns = min(len(panels), 2 if width < _SMALL else 4)
    rows = math.ceil(len(panels) / columns)
    inches = (width - 0.55) / columns - 0.12
    height = rows * (min(0.62 * width, 2.9) if columns == 1 else min(1.7, inches) + 0.35)
    with warnings.catch_warnings(), style.context(["default", {**_STYLE, "svg.hashsalt": seed}]):
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
        for panel, field in zip(panels, axes, strict=False):
            panel.draw(field, inches)
            if title or len(panels) > 1:
                field.set_title(title or panel.name, loc="left")
        for field in axes[len(panels) :]:
            field.remove()
        different = len({field.get_ylabel() for field in axes[: len(panels)]}) > 1
        for number, field in enumerate(axes[: len(panels)]):
            if number % columns:
                field.set_ylabel("")
            elif different:
                field.set_ylabel("score")
        entries = {label: handle for field in axes[: len(panels)] for handle, label in _entries(field)}
        if entries:
            longest = max(len(part) for label in entries for part in label.split("\n")) + 6
            across = max(1, min(len(entries), int(width / (longest * _CHARACTER))))
            lines = math.ceil(len(entries) / across) + bool(legend)
            figure.set_figheight(height + lines * _LEGEND_LINE + 0.1)
            figure.legend(
                entries.values(), entries.keys(), loc="outside lower center", ncols=across, handlelength=2.4,
                columnspacing=1.2, borderaxespad=0, title=legend or None,
            )  # fmt: skip
        out = io.BytesIO()
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None, "Producer": None, "Creator": None}}
        figure.savefig(out, format=form, metadata=metadata[form])
    return out.getvalue()


def _entries(field: Any) -> list[tuple[Any, str]]:
    return list(zip(*field.get_legend_handles_labels(), strict=True))
