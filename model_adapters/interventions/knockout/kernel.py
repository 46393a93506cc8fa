"""Knockout: edges of attention between groups of tokens are blocked in some heads (METHODS 5).

A run of neighbouring tokens of one group loses the same keys. So its rows are one call over what is left of
the tokens before it and one causal call over itself, merged; no mask is made. A token always sees itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mimic_eval.records import UserError
from model_adapters.base_mask import cached, ordinary_decode
from model_adapters.heads import Heads
from model_adapters.interventions.base import LayerView
from model_adapters.interventions.biased import Biased, Edited, plain_bias
from model_adapters.interventions.knockout.edges import Edge
from model_adapters.interventions.knockout.groups import (
    ANSWER,
    Plan,
    Run,
    blocked_keys,
    labels_of,
    plan_of,
)
from model_adapters.interventions.mass import Attended, accumulator, attend_with_lse, by_group
from model_adapters.interventions.options import ROLES
from model_adapters.layout import Span
from model_adapters.segments import merge_with_lse

if TYPE_CHECKING:
    from model_adapters.relevance.query import Query


class Knockout(Biased):
    """`knockout`: the rows of an edge do not see its keys. A doc without images stays as it is.

    Args:
        edges: what is blocked.
        heads: where; None: in all heads.
    """

    name = "knockout"
    _pairs, _mass, _deed = "blocked_pairs", "removed_mass", "blocked"

    def __init__(self, edges: Sequence[Edge], *, heads: Heads | None = None) -> None:
        self.edges = tuple(edges)
        self.heads = heads
        self._needs_roles = any(edge.needs_roles for edge in self.edges)
        self.needs = frozenset({ROLES} if self._needs_roles else ())

    def settings(self) -> dict[str, Any]:
        """`edges`, and `heads` if not all."""
        edges = "+".join(map(str, self.edges))
        return {"edges": edges, **({} if self.heads is None else {"heads": str(self.heads)})}

    def prefill(self, query: Tensor, key: Tensor, value: Tensor, view: LayerView, *, scale: float) -> Tensor:
        """See `Intervention.prefill`."""
        if view.record is not None:
            for b in range(len(query)):
                present = self._plan(view, b).present(both_ways=view.base is not None)
                for edge, matched in zip(self.edges, present, strict=True):
                    view.record.mark_doc(b, f"docs_with {edge}", matched)
        return super().prefill(query, key, value, view, scale=scale)

    def describe(self, counts: Mapping[str, Any]) -> list[str]:
        """See `Intervention.describe`; names the edges that no doc has."""
        lines = super().describe(counts)
        missing = [str(edge) for edge in self.edges if counts.get(f"docs_with {edge}") == 0]
        if missing:
            lines.append(f"mask=knockout: no doc has tokens on both sides of {', '.join(missing)}")
        return lines

    def check_query(self, query: "Query", images: int) -> None:
        """See `Intervention.check_query`."""
        if images:
            target_images(query, images)

    def rows(self, view: LayerView, doc: int, device: torch.device) -> Tensor:
        """See `Biased.rows`."""
        plan, both_ways = self._plan(view, doc), view.base is not None
        runs = [run.span.indices(device) for run in plan.runs if plan.edits(run, both_ways=both_ways)]
        return torch.cat(runs) if runs else torch.empty(0, dtype=torch.long, device=device)

    def bias(
        self, view: LayerView, doc: int, rows: Tensor, keys: Tensor, seen: Tensor, dtype: torch.dtype
    ) -> Tensor:
        """See `Biased.bias`: -inf at the keys of an edge."""
        plan = self._plan(view, doc)
        labels = labels_of(view.layouts[doc], keys.device)
        hidden = blocked_keys(plan, labels[rows], labels[keys]) & (rows[:, None] != keys)
        return plain_bias(seen & ~hidden, dtype)

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
        """See `Biased.segments`: for each run a call over what is left before it, and one over itself."""
        for run in self._plan(view, doc).runs:
            if not run.edited:
                continue
            start, end = run.span
            rows = query[None, :, start:end]
            parts = [_itself(rows, key, value, run, scale=scale)]
            if run.seen:
                before = (_joined(x, run.seen) for x in (key, value))
                parts.append(attend_with_lse(rows, *before, scale=scale, causal=False))
            out, lse = merge_with_lse(parts, [0.0] * len(parts)) if len(parts) > 1 else parts[0]
            tokens = run.span.indices(query.device)
            yield Edited(tokens, out[0], lse[0], run.removed + (tokens - start if run.own else 0 * tokens))

    def decode(self, query: Tensor, key: Tensor, value: Tensor, view: LayerView, *, scale: float) -> Tensor:
        """See `Intervention.decode`; docs whose answer loses nothing are those of `ordinary_decode`."""
        plain = ordinary_decode(query, key, value, view.layouts, view.base, scale=scale)
        heads = self.head_index(view.layer, query)
        docs = [b for b in range(len(query)) if self._plan(view, b).edits_answer]
        if not docs or (heads is not None and not len(heads)):
            return plain
        out, seen = plain.clone(), cached(key, view.layouts, view.base)
        for b in docs:
            hidden = self._hidden(view, b, key.shape[2], key.device) & seen[b]
            scores = _scores(query[b], key[b], scale=scale).masked_fill_(~seen[b], float("-inf"))
            left = scores.masked_fill(hidden, float("-inf"))
            made = by_group(left.softmax(dim=-1)[:, None], value[b].to(left.dtype)).to(out.dtype)
            edited = hidden.any().expand(len(scores))
            if heads is not None:
                edited = torch.zeros_like(edited).index_fill_(0, heads, True) & edited
            out[b] = torch.where(edited[:, None, None], made, plain[b])
            if view.record is not None:
                removed = -torch.expm1((left.logsumexp(dim=-1) - scores.logsumexp(dim=-1)).double())
                view.record.count_doc(b, "edited_rows", edited.sum())
                view.record.count_doc(b, self._pairs, edited.sum() * hidden.sum())
                view.record.count_doc(b, self._mass, (removed * edited).sum())
        return out

    def generated_weights(
        self, query: Tensor, key: Tensor, view: LayerView, doc: int, *, scale: float
    ) -> Tensor:
        """See `Intervention.generated_weights`."""
        weights = super().generated_weights(query, key, view, doc, scale=scale)
        heads = self.head_index(view.layer, query)
        hidden = self._hidden(view, doc, key.shape[1], key.device)
        seen = cached(key[None].expand(len(view.layouts), -1, -1, -1), view.layouts, view.base)[doc]
        left = _scores(query, key, scale=scale).masked_fill_(~seen | hidden, float("-inf")).softmax(dim=-1)
        if heads is None:
            return left
        weights[heads] = left[heads]
        return weights

    def _hidden(self, view: LayerView, doc: int, keys: int, device: torch.device) -> Tensor:
        """bool (S): the keys of a doc's cache that its generated token loses."""
        plan, layout = self._plan(view, doc), view.layouts[doc]
        dropped = 0 if view.base is None else view.base.key_offset
        labels = labels_of(layout, device)
        grown = dropped + keys - layout.length
        labels = torch.nn.functional.pad(labels, (0, grown), value=ANSWER)[dropped:]
        hidden = blocked_keys(plan, torch.tensor([ANSWER], device=device), labels)[0]
        hidden[-1] = False  # itself
        return hidden

    def _plan(self, view: LayerView, doc: int) -> Plan:
        return plan_of(view.layouts[doc], self.edges, self._roles(view, doc))

    def _roles(self, view: LayerView, doc: int) -> tuple[bool, ...] | None:
        """Whether each image of a doc is a target; None if no edge asks.

        Raises:
            UserError: the doc has no boxes.
        """
        if not self._needs_roles or not view.layouts[doc].images:
            return None
        query = view.queries[doc] if view.queries else None
        return target_images(query, len(view.layouts[doc].images))


