"""`--model_args` of the *_mask models: parsed, checked, and each mistake said in one line."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from mimic_eval.records import UserError, nearest, parse_order, whole
from model_adapters.layers import parse_layers
from model_adapters.relevance import parse_relevance

if TYPE_CHECKING:
    from model_adapters.interventions import Intervention

MASKS = ("ar", "block", "mask_only", "none", "unmask_only")
DTYPES = ("auto", "bfloat16", "float16", "float32")
SCORES = ("ratio", "z")
EMPTY_ROWS = ("keep", "mask")
LINKS = ("later_images", "later_tokens")
_WITH_SINKS = ("ar", "mask_only", "unmask_only")
_WITH_RELEVANCE = ("ar", "unmask_only")
_USED_BY = {
    "layers": ("ar", "block", "mask_only", "unmask_only"),
    "prefix": ("block",),
    "empty_rows": ("ar",),
    **dict.fromkeys(("calibration", "tau", "score", "allow_no_sinks"), _WITH_SINKS),
    **dict.fromkeys(("relevance", "grounding", "clip", "links"), _WITH_RELEVANCE),
}
_TEXTS = (
    "pretrained",
    "layers",
    "dtype",
    "device",
    "peft",
    "calibration",
    "score",
    "empty_rows",
    "links",
    "relevance",
    "grounding",
    "clip",
)
_MOST_POOLED = 64
_MOST_KEPT = 2**30
_IGNORED = ("max_batch_size",)
_WORDS = {"true": True, "false": False}


@dataclass(frozen=True)
class AdapterOptions:
    """What a user may say of a *_mask model.

    Attributes:
        pretrained: a folder, a Hub id or ``embedded:NAME``; None: the family's embedded reference checkpoint.
        mask: the intervention.
        layers: as `parse_layers` reads them; None: the mask's default.
        prefix: block: images see the text before the first image too.
        relevance: ar, unmask_only: where relevance comes from, as `parse_relevance` reads it.
        grounding: of relevance: Grounding DINO's folder or Hub id; None: its default.
        clip: of relevance: CLIP's folder or Hub id; None: its default.
        calibration: of sinks: a file of `mimic calibrate`; None: the one in the cache folder.
        score: of sinks: ``ratio`` or ``z`` (METHODS 6).
        tau: of sinks: its threshold; None: 20 for ``ratio``, the calibration's for ``z``.
        allow_no_sinks: run although the checkpoint has no sink dimension.
        empty_rows: ar: ``keep`` or ``mask`` (METHODS 4).
        links: ar, unmask_only: ``later_images`` or ``later_tokens`` (METHODS 4).
        journal: reuse answers that were given before, and keep each new one at once.
        pool: how many neighbouring vision tokens become one; 1: none.
        feature_cache: MiB of memory for what the vision tower made of images; 0: none are kept.
        order: of a doc's images, as `parse_order` returns it.
        dtype: of the weights; ``auto``: float32 on a CPU, else the checkpoint's own.
        device: ``cpu``, ``cuda`` or ``cuda:1``; None: a GPU if there is one.
        device_map: ``auto``: the layers are spread over all GPUs; None: all of it is on `device`.
        peft: a PEFT adapter's folder or Hub id.
        batch_size: docs at a time.
        given: the names the user gave.
    """

    pretrained: str | None = None
    mask: str = "block"
    layers: str | None = None
    prefix: bool = False
    relevance: str = "grounded_clip"
    grounding: str | None = None
    clip: str | None = None
    calibration: str | None = None
    score: str = "ratio"
    tau: float | None = None
    allow_no_sinks: bool = False
    empty_rows: str = "keep"
    links: str = "later_images"
    journal: bool = True
    pool: int = 1
    feature_cache: int = 2048
    order: str = "fixed"
    dtype: str = "auto"
    device: str | None = None
    device_map: str | None = None
    peft: str | None = None
    batch_size: int = 1
    given: frozenset[str] = field(default=frozenset(), repr=False)

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "AdapterOptions":
        """Check what upstream passes on.

        Raises:
            UserError: an unknown key or value, or one that the chosen mask does not use.
        """
        valid = [f.name for f in fields(cls) if f.name != "given"]
        values = {key: value for key, value in given.items() if key not in _IGNORED and value is not None}
        for key in values:
            if key not in valid:
                raise UserError(nearest("model argument", key, valid))
        mask = str(values.get("mask", cls.mask))
        _one_of("mask", mask, MASKS)
        for key, masks in _USED_BY.items():
            if key in values and mask not in masks:
                choices = " or ".join(f"mask={other}" for other in masks)
                raise UserError(
                    f"{key}={values[key]} is not used by mask={mask}: leave it out, or choose {choices}"
                )
        for key in _TEXTS:
            if key in values:
                values[key] = str(values[key])
        named = {"dtype": DTYPES, "score": SCORES, "empty_rows": EMPTY_ROWS, "links": LINKS}
        for key, valid_values in named.items():
            _one_of(key, values.get(key, getattr(cls, key)), valid_values)
        _check_device_map(values)
        for key in ("prefix", "allow_no_sinks"):
            if not isinstance(values.get(key, False), bool):
                raise UserError(f"{key} must be true or false, got '{values[key]}'")
        values["journal"] = _switch("journal", values.get("journal", True))
        if "tau" in values:
            values["tau"] = _positive("tau", values["tau"])
        relevance = parse_relevance(values.get("relevance", cls.relevance))
        for key in ("grounding", "clip"):
            if key in values and key not in relevance.models:
                raise UserError(f"{key}={values[key]} is not used by relevance={relevance}: leave it out")
        names = frozenset(values)
        values["pool"] = whole("pool", _number(values.get("pool", cls.pool)), least=1, most=_MOST_POOLED)
        kept = values.get("feature_cache", cls.feature_cache)
        kept = 0 if kept in ("off", False) else _number(kept)
        values["feature_cache"] = whole("feature_cache", kept, least=0, most=_MOST_KEPT)
        values["order"] = parse_order(str(values.get("order", cls.order)))
        values["batch_size"] = _batch_size(values.get("batch_size", 1))
        return cls(**{**values, "mask": mask}, given=names)

    def intervention(self) -> "Intervention":
        """The intervention that `mask` names."""
        from model_adapters import interventions as known

        match self.mask:
            case "block":
                return known.BlockMask(prefix=self.prefix)
            case "ar":
                return known.AttentionRemasking(links=self.links, empty_rows=self.empty_rows)
            case "mask_only":
                return known.MaskOnly()
            case "unmask_only":
                return known.UnmaskOnly(links=self.links)
        return known.NoIntervention()

    def layer_set(self, depth: int, default: str) -> frozenset[int]:
        """The changed layers of a decoder of `depth` layers; none for ``mask=none``.

        Args:
            depth: layers of the decoder.
            default: the intervention's, ``second_half`` or ``all``.

        Raises:
            UserError: not of a known form, or out of range.
        """
        if self.mask == "none":
            return frozenset()
        layers = parse_layers(self.layers or default, depth)
        if not layers:
            raise UserError(f"layers={self.layers} names no layer: choose mask=none to change nothing")
        return layers


def parse_arg_string(text: str, extra: Mapping[str, Any]) -> dict[str, Any]:
    """``a=x,b=true`` as a mapping, and upstream's own settings beside it.

    Raises:
        UserError: an argument without ``=``, or one given twice.
    """
    for part in text.split(","):
        if part.strip() and "=" not in part:
            raise UserError(f"--model_args must read key=value,key=value; '{part.strip()}' has no '='")
    pairs = [part.split("=", 1) for part in text.split(",") if part.strip()]
    given: dict[str, Any] = {}
    for key, value in ((key.strip(), value.strip()) for key, value in pairs):
        if key in given:
            raise UserError(f"--model_args gives '{key}' twice")
        if not value:
            raise UserError(f"--model_args gives '{key}' no value")
        given[key] = _WORDS.get(value.lower(), value)
    for key, value in extra.items():
        if value is None:
            continue
        if key == "device" and given.get(key, value) != value:
            raise UserError(f"--device {value} and device={given[key]} in --model_args disagree")
        if key != "batch_size" or key not in given:
            given[key] = value
    return given


def _one_of(kind: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise UserError(nearest(kind, value, valid))


def _check_device_map(values: Mapping[str, Any]) -> None:
    if "device_map" not in values:
        return
    if values["device_map"] != "auto":
        raise UserError(f"device_map must be auto, got '{values['device_map']}'")
    if "device" in values:
        raise UserError(f"device={values['device']} is not used with device_map=auto: leave one of them out")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        raise UserError(
            f"device_map=auto spreads one model over all GPUs, and {processes} processes would each do so: "
            "start one process, or leave device_map out"
        )


def _switch(name: str, value: Any) -> bool:
    """``on`` or ``off``; true and false mean the same."""
    words = {"on": True, "off": False, True: True, False: False}
    if value not in words:
        raise UserError(f"{name} must be on or off, got '{value}'")
    return words[value]


def _positive(name: str, value: Any) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise UserError(f"{name} must be a number above 0, got '{value}'")
    return number


def _number(value: Any) -> Any:
    """`value` as an int if it reads like one, else as it is."""
    return int(value) if str(value).isdecimal() else value


def _batch_size(value: Any) -> int:
    if str(value).isdecimal() and int(value) > 0:
        return int(value)
    raise UserError(f"batch_size must be a whole number of at least 1, got '{value}'")
