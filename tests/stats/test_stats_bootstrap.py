"""The percentile bootstrap: its definition, its seed, and statistics that are not always defined."""

import numpy as np
import pytest

from stats import bootstrap


def test_the_interval_is_that_of_all_resamples_drawn_by_the_seed() -> None:
    values = np.array([1.0, 2.0, 4.0, 8.0])
    found = bootstrap(lambda docs: float(values[docs].mean()), 4, draws=500, seed=3)
    rng = np.random.default_rng(3)
    means = [values[rng.integers(4, size=4)].mean() for _ in range(500)]
    assert found.estimate == 3.75
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    assert (found.n, found.draws, found.seed, found.undefined) == (4, 500, 3, 0.0)


def test_resamples_without_a_value_are_counted_and_too_many_give_no_interval() -> None:
    def needs_doc_0(docs: np.ndarray) -> float | None:
        return 1.0 if 0 in docs else None

    some = bootstrap(needs_doc_0, 2, draws=400)
    assert some.undefined == pytest.approx(0.25, abs=0.07)
    assert (some.low, some.high) == (1.0, 1.0)
    none = bootstrap(lambda docs: 1.0 if len(set(docs)) == len(docs) else None, 9, draws=200)
    assert (none.estimate, none.low, none.high) == (1.0, None, None)
    assert none.undefined > 0.9
    assert bootstrap(lambda docs: None, 3, draws=10).estimate is None


@pytest.mark.parametrize(
    ("given", "line"), [({"n": 0}, "`n`"), ({"draws": 0}, "`draws`"), ({"seed": -1}, "`seed`")]
)
def test_arguments_out_of_range_are_refused(given: dict[str, int], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        bootstrap(lambda docs: 1.0, **{"n": 3, **given})
