"""Docs needed and the smallest detectable difference: simulation, the definition, published sample sizes."""

import numpy as np
import pytest
from scipy.stats import binom, nct, t

from stats import (
    design_effect,
    detectable_mean,
    detectable_share,
    docs_for_mean,
    docs_for_share,
    docs_for_wilcoxon,
    mcnemar_exact,
    paired_mean_difference,
    wilcoxon_power,
    wilcoxon_signed_rank,
)
from stats.rank_power import normal_differences, tilted_differences


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


def test_the_docs_needed_have_power_08_by_simulation_of_the_test_that_compare_runs() -> None:
    needed = docs_for_share(0.1, 0.3)
    assert needed == 249  # Connor 1987 without the exact test's caution: 234
    rng = np.random.default_rng(0)
    draws = rng.multinomial(needed, [0.2, 0.1, 0.7], size=1500)
    power = np.mean([mcnemar_exact(a, b).pvalue < 0.05 for a, b, _ in draws.tolist()])
    assert power == pytest.approx(0.8, abs=0.03)
    small = docs_for_share(0.4, 0.6)
    assert power_by_enumeration(small - 1, 0.6, 0.4) < 0.8 <= power_by_enumeration(small, 0.6, 0.4)
    assert docs_for_share(0.1, 0.3, alpha=0.05 / 4) > 1.35 * needed
    assert docs_for_share(0.1, 0.3, power=0.9) > 1.25 * needed


def test_docs_needed_and_detectable_difference_are_each_others_inverse() -> None:
    for difference, share in ((0.05, 0.2), (0.1, 0.1)):
        needed = docs_for_share(difference, share)
        least = detectable_share(needed, round(share * needed))
        assert least == pytest.approx(difference, rel=0.03)
    assert detectable_mean(docs_for_mean(0.05, 0.3), 0.3) == pytest.approx(0.05, rel=0.01)
    assert docs_for_mean(0.5, 1.0) == 34  # G*Power 3.1: dz = 0.5


def test_clusters_need_more_docs_by_their_design_effect() -> None:
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(600), 4)

    def drawn(groups: int) -> np.ndarray:
        """Groups of 4 docs; half of the docs take the difference of their group's first doc."""
        alone = rng.choice([1.0, -1.0, 0.0], p=[0.2, 0.1, 0.7], size=(groups, 4))
        return np.where(rng.random((groups, 4)) < 0.5, alone[:, :1], alone).ravel()

    effect = np.mean([design_effect(drawn(600), clusters.tolist()) or 0 for _ in range(20)])
    assert effect == pytest.approx(1 + 2 * (3 * 0.5 + 3 * 0.25) / 4, abs=0.05)
    needed = docs_for_share(0.1, 0.3, design=float(effect))
    groups = round(needed / 4)
    found = [
        paired_mean_difference(
            drawn(groups), np.zeros(4 * groups), clusters=clusters[: 4 * groups].tolist()
        ).pvalue
        for _ in range(300)
    ]
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.8, abs=0.07)
    assert design_effect([1.0, 0.0, 1.0], ["a", "b", "c"]) == pytest.approx(1.0)
    assert design_effect([1.0, 1.0], ["a", "b"]) is None


@pytest.mark.parametrize("observed", [False, True])
def test_wilcoxons_docs_have_power_08_in_another_simulation(observed: bool) -> None:
    rng = np.random.default_rng(2)
    f1 = rng.choice(
        [0.0, 0.25, -0.25, 0.5, -0.5, 1.0, -1.0], p=[0.4, 0.2, 0.2, 0.06, 0.06, 0.04, 0.04], size=150
    )
    if observed:
        planned = docs_for_wilcoxon(0.08, differences=f1)
        among = tilted_differences(f1, 0.08)
        values = rng.choice(among.values, p=among.chances, size=(400, planned.docs))
        assert float(among.values @ among.chances) == pytest.approx(0.08)
        assert 0.3 < among.chances[among.values == 0].sum() < 0.5
    else:
        planned = docs_for_wilcoxon(0.08, spread=0.4)
        values = rng.normal(0.08, 0.4, size=(400, planned.docs))
        # Pitman efficiency 3/pi against the t test's 199 docs.
        assert planned.docs == pytest.approx(docs_for_mean(0.08, 0.4) * np.pi / 3, rel=0.05)
    power = np.mean([wilcoxon_signed_rank(row).pvalue < 0.05 for row in values])
    assert power == pytest.approx(0.8, abs=0.06)
    assert planned.low <= 0.82
    assert planned.high >= 0.8
    assert planned == docs_for_wilcoxon(0.08, **({"differences": f1} if observed else {"spread": 0.4}))


def test_few_docs_are_tested_exactly_and_large_effects_need_few() -> None:
    among = normal_differences(0.5, 0.3)
    assert wilcoxon_power(5, among, draws=200) == 0.0  # 5 docs of one sign: p = 0.0625
    assert docs_for_wilcoxon(0.5, spread=0.3, draws=300).docs in (6, 7)


def test_plans_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"`discordant` must be within the difference and 1, 0\.3 to 1, got 0\.2"
    ):
        docs_for_share(0.3, 0.2)
    with pytest.raises(ValueError, match="`difference` must be a finite number above 0, got 0"):
        docs_for_share(0, 0.2)
    with pytest.raises(ValueError, match=r"below the largest observed one, 0\.5, got 0\.6"):
        docs_for_wilcoxon(0.6, differences=[0.5, 0, -0.5])
    with pytest.raises(ValueError, match="more than 10,000,000 docs"):
        docs_for_mean(1e-5, 1.0)
    with pytest.raises(ValueError, match="one of the two"):
        docs_for_wilcoxon(0.1)
