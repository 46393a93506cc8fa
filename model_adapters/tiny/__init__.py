"""Tiny checkpoints with random weights, in the real architectures and the real on-disk format.

They run through exactly the code of a real checkpoint. Their answers mean nothing.
"""

from model_adapters.tiny.llava_onevision import make_tiny_llava_onevision

__all__ = ["make_tiny_llava_onevision"]
