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
from scipy import stats as scipy_stats
from tabulate import tabulate

from stats import (
    NotEstimableError,
    cluster_bootstrap,
    connected_groups,
    hodges_lehmann,
    mcnemar_exact,
    mean_interval,
    paired_risk_difference,
    wilcoxon_signed_rank,
    wilson,
)

Floats = npt.NDArray[np.float64]
SIZES = (60, 200, 600)
DRAWS = 1000
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
    groups = connected_groups(drawn.images)
    try:
        new = cluster_bootstrap(a, groups.labels, draws=DRAWS)
        tally("cluster bootstrap, new images").add(new.low <= drawn.world <= new.high)
    except NotEstimableError:
        tally("cluster bootstrap, new images").add(None)
    only_a, only_b = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    both = int((a * b).sum())
    difference = paired_risk_difference(both, only_a, only_b, n - both - only_a - only_b)
    tally("paired difference (Newcombe)").add(difference.low <= 0 <= difference.high)
    tally("McNemar exact: false positives").add(mcnemar_exact(only_a, only_b).pvalue < 0.05)
    graded_a, graded_b = (rng.binomial(PER_DOC, drawn.chance, (2, n)) / PER_DOC).astype(float)
    mean = mean_interval(graded_a, draws=DRAWS)
    tally("BCa of a mean, this pool").add(mean.low <= drawn.pool <= mean.high)
    gaps = graded_a - graded_b
    tally("Wilcoxon (Pratt): false positives").add(wilcoxon_signed_rank(gaps).pvalue < 0.05)
    shift = hodges_lehmann(gaps, bounds=(-1, 1))
    tally("Hodges-Lehmann shift").add(shift.low <= 0 <= shift.high)
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
    options.out.write_text(
        TEXT.format(
            repeats=options.repeats,
            date=date.today(),
            numpy=version("numpy"),
            scipy=version("scipy"),
            table=table,
            ends=ends,
            told=TOLD,
            error=f"{196 * (0.05 * 0.95 / options.repeats) ** 0.5:.1f}",
            draws=DRAWS,
        )
    )
    print(options.out.read_text())


TEXT = """# Coverage and false positives

Made by `python benchmarks/coverage.py --repeats {repeats}` ({date}; NumPy {numpy}, SciPy {scipy}; {draws}
bootstrap draws). Nominal: intervals cover 95 %, tests have 5 % false positives; a simulated share is within
+-{error} points. A doc's chance of a right answer is the mean difficulty of its four images (Beta(1.2, 0.8),
mean 60 %).

{table}

*This pool* is the mean over the docs that the generator could draw from these images; *new images* is 60 %.

{told}

True score 98 %, in %:

{ends}

A run without an error has a standard error of 0 and an interval without width; Wilson's always has a width.
"""

TOLD = """\
- Over docs of *this pool* Wilson's interval, Newcombe's paired difference and the BCa bootstrap cover what
  they say, whether docs share images or not (in groups of five a little more: groups make strata).
- Read as an interval for *new images*, any interval over docs covers too little wherever docs share images;
  with dense sharing the less, the more docs: more docs of the same images say nothing of other images.
- The cluster bootstrap answers that question where it is given, and is refused where it would be wrong.
- The paired tests keep their 5 %, with docs that share images too: in the difference of two runs on the same
  docs their difficulties cancel. McNemar's exact test is conservative at n = 60.
- The Hodges-Lehmann interval covers nearly always: scores in quarters have many ties, and ties widen it.
- Upstream's standard error and a paired t-test do as well in the middle of the scale at these sizes. They do
  not say which of the two questions they answer, and standard errors fail near the ends of the scale:
"""

if __name__ == "__main__":
    main()
