"""Interventions that move attention between keys in rows of text only: `var` and `dab` (METHODS 5).

A few dozen rows of text over N keys are edited as weights, some rows at a time, in float32 or wider; rows of
images are never computed twice. Rows that are not edited are those of the base model, bit for bit.
"""

from abc import abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model_adapters.base_mask import cached, on_cache, ordinary_decode, ordinary_prefill
from model_adapters.interventions.base import Intervention, LayerView
from model_adapters.interventions.mass import accumulator, by_group, scores_in_chunks
from model_adapters.interventions.options import SINKS, TEXT_SINKS
from model_adapters.interventions.record import EditRecord
from model_adapters.interventions.weights import cached_weights, seen_keys
from model_adapters.layout import Layout

ROWS = ("after_last", "after_first")
"""Which text of the prompt: after the last image, or all after the first, text between images too."""


class KeyGroups(NamedTuple):
    """What the keys of B docs are.

    Attributes:
        images: the most images of a doc.
        image: int (B, S), the number of each key's image; -1 at text, generated tokens and padding.
        sinks: bool (B, S), visual sinks; None if the intervention asks for none.
        text_sinks: bool (B, S); None if the intervention asks for none.
    """

    images: int
    image: Tensor
    sinks: Tensor | None = None
    text_sinks: Tensor | None = None

    def of(self, doc: int, tokens: slice) -> "KeyGroups":
        """Of some keys of one doc, (1, S)."""
        sinks, text_sinks = (
            None if x is None else x[doc, None, tokens] for x in (self.sinks, self.text_sinks)
        )
        return KeyGroups(self.images, self.image[doc, None, tokens], sinks, text_sinks)


class Edited(NamedTuple):
    """Rows after the edit.

    Attributes:
        weights: (B, H, R, S), used where a row is edited.
        edited: bool (B, H, R).
        moved: (B, H, R), the attention that changed its key, used where a row is edited.
        skipped: bool (B, H, R), to be edited but with nothing to give the attention to; None: no such rows.
    """

    weights: Tensor
    edited: Tensor
    moved: Tensor
    skipped: Tensor | None = None


