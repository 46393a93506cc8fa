"""The named families against the oracle and against transformers' own attention, in batches of 1 and 8."""

from collections.abc import Sequence

import pytest
from parity_models import make_setup
from parity_named import NAMED
from parity_runs import AGAINST, Comparison, Row

STEPS = 2


@pytest.fixture(scope="module", params=list(NAMED))
def comparison(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return Comparison(make_setup(NAMED[request.param], tmp_path_factory.mktemp("named")), steps=STEPS)


def rows_of(comparison: Comparison, mask: str, against: str = AGAINST[0]) -> list[Row]:
    rows = comparison.rows(mask, against=against, dtypes=["float32"], batches=[1, 8])
    return rows + comparison.rows(mask, against=against, dtypes=["float64"], batches=[1, 8])


def assert_parity(rows: Sequence[Row]) -> None:
    for row in rows:
        assert 0 < row.error <= row.tolerance, row
        assert row.same_text in (None, 8), row
        assert row.sinks_moved == 0, row


def test_none_is_transformers_own_generate(comparison: Comparison) -> None:
    assert_parity(rows_of(comparison, "none", AGAINST[1]))
    assert len(set(comparison.truth("none", AGAINST[1]).texts)) >= 4  # answers depend on the docs


@pytest.mark.parametrize("mask", ["block", "ar", "mask_only"])
def test_a_mask_is_the_oracles_in_logits_and_attention(comparison: Comparison, mask: str) -> None:
    rows = rows_of(comparison, mask)
    assert_parity(rows)
    for row in rows:  # the mask does far more than any bar lets pass
        assert row.docs_with_sinks >= 2
        assert row.edit > 20 * row.tolerance, row
        assert row.edited_docs >= 4, row
