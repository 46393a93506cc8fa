"""What our intervals cover and how often our tests cry wolf: a simulation at the sample sizes of real runs.

    python benchmarks/coverage.py [--repeats 1000] [--out docs/coverage.md]

Docs are drawn three ways: independent; in groups of five that share images (a group's docs are alike); and
from a pool of 100 images, each doc of four, so that all docs hang together. A doc's chance of a right answer
is the mean difficulty of its images. Two runs without a true difference give the false positives; coverage is
counted for the question that the interval answers: this pool (images fixed, docs drawn anew) or new images.
"""

import argparse
import warnings
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from equivalence import table as equivalence_table
from scipy import stats as scipy_stats
from tabulate import tabulate

from stats import (
    NotEstimableError,
    f1_from_counts,
    hodges_lehmann,
    image_clusters,
    mcnemar_exact,
    mean_interval,
    micro_f1,
    micro_f1_difference,
    paired_mean_difference,
    paired_risk_difference,
    wilson,
)
from stats._tango import upper_end

Floats = npt.NDArray[np.float64]
SIZES = (60, 200, 600)
SMALL = (8, 12, 20, 60, 200)
PER_DOC = 4
GROUP = 5
DENSE_POOL = 100


class Drawn(NamedTuple):
    """Chances (docs,) of a right answer, the docs' images, the mean chance in this pool and in the world."""

    chance: Floats
    images: list[tuple[int, ...]]
    pool: float
    world: float


def independent(rng: np.random.Generator, n: int) -> Drawn:
    """Each doc has images of its own."""
    skill = rng.beta(1.2, 0.8, (n, PER_DOC))
    images = [tuple(range(d * PER_DOC, (d + 1) * PER_DOC)) for d in range(n)]
    return Drawn(skill.mean(axis=1), images, 0.6, 0.6)


