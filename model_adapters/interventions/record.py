"""What an intervention did in a run, for the run's record: sums only, on the tensors' own device."""

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from model_adapters.layout import Layout

_BINS = 100
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_KINDS = ("visual", "text", "generated")


class EditRecord:
    """Sums over the layers, docs and heads of a run.

    A row is one query of one head, layer and doc. It is edited if its weights were changed, skipped if it
    was to be but nearly all of its attention (1 - eta < 1e-6) lies on sinks. eta is the share of a row's
    attention that sinks had, before the edit. Nothing is read back from the device before `summary`.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._rows = dict.fromkeys(_KINDS, 0)
        self._docs = 0
        self._layer_docs = 0
        self._first_layer: int | None = None
        self._with_sinks: Tensor | None = None

    def add_docs(self, layer: int, sinks: Tensor, grounded: Tensor | None) -> None:
        """Enter a batch's prompt in one layer, the first changed layer of a batch first.

        Args:
            layer: from 0.
            sinks: bool (B, N), in this layer.
            grounded: bool (B, N), G; None for an intervention that does not ask.
        """
        found = sinks.any(dim=1)
        if self._first_layer in (None, layer):
            self._close_batch()
            self._first_layer = layer
            self._docs += len(found)
            if grounded is not None:
                self._add("docs_without_grounded", (~grounded.any(dim=1)).sum())
        self._layer_docs += len(found)
        self._add("layer_docs_without_sinks", (~found).sum())
        self._with_sinks = (
            found if self._with_sinks is None else self._with_sinks | found.to(self._with_sinks.device)
        )

    def add_prompt(
        self,
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
        self._rows["visual"] += heads * images
        self._rows["text"] += heads * (layout.length - layout.padding - images)
        for kind, rows in (("visual", visual), ("text", ~visual)):
            self._add(f"{kind}_edited", (edited & rows).sum())
            self._add(f"{kind}_skipped", (skipped & rows).sum())
        self._add("row_key_pairs", (opened * edited.any(dim=0)).sum())
        self._add_edited(eta, edited, nonzeros)

    def add_opened(self, image_key_pairs: Tensor) -> None:
        """Enter how many (image, key) pairs were opened in one doc and layer, int ()."""
        self._add("image_key_pairs", image_key_pairs)

    def add_generated(self, *, eta: Tensor, edited: Tensor, skipped: Tensor, nonzeros: Tensor) -> None:
        """Enter one generated token of each doc in one layer.

        Args:
            eta: float (B, H), used where a row is edited.
            edited: bool (B, H).
            skipped: bool (B, H).
            nonzeros: int (B, 1), non-zero weights of a row after the edit.
        """
        self._rows["generated"] += edited.numel()
        self._add("generated_edited", edited.sum())
        self._add("generated_skipped", skipped.sum())
        self._add_edited(eta, edited, nonzeros)

    def summary(self) -> dict[str, Any]:
        """The run's sums, JSON-able; a mean, a maximum or a quantile over no rows is None.

        - ``docs``; ``docs_without_sinks``: in no changed layer; ``docs_without_grounded``: G is empty, None
          if the intervention does not ask; ``layer_docs``, ``layer_docs_without_sinks``: (layer, doc) pairs.
        - ``visual_rows``, ``text_rows``, ``generated_rows``: ``all``, ``edited``, ``skipped``.
        - ``links_opened``: ``row_key_pairs``, distinct (query row, key) pairs of the rows that are edited in
          at least one head, and ``image_key_pairs``, distinct (image, key) pairs of the images with such a
          row; both summed over docs and layers, not over heads.
        - ``eta``: ``count``, ``mean``, ``histogram`` (100 equal bins over 0-1, the last with 1) and
          ``quantiles`` of it, linear within a bin; over all edited rows.
        - ``nonzeros_per_edited_row``: ``mean`` and ``max`` of the keys with a weight.
        """
        self._close_batch()
        sums = {name: total.tolist() for name, total in self._sums.items()}
        histogram = sums.get("histogram", [0] * _BINS)[:_BINS]
        count = sum(histogram)
        return {
            "docs": self._docs,
            "docs_without_sinks": sums.get("docs_without_sinks", 0),
            "docs_without_grounded": sums.get("docs_without_grounded"),
            "layer_docs": self._layer_docs,
            "layer_docs_without_sinks": sums.get("layer_docs_without_sinks", 0),
            **{
                f"{kind}_rows": {
                    "all": self._rows[kind],
                    "edited": sums.get(f"{kind}_edited", 0),
                    "skipped": sums.get(f"{kind}_skipped", 0),
                }
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

    def _add_edited(self, eta: Tensor, edited: Tensor, nonzeros: Tensor) -> None:
        bins = (eta * _BINS).long().clamp_(0, _BINS - 1).masked_fill_(~edited, _BINS).flatten()
        histogram = torch.zeros(_BINS + 1, dtype=torch.long, device=eta.device)
        self._add("histogram", histogram.scatter_add_(0, bins, torch.ones_like(bins)))
        self._add("eta", eta.double().masked_fill(~edited, 0.0).sum())
        counted = nonzeros * edited
        self._add("nonzeros", counted.sum())
        most = counted.max()
        held = self._sums.get("most_nonzeros", most)
        self._sums["most_nonzeros"] = torch.maximum(held, most.to(held.device))

    def _add(self, name: str, amount: Tensor) -> None:
        held = self._sums.get(name)
        self._sums[name] = amount if held is None else held + amount.to(held.device)

    def _close_batch(self) -> None:
        """Count the docs of the last batch that had sinks in no layer."""
        if self._with_sinks is not None:
            self._add("docs_without_sinks", (~self._with_sinks).sum())
            self._with_sinks = None


def _quantile(histogram: list[int], q: float) -> float | None:
    """Where a share q of the counts lies below, in 0-1; None without counts."""
    total = sum(histogram)
    below = 0
    for i, upto in enumerate(accumulate(histogram)):
        if upto > below and upto >= q * total:
            return (i + (q * total - below) / (upto - below)) / len(histogram)
        below = upto
    return None
