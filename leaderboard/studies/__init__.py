"""What a study (`mimic reproduce`) found: its page, figures and tables, from the folder that it wrote.

`mimic_eval.studies` runs a study; this package reads its folder and never runs anything. Between them is
``study.json`` in the study's folder::

    {"version": 1,
     "study": "ar:sec3.1",
     "output": {...},               the key `output` of the study's YAML, as it is there
     "command": "mimic reproduce ar:sec3.1 --model ...",
     "versions": {"mimic_eval": ..., "lmms_eval": ..., "torch": ..., "transformers": ...},
     "machine": "2 x CPU ...",      in words
     "started": "2026-11-28T20:40:00Z",
     "cells": [
        {"name": "none",            of the cell, unique
         "arm": "none",             the name of its arm in the YAML: what is compared
         "model": "llava_ov_mask",  lmms-eval's name
         "model_args": "pretrained=...,mask=none",
         "kind": "run",             or "diagnose" (a folder of `mimic diagnose`)
         "folder": "cells/none",    below the study's folder: an --output_path, or an --out
         "command": "lmms_eval --tasks ...",   that repeats the cell alone
         "missing": null,           or why the cell was not run ("needs --adapter block=DIR"), one line
         "cost": {"seconds": 12.3, "peak_memory": 1234567890,   bytes; null where not known
                  "docs": 50, "passes": 50, "prompt_tokens": 1, "image_tokens": 1, "generated_tokens": 1,
                  "attention": {...}}}]}                        see `leaderboard.studies.costs`

The key `output` of a study's YAML belongs to this package: `leaderboard.studies.output.read_output` checks
it (one line for a wrong key) and gives it a type. All else of the YAML belongs to `mimic_eval.studies.spec`.
"""