def grouped(rng: np.random.Generator, n: int) -> Drawn:
    """Five docs share all their images."""
    skill = rng.beta(1.2, 0.8, (n // GROUP, PER_DOC)).mean(axis=1)
    group = np.repeat(np.arange(n // GROUP), GROUP)
    images = [tuple(range(g * PER_DOC, (g + 1) * PER_DOC)) for g in group]
    return Drawn(skill[group], images, float(skill.mean()), 0.6)


def dense(rng: np.random.Generator, n: int) -> Drawn:
    """Docs of four images out of a hundred: nearly all hang together."""
    skill = rng.beta(1.2, 0.8, DENSE_POOL)
    chosen = np.argsort(rng.random((n, DENSE_POOL)), axis=1)[:, :PER_DOC]
    return Drawn(
        skill[chosen].mean(axis=1), [tuple(own) for own in chosen.tolist()], float(skill.mean()), 0.6
    )


WORLDS: dict[str, Callable[[np.random.Generator, int], Drawn]] = {
    "independent docs": independent,
    "groups of five": grouped,
    "dense sharing": dense,
}


class Tally:
    """Hits of a number of trials, and the ones that could not be given."""

    def __init__(self) -> None:
        self.hits = self.trials = self.refused = 0

    def add(self, hit: bool | None) -> None:
        """None: not estimable."""
        self.refused += hit is None
        self.trials += hit is not None
        self.hits += bool(hit)

    def __str__(self) -> str:
        if not self.trials:
            return "refused"
        share = f"{100 * self.hits / self.trials:.1f}"
        return share if not self.refused else f"{share} ({self.refused} refused)"


class Tallies(NamedTuple):
    """The tallies of one world and size, by name."""

    all: dict[tuple[str, str, int], Tally]
    world: str
    n: int

    def __call__(self, name: str) -> Tally:
        return self.all.setdefault((name, self.world, self.n), Tally())


def trial(rng: np.random.Generator, drawn: Drawn, tally: Callable[[str], Tally]) -> None:
    """One pair of runs without a true difference, and one score against the truth."""
    n = len(drawn.chance)
    a, b = (rng.random((2, n)) < drawn.chance).astype(float)
    own = wilson(int(a.sum()), n)
    tally("Wilson, this pool").add(own.low <= drawn.pool <= own.high)
    tally("Wilson, read as new images").add(own.low <= drawn.world <= own.high)
    try:
        labels = image_clusters(drawn.images).labels
        new = mean_interval(a, clusters=labels)
        tally("clusters of shared images, new images").add(covers(new.low, drawn.world, new.high))
    except NotEstimableError:
        tally("clusters of shared images, new images").add(None)
    only_a, only_b = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    both = int((a * b).sum())
    difference = paired_risk_difference(both, only_a, only_b, n - both - only_a - only_b)
    tally("paired difference of right answers").add(covers(difference.low, 0, difference.high))
    tally("McNemar exact: false positives").add(difference.pvalue < 0.05)
    graded_a, graded_b = (rng.binomial(PER_DOC, drawn.chance, (2, n)) / PER_DOC).astype(float)
    mean = mean_interval(graded_a)
    tally("mean of shares, this pool").add(covers(mean.low, drawn.pool, mean.high))
    tally("sign-flip of a mean: false positives").add(
        paired_mean_difference(graded_a, graded_b).pvalue < 0.05
    )
    shift = hodges_lehmann(graded_a - graded_b, bounds=(-1, 1))
    tally("Hodges-Lehmann shift (describes)").add(shift.low <= 0 <= shift.high)
    upstream(a, b, drawn, tally)


def upstream(a: Floats, b: Floats, drawn: Drawn, tally: Callable[[str], Tally]) -> None:
    """lmms-eval's way: mean +- 1.96 standard errors, a paired t-test."""
    n = len(a)
    error = a.std(ddof=1) / np.sqrt(n)
    tally("upstream: mean +- 1.96 SE, this pool").add(abs(a.mean() - drawn.pool) <= 1.96 * error)
    tally("upstream: mean +- 1.96 SE, read as new images").add(abs(a.mean() - drawn.world) <= 1.96 * error)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        p = scipy_stats.ttest_rel(a, b).pvalue if (a != b).any() else 1.0
    tally("upstream: paired t-test: false positives").add(p < 0.05)


def covers(low: float | None, truth: float, high: float | None) -> bool | None:
    """None: no interval was given."""
    return None if low is None or high is None else low - 1e-12 <= truth <= high + 1e-12


def bca(values: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """What we gave before, by SciPy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = scipy_stats.bootstrap(
            (values,), np.mean, n_resamples=1000, method="BCa", vectorized=True, rng=rng
        )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def percentile_f1(a: Floats, b: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """What we gave before for Listing: the paired percentile bootstrap."""
    docs = rng.integers(0, len(a), (1000, len(a)))
    f1 = [2 * own[docs, 0].sum(axis=1) / own[docs, 1:].sum(axis=(1, 2)) for own in (a, b)]
    low, high = np.quantile(f1[0] - f1[1], (0.025, 0.975))
    return float(low), float(high)


def lists(rng: np.random.Generator, n: int, miss: float, extra: float) -> Floats:
    """Counts of Listing: 1 to 6 relevant items, each missed with a chance, made-up ones; shape (n, 3)."""
    relevant = rng.integers(1, 7, n)
    skill = rng.beta(4 * (1 - miss), 4 * miss, n)
    recalled = rng.binomial(relevant, skill)
    return np.stack([recalled, recalled + rng.poisson(extra, n), relevant], axis=1)


def small(repeats: int) -> list[list[str]]:
    """Coverage from 8 docs on: what is shown now, and what was shown before."""
    rows: dict[str, list[str]] = {}
    worlds = np.random.default_rng(99)
    many_a, many_b = lists(worlds, 10**6, 0.2, 0.5), lists(worlds, 10**6, 0.3, 0.7)
    f1_a, f1_b = (f1_from_counts(*map(int, own.sum(axis=0))).f1 for own in (many_a, many_b))
    for n in SMALL:
        rng = np.random.default_rng(n)
        tallies: dict[str, Tally] = {}
        before = max(1, repeats // (2 if n < 100 else 8))  # slow
        for trial_number in range(repeats):
            a, b = lists(rng, n, 0.2, 0.5), lists(rng, n, 0.3, 0.7)
            skill = rng.beta(1.2, 0.8, n)
            x, y = rng.binomial(4, skill) / 4, rng.binomial(4, 0.7 * skill) / 4
            rare = np.where(rng.random(n) < 0.2, rng.integers(1, 7, n) / 6, 0.0)
            one, two = micro_f1(*a.T), micro_f1_difference(tuple(a.T), tuple(b.T))
            share, change, few = mean_interval(x), paired_mean_difference(x, y), mean_interval(rare)
            found = {
                "micro F1": covers(one.low, f1_a, one.high),
                "micro F1 difference": covers(two.low, f1_a - f1_b, two.high),
                "per-doc shares, mean 0.6": covers(share.low, 0.6, share.high),
                "per-doc shares, 80 % zero": covers(few.low, 0.2 * 3.5 / 6, few.high),
                "mean difference": covers(change.low, 0.18, change.high),
            }
            if trial_number < before:
                if (x != y).any() and x.min() < x.max():
                    found["before: BCa, shares"] = covers((ends := bca(x, rng))[0], 0.6, ends[1])
                    gaps = x - y
                    if gaps.min() < gaps.max():
                        found["before: BCa, mean difference"] = covers(
                            (ends := bca(gaps, rng))[0], 0.18, ends[1]
                        )
                ends = percentile_f1(a, b, rng)
                found["before: percentile, micro F1 difference"] = covers(ends[0], f1_a - f1_b, ends[1])
            for name, hit in found.items():
                tallies.setdefault(name, Tally()).add(hit)
        for name, tally in tallies.items():
            rows.setdefault(name, []).append(str(tally))
    return [[name, *cells] for name, cells in rows.items()]


def binary_pairs() -> list[list[str]]:
    """Pairs of a test and an interval for right and wrong answers, counted exactly and not drawn."""
    rows = []
    tables = [(n, a, b) for n in range(1, 41) for a in range(n + 1) for b in range(n - a + 1)]
    for name, pair in PAIRS.items():
        apart = sum(
            (p < 0.05) != (low > 0 or high < 0) for p, low, high in (pair(*table) for table in tables)
        )
        cells = []
        for n in (12, 20, 40):
            found = {(a, b): pair(n, a, b) for a in range(n + 1) for b in range(n - a + 1)}
            size, cover = 0.0, 1.0
            for share in (0.05, 0.1, 0.2, 0.3, 0.5, 0.8):
                for difference in (0.0, 0.5 * share, 0.9 * share):
                    up, down = (share + difference) / 2, (share - difference) / 2
                    keys = np.array(list(found))
                    rest = n - keys.sum(axis=1)
                    chances = scipy_stats.multinomial.pmf(
                        np.column_stack([keys, rest]), n, [up, down, 1 - share]
                    )
                    values = np.array(list(found.values()))
                    inside = (values[:, 1] - 1e-12 <= difference) & (difference <= values[:, 2] + 1e-12)
                    cover = min(cover, float(chances[inside].sum()))
                    if difference == 0:
                        size = max(size, float(chances[values[:, 0] < 0.05].sum()))
            cells.append(f"{100 * size:.1f} / {100 * cover:.1f}")
        rows.append([name, f"{apart} of {len(tables):,}", *cells])
    return rows


def _ours(n: int, a: int, b: int) -> tuple[float, float, float]:
    found = paired_risk_difference(n - a - b, a, b, 0)
    return found.pvalue, found.low, found.high


def _exact_newcombe(n: int, a: int, b: int) -> tuple[float, float, float]:
    """Newcombe 1998, method 10, with all docs that agree right under both: its phi depends on them."""
    one, two, gap = wilson(n - b, n), wilson(n - a, n), (a - b) / n
    margins = (n - b) * b * (n - a) * a
    phi = -a * b / margins**0.5 if margins else 0.0
    down = (one.estimate - one.low) ** 2 + (two.high - two.estimate) ** 2
    down -= 2 * phi * (one.estimate - one.low) * (two.high - two.estimate)
    up = (one.high - one.estimate) ** 2 + (two.estimate - two.low) ** 2
    up -= 2 * phi * (one.high - one.estimate) * (two.estimate - two.low)
    return mcnemar_exact(a, b).pvalue, gap - max(down, 0.0) ** 0.5, gap + max(up, 0.0) ** 0.5


def _asymptotic_tango(n: int, a: int, b: int) -> tuple[float, float, float]:
    """Tango's interval as it is: at 0 its test is McNemar's without correction."""
    p = float(scipy_stats.chi2.sf((a - b) ** 2 / (a + b), 1)) if a + b else 1.0
    z2 = float(scipy_stats.norm.ppf(0.975)) ** 2
    return p, -upper_end(b, a, n, z2), upper_end(a, b, n, z2)


def _mid_tango(n: int, a: int, b: int) -> tuple[float, float, float]:
    """McNemar's mid-p, 0 added to Tango's interval where it does not reject."""
    k, m = min(a, b), a + b
    p = (
        min(1.0, float(2 * scipy_stats.binom.cdf(k, m, 0.5) - scipy_stats.binom.pmf(k, m, 0.5)))
        if a != b
        else 1.0
    )
    _, low, high = _asymptotic_tango(n, a, b)
    return (p, low, high) if p < 0.05 else (p, min(low, 0.0), max(high, 0.0))


PAIRS: dict[str, Callable[[int, int, int], tuple[float, float, float]]] = {
    "McNemar exact, Tango with 0 (used)": _ours,
    "McNemar exact, Newcombe (before)": _exact_newcombe,
    "McNemar mid-p, Tango with 0": _mid_tango,
    "McNemar without correction, Tango": _asymptotic_tango,
}


def extreme(rng: np.random.Generator, repeats: int) -> list[list[object]]:
    """Near the ends: a score of 98 %, where a normal interval leaves [0, 1] or has no width."""
    rows: list[list[object]] = []
    for n in SIZES:
        found = rng.binomial(n, 0.98, repeats)
        ours = [wilson(int(k), n) for k in found]
        error = 1.96 * np.sqrt(found / n * (1 - found / n) / n)
        rows.append(
            [
                n,
                f"{100 * np.mean([own.low <= 0.98 <= own.high for own in ours]):.1f}",
                f"{100 * np.mean(np.abs(found / n - 0.98) <= error):.1f}",
                f"{100 * np.mean(found == n):.1f}",
                f"{100 * np.mean(found / n + error > 1):.1f}",
            ]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("docs/coverage.md"))
    options = parser.parse_args()
    tallies: dict[tuple[str, str, int], Tally] = {}
    for world, draw in WORLDS.items():
        for n in SIZES:
            rng = np.random.default_rng([n, list(WORLDS).index(world)])
            for _ in range(options.repeats):
                trial(rng, draw(rng, n), Tallies(tallies, world, n))
    names = list(dict.fromkeys(name for name, _, _ in tallies))
    cells = [(world, n) for world in WORLDS for n in SIZES]
    body = [[name, *(str(tallies[name, world, n]) for world, n in cells)] for name in names]
    table = tabulate(
        body, headers=["%", *(f"{w}, n = {n}" for w, n in cells)], tablefmt="pipe", disable_numparse=True
    )
    ends = tabulate(
        extreme(np.random.default_rng(0), 10 * options.repeats),
        headers=["n", "Wilson", "mean +- 1.96 SE", "SE is 0", "reaches over 100 %"],
        tablefmt="pipe",
        disable_numparse=True,
    )
    sizes = tabulate(
        small(options.repeats),
        headers=["%", *(f"n = {n}" for n in SMALL)],
        tablefmt="pipe",
        disable_numparse=True,
    )
    binary = tabulate(
        binary_pairs(),
        headers=["test and interval", "tables where they disagree", "n = 12", "n = 20", "n = 40"],
        tablefmt="pipe",
        disable_numparse=True,
    )
    options.out.write_text(
        TEXT.format(
            small=sizes,
            binary=binary,
            equivalence=equivalence_table(),
            repeats=options.repeats,
            date=date.today(),
            numpy=version("numpy"),
            scipy=version("scipy"),
            table=table,
            ends=ends,
            told=TOLD,
            error=f"{196 * (0.05 * 0.95 / options.repeats) ** 0.5:.1f}",
        )
    )
    print(options.out.read_text())


TEXT = """# Coverage and false positives

Made by `python benchmarks/coverage.py --repeats {repeats}` ({date}; NumPy {numpy}, SciPy {scipy}). Nominal:
intervals cover 95 %, tests have 5 % false positives; a simulated share is within +-{error} points.

## From 8 docs on

Coverage in %. Lists have 1 to 6 relevant items; shares are over four orders (`80 % zero`: six, most docs
without a change). `before` is what earlier versions showed. Below 8 docs no such interval is given.

{small}

## Right and wrong answers: test and interval that agree

Counted over all tables of discordant docs, not drawn: in how many of those with up to 40 docs one of p <
0.05 and an interval without 0 holds alone; then, for n docs, the largest share of false positives / the
smallest coverage in % over shares of discordant docs of 5 to 80 % and differences of 0, half and nine
tenths of them.

{binary}

The exact test with Tango's score interval, extended to 0 if the test does not reject, never disagrees,
covers what Tango's covers, and has the fewest false positives (3.1 % at most; mid-p 5.0 %,
uncorrected 5.3 %).

## Equivalence

The true size of two one-sided tests of right and wrong answers, in %, where 5 % is nominal: the largest
chance to call runs equivalent whose scores are exactly the margin apart, over shares of discordant docs from
the margin to 60 %. Counted over all tables (`python benchmarks/equivalence.py`).

{equivalence}

Tango's score test is used for all scores; graded ones, micro F1 and clusters take it at their effective
sample size. Wald's test and the inverted sign-flip test take few changed docs for a small variance.

## This pool and new images

A doc's chance of a right answer is the mean difficulty of its four images (Beta(1.2, 0.8), mean 60 %).

{table}

*This pool* is the mean over the docs that the generator could draw from these images; *new images* is 60 %.

{told}

True score 98 %, in %:

{ends}

A run without an error has a standard error of 0 and an interval without width; Wilson's has one.
"""

TOLD = """\
- Over docs of *this pool* the intervals cover what they say, whether docs share images or not (in groups of
  five a little more: groups make strata).
- Read as an interval for *new images*, any interval over docs covers too little wherever docs share images;
  with dense sharing the less, the more docs: more docs of the same images say nothing of other images.
- Clusters of docs that share images answer that question where they are given, and are refused where they
  would be wrong.
- The paired tests keep their 5 %, with docs that share images too: in the difference of two runs on the
  same docs their difficulties cancel. McNemar's exact test is conservative at n = 60.
- The Hodges-Lehmann interval covers nearly always: scores in quarters have many ties, and ties widen it.
- Upstream's standard error and a paired t-test do as well in the middle of the scale at these sizes. They
  do not say which of the two questions they answer, and standard errors fail near the ends of the scale:
"""

if __name__ == "__main__":
    main()
