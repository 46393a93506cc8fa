"""`var` and `dab` over the docs of `remasking`, and the materialised answer to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from model_adapters.interventions.base import LayerView
from model_adapters.interventions.dab.kernel import AttentionBalancing
from model_adapters.interventions.dab.reference import balanced_weights
from model_adapters.interventions.record import EditRecord
from model_adapters.interventions.reference import causal_mask, weighted
from model_adapters.interventions.text_rows import TextRowEdit
from model_adapters.interventions.var.kernel import AttentionRedistribution
from model_adapters.interventions.var.reference import redistributed_weights
from tests.oracles.remasking import SCALE, Doc, view_of


@dataclass(frozen=True)
class DocWithText(Doc):
    """A doc whose text sinks are given."""

    text: Tensor


@dataclass(frozen=True)
class Case:
    """A mask with its arguments."""

    mask: str
    arguments: dict[str, Any]

    def built(self) -> TextRowEdit:
        """The kernel."""
        if self.mask == "var":
            return AttentionRedistribution(**self.arguments)
        return AttentionBalancing(**self.arguments)

    def weights(self, alpha: Tensor, doc: Doc, seen: Tensor) -> Tensor:
        """alpha' (H, N, N) by the readable definition."""
        if self.mask == "var":
            return redistributed_weights(alpha, doc.layout, doc.sinks, text_sinks_of(doc), **self.arguments)
        renamed = {{"alpha": "strength"}.get(key, key): value for key, value in self.arguments.items()}
        return balanced_weights(alpha, doc.layout, seen, **renamed)


CASES: dict[str, Case] = {
    "var": Case("var", {}),
    "var_after_first": Case("var", {"rows": "after_first"}),
    "var_all_heads": Case("var", {"heads": "all", "p": 0.0}),
    "var_all_heads_after_first": Case("var", {"heads": "all", "rows": "after_first", "p": 0.25}),
    "var_few_rows": Case("var", {"rho": 0.2, "min_visual_share": 0.55, "rows": "after_first"}),
    "dab": Case("dab", {}),
    "dab_most_rows": Case("dab", {"alpha": 1.0, "min_visual_share": 0.0}),
    "dab_few_rows": Case("dab", {"alpha": 0.7, "min_visual_share": 0.6}),
}


def text_sinks_of(doc: Doc) -> Tensor:
    """bool (N): the given ones, or the first token and every fifth place that is text."""
    if isinstance(doc, DocWithText):
        return doc.text
    places = torch.arange(doc.layout.length)
    chosen = (places == doc.layout.padding) | (places % 5 == 0)
    return chosen & ~doc.visual & doc.layout.is_token(torch.device("cpu"))


def view_with_text(docs: Sequence[Doc], *, record: EditRecord | None = None, base: Any = None) -> LayerView:
    """`view_of` with text sinks."""
    plain, text = view_of(docs), torch.stack([text_sinks_of(doc) for doc in docs])
    return LayerView(plain.layouts, 0, plain.sinks, None, record, base, (), text)


def alpha_of(query: Tensor, key: Tensor, seen: Tensor) -> Tensor:
    """(H, N, N): weights by a base mask, bool (N, N); zero in padding's rows."""
    scores = query @ key.repeat_interleave(len(query) // len(key), dim=0).transpose(1, 2) * SCALE
    return scores.masked_fill(~seen.to(query.device), float("-inf")).softmax(dim=-1).nan_to_num()


def answer(
    case: Case,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    docs: Sequence[Doc],
    seen: Sequence[Tensor] | None = None,
) -> Tensor:
    """(B, H, N, D), in the inputs' precision; `seen` are the base masks, causal if None."""
    rows = []
    for b, doc in enumerate(docs):
        mask = causal_mask(doc.layout) if seen is None else seen[b]
        alpha = alpha_of(query[b], key[b], mask)
        rows.append(weighted(case.weights(alpha, doc, mask), value[b]))
    return torch.stack(rows)
