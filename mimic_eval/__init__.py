"""What the rooms of mimic-eval share (`records`) and, on top of everything, the commands (`cli`)."""

__version__ = "0.1.0"
