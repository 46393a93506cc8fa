"""Which tokens of a doc belong to which group, and which rows lose which keys (METHODS 5, knockout)."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from model_adapters.interventions.knockout.edges import IMAGE, LATER, OTHER, TEXTS, Edge, Group
from model_adapters.layout import Layout, Span

_FIRST_IMAGE = len(TEXTS)  # labels: the groups of text by their place in TEXTS, then each image
_PREFIX, _BETWEEN, _QUESTION, _LAST, ANSWER = range(_FIRST_IMAGE)


class Run(NamedTuple):
    """Neighbouring tokens of one label; the rows of it lose the same keys.

    Attributes:
        span: its tokens.
        label: of the group or image.
        seen: what is left of the tokens before it, in spans.
        removed: how many tokens before it are blocked.
        own: whether its rows do not see the tokens of the run before them either.
    """

    span: Span
    label: int
    seen: tuple[Span, ...] = ()
    removed: int = 0
    own: bool = False

    @property
    def edited(self) -> bool:
        """Whether any of its rows loses a key."""
        return self.removed > 0 or (self.own and self.span.length > 1)


class Plan(NamedTuple):
    """What is blocked in one doc.

    Attributes:
        runs: all tokens of the prompt that are no padding, in order.
        edges: of each edge, the pairs of labels of row and key.
        blocked: by label of the row and of the key; empty for a doc without images, which stays as it is.
    """

    runs: tuple[Run, ...]
    edges: tuple[frozenset[tuple[int, int]], ...]
    blocked: tuple[tuple[bool, ...], ...]

    def edits(self, run: Run, *, both_ways: bool) -> bool:
        """Whether rows of a run may lose keys, were they to see those behind them too (`both_ways`)."""
        if not both_ways or not self.blocked:
            return run.edited
        return any(self.blocked[run.label][other.label] for other in self.runs)

    def present(self, *, both_ways: bool) -> list[bool]:
        """Of each edge whether the doc has a row and a key of it, before the row unless `both_ways`."""
        end = self.runs[-1].span.end
        first = {ANSWER: end, **{run.label: run.span.start for run in reversed(self.runs)}}
        last = {ANSWER: end + 1, **{run.label: run.span.end - 1 for run in self.runs}}
        return [
            any(
                row in last and key in first and (first[key] < last[row] or (both_ways and row != key))
                for row, key in edge
            )
            for edge in self.edges
        ]

    @property
    def edits_answer(self) -> bool:
        """Whether generated tokens lose keys."""
        return bool(self.blocked) and any(self.blocked[ANSWER])


@lru_cache(maxsize=256)
def plan_of(layout: Layout, edges: tuple[Edge, ...], roles: tuple[bool, ...] | None) -> Plan:
    """What edges block in a doc. Each layer of a batch asks again.

    Args:
        layout: the doc's.
        edges: what is blocked.
        roles: whether each image is a target; None unless the edges ask.
    """
    runs = _runs(layout)
    if not layout.images:
        return Plan(tuple(runs), tuple(frozenset() for _ in edges), ())
    pairs = tuple(_pairs(edge, len(layout.images), roles) for edge in edges)
    size, every = _FIRST_IMAGE + len(layout.images), frozenset[tuple[int, int]]().union(*pairs)
    blocked = tuple(tuple((row, key) in every for key in range(size)) for row in range(size))
    return Plan(tuple(_with_keys(runs, i, blocked) for i in range(len(runs))), pairs, blocked)


def _runs(layout: Layout) -> list[Run]:
    """The runs of a layout, without what they see."""
    spans = [(span, _FIRST_IMAGE + m) for m, image in enumerate(layout.images) for span in image.spans]
    for text in layout.text:
        if not layout.images or text.end <= layout.images[0].start:
            spans.append((text, _PREFIX))
        elif text.start < layout.images[-1].end:
            spans.append((text, _BETWEEN))
        else:
            spans += [(Span(text.start, text.end - 1), _QUESTION), (Span(text.end - 1, text.end), _LAST)]
    return [Run(span, label) for span, label in sorted(spans) if span.length]


def _with_keys(runs: Sequence[Run], index: int, blocked: Sequence[Sequence[bool]]) -> Run:
    """One of the runs with what it sees before itself."""
    run, seen, removed = runs[index], list[Span](), 0
    for before in runs[:index]:
        if blocked[run.label][before.label]:
            removed += before.span.length
        elif seen and seen[-1].end == before.span.start:
            seen[-1] = Span(seen[-1].start, before.span.end)
        else:
            seen.append(before.span)
    return Run(run.span, run.label, tuple(seen), removed, blocked[run.label][run.label])


def _pairs(edge: Edge, images: int, roles: Sequence[bool] | None) -> frozenset[tuple[int, int]]:
    """The labels of row and key that an edge blocks."""
    return frozenset(
        (row, key)
        for row in _labels(edge.query, images, roles)
        for key in _labels(edge.key, images, roles)
        if {OTHER: key != row, LATER: key > row}.get(edge.key.name, True)
    )


def _labels(group: Group, images: int, roles: Sequence[bool] | None) -> list[int]:
    """The labels of a group; of `other` and `later` all images."""
    if group.name in (IMAGE, OTHER, LATER):
        return [_FIRST_IMAGE + m for m in group.images(roles, images)]
    return [_QUESTION, _LAST] if group.name == "question" else [TEXTS.index(group.name)]


@lru_cache(maxsize=64)
def labels_of(layout: Layout, device: torch.device) -> Tensor:
    """int (N): the label of each token of a prompt; -1 at padding. Each layer and each step asks again."""
    with torch.inference_mode(False):  # a training that comes later may keep them for its backward pass
        labels = torch.full((layout.length,), -1)
        for run in _runs(layout):
            labels[run.span.start : run.span.end] = run.label
        return labels.to(device)


def blocked_keys(plan: Plan, rows: Tensor, keys: Tensor) -> Tensor:
    """bool (R, S): True = blocked, by label of rows (R) and keys (S); a negative label is never blocked."""
    if not plan.blocked:
        return torch.zeros(len(rows), len(keys), dtype=torch.bool, device=keys.device)
    matrix = torch.tensor(plan.blocked, device=keys.device)
    return matrix[rows.clamp(min=0)[:, None], keys.clamp(min=0)] & (rows >= 0)[:, None] & (keys >= 0)