def target_images(query: "Query | None", images: int) -> tuple[bool, ...]:
    """Whether each image of a doc shows an object of a target class; the others are distractors (METHODS 1).

    Args:
        query: what the task knows of the doc.
        images: of the doc.

    Raises:
        UserError: the doc has no boxes, or those of another number of images.
    """
    if query is None or query.boxes is None:
        name = "the doc" if query is None else query.name
        raise UserError(
            f"mask=knockout: {name} has no columns 'boxes' and 'targets' of a MIMIC task, which say what "
            "image[target] and image[distractor] are: choose images by number, as image[2]"
        )
    if len(query.boxes) != images:
        raise UserError(f"mask=knockout: {query.name} has boxes for {len(query.boxes)} of {images} images")
    return tuple(any(box["target"] for box in boxes) for boxes in query.boxes)


def _itself(rows: Tensor, key: Tensor, value: Tensor, run: Run, *, scale: float) -> Attended:
    """The rows of a run over its own tokens: causal, or each over itself alone.

    Args:
        rows: (1, H, T, D).
        key: (KV, N, D).
        value: (KV, N, D).
        run: of T tokens.
        scale: factor on the scores.
    """
    keys, values = (x[None, :, run.span.start : run.span.end] for x in (key, value))
    if not run.own:
        return attend_with_lse(rows, keys, values, scale=scale, causal=True)
    groups = rows.shape[1] // keys.shape[1]
    keys, values = (x.repeat_interleave(groups, dim=1) for x in (keys, values))
    wide = accumulator(rows.dtype)
    return Attended(values, (rows.to(wide) * keys.to(wide)).sum(dim=-1) * scale)


def _joined(tensor: Tensor, spans: Sequence[Span]) -> Tensor:
    """(1, KV, S, D): some spans of (KV, N, D)."""
    parts = [tensor[None, :, span.start : span.end] for span in spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _scores(query: Tensor, key: Tensor, *, scale: float) -> Tensor:
    """(H, S): scaled scores of one row, query (H, 1, D), over key (KV, S, D), float32 or wider."""
    wide = accumulator(query.dtype)
    return by_group(query.to(wide), key.to(wide).transpose(1, 2))[:, 0] * scale
