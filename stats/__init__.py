"""Statistics: intervals, paired tests and effect sizes over docs (METHODS 9). Imports nothing of ours."""

from stats.bootstrap import F1, F1Interval, f1_from_counts, micro_f1
from stats.clusters import ClusterInterval, NotEstimableError, cluster_bootstrap
from stats.entropy import EntropyNull, entropy_null
from stats.f1_difference import F1Difference, drawn_micro_f1, micro_f1_difference
from stats.flips import FlipRate, any_change, flip_rate, pairwise_disagreement
from stats.groups import Groups, connected_groups
from stats.means import MeanInterval, mean_interval
from stats.multiple import Holm, holm
from stats.paired import (
    DiscordantOdds,
    McNemar,
    RiskDifference,
    discordant_odds_ratio,
    mcnemar_exact,
    paired_risk_difference,
)
from stats.positions import PositionRho, PositionSlope, position_slope, spearman_per_doc
from stats.proportions import Interval, clopper_pearson, rule_of_three, wilson
from stats.ranks import RankBiserial, SignedRank, rank_biserial, wilcoxon_signed_rank
from stats.shift import Shift, hodges_lehmann

__all__ = [
    "F1",
    "ClusterInterval",
    "DiscordantOdds",
    "EntropyNull",
    "F1Difference",
    "F1Interval",
    "FlipRate",
    "Groups",
    "Holm",
    "Interval",
    "McNemar",
    "MeanInterval",
    "NotEstimableError",
    "PositionRho",
    "PositionSlope",
    "RankBiserial",
    "RiskDifference",
    "Shift",
    "SignedRank",
    "any_change",
    "clopper_pearson",
    "cluster_bootstrap",
    "connected_groups",
    "discordant_odds_ratio",
    "drawn_micro_f1",
    "entropy_null",
    "f1_from_counts",
    "flip_rate",
    "hodges_lehmann",
    "holm",
    "mcnemar_exact",
    "mean_interval",
    "micro_f1",
    "micro_f1_difference",
    "paired_risk_difference",
    "pairwise_disagreement",
    "position_slope",
    "rank_biserial",
    "rule_of_three",
    "spearman_per_doc",
    "wilcoxon_signed_rank",
    "wilson",
]