class TextRowEdit(Intervention):
    """An edit of the attention weights of text rows after images, and of generated rows.

    Args:
        rows: of `ROWS`.

    Raises:
        ValueError: other `rows`.
    """

    recorded = True

    def __init__(self, *, rows: str = "after_last") -> None:
        if rows not in ROWS:
            raise ValueError(f"`rows` must be one of {', '.join(ROWS)}, got '{rows}'")
        self.rows = rows

    @abstractmethod
    def edit(self, weights: Tensor, seen: Tensor, keys: KeyGroups) -> Edited:
        """The weights of rows after the edit.

        Args:
            weights: (B, H, R, S), float32 or wider; not to be changed in place.
            seen: bool (B, R, S), which keys the base model lets a row see.
            keys: of the S keys.
        """

    def counts(self, made: Edited) -> dict[str, Tensor]:
        """Further counts of edited rows for the record: by name, each (B,)."""
        return {}

    def describe(self, counts: Mapping[str, Any]) -> list[str]:
        """See `Intervention.describe`."""
        if "rows" not in counts:
            return []
        parts = [
            f"mask={self.name} edited {counts['edited_rows']:,} of {counts['rows']:,} rows of text (of a "
            "token, head and layer)"
        ]
        if "mean_moved_mass" in counts:
            parts[0] += f" and moved {counts['mean_moved_mass']:.2%} of a row's attention on average"
        if negative := counts.get("negative_weights"):
            rows = counts["rows_with_negative_weights"]
            parts.append(f"{negative:,} weights in {rows:,} rows became negative")
        if skipped := counts.get("skipped_rows"):
            parts.append(f"{skipped:,} rows attend to no visual token but sinks and stay as they are")
        return ["; ".join(parts)]

    def prefill(self, query: Tensor, key: Tensor, value: Tensor, view: LayerView, *, scale: float) -> Tensor:
        """See `Intervention.prefill`; rows that are not edited are those of `ordinary_prefill`, bit for bit.

        Raises:
            ValueError: no sinks in `view`, for an intervention that needs them.
        """
        groups = self._groups(view, query.device)
        out = ordinary_prefill(query, key, value, view.layouts, view.base, scale=scale)
        if out.requires_grad:  # a backward pass needs what attention returned
            out = out.clone()
        if view.record is not None:
            if groups.sinks is not None:
                view.record.add_layer(groups.sinks, None)
            for name in ("rows", "edited_rows"):  # of docs without rows too
                view.record.count(name, torch.zeros(len(query), dtype=torch.long, device=query.device))
        for b, (layout, rows) in enumerate(
            zip(view.layouts, _edited_rows(view.layouts, self.rows, query.device), strict=True)
        ):
            keys, wide_value = groups.of(b, layout.tokens), value[b, :, layout.tokens]
            wide_value = wide_value.to(accumulator(value.dtype))
            tokens = torch.arange(layout.padding, layout.end, device=query.device)
            heads = torch.zeros(query.shape[1], dtype=torch.bool, device=query.device)
            doc = (query[b][:, rows], key[b, :, layout.tokens])
            for chunk in scores_in_chunks(*doc, rows, tokens, scale=scale, seen=view.seen(b)):
                seen = chunk.scores[:1] > float("-inf")
                made = self.edit(chunk.scores.softmax(dim=-1)[None], seen, keys)
                attended = by_group(made.weights[0], wide_value).to(out.dtype)
                edited = made.edited[0, :, :, None]
                out[b, :, rows[chunk.rows]] = torch.where(edited, attended, out[b, :, rows[chunk.rows]])
                heads |= made.edited[0].any(dim=-1)
                if view.record is not None:
                    self._enter(view.record, made, doc=b)
            if view.record is not None and len(rows):
                view.record.count_doc(b, "heads", len(heads))
                view.record.count_doc(b, "edited_heads", heads.sum())
        return out

    def decode(self, query: Tensor, key: Tensor, value: Tensor, view: LayerView, *, scale: float) -> Tensor:
        """Edited too; see `Intervention.decode`."""
        plain = ordinary_decode(query, key, value, view.layouts, view.base, scale=scale)
        if not any(layout.images for layout in view.layouts):
            return plain
        weights, seen = cached_weights(query, key, view.layouts, view.base, scale=scale)
        groups = self._cached_groups(view, query.device, key.shape[2])
        made = self.edit(weights[:, :, None], seen[:, None], groups)
        grouped = made.weights.reshape(len(key), key.shape[1], -1, key.shape[2])
        attended = (grouped @ value.to(weights.dtype)).reshape(query.shape).to(query.dtype)
        if view.record is not None:
            self._enter(view.record, made, (groups.image >= 0).any(dim=1))
        return torch.where(made.edited[..., None], attended, plain)

    def weights(
        self, query: Tensor, key: Tensor, view: LayerView, doc: int, rows: Tensor, *, scale: float
    ) -> Tensor:
        """See `Intervention.weights`."""
        weights = super().weights(query, key, view, doc, rows, scale=scale)
        chosen = torch.isin(rows, _edited_rows(view.layouts, self.rows, rows.device)[doc]).nonzero()[:, 0]
        if len(chosen):
            keys, before = self._groups(view, query.device).of(doc, slice(None)), weights[:, chosen]
            made = self.edit(before[None], seen_keys(view, doc, rows[chosen])[None], keys)
            weights[:, chosen] = torch.where(made.edited[0][..., None], made.weights[0], before)
        return weights

    def generated_weights(
        self, query: Tensor, key: Tensor, view: LayerView, doc: int, *, scale: float
    ) -> Tensor:
        """See `Intervention.generated_weights`."""
        weights = super().generated_weights(query, key, view, doc, scale=scale)
        seen = cached(key[None].expand(len(view.layouts), -1, -1, -1), view.layouts, view.base)[doc]
        keys = self._cached_groups(view, query.device, key.shape[1]).of(doc, slice(None))
        made = self.edit(weights[None, :, None], seen[None, None], keys)
        return torch.where(made.edited[0], made.weights[0, :, 0], weights)

    def _groups(self, view: LayerView, device: torch.device) -> KeyGroups:
        """Of the prompt's keys."""
        given: list[Tensor | None] = []
        for need, name in ((SINKS, "sinks"), (TEXT_SINKS, "text_sinks")):
            tokens: Tensor | None = getattr(view, name) if need in self.needs else None
            if need in self.needs and tokens is None:
                raise ValueError(f"mask={self.name} needs `LayerView.{name}`, got None")
            given.append(None if tokens is None else tokens.to(device))
        most = max(len(layout.images) for layout in view.layouts)
        return KeyGroups(most, _image_numbers(view.layouts, device), *given)

    def _cached_groups(self, view: LayerView, device: torch.device, keys: int) -> KeyGroups:
        """Of the S keys of a cache."""
        dropped = 0 if view.base is None else view.base.key_offset
        groups = self._groups(view, device)
        more = dropped + keys - groups.image.shape[1]
        image = torch.nn.functional.pad(groups.image, (0, more), value=-1)[:, dropped:]
        return KeyGroups(
            groups.images,
            image,
            *(
                None if x is None else on_cache(x, keys, dropped=dropped, generated=False)
                for x in (groups.sinks, groups.text_sinks)
            ),
        )

    def _enter(
        self, record: EditRecord, made: Edited, with_images: Tensor | None = None, *, doc: int | None = None
    ) -> None:
        """Enter rows in the record: some rows of one doc's prompt, or a generated token of each doc.

        Args:
            record: the batch's.
            made: of `doc` alone, or of the batch.
            with_images: bool (B), the docs of the batch that may be edited.
            doc: row of the batch.
        """
        heads, rows = made.edited.shape[1:]
        all_rows = torch.full((len(made.edited),), heads * rows, device=made.edited.device)
        sums = {
            "rows": all_rows if with_images is None else all_rows * with_images,
            "edited_rows": made.edited.sum(dim=(1, 2)),
            "moved_mass": made.moved.double().masked_fill(~made.edited, 0.0).sum(dim=(1, 2)),
            **({} if made.skipped is None else {"skipped_rows": made.skipped.sum(dim=(1, 2))}),
            **self.counts(made),
        }
        for name, total in sums.items():
            if doc is None:
                record.count(name, total)
            else:
                record.count_doc(doc, name, total[0])
        if doc is None:
            record.count("generated_rows", sums["rows"])
            record.count("edited_generated_rows", sums["edited_rows"])


@lru_cache(maxsize=2)
def _image_numbers(layouts: tuple[Layout, ...], device: torch.device) -> Tensor:
    """int (B, N): `Layout.image_numbers` of each doc. Each layer and each generated token asks again."""
    with torch.inference_mode(False):
        return torch.stack([layout.image_numbers() for layout in layouts]).to(device)


@lru_cache(maxsize=2)
def _edited_rows(layouts: tuple[Layout, ...], rows: str, device: torch.device) -> tuple[Tensor, ...]:
    """int (R) of each doc: the rows of the prompt that may be edited; none without an image."""
    found = []
    with torch.inference_mode(False):
        for layout in layouts:
            tokens = torch.arange(layout.padding, layout.end)
            first, last = (
                (layout.images[0].end, layout.images[-1].end) if layout.images else 2 * (layout.end,)
            )
            after = tokens >= (last if rows == "after_last" else first)
            text = layout.image_numbers()[layout.tokens] < 0
            found.append(tokens[after & text].to(device))
    return tuple(found)
