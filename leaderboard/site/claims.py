"""Whether the numbers of a submission can be what they claim (METHODS 16.3)."""

from pathlib import Path
from typing import NamedTuple

from leaderboard.runs import read_run, results_files
from leaderboard.summary import Row, summarize_run
from mimic_eval.records import OVER_ORDERS
from stats import Attainability, attainable

_DECIMALS = 6
"""A score is checked to so many decimals: the sum behind a mean may be off in the last of a float."""


class Claim(NamedTuple):
    """One number of a results file, and whether it is attainable."""

    file: str
    task: str
    metric: str
    printed: str
    n: int
    check: Attainability

    @property
    def line(self) -> str:
        """For the terminal."""
        where = f"{self.file}: {self.task} {self.metric} = {self.printed}, n {self.n}"
        return f"{where}: {self.check.verdict} ({self.check.reason})"


def claims_of(folder: Path) -> list[Claim]:
    """The scores in a submission's results files, in their order; n is counted in the samples.

    Raises:
        UserError: the files are not in lmms-eval's form.
    """
    claims = []
    for path in results_files(folder):
        name, run = path.relative_to(folder).as_posix(), read_run(path)
        for row in summarize_run(run):
            claimed = run.results["results"][row.task].get(f"{row.metric},none")
            if isinstance(claimed, int | float) and row.n:
                check = check_score(row, claimed)
                claims.append(Claim(name, row.task, row.metric, _printed(claimed), row.n, check))
    return claims


def check_score(row: Row, score: float) -> Attainability:
    """Whether a score of a row's metric can be a count of its docs.

    Args:
        row: of the table; its n counts.
        score: as claimed, a share.
    """
    if OVER_ORDERS in row.metric or not row.metric.startswith(("exact_match", "exact_list")):
        reason = "an F1" if "f1" in row.metric else "a mean of graded scores"
        return Attainability("cannot be said", f"{reason} is no share of docs")
    return attainable(_printed(score), row.n, full=1)


def _printed(score: float) -> str:
    return f"{score:.{_DECIMALS}f}"
