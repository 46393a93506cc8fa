"""Results in sentences for a paper: the same form in every command and on the site (METHODS 9)."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from leaderboard.measures import ALPHA, Change, Estimate
from stats import McNemar

_TASK_TITLES = {"oddone": "Odd-One", "pqa": "PQA"}
_TEST_NAMES = {
    McNemar.method: "exact McNemar",
    "paired sign-flip permutation": "paired permutation",
    "paired sign-flip permutation of counts": "paired permutation",
}


class Side(NamedTuple):
    """One of two runs in a sentence."""

    name: str
    score: Estimate


class Docs(NamedTuple):
    """What a comparison rests on; `units` are docs or matched sets, `unscored` docs are left out."""

    n: int
    units: int
    unscored: int = 0

    def __str__(self) -> str:
        n = f"n = {self.n}" if self.units == self.n else f"n = {self.n} docs in {self.units} matched sets"
        return f"{n}, {self.unscored} unscored left out" if self.unscored else n


def task_title(task: str) -> str:
    """``mimic_counting_permuted``: Counting (permuted); a task that is not ours as it is."""
    if not task.startswith("mimic_"):
        return task
    first, *rest = task.removeprefix("mimic_").split("_")
    if first == "official" and rest:
        first, *rest = *rest, "official"
    title = _TASK_TITLES.get(first, first.capitalize())
    return f"{title} ({' '.join(rest)})" if rest else title


def percent(estimate: Estimate) -> str:
    """A share: ``36.2 %``."""
    return f"{100 * estimate.estimate:.1f} %"


def share_text(estimate: Estimate) -> str:
    """A share in percent with its interval: ``36.2 [32.4, 40.1]``."""
    ends = "" if estimate.low is None else f" [{100 * estimate.low:.1f}, {100 * (estimate.high or 0):.1f}]"
    return f"{100 * estimate.estimate:.1f}{ends}"


def points(value: float, *, sign: bool = False) -> str:
    """A share as points with one decimal; with more where it would read 0.0 and is not 0."""
    number = 100 * value
    text = f"{number:+.1f}" if sign else f"{number:.1f}"
    if float(text) == 0 and number:
        text = f"{number:+.2g}" if sign else f"{number:.2g}"
        text = text if abs(number) >= 1e-3 else "0.0"
    return "+0.0" if sign and float(text) == 0 else "0.0" if float(text) == 0 else text


def points_text(estimate: Estimate) -> str:
    """A difference in points with its interval: ``+3.1 [-1.0, +7.2]``."""
    if estimate.low is None or estimate.high is None:
        return points(estimate.estimate, sign=True)
    ends = f"{points(estimate.low, sign=True)}, {points(estimate.high, sign=True)}"
    return f"{points(estimate.estimate, sign=True)} [{ends}]"


def interval_words(estimate: Estimate, *, level: int = 95) -> str:
    """``95 % CI -1.0 to 7.2``, in points, or why there is none."""
    if estimate.low is None or estimate.high is None:
        return estimate.method
    return f"{level} % CI {points(estimate.low)} to {points(estimate.high)}"


def p_text(value: float) -> str:
    """A p-value: three decimals, more where rounding would move it to the other side of 0.05."""
    if value < 0.001:
        return f"{value:.1e}"
    texts = (f"{value:.{decimals}f}" for decimals in (3, 4, 5, 6, 17))
    return next(text for text in texts if (float(text) < ALPHA) == (value < ALPHA))


def p_words(value: float) -> str:
    """``p = 0.21`` or ``p < 0.001``."""
    if value < 0.001:
        return "p < 0.001"
    short = f"{value:.2f}"
    return f"p = {short if value >= 0.1 else p_text(value)}"


def test_name(test: str) -> str:
    """A test in a word or two: ``exact McNemar``; the exact name is in the files."""
    return _TEST_NAMES.get(test, test)


def adjusted_words(pvalue: float, adjusted: float, family: int) -> str:
    """The p-value that the verdict goes by; of one test alone it is not adjusted."""
    return p_words(pvalue) if family == 1 else f"Holm-adjusted {p_words(adjusted)}"


def difference_words(
    what: str, b: Side, a: Side, change: Change, docs: Docs, *, adjusted: float, family: int
) -> str:
    """``Counting: B 36.2 % vs A 33.1 % (+3.1 points, 95 % CI -1.0 to 7.2; exact McNemar, p = 0.21; n = 60)``.

    Args:
        what: the task, and the measure where it is not the accuracy.
        b: the other run.
        a: the baseline.
        change: B - A with its interval and test.
        docs: behind it.
        adjusted: p-value after Holm.
        family: tests in Holm's family.
    """
    delta = f"{points(change.delta.estimate, sign=True)} points, {interval_words(change.delta)}"
    test = tested_words(change.test, change.pvalue, adjusted, family, docs)
    return f"{what}: {b.name} {percent(b.score)} vs {a.name} {percent(a.score)} ({delta}; {test})"


def tested_words(test: str, pvalue: float, adjusted: float, family: int, docs: Docs) -> str:
    """``exact McNemar, Holm-adjusted p = 0.21; n = 600``."""
    return f"{test_name(test)}, {adjusted_words(pvalue, adjusted, family)}; {docs}"


def verdict_words(verdict: str, pvalue: float, adjusted: float, detectable: float | None) -> str:
    """The verdict, and what the docs could have shown where it is that no difference is."""
    if verdict == "no verdict":
        return "no verdict: the docs' signed ranks point the other way"
    if verdict != "no difference shown":
        return verdict
    parts = ["no difference shown"]
    if pvalue < ALPHA <= adjusted:
        parts.append("after the Holm correction (the interval is not adjusted)")
    power = "too few docs to detect any difference"
    if detectable:
        power = f"smallest detectable difference {points(detectable)} points (power 0.8)"
    return f"{' '.join(parts)}; {power}"


def latex(text: str) -> str:
    """Text with LaTeX's special characters escaped; signs of numbers as mathematics."""
    names = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    escaped = re.sub(r"[\\~^&%$#_{}]", lambda match: names.get(match[0], "\\" + match[0]), text)
    return re.sub(r"[<>]|(?<![\w.])[+-](?=\d)", r"$\g<0>$", escaped)


def latex_table(headers: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> str:
    """Rows for booktabs, the first column left, the others right; `note` is a comment above."""
    lines = [f"% {line}" for line in note.splitlines()]
    lines += [r"\begin{tabular}{l" + "r" * (len(headers) - 1) + "}", r"\toprule"]
    lines += [" & ".join(map(latex, headers)) + r" \\", r"\midrule"]
    lines += [" & ".join(map(latex, row)) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
