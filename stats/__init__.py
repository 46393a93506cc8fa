"""Statistics: intervals, paired tests and effect sizes over docs (METHODS 9). Imports nothing of ours."""

from stats.attainable import Attainability, attainable, attainable_numbers, overall_attainable
from stats.bootstrap import Bootstrap, bootstrap
from stats.clusters import NotEstimableError, design_effect, image_clusters
from stats.deviation import RelativeDeviation, relative_deviation
from stats.entropy import EntropyNull, entropy_null
from stats.equivalence import (
    Equivalence,
    docs_for_equivalent_means,
    docs_for_equivalent_shares,
    equivalent_f1,
    equivalent_means,
    equivalent_shares,
)
from stats.f1 import F1, F1Interval, f1_from_counts, micro_f1, micro_f1_difference
from stats.flips import FlipRate, any_change, flip_rate, pairwise_disagreement
from stats.groups import Groups, connected_groups
from stats.means import MeanInterval, PairedDifference, mean_interval, paired_mean_difference
from stats.multiple import Holm, holm
from stats.paired import (
    DiscordantOdds,
    McNemar,
    RiskDifference,
    discordant_odds_ratio,
    mcnemar_exact,
    paired_risk_difference,
)
from stats.positions import (
    DocSlopes,
    PositionRho,
    PositionSlope,
    doc_slopes,
    position_slope,
    spearman_per_doc,
)
from stats.power import detectable_mean, detectable_share, docs_for_mean, docs_for_share
from stats.proportions import Interval, clopper_pearson, rule_of_three, wilson
from stats.rank_power import SimulatedDocs, docs_for_wilcoxon, wilcoxon_power
from stats.ranks import RankBiserial, SignedRank, rank_biserial, rank_direction, wilcoxon_signed_rank
from stats.set_slopes import SetSlopes, set_slopes
from stats.shift import Shift, hodges_lehmann
from stats.sign_flip import SignFlip, sign_flip

__all__ = [
    "F1",
    "Attainability",
    "Bootstrap",
    "DiscordantOdds",
    "DocSlopes",
    "EntropyNull",
    "Equivalence",
    "F1Interval",
    "FlipRate",
    "Groups",
    "Holm",
    "Interval",
    "McNemar",
    "MeanInterval",
    "NotEstimableError",
    "PairedDifference",
    "PositionRho",
    "PositionSlope",
    "RankBiserial",
    "RelativeDeviation",
    "RiskDifference",
    "SetSlopes",
    "Shift",
    "SignFlip",
    "SignedRank",
    "SimulatedDocs",
    "any_change",
    "attainable",
    "attainable_numbers",
    "bootstrap",
    "clopper_pearson",
    "connected_groups",
    "design_effect",
    "detectable_mean",
    "detectable_share",
    "discordant_odds_ratio",
    "doc_slopes",
    "docs_for_equivalent_means",
    "docs_for_equivalent_shares",
    "docs_for_mean",
    "docs_for_share",
    "docs_for_wilcoxon",
    "entropy_null",
    "equivalent_f1",
    "equivalent_means",
    "equivalent_shares",
    "f1_from_counts",
    "flip_rate",
    "hodges_lehmann",
    "holm",
    "image_clusters",
    "mcnemar_exact",
    "mean_interval",
    "micro_f1",
    "micro_f1_difference",
    "overall_attainable",
    "paired_mean_difference",
    "paired_risk_difference",
    "pairwise_disagreement",
    "position_slope",
    "rank_biserial",
    "rank_direction",
    "relative_deviation",
    "rule_of_three",
    "set_slopes",
    "sign_flip",
    "spearman_per_doc",
    "wilcoxon_power",
    "wilcoxon_signed_rank",
    "wilson",
]
