"""Training samples from LLaVA's mixtures and conversation files, checked before a training starts.

mixture = read_mixture([Path("export/mixture.yaml"), Path("more.jsonl")], image_folder=None)
mixture[0].turns, mixture[0].images
"""

from finetune.mixture.evaluation_sets import EvaluationSetFound, evaluation_sets
from finetune.mixture.reader import Mixture, SetRead, read_mixture
from finetune.mixture.records import Sample, Turn

__all__ = ["EvaluationSetFound", "Mixture", "Sample", "SetRead", "Turn", "evaluation_sets", "read_mixture"]
