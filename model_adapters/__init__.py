"""Vision-language models for lmms-eval, with interventions on the decoder's attention."""
