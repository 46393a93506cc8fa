"""What the engine asks of an intervention, and what it shows it of a layer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from model_adapters import varlen
from model_adapters.base_mask import BaseMask, Seen, ordinary_decode
from model_adapters.heads import Heads
from model_adapters.layout import Layout
from model_adapters.passes import Passes

if TYPE_CHECKING:
    from model_adapters.interventions.record import EditRecord
    from model_adapters.relevance.query import Query


class Relevance(NamedTuple):
    """Which visual tokens of a batch are grounded, and how relevant they are to the question (METHODS 7).

    Attributes:
        grounded: bool (B, N), True = in G; never at text, padding, or a token that is not of a picture.
        score: float (B, N), c; what stands outside of G is not used.
    """

    grounded: Tensor
    score: Tensor


@dataclass(frozen=True)
class LayerView:
    """What an intervention sees of a layer beside q, k and v.

    Attributes:
        layouts: B layouts of length N, the prompt's.
        layer: from 0.
        sinks: bool (B, N), the visual tokens that are sinks in this layer (METHODS 6); None if the
            intervention asks for none.
        relevance: of the prompt's visual tokens; None if the intervention asks for none.
        record: the batch's, where the intervention enters what it did, or None.
        base: the base model's mask, which an intervention composes with; None if it is plain causal.
        queries: what the task knows of each row's doc (its boxes, targets), None where it knows nothing;
            empty if the intervention asks for none.
        text_sinks: bool (B, N), the text tokens that are sinks in this layer; None if the intervention asks
            for none.
        delimiters: bool (B, N), the tokens that mark where an image starts and ends; None if the intervention
            asks for none.
    """

    layouts: tuple[Layout, ...]
    layer: int = 0
    sinks: Tensor | None = None
    relevance: Relevance | None = None
    record: "EditRecord | None" = None
    base: BaseMask | None = None
    queries: "tuple[Query | None, ...]" = ()
    text_sinks: Tensor | None = None
    delimiters: Tensor | None = None

    def seen(self, doc: int) -> Seen | None:
        """Which keys the base model lets the rows of a doc see; None if the mask is plain causal."""
        return None if self.base is None else self.base.seen(doc)


class Intervention(ABC):
    """A change of the decoder's attention in some layers. It knows nothing of families.

    Attributes:
        name: its value of ``mask=``.
        needs: what the engine must be given for it: of `options.SINKS`, `TEXT_SINKS`, `RELEVANCE`, `ROLES`,
            `DELIMITERS`.
        recorded: whether it enters what it did in an `EditRecord`.
        heads: those that it changes, if the user named some; None: all, or those that the method chooses.
        passes: how many rows answer a doc: one, unless it is a method of several passes.
    """

    name: str
    needs: frozenset[str] = frozenset()
    recorded: bool = False
    heads: Heads | None = None
    passes: Passes = Passes()

    def check_decoder(self, *, layers: frozenset[int], depth: int, heads: int) -> None:
        """Refuse a decoder that does not have what the settings name.

        Args:
            layers: the changed ones.
            depth: layers of the decoder.
            heads: query heads of a layer.

        Raises:
            UserError: a head or layer that is not there.
        """
        if self.heads is not None:
            self.heads.check(layers=layers, depth=depth, heads=heads)

    def check_query(self, query: "Query", images: int) -> None:
        """Refuse a doc that does not have what the settings name, before any of its batch runs.

        Args:
            query: what the task knows of the doc; asked where `needs` has `options.ROLES`.
            images: that the prompt shows.

        Raises:
            UserError: it lacks a column.
        """
        return

    @abstractmethod
    def prefill(self, query: Tensor, key: Tensor, value: Tensor, view: LayerView, *, scale: float) -> Tensor:
        """Attention of the prompt in a changed layer.

        Args:
            query: (B, H, N, D), after RoPE.
            key: (B, KV, N, D), after RoPE.
            value: (B, KV, N, D).
            view: the layer.
            scale: factor on the scores.

        Returns:
            (B, H, N, D); what stands at padding is not used.
        """

    def decode(self, query: Tensor, key: Tensor, value: Tensor, view: LayerView, *, scale: float) -> Tensor:
        """Attention of one generated token in a changed layer; ordinary unless an intervention says more.

        Args:
            query: (B, H, 1, D).
            key: (B, KV, S, D), the cache, S > N.
            value: (B, KV, S, D).
            view: the layer as the prompt left it.
            scale: factor on the scores.

        Returns:
            (B, H, 1, D).
        """
        return ordinary_decode(query, key, value, view.layouts, view.base, scale=scale)

    def after_layer(self, hidden: Tensor, view: LayerView) -> Tensor:
        """The output of a changed layer for the prompt, which the next layer gets; as it is by default.

        Generated tokens do not come here.

        Args:
            hidden: (B, N, D); not to be changed in place.
            view: the layer, without `base`.

        Returns:
            (B, N, D).
        """
        return hidden

    def weights(
        self, query: Tensor, key: Tensor, view: LayerView, doc: int, rows: Tensor, *, scale: float
    ) -> Tensor:
        """Attention weights of some rows of a doc's prompt in a changed layer, after the edit.

        For observers, a chunk of rows at a time; the base model's unless an intervention says more.

        Args:
            query: (H, R, D), of these rows.
            key: (KV, N, D), of the doc, padding included.
            view: the layer.
            doc: row of the batch.
            rows: int (R), tokens of the doc that are no padding.
            scale: factor on the scores.

        Returns:
            (H, R, N), float32 or wider; 0 at keys that the row does not see.
        """
        from model_adapters.interventions.weights import ordinary_weights

        return ordinary_weights(query, key, view, doc, rows, scale=scale)

    def generated_weights(
        self, query: Tensor, key: Tensor, view: LayerView, doc: int, *, scale: float
    ) -> Tensor:
        """Attention weights of a doc's generated token in a changed layer, after the edit.

        Args:
            query: (H, 1, D).
            key: (KV, S, D), the doc's cache.
            view: the layer as the prompt left it.
            doc: row of the batch.
            scale: factor on the scores.

        Returns:
            (H, S), float32 or wider; 0 at keys that the token does not see.
        """
        from model_adapters.interventions.weights import ordinary_generated_weights

        return ordinary_generated_weights(query, key, view, doc, scale=scale)

    def kernel(self, device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, width: int) -> str:
        """What computes the prompt's attention in the changed layers, for the run's record.

        Args:
            device: of the model.
            dtype: of the model.
            heads: of queries.
            kv_heads: of keys.
            width: of a head.

        Returns:
            ``varlen``: torch's `varlen_attn`, where it works (`model_adapters.varlen`); else ``sdpa``:
            torch's `scaled_dot_product_attention`, which chooses by device and dtype.
        """
        return "varlen" if varlen.works(device, dtype, heads, kv_heads, width) else "sdpa"

    def settings(self) -> dict[str, Any]:
        """The settings beside its layers, for the run's record."""
        return {}

    def describe(self, counts: Mapping[str, Any]) -> list[str]:
        """What it did in a run, in plain lines.

        Args:
            counts: what it gave to `EditRecord.count` and `mark_doc`, over all docs.
        """
        return []
