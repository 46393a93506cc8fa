"""Training: reference checkpoints of a few million parameters, learnt from nothing on glyph scenes.

The scenes, the questions and the prompts are those of the benchmark, the loop is transformers' `Trainer`, and
a mask is learnt through the very engine that evaluates it.
"""
