"""Tiny checkpoints with random weights, in the real architectures and the real on-disk format.

They run through exactly the code of a real checkpoint. Their answers mean nothing.
"""

from model_adapters.tiny.internvl import make_tiny_internvl
from model_adapters.tiny.llava import make_tiny_llava
from model_adapters.tiny.llava_onevision import make_tiny_llava_onevision
from model_adapters.tiny.qwen2_vl import make_tiny_qwen2_vl

__all__ = ["make_tiny_internvl", "make_tiny_llava", "make_tiny_llava_onevision", "make_tiny_qwen2_vl"]
