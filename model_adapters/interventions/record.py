"""What an intervention did, doc by doc, for the run's record: sums only, on the tensors' own device.

A batch's `EditRecord` gives the sums of each row as plain numbers, `merge_rows` those of a doc. They stay
with the doc's answer, so that they outlive a killed run and come together from several processes;
`summarize_edits` makes a record of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from model_adapters.layout import Layout

DocSums = dict[str, Any]
"""The sums of one doc: name -> number, and ``histogram``, a list. JSON-able."""

_BINS, _LEAST = 460, -46  # of eta, from log10 eta = _LEAST to 0; float32's smallest number is 1.4e-45
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_KINDS = ("visual", "text", "generated")
_COUNT = "count:"
_LARGEST = ("most_nonzeros", f"{_COUNT}most_")


class EditRecord:
    """Sums over the layers and heads of each doc of a batch.

    A row is one query of one head, layer and doc. It is edited if its weights were changed, skipped if it
    was to be but nearly all of its attention (1 - eta < 1e-6) lies on sinks. eta is the share of a row's
    attention that sinks had, before the edit. Nothing is read back from the device before `docs`.

    Args:
        docs: B.
    """

    def __init__(self, docs: int) -> None:
        self._size = docs
        self._sums: dict[str, Tensor] = {}
        self._with_sinks: Tensor | None = None

    def count(self, name: str, sums: Tensor) -> None:
        """Add to a count or sum of each doc; a run's record holds it, over all docs, in ``counts``.

        Args:
            name: free. ``edited_rows`` says whether a doc was changed at all; of ``most_...`` the largest
                value is held instead of the sum.
            sums: (B,), int or float, of one layer or one generated token.
        """
        self._add(_COUNT + name, sums.detach())

    def count_doc(self, doc: int, name: str, total: Tensor | float) -> None:
        """As `count`, of one doc alone.

        Args:
            doc: its row in the batch.
            name: as of `count`.
            total: ().
        """
        self.count(name, self._at(doc, torch.as_tensor(total)))

    def mark_doc(self, doc: int, name: str, value: bool) -> None:
        """Note a fact of one doc, once however many layers say so; `counts` hold in how many docs it holds.

        Args:
            doc: its row in the batch.
            name: free.
            value: the fact.
        """
        held = self._sums.setdefault(_COUNT + name, torch.zeros(self._size, dtype=torch.long))
        held[doc] = int(value)

    def add_layer(self, sinks: Tensor, grounded: Tensor | None) -> None:
        """Enter one layer of the batch's prompt.

        Args:
            sinks: bool (B, N), in this layer.
            grounded: bool (B, N), G; None for an intervention that does not ask.
        """
        has_sinks = sinks.any(dim=1)
        if grounded is not None:
            self._sums["docs_without_grounded"] = (~grounded.any(dim=1)).long()
        self._add("layer_docs", torch.ones_like(has_sinks, dtype=torch.long))
        self._add("layer_docs_without_sinks", (~has_sinks).long())
        self._with_sinks = has_sinks if self._with_sinks is None else self._with_sinks | has_sinks

    def add_prompt(
        self,
        doc: int,
        layout: Layout,
        visual: Tensor,
        *,
        eta: Tensor,
        edited: Tensor,
        skipped: Tensor,
        nonzeros: Tensor,
        opened: Tensor,
    ) -> None:
        """Enter the prompt's rows of one doc in one layer.

        Args:
            doc: its row in the batch.
            layout: of length N.
            visual: bool (N), the images' rows.
            eta: float (H, N), used where a row is edited.
            edited: bool (H, N), never at padding.
            skipped: bool (H, N), never at padding.
            nonzeros: int (N), non-zero weights of a row after the edit, used where it is edited.
            opened: int (N), keys behind the row that were opened to it.
        """
        heads = edited.shape[0]
        images = sum(span.length for span in layout.images)
        totals = {"visual_all": images, "text_all": layout.end - layout.padding - images}
        for name, rows in totals.items():
            self._add(name, self._at(doc, torch.tensor(heads * rows, device=edited.device)))
        for kind, rows_of_kind in (("visual", visual), ("text", ~visual)):
            self._add(f"{kind}_edited", self._at(doc, (edited & rows_of_kind).sum()))
            self._add(f"{kind}_skipped", self._at(doc, (skipped & rows_of_kind).sum()))
        self._add("row_key_pairs", self._at(doc, (opened * edited.any(dim=0)).sum()))
        sums = _sums_of_edited(eta[None], edited[None], nonzeros[None, None])
        self._add_all({name: self._at(doc, total[0]) for name, total in sums.items()})

    def add_opened(self, doc: int, image_key_pairs: Tensor) -> None:
        """Enter how many (image, key) pairs were opened in one doc and layer, int ()."""
        self._add("image_key_pairs", self._at(doc, image_key_pairs))

    def add_generated(self, *, eta: Tensor, edited: Tensor, skipped: Tensor, nonzeros: Tensor) -> None:
        """Enter one generated token of each doc in one layer.

        Args:
            eta: float (B, H), used where a row is edited.
            edited: bool (B, H).
            skipped: bool (B, H).
            nonzeros: int (B, 1), non-zero weights of a row after the edit.
        """
        self._add("generated_all", torch.ones_like(edited, dtype=torch.long).sum(dim=1))
        self._add("generated_edited", edited.sum(dim=1))
        self._add("generated_skipped", skipped.sum(dim=1))
        self._add_all(_sums_of_edited(eta, edited, nonzeros))

    def docs(self) -> list[DocSums]:
        """The sums of each doc, B of them; empty for an intervention that entered nothing."""
        if not self._sums:
            return [{} for _ in range(self._size)]
        if self._with_sinks is not None:
            self._sums["docs_without_sinks"] = (~self._with_sinks).long()
        rows = {name: total.tolist() for name, total in self._sums.items()}
        docs = [{name: row[b] for name, row in rows.items()} for b in range(self._size)]
        for sums in docs:
            edited = (sums.get(f"{kind}_edited") for kind in _KINDS)
            sums["docs_unchanged"] = int(not (any(edited) or sums.get(f"{_COUNT}edited_rows")))
        return docs

    def _at(self, doc: int, total: Tensor) -> Tensor:
        """(B, ...): a total at its doc, zero elsewhere."""
        out = total.new_zeros(self._size, *total.shape)
        out[doc] = total
        return out

    def _add_all(self, sums: Mapping[str, Tensor]) -> None:
        for name, total in sums.items():
            self._add(name, total)

    def _add(self, name: str, total: Tensor) -> None:
        held = self._sums.get(name)
        if held is None:
            self._sums[name] = total
        else:
            total = total.to(held.device)
            self._sums[name] = torch.maximum(held, total) if name.startswith(_LARGEST) else held + total


def _sums_of_edited(eta: Tensor, edited: Tensor, nonzeros: Tensor) -> dict[str, Tensor]:
    """Sums over the edited rows of each doc: `eta`, `edited` (B, ...), `nonzeros` broadcasts to them."""
    scaled = (eta.double().clamp(min=10.0**_LEAST).log10() - _LEAST) * (_BINS / -_LEAST)
    bins = scaled.long().clamp_(0, _BINS - 1).masked_fill_(~edited, _BINS).flatten(1)
    histogram = torch.zeros(len(eta), _BINS + 1, dtype=torch.long, device=eta.device)
    counted = (nonzeros * edited).flatten(1)
    return {
        "histogram": histogram.scatter_add_(1, bins, torch.ones_like(bins))[:, :_BINS],
        "eta": eta.double().masked_fill(~edited, 0.0).flatten(1).sum(dim=1),
        "nonzeros": counted.sum(dim=1),
        "most_nonzeros": counted.amax(dim=1),
    }


def _merged(docs: Iterable[Mapping[str, Any]]) -> DocSums:
    """The sums of several docs; ``docs`` says how many."""
    total: DocSums = {"docs": 0}
    for sums in docs:
        total["docs"] += 1
        for name, value in sums.items():
            held = total.get(name)
            if held is None:
                total[name] = value
            elif isinstance(value, list):
                total[name] = [a + b for a, b in zip(held, value, strict=True)]
            else:
                total[name] = max(held, value) if name.startswith(_LARGEST) else held + value
    return total


def merge_rows(rows: Sequence[Mapping[str, Any]]) -> DocSums:
    """The sums of a doc that was answered in several rows; of one row as they are.

    A name that starts with ``docs_`` counts the doc itself: it holds if it does for all rows.

    Args:
        rows: numbers and lists by name, at least one row.
    """
    if len(rows) == 1:
        return dict(rows[0])
    total = _merged(rows)
    del total["docs"]
    for name in total:
        if name.startswith("docs_"):
            total[name] = min(row.get(name, 0) for row in rows)
    return total


def summarize_edits(docs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A run's record of edits, JSON-able; a mean, a maximum or a quantile over no rows is None.

    - ``docs``; ``docs_unchanged``: no row was edited; ``counts``: what `EditRecord.count` was given, if
      anything, and ``mean_moved_mass``, ``moved_mass`` of an edited row, where they are counted. An
      intervention that only counts has nothing beside these and what it entered of sinks.
    - ``docs_without_sinks``: in no changed layer;
      ``docs_without_grounded``: G is empty, None if the intervention does not ask; ``layer_docs``,
      ``layer_docs_without_sinks``: (layer, doc) pairs.
    - ``visual_rows``, ``text_rows``, ``generated_rows``: ``all``, ``edited``, ``skipped``; generated rows are
      counted for interventions that can edit them.
    - ``links_opened``: ``row_key_pairs``, distinct (query row, key) pairs of the rows that are edited in at
      least one head, and ``image_key_pairs``, distinct (image, key) pairs of the images with such a row; both
      summed over docs and layers, not over heads.
    - ``eta``: ``count``, ``mean``, ``histogram`` (460 bins, equal in log10 eta from -46 to 0, so that
      float32's smallest number has its own) and ``quantiles`` of it, log-linear within a bin; over all
      edited rows.
    - ``nonzeros_per_edited_row``: ``mean`` and ``max`` of the keys with a weight.

    Args:
        docs: the sums of each doc, from `EditRecord.docs`.
    """
    sums = _merged(docs)
    counts = {name.removeprefix(_COUNT): sums[name] for name in sums if name.startswith(_COUNT)}
    general = {"docs": sums["docs"], "docs_unchanged": sums.get("docs_unchanged", 0)}
    if counts:
        general["counts"] = counts
        if counts.get("edited_rows") and "moved_mass" in counts:
            counts["mean_moved_mass"] = counts["moved_mass"] / counts["edited_rows"]
        if "text_all" not in sums:
            sinks = ("docs_without_sinks", "layer_docs", "layer_docs_without_sinks")
            return {**general, **{name: sums[name] for name in sinks if name in sums}}
    histogram = sums.get("histogram", [0] * _BINS)
    count = sum(histogram)
    return {
        **general,
        "docs_without_sinks": sums.get("docs_without_sinks", 0),
        "docs_without_grounded": sums.get("docs_without_grounded"),
        "layer_docs": sums.get("layer_docs", 0),
        "layer_docs_without_sinks": sums.get("layer_docs_without_sinks", 0),
        **{
            f"{kind}_rows": {part: sums.get(f"{kind}_{part}", 0) for part in ("all", "edited", "skipped")}
            for kind in _KINDS
        },
        "links_opened": {name: sums.get(name, 0) for name in ("row_key_pairs", "image_key_pairs")},
        "eta": {
            "count": count,
            "mean": sums["eta"] / count if count else None,
            "quantiles": {str(q): _quantile(histogram, q) for q in _QUANTILES},
            "histogram": histogram,
        },
        "nonzeros_per_edited_row": {
            "mean": sums["nonzeros"] / count if count else None,
            "max": sums["most_nonzeros"] if count else None,
        },
    }


def _quantile(histogram: list[int], q: float) -> float | None:
    """Where a share q of the counts lies below, in 0-1; None without counts."""
    total = sum(histogram)
    below = 0
    for i, upto in enumerate(accumulate(histogram)):
        if upto > below and upto >= q * total:
            position = (i + (q * total - below) / (upto - below)) / len(histogram)
            return float(10.0 ** (_LEAST * (1 - position)))
        below = upto
    return None
