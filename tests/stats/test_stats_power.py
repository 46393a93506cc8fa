"""The smallest detectable difference, against simulation, the definition and published sample sizes."""

import numpy as np
import pytest
from scipy.stats import binom, nct, t

from stats import detectable_mean, detectable_share, mcnemar_exact


def power_by_enumeration(n: int, share: float, difference: float) -> float:
    total = 0.0
    for discordant in range(n + 1):
        for up in range(discordant + 1):
            if mcnemar_exact(up, discordant - up).pvalue < 0.05:
                chance = binom.pmf(up, discordant, (1 + difference / share) / 2)
                total += binom.pmf(discordant, n, share) * chance
    return total


@pytest.mark.parametrize(("n", "discordant"), [(20, 8), (40, 10)])
def test_the_least_difference_has_power_08_by_enumeration(n: int, discordant: int) -> None:
    least = detectable_share(n, discordant)
    assert least is not None
    share = max(discordant / n, least)
    assert 0.8 <= power_by_enumeration(n, share, least) < 0.803
    assert power_by_enumeration(n, max(discordant / n, least - 0.01), least - 0.01) < 0.8


def test_connors_sample_size_is_met_up_to_the_exact_tests_caution() -> None:
    # Connor 1987 (Biometrics 43, 207-211): n = (z_a sqrt(share) + z_b sqrt(share - d^2))^2 / d^2; for a share
    # of 0.3 and d = 0.1 at 5 % and power 0.8: 234 docs for the test without continuity correction.
    least = detectable_share(234, 70)
    assert least is not None
    assert 0.1 < least < 0.11


def test_too_few_docs_detect_nothing() -> None:
    assert detectable_share(5, 0) is None  # five docs of one direction: p = 0.0625
    assert detectable_share(6, 6) is not None
    assert detectable_mean(1, 0.3) is None
    assert detectable_mean(20, 0.0) is None
    with pytest.raises(ValueError, match="`discordant` must be an integer within 0-5, got 6"):
        detectable_share(5, 6)
    with pytest.raises(ValueError, match="`spread` must be a finite number >= 0, got -1"):
        detectable_mean(5, -1)


@pytest.mark.parametrize("n", [8, 60])
def test_the_least_mean_has_power_08_by_the_noncentral_t(n: int) -> None:
    least = detectable_mean(n, 0.3)
    assert least is not None
    critical, shift = t.ppf(0.975, n - 1), least / 0.3 * np.sqrt(n)
    assert nct.sf(critical, n - 1, shift) + nct.cdf(-critical, n - 1, shift) == pytest.approx(0.8, abs=1e-4)


def test_cohens_table_of_the_paired_t_test() -> None:
    # Cohen 1988, as G*Power 3.1 prints it: dz = 0.5 at power 0.8 needs 34 pairs.
    assert detectable_mean(34, 1.0) == pytest.approx(0.5, abs=0.01)
