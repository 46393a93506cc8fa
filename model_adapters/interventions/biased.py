"""Methods that add a bias to the score of each pair of tokens, and normalise once (METHODS 5).

A bias is 0 (as before), log w (a weight on exp(score)) or -inf (blocked). Where the base model is plain
causal a subclass computes the rows that change by calls over segments of keys, whose log-sum-exps are merged;
within any other base mask scores are written out for a few hundred rows at a time. No N x N tensor is made.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from model_adapters.base_mask import ordinary_prefill
from model_adapters.interventions.base import Intervention, LayerView
from model_adapters.interventions.mass import Attended, accumulator, by_group, ordinary_with_lse

_SCORES_AT_ONCE = 2**22


class Edited(NamedTuple):
    """Some rows of one doc after the edit, in the chosen heads.

    Attributes:
        rows: int (R), tokens.
        out: (H, R, D), float32 or wider.
        lse: (H, R), log of what the softmax divides by.
        pairs: int (R), keys whose bias is not the base model's; a row with none stays as it is.
        before: (H, R), the base model's `lse`, or None where it was not computed.
    """

    rows: Tensor
    out: Tensor
    lse: Tensor
    pairs: Tensor
    before: Tensor | None = None


class Biased(Intervention):
    """What such methods share.

    Attributes:
        merges: whether `segments` starts from causal attention.
    """

    recorded = True
    merges: ClassVar[bool] = False
    _pairs: ClassVar[str]
    _mass: ClassVar[str]
    _deed: ClassVar[str]

    @abstractmethod
    def rows(self, view: LayerView, doc: int, device: torch.device) -> Tensor:
        """int (R): the tokens of a doc's prompt whose rows may change; rising."""

    @abstractmethod
    def bias(
        self, view: LayerView, doc: int, rows: Tensor, keys: Tensor, seen: Tensor, dtype: torch.dtype
    ) -> Tensor:
        """The bias of some rows.

        Args:
            view: the layer.
            doc: row of the batch.
            rows: int (R), tokens.
            keys: int (S), tokens.
            seen: bool (R, S), what the base model lets the rows see.
            dtype: of the bias.

        Returns:
            (R, S); -inf where a row does not see a key.
        """

    @abstractmethod
    def segments(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        view: LayerView,
        doc: int,
        *,
        plain: Attended | None,
        scale: float,
    ) -> Iterator[Edited]:
        """The rows of a doc that change, where the base model is plain causal.

        Args:
            query: (H, N, D), of the chosen heads.
            key: (KV, N, D), H a multiple of KV.
            value: (KV, N, D).
            view: the layer.
            doc: row of the batch.
            plain: causal attention of the doc, (H, N, D) and (H, N); None unless there is a record or the
                method `merges`.
            scale: factor on the scores.
        """

    def prefill(self, query: Tensor, key: Tensor, value: Tensor, view: LayerView, *, scale: float) -> Tensor:
        """See `Intervention.prefill`; other rows are those of `ordinary_prefill`, bit for bit."""
        heads = self.head_index(view.layer, query)
        none = heads is not None and not len(heads)
        docs = [] if none else [b for b in range(len(query)) if len(self.rows(view, b, query.device))]
        lse = None
        if view.record is not None:
            nothing = torch.zeros(len(query), dtype=torch.long, device=query.device)
            view.record.count("edited_rows", nothing)
        if docs and view.base is None and (self.merges or view.record is not None):
            plain, lse = ordinary_with_lse(query, key, value, view.layouts, None, scale=scale)
        else:
            plain = ordinary_prefill(query, key, value, view.layouts, view.base, scale=scale)
        out = plain.clone() if docs and plain.requires_grad else plain
        for b in docs:
            doc = of_heads(query[b], key[b], value[b], heads)
            if view.base is not None:
                edits = self._written_out(*doc, view, b, scale=scale)
            else:
                whole = None if lse is None else Attended(chosen(plain[b], heads), chosen(lse[b], heads))
                edits = self.segments(*doc, view, b, plain=whole, scale=scale)
            for edit in edits:
                self._write(out[b], edit, heads)
                if view.record is not None:
                    before = edit.before
                    if before is None and lse is not None:
                        before = chosen(lse[b], heads)[:, edit.rows]
                    self._enter(view, b, edit, before)
        return out

    def weights(
        self, query: Tensor, key: Tensor, view: LayerView, doc: int, rows: Tensor, *, scale: float
    ) -> Tensor:
        """See `Intervention.weights`."""
        layout, heads = view.layouts[doc], self.head_index(view.layer, query)
        keys = torch.arange(layout.padding, layout.end, device=query.device)
        seen = seen_by(view, doc, rows, keys)
        wide = accumulator(query.dtype)
        scores = by_group(query.to(wide), key[:, layout.tokens].to(wide).transpose(1, 2)).mul_(scale)
        biases = plain_bias(seen, wide)[None].expand(len(query), -1, -1)
        changed = self.bias(view, doc, rows, keys, seen, wide)
        if heads is None:
            biases = changed[None]
        else:
            biases = biases.clone()
            biases[heads] = changed
        weights = (scores + biases).softmax(dim=-1)
        return torch.nn.functional.pad(weights, (layout.padding, layout.right_padding))

    def describe(self, counts: Mapping[str, Any]) -> list[str]:
        """See `Intervention.describe`."""
        return edit_lines(self.name, self._deed, counts, pairs=self._pairs, mass=self._mass)

    def head_index(self, layer: int, query: Tensor) -> Tensor | None:
        """int: the heads that change in a layer; None: all of them."""
        if self.heads is None:
            return None
        return torch.tensor(self.heads.of_layer(layer), dtype=torch.long, device=query.device)

    def _written_out(
        self, query: Tensor, key: Tensor, value: Tensor, view: LayerView, doc: int, *, scale: float
    ) -> Iterator[Edited]:
        """As `segments`, within any base mask; a few hundred rows at a time."""
        layout, wide = view.layouts[doc], accumulator(query.dtype)
        keys = torch.arange(layout.padding, layout.end, device=query.device)
        turned, values = key[:, layout.tokens].to(wide).transpose(1, 2), value[:, layout.tokens].to(wide)
        at_once = max(1, _SCORES_AT_ONCE // (len(query) * len(keys)))
        for rows in torch.split(self.rows(view, doc, query.device), at_once):
            seen = seen_by(view, doc, rows, keys)
            bias, plain = self.bias(view, doc, rows, keys, seen, wide), plain_bias(seen, wide)
            scores = by_group(query[:, rows].to(wide), turned).mul_(scale)
            changed = scores + bias
            yield Edited(
                rows,
                by_group(changed.softmax(dim=-1), values),
                changed.logsumexp(dim=-1),
                (bias != plain).sum(dim=-1),
                None if view.record is None else (scores + plain).logsumexp(dim=-1),
            )

    def _write(self, out: Tensor, edit: Edited, heads: Tensor | None) -> None:
        """Write an edit to the output of its doc (H, N, D)."""
        at = (slice(None), edit.rows) if heads is None else (heads[:, None], edit.rows)
        out[at] = torch.where((edit.pairs > 0)[:, None], edit.out.to(out.dtype), out[at])

    def _enter(self, view: LayerView, doc: int, edit: Edited, before: Tensor | None) -> None:
        """Enter an edit in the record."""
        assert view.record is not None
        heads, edited = len(edit.out), edit.pairs > 0
        view.record.count_doc(doc, "edited_rows", heads * edited.sum())
        view.record.count_doc(doc, self._pairs, heads * edit.pairs.sum())
        if before is not None:
            moved = -torch.expm1(-(edit.lse.detach() - before).abs().double())
            view.record.count_doc(doc, self._mass, (moved * edited).sum())


def edit_lines(
    mask: str, deed: str, counts: Mapping[str, Any], *, pairs: str, mass: str | None = None
) -> list[str]:
    """What a mask did to pairs of rows and keys in a run, in a line; none if it changed nothing.

    Args:
        mask: its name.
        deed: ``blocked`` or ``opened``.
        counts: of the run, with ``edited_rows``.
        pairs: the name of their count.
        mass: the name of the sum of the attention that they have; None: not counted.
    """
    if not (rows := counts.get("edited_rows")):
        return []
    share = (
        "" if mass is None else f", with {counts.get(mass, 0.0) / rows:.1%} of a row's attention on average"
    )
    return [f"mask={mask} {deed} {counts[pairs]:,} keys in {rows:,} rows (of a token, head and layer){share}"]


def of_heads(
    query: Tensor, key: Tensor, value: Tensor, heads: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value (heads, N, D) of some heads of the query; of all where `heads` is None."""
    if heads is None:
        return query, key, value
    shared = heads // (len(query) // len(key))
    return query[heads], key[shared], value[shared]


def chosen(tensor: Tensor, heads: Tensor | None) -> Tensor:
    """Some of the heads of a tensor (H, ...); all where `heads` is None."""
    return tensor if heads is None else tensor[heads]


def seen_by(view: LayerView, doc: int, rows: Tensor, keys: Tensor) -> Tensor:
    """bool (R, S): what the base model lets rows see; True = may attend."""
    seen = view.seen(doc)
    return keys <= rows[:, None] if seen is None else seen(rows, keys)


def plain_bias(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """(R, S): 0 where a key is seen, else -inf."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))
