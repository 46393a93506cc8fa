"""Whether an intervention helps: each entry against the same checkpoint without one, on the same docs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from leaderboard.sentences import Docs, tested_words, verdict_words
from leaderboard.site.entries import Entry
from leaderboard.site.ranks import PairTest, ResultScores, adjusted, tests_of
from leaderboard.site.results import HUMAN, TaskResult

BASE = "none"
"""The intervention of a base entry."""

_NOT_COMPARED = frozenset((
    "mask", "layers", "variant", "prefix", "edges", "heads", "own_image", "empty_rows", "links", "p", "rho",
    "min_visual_share", "rows", "alpha", "score", "tau", "sink_dimensions", "mu", "sigma", "relevance",
    "grounding", "box_threshold", "text_threshold", "sam", "top", "clip", "relevance_dtype", "lambda",
    "noise", "shared_noise", "noise_seed", "cut", "shifts", "scale",
    "device", "device_map", "tp_plan", "batch_size", "kernel", "end_tokens", "generation_config_unused",
))  # fmt: skip
"""Settings of interventions, and of the machine: a base entry may differ in them."""


class BaseDifference(NamedTuple):
    """An entry against its base on one board.

    Attributes:
        base: the entry without an intervention.
        delta: entry - base, a share.
        low: of the interval that goes with the test, or None.
        high: its upper end.
        verdict: ``better``, ``worse``, ``no difference shown`` or ``no verdict``.
        method: the interval's, or why there is no test.
        pvalue: of the test; None without one.
        adjusted: after Holm.
        n: docs.
        units: independent units among them.
        test: its name.
        detectable: the smallest difference that the test would detect with power 0.8, or None.
        family: tests that Holm's correction is over.
    """

    base: Entry
    delta: float
    low: float | None
    high: float | None
    verdict: str
    method: str
    pvalue: float | None = None
    adjusted: float | None = None
    n: int = 0
    units: int = 0
    test: str = ""
    detectable: float | None = None
    family: int = 0

    @property
    def tested(self) -> str:
        """The test, as sentences have it; empty without one."""
        if self.pvalue is None or self.adjusted is None:
            return ""
        return tested_words(self.test, self.pvalue, self.adjusted, self.family, Docs(self.n, self.units))

    @property
    def said(self) -> str:
        """The verdict, as sentences have it."""
        if self.pvalue is None or self.adjusted is None:
            return self.verdict
        return verdict_words(self.verdict, self.pvalue, self.adjusted, self.detectable)

    @property
    def words(self) -> str:
        """The test and its verdict; empty without one."""
        return f"{self.tested}: {self.said}" if self.tested else ""

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {**self._asdict(), "base": self.base.id}


def bases_of(entries: Iterable[Entry]) -> dict[str, Entry]:
    """The base of each entry that has one, by the entry's id: the same checkpoint of the same sender without
    an intervention, with otherwise the same settings; of several the newest."""
    bases: dict[tuple[object, ...], Entry] = {}
    rest: list[Entry] = []
    for entry in sorted(entries, key=lambda entry: (entry.date, entry.id)):
        if entry.kind != HUMAN and entry.intervention == BASE:
            bases[_settings(entry)] = entry
        elif entry.kind != HUMAN:
            rest.append(entry)
    found = {entry.id: bases.get(_settings(entry)) for entry in rest}
    return {name: base for name, base in found.items() if base is not None}


def _settings(entry: Entry) -> tuple[object, ...]:
    settings = sorted((key, value) for key, value in entry.settings.items() if key not in _NOT_COMPARED)
    return (*entry.family_of_runs, tuple(settings))


def base_differences(
    on_board: Sequence[tuple[Entry, TaskResult]],
    same: Mapping[str, str],
    tests: Sequence[PairTest],
    known: Mapping[tuple[str, str], PairTest],
    scores: Callable[[str], ResultScores],
    *,
    higher_is_better: bool,
) -> tuple[dict[str, BaseDifference], list[PairTest]]:
    """The difference of each entry of a board to its base there.

    Two ranked results have the test that their ranks come from. A result that is not ranked (another setting
    of a ranked entry) is tested here; the Holm family is then all tests of the board and those of its
    checkpoint, so that no rank depends on it.

    Args:
        on_board: entries with their result.
        same: of each ranked result, the one whose rank it has.
        tests: of all pairs of ranked results.
        known: tests of an earlier build.
        scores: of a result, by its id.
        higher_is_better: else a lower score is.

    Returns:
        The differences by entry id, and the tests made here.
    """
    here = {entry.id: (entry, result) for entry, result in on_board}
    pairs = {name: here[base.id] for name, base in bases_of(entry for entry, _ in on_board).items()}
    ranked = dict(
        zip(((test.a, test.b) for test in tests), zip(tests, adjusted(tests), strict=True), strict=True)
    )
    differences: dict[str, BaseDifference] = {}
    more: dict[tuple[str, ...], list[tuple[str, PairTest]]] = {}
    for name, (base, of_base) in pairs.items():
        entry, result = here[name]
        a, b = (same.get(one.id, one.id) for one in (of_base, result))
        if result.answers == of_base.answers:
            differences[name] = BaseDifference(
                base, 0.0, None, None, "no difference shown", "the same answers"
            )
        elif result.headline.score is None or of_base.headline.score is None:
            continue
        elif pair := ranked.get((a, b)) or ranked.get((b, a)):
            differences[name] = _difference(base, b, *pair, len(tests), higher_is_better)
        else:
            (made,) = tests_of([of_base.id, result.id], known, scores) or (None,)
            if made is not None:
                more.setdefault(entry.family_of_runs, []).append((name, made))
    for made_here in more.values():
        family = [*tests, *(test for _, test in made_here)]
        for (name, test), p in zip(made_here, adjusted(family)[len(tests) :], strict=True):
            base, of_base = pairs[name]
            second = here[name][1].id
            differences[name] = _difference(base, second, test, p, len(family), higher_is_better)
    return differences, [test for made_here in more.values() for _, test in made_here]


def _difference(
    base: Entry, entry: str, test: PairTest, p: float, family: int, higher_is_better: bool
) -> BaseDifference:
    """A test of two results as entry - base; `entry` is the id of the entry's result."""
    turned = test.a == entry
    delta, low, high = test.delta, test.low, test.high
    if turned:
        delta, low, high = -delta, None if high is None else -high, None if low is None else -low
    verdict = test._replace(delta=delta).verdict(p, higher_is_better=higher_is_better)
    return BaseDifference(
        base, delta, low, high, verdict, test.method, test.pvalue, p, test.n, test.units, test.test,
        test.detectable, family,
    )  # fmt: skip
