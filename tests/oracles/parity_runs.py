"""Models under every mask beside the oracle: the rows of the parity table (benchmarks/parity.py)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.makers.parity_docs import BESIDE, OPENING, Bools, layers_of
from tests.oracles.parity import Oracle
from tests.oracles.parity_models import DTYPES, Ours, Setup
from tests.oracles.parity_rows import attend

SCALED = torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
"""From an error in float32 to the same roundings in float64."""

AGAINST = ("oracle", "transformers' sdpa")
GOING_ON = 300
"""A token of text, which is forced instead of one that ends an answer."""

FACTOR = 3.0
"""A bar is this many times the error of the reference: ours rounds as often, and at other places."""


@dataclass(frozen=True)
class Row:
    """A row of the table; differences are the largest over docs, steps and vocabulary.

    Attributes:
        family: its name.
        mask: of `MASKS`.
        against: `AGAINST`.
        dtype: ours.
        batch: docs at a time.
        scope: ``logits`` of the whole model, or ``attention``: what it gives in each layer and step, against
            the oracle on the same queries, keys and values, prompt and generated tokens.
        error: of ours against the truth.
        direct: of our logits against the reference in the same dtype, 8 docs at a time; None: not compared.
        reference: the reference's own error in this dtype; float64: in float32, scaled. Of attention: the
            oracle's weights and values rounded to this dtype, and summed in it by torch.
        tolerance: of `error`.
        edit: what the mask does to the true logits, or to the true attention.
        edited_docs: docs to which it does more than the tolerance.
        sinks: in the truth, over docs and layers.
        docs_with_sinks: docs that have sinks in two images or more in some layer.
        sinks_moved: (doc, layer, token)s that are a sink for one side only, each finding its own.
        same_text: docs with the truth's greedy answer, by the model as users build it; None: not compared.
    """

    family: str
    mask: str
    against: str
    dtype: str
    batch: int
    scope: str
    error: float
    direct: float | None
    reference: float
    tolerance: float
    edit: float
    edited_docs: int
    sinks: int
    docs_with_sinks: int
    sinks_moved: int
    same_text: int | None


# The rows


class Comparison:
    """All of a family that its rows share.

    Args:
        setup: the checkpoint.
        steps: tokens that are generated.
        direct: with `Row.direct`, which costs another run of the reference in float64.
    """

    def __init__(self, setup: Setup, *, steps: int = 6, direct: bool = True) -> None:
        self.setup = setup
        self.steps = steps
        self.direct = direct
        self._ours: dict[tuple[str, str], Ours] = {}
        self._references: dict[tuple[str, str], Oracle] = {}
        self._truths: dict[tuple[str, str], Truth] = {}
        self._logits_of: dict[tuple[str, str, str], Tensor] = {}

    def reference(self, dtype: str, against: str = AGAINST[0]) -> Oracle:
        """The oracle, or transformers' own attention, in a dtype."""
        key = (dtype, against)
        if key not in self._references:
            how = {"attention": "sdpa"} if against == AGAINST[1] else {}
            own = self.setup
            self._references[key] = Oracle(own.case, own.folder, own.sinks, DTYPES[dtype], **how)
        return self._references[key]

    def ours(self, mask: str, dtype: str) -> Ours:
        """Our model under a mask, in a dtype."""
        key = (mask, dtype)
        if key not in self._ours:
            self._ours[key] = Ours(self.setup, mask, dtype)
        return self._ours[key]

    def truth(self, mask: str, against: str = AGAINST[0]) -> "Truth":
        """The float64 reference under a mask, doc by doc."""
        key = (mask, against)
        if key not in self._truths:
            exact, docs, steps = self.reference("float64", against), self.setup.docs, self.steps
            free = [exact.run([doc], mask, steps=steps) for doc in docs]
            pad = exact.processor.tokenizer.pad_token_id
            answers = [own.tokens[0] for own in free]
            filled = [torch.nn.functional.pad(own, (0, steps - len(own)), value=pad) for own in answers]
            ends = torch.tensor(exact.model.generation_config.eos_token_id).flatten()
            for own in filled:  # a doc alone must not stop before the last step
                own[:-1].masked_fill_(torch.isin(own[:-1], ends), GOING_ON)
            alone = [
                made  # the same run
                if mask not in OPENING and torch.equal(own, made.tokens[0])
                else exact.run([doc], mask, steps=steps, weighted=True, forced=own[None])
                for doc, own, made in zip(docs, filled, free, strict=True)
            ]
            tokens, logits = torch.stack(filled), torch.cat([own.logits for own in alone])
            bare = exact.run(docs, "none", steps=steps, forced=tokens).logits
            self._truths[key] = Truth(
                tokens,
                [own.texts[0] for own in free],
                logits,
                (logits - bare).abs().amax(dim=(1, 2)),
                [own.sinks[0] for own in alone],
            )
        return self._truths[key]

    def rows(
        self,
        mask: str,
        *,
        against: str = AGAINST[0],
        dtypes: Iterable[str] = DTYPES,
        batches: Iterable[int] = (1, 8),
        attention: bool = True,
    ) -> list[Row]:
        """The rows of a mask: logits for each dtype and batch, attention for each dtype.

        Args:
            mask: of `MASKS`; against transformers' own attention: ``none``.
            against: of `AGAINST`.
            dtypes: of `DTYPES`.
            batches: how many docs at a time.
            attention: with the rows of each call of attention, for a decoder that is plain causal.
        """
        rows, batches = list[Row](), tuple(batches)
        for dtype in dtypes:
            ours = self.ours(mask, dtype)
            rows += [self._logits(ours, mask, against, dtype, batch) for batch in batches]
            if against == AGAINST[0] and attention and mask not in BESIDE:
                rows.append(self._attention(ours, mask, dtype))
        return rows

    def _logits(self, ours: Ours, mask: str, against: str, dtype: str, batch: int) -> Row:
        docs, truth = self.setup.docs, self.truth(mask, against)
        if dtype == "float64":  # its roundings are those of float32, scaled
            reference = apart(self._same(mask, against, "float32"), truth.logits) * SCALED
        else:
            reference = apart(self._same(mask, against, dtype), truth.logits)
        parts = [slice(first, first + batch) for first in range(0, len(docs), batch)]
        found = [ours.logits(docs[part], truth.tokens[part]) for part in parts]
        made = found
        if dtype == "bfloat16":
            made = [ours.logits(docs[p], truth.tokens[p], fixed=truth.sinks[p]) for p in parts]
        got = torch.cat([own.logits for own in made])
        texts = None
        if dtype != "bfloat16":
            said = [text for part in parts for text in ours.texts(docs[part], steps=self.steps)]
            texts = sum(a == b for a, b in zip(said, truth.texts, strict=True))
        return self._row(
            mask,
            dtype,
            batch,
            truth.edits,
            [own for generated in found for own in generated.sinks],
            scope="logits",
            against=against,
            error=apart(got, truth.logits),
            direct=apart(got, self._same(mask, against, dtype)) if self.direct else None,
            reference=reference,
            same_text=texts,
        )

    def _same(self, mask: str, against: str, dtype: str) -> Tensor:
        """The reference's logits in a dtype, 8 docs at a time."""
        key = (mask, against, dtype)
        if key not in self._logits_of:
            truth, reference = self.truth(mask, against), self.reference(dtype, against)
            fixed = truth.sinks if dtype == "bfloat16" else None
            how: dict[str, Any] = {"steps": self.steps, "weighted": True, "forced": truth.tokens}
            self._logits_of[key] = reference.run(self.setup.docs, mask, fixed=fixed, **how).logits
        return self._logits_of[key]

    def _attention(self, ours: Ours, mask: str, dtype: str) -> Row:
        docs, truth, oracle = self.setup.docs, self.truth(mask), self.reference("float64")
        fixed = truth.sinks if dtype == "bfloat16" else None
        with ours.watched() as calls:
            made = ours.logits(docs, truth.tokens, fixed=fixed)
        inputs = oracle.inputs(docs)
        own = inputs["attention_mask"].bool().numpy()
        known = oracle.known(docs, inputs["input_ids"], weighted=True)
        for row, sinks in zip(known, truth.sinks, strict=True):
            row.sinks |= {layer: padded(found, len(row.image)) for layer, found in sinks.items()}
        changed = layers_of(mask, oracle.depth)
        error = reference = 0.0
        edits = torch.zeros(len(docs), dtype=torch.float64)
        for call in calls:
            count, keys = call.query.shape[2], call.key.shape[2]
            seen = np.tril(np.ones((count, keys), dtype=bool), keys - count)
            seen = seen & np.pad(own, ((0, 0), (0, keys - own.shape[1])), constant_values=True)[:, None]
            want = attend(
                call.query,
                call.key,
                call.value,
                seen,
                known,
                mask=mask if call.layer in changed else "none",
                layer=call.layer,
                scale=call.scale,
            )
            rounded = want.rounded(DTYPES["float32" if dtype == "float64" else dtype])
            edited = want.edited
            real = torch.from_numpy(seen.any(axis=-1))[:, None, :, None]
            error = max(error, apart(call.out * real, edited))
            reference = max(reference, apart(rounded, edited))
            edits = torch.maximum(edits, (edited - want.plain).abs().amax(dim=(1, 2, 3)))
        assert len(calls) == oracle.depth * self.steps
        return self._row(
            mask,
            dtype,
            len(docs),
            edits,
            made.sinks,
            scope="attention",
            against=AGAINST[0],
            error=error,
            direct=None,
            reference=reference * (SCALED if dtype == "float64" else 1),
            same_text=None,
        )

    @cached_property
    def _images(self) -> list[NDArray[np.int64]]:
        """Of each doc, the number of each token's image, -1 for text."""
        exact = self.reference("float64")
        known = [
            exact.known([doc], exact.inputs([doc])["input_ids"], weighted=False) for doc in self.setup.docs
        ]
        return [own.image for (own,) in known]

    def _row(
        self,
        mask: str,
        dtype: str,
        batch: int,
        edits: Tensor,
        found: Sequence[Mapping[int, Bools]],
        *,
        reference: float,
        **more: Any,
    ) -> Row:
        """A row with what all have: bar, edits and sinks (`found`: ours)."""
        sinks = self.truth(mask, more["against"]).sinks
        several = 0
        for image, layers in zip(self._images, sinks, strict=True):
            several += max(len(set(image[own].tolist()) - {-1}) for own in layers.values()) >= 2
        return Row(
            family=self.setup.case.name,
            mask=mask,
            dtype=dtype,
            batch=batch,
            reference=reference,
            tolerance=FACTOR * reference,
            edit=float(edits.max()),
            edited_docs=int((edits > FACTOR * reference).sum()),
            sinks=sum(int(own.sum()) for layers in sinks for own in layers.values()),
            docs_with_sinks=several,
            sinks_moved=sum(
                int((own ^ layers[layer]).sum())
                for layers, theirs in zip(sinks, found, strict=True)
                for layer, own in theirs.items()
            ),
            **more,
        )


@dataclass(frozen=True)
class Truth:
    """The float64 reference under a mask, doc by doc.

    Attributes:
        tokens: (B, T), its greedy answers with a constant c, filled up with padding tokens.
        texts: these answers.
        logits: (B, T, V), while it generates `tokens` with c of `score_of`.
        edits: (B), the largest difference of `logits` from those without a mask.
        sinks: of each doc and layer, bool over its own tokens.
    """

    tokens: Tensor
    texts: list[str]
    logits: Tensor
    edits: Tensor
    sinks: list[dict[int, Bools]]


def padded(flags: Bools, length: int) -> Bools:
    """Flags of a doc's own tokens in a row padded on the left."""
    return np.pad(flags, (length - len(flags), 0))


def apart(a: Tensor, b: Tensor) -> float:
    """The largest difference."""
    return float((a.double() - b.double()).abs().max())
