"""How a run is called in every table, figure and page: by its checkpoint, adapter and intervention, and by
each setting that is not the default."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

DEFAULTS = {
    "links": "later_images",
    "variant": "paper",
    "score": "ratio",
    "tau": 20.0,
    "prefix": False,
    "empty_rows": "keep",
    "sigma": 0.5,
    "own_image": False,
    "box_threshold": 0.35,
    "text_threshold": 0.25,
    "top": 5,
    "relevance_dtype": "float32",
    "pool": 1,
    "order": "fixed",
    "image_marks": "remove",
    "lambda": 0.1,
    "noise": "imagenet_uniform",
    "shared_noise": False,
    "noise_seed": 0,
    "shifts": "all",
    "scale": 8.0,
    "p": 0.6,
    "rho": 0.5,
    "min_visual_share": 0.2,
    "rows": "after_last",
    "alpha": 0.5,
}
"""Settings that a label names only where they have another value."""

DEFAULTS_OF_A_MASK = {"var": {"heads": "selected"}}
"""The same of settings whose default depends on the mask."""

USUAL = {"pool": 1, "order": "fixed"}
"""Settings that older runs and other models do not announce, and what they then are."""

_FIRST = ("relevance", "edges", "heads", *DEFAULTS)
_OF_THE_LABEL = ("checkpoint", "checkpoint_kind", "peft", "mask", "layers")
_LISTS, _LONGEST = ("edges", "heads"), 100
"""Settings that may be long lists, and the characters of one in a label."""

_DETAILS = (
    "family", "depth", "dtype", "device", "device_map", "tp_plan", "batch_size", "kernel", "sink_dimensions",
    "mu", "sigma", "calibration", "kind", "grounding", "sam", "clip", "generation", "end_tokens",
    "generation_config_unused", "tuned",
)  # fmt: skip
"""Settings that follow from others or from the machine: named only where all else is the same."""


PROSE = {
    "none": "base", "block": "block masking", "ar": "AR", "mask_only": "sink masking",
    "unmask_only": "unmasking",
    "var": "VAR", "sofa": "SoFA", "focus": "FOCUS", "knockout": "attention knockout",
    "orders": "order averaging", "delimiters": "delimiter scaling", "dab": "DAB",
}  # fmt: skip
"""What a sentence calls an intervention (METHODS 1)."""


class Named(NamedTuple):
    """What a label is made from: lmms-eval's model name, and the settings that the run announced."""

    model: str
    settings: Mapping[str, Any]


class Label(NamedTuple):
    """A run in three columns.

    Attributes:
        model: lmms-eval's model name.
        checkpoint: as given, with the kind of its weights where that is noted, and the adapter.
        setting: the intervention with its layers, then the settings that are not the defaults.
    """

    model: str
    checkpoint: str
    setting: str


def labels(runs: Sequence[Named]) -> list[Label]:
    """The label of each run; runs with different settings never have the same."""
    labelled = [label(run) for run in runs]
    for indices in _alike(labelled, runs):
        also = differing([runs[index].settings for index in indices])
        for index in indices:
            labelled[index] = label(runs[index], also)
    for indices in _alike(labelled, runs):
        numbers: dict[str, int] = {}
        for index in indices:
            number = numbers.setdefault(_identity(runs[index]), len(numbers) + 1)
            labelled[index] = labelled[index]._replace(setting=f"{labelled[index].setting} #{number}")
    return labelled


def label(run: Named, also: Iterable[str] = ()) -> Label:
    """The label of one run; `also` are settings that it names though they are defaults or details."""
    return Label(run.model, checkpoint_label(run.settings), setting_label(run.settings, also))


def brief_labels(runs: Sequence[Named], *, prose: bool = False) -> list[str]:
    """Only what distinguishes each run from the others; equal for runs that nothing distinguishes.

    Args:
        runs: to be distinguished.
        prose: for a sentence, ``block masking (layers 3-5)``, else for a table, ``block 3-5``.
    """
    parts = [_parts(run) for run in runs]
    if prose:
        parts = [{**part, "mask": mask_in_words(run.settings)} for part, run in zip(parts, runs, strict=True)]
    every = list(dict.fromkeys(key for part in parts for key in part))
    values = {key: [part.get(key) for part in parts] for key in every}
    chosen = [key for key in every if len({text for text in values[key] if text is not None}) > 1]
    if len(set(values.get("adapter", ()))) > 1:
        chosen = [key for key in every if key in (*chosen, "adapter")]
    texts = _joined(parts, chosen)
    if len(set(texts)) < len(runs) or not all(texts):
        texts = _joined(parts, [key for key in every if len(set(values[key])) > 1])
    return texts


