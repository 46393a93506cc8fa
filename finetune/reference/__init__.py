"""Reference checkpoints of a few million parameters, trained from nothing on glyph scenes.

The scenes, the questions and the prompts are those of the benchmark, the loop is transformers' `Trainer`, and
a mask is learnt through the very engine that evaluates it.
"""

from finetune.reference.options import FAMILIES, MASKS, ReferenceOptions
from finetune.reference.training import train_reference

__all__ = ["FAMILIES", "MASKS", "ReferenceOptions", "train_reference"]
