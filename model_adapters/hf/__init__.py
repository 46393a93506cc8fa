"""`hf_mask`: any vision-language model of transformers, by evidence instead of family code.

`evidence` runs a model on small pictures; `calls` calls its processor and shares image tokens among images;
`base_masks` reads what each layer lets a token see; `checks` puts them together; `family` is what an adapter
gets.
"""

from model_adapters.hf.family import HfFamily

__all__ = ["HfFamily"]