def checkpoint_label(settings: Mapping[str, Any]) -> str:
    """``embedded (random) + folder/of/adapter``: as given, with the kind of its weights and the adapter."""
    kind, adapter = settings.get("checkpoint_kind"), settings.get("peft")
    name = str(settings.get("checkpoint"))
    name = f"{name} ({text(kind)})" if kind else name
    return f"{name} + {text(adapter)}" if adapter else name


def mask_label(settings: Mapping[str, Any]) -> str:
    """``block 12-23``: the intervention and its layers."""
    mask, layers = text(settings.get("mask", "-")), settings.get("layers")
    return f"{mask} {text(layers)}" if layers and layers != "none" else mask


def mask_in_words(settings: Mapping[str, Any]) -> str:
    """``block masking (layers 12-23)``, ``base``: the intervention and its layers in a sentence."""
    mask, layers = text(settings.get("mask", "-")), settings.get("layers")
    name = PROSE.get(mask, mask)
    return f"{name} (layers {text(layers)})" if layers and layers != "none" else name


def setting_label(settings: Mapping[str, Any], also: Iterable[str] = ()) -> str:
    """``ar 12-23, relevance attention, pool 4``: the intervention, and all that is not the default."""
    return ", ".join([mask_label(settings), *others(settings, also)])


def others(settings: Mapping[str, Any], also: Iterable[str] = ()) -> list[str]:
    """Each setting besides checkpoint, adapter and intervention that is not the default, as ``pool 4``."""
    also = set(also)
    announced = _announced(settings)
    return [
        _named(key, announced.get(key, "-"))
        for key in _sorted({*announced, *also})
        if key in also
        or not (key in _OF_THE_LABEL or _is_detail(key, announced) or _is_default(key, announced))
    ]


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings that are not the same in all of several runs."""
    every = [_announced(one) for one in settings]
    keys = {key for one in every for key in one}
    return _sorted(key for key in keys if len({text(one.get(key)) for one in every}) > 1)


def usual_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The pooling and the image order of a run, announced or not."""
    return {key: usual if settings.get(key) is None else settings[key] for key, usual in USUAL.items()}


def _announced(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that have a value, those that every run has among them."""
    return {
        key: value for key, value in {**settings, **usual_settings(settings)}.items() if value is not None
    }


def text(value: Any) -> str:
    """A setting's value as the user writes it: ``true``, ``4``, ``attention``."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _named(key: str, value: Any) -> str:
    """A setting and its value: ``pool 4``.

    Of a long list (heads from a file) the beginning, and a hash, so that two of them never read the same.
    """
    whole = text(value)
    if key in _LISTS and len(whole) > _LONGEST:
        whole = f"{whole[:_LONGEST]}... ({hashlib.sha256(whole.encode()).hexdigest()[:8]})"
    return f"{key} {whole}"


def _is_detail(key: str, settings: Mapping[str, Any]) -> bool:
    """Whether a setting is one of `_DETAILS`; SoFA's sigma is what the user chose, a calibration's is not."""
    return key in _DETAILS and not (key == "sigma" and settings.get("mask") == "sofa")


def _is_default(key: str, settings: Mapping[str, Any]) -> bool:
    default = DEFAULTS_OF_A_MASK.get(str(settings.get("mask")), {}).get(key, DEFAULTS.get(key))
    return settings[key] == default or text(settings[key]) == text(default)


def _sorted(keys: Iterable[str]) -> list[str]:
    return sorted(keys, key=lambda key: (_FIRST.index(key) if key in _FIRST else len(_FIRST), key))


def _parts(run: Named) -> dict[str, str]:
    """All that a label may name, in its order; what a run did not announce is left out."""
    settings = _announced(run.settings)
    adapter = settings.get("peft")
    named = {
        "model": run.model,
        "checkpoint": checkpoint_label({**settings, "peft": None}),
        **({"adapter": f"adapter {text(adapter)}"} if adapter else {}),
        "mask": mask_label(settings),
    }
    rest = [key for key in _sorted(settings) if key not in _OF_THE_LABEL]
    return named | {key: _named(key, settings[key]) for key in rest}


def _joined(parts: Sequence[Mapping[str, str]], keys: Sequence[str]) -> list[str]:
    labels = []
    for part in parts:
        texts = [part.get(key, f"no {key}") for key in keys if key in part or key == "adapter"]
        labels.append(", ".join(texts) or ", ".join(f"no {key}" for key in keys))
    return labels


def _alike(labels: Sequence[Label], runs: Sequence[Named]) -> list[list[int]]:
    """The indices of labels that read the same and belong to runs with different settings."""
    counts = Counter(labels)
    groups = [[i for i, label in enumerate(labels) if label == one] for one, n in counts.items() if n > 1]
    return [indices for indices in groups if len({_identity(runs[i]) for i in indices}) > 1]


def _identity(run: Named) -> str:
    return json.dumps(
        [run.model, sorted((key, text(value)) for key, value in _announced(run.settings).items())]
    )
