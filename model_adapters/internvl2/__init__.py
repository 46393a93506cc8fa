"""InternVL2's original layout (METHODS 12), converted to transformers' own InternVL without remote code.

`OriginalCheckpoint` reads it: its `config`, `weights` and `make_processor` are what `loading` needs to
load it in memory; `convert` writes it as a checkpoint in the `-hf` format.
"""

from model_adapters.internvl2.checkpoint import MODEL_TYPE, NATIVE_TYPE, OriginalCheckpoint, convert
from model_adapters.internvl2.files import local_folder
from model_adapters.internvl2.rope import steady_rope

__all__ = ["MODEL_TYPE", "NATIVE_TYPE", "OriginalCheckpoint", "convert", "local_folder", "steady_rope"]
