"""Sinks: visual tokens with a massive activation, their score, and its calibration (METHODS 6)."""

from model_adapters.sinks.calibration import (
    Calibration,
    Corpus,
    LayerMagnitudes,
    SinkDimension,
    model_config,
)
from model_adapters.sinks.files import (
    calibrate_command,
    default_path,
    find_calibration,
    load_calibration,
    save_calibration,
)
from model_adapters.sinks.missing import (
    CalibrationDocs,
    calibrate_within_memory,
    calibrating_with,
    find_or_make_calibration,
)
from model_adapters.sinks.score import DEFAULT_TAU, FindSinks, ratio_score, visual_tokens, z_score
from model_adapters.sinks.statistics import CorpusDoc, calibrate

__all__ = [
    "DEFAULT_TAU",
    "Calibration",
    "CalibrationDocs",
    "Corpus",
    "CorpusDoc",
    "FindSinks",
    "LayerMagnitudes",
    "SinkDimension",
    "calibrate",
    "calibrate_command",
    "calibrate_within_memory",
    "calibrating_with",
    "default_path",
    "find_calibration",
    "find_or_make_calibration",
    "load_calibration",
    "model_config",
    "ratio_score",
    "save_calibration",
    "visual_tokens",
    "z_score",
]
