"""`--model_args` of the *_mask models: parsed, checked, and each mistake said in one line."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from mimic_eval.records import MARK_RULES, UserError, check_integer, nearest, parse_order
from mimic_eval.records.processes import world_size
from model_adapters.arguments import Arguments
from model_adapters.interventions import INTERVENTIONS
from model_adapters.interventions.options import MaskOptions
from model_adapters.layers import parse_layers
from model_adapters.providers import PROVIDERS, RelevanceOptions, SinkOptions
from model_adapters.tuning import Tuning, read_tuning
from model_adapters.vision_limits import LIMITS

if TYPE_CHECKING:
    from model_adapters.interventions.base import Intervention

_MOST_POOLED = 64
_MOST_CACHED = 2**30
_MOST_PIXELS = 2**30
_IGNORED = ("max_batch_size",)
OF_LOADING = ("pretrained", "peft", "dtype", "device", "device_map", "tp_plan", "batch_size",
              "feature_cache", *LIMITS)  # fmt: skip
"""Arguments that hold as long as a model is loaded."""
_WORDS = {"true": True, "false": False}


class ModelOptions(Arguments):
    """What a user may say of any *_mask model, whatever its mask."""

    pretrained: str | None = Field(
        default=None,
        description="a folder, a Hub id or `embedded:NAME`; the family's packaged checkpoint if not given",
    )
    mask: str = Field(default="block", description="the intervention")
    layers: str | None = Field(
        default=None,
        description="where the mask applies: `second_half`, `first_half`, `all`, `12`, `12-23`, slices as "
        "`::2` or `2:-1`, several joined by `+`; else the mask's default",
    )
    journal: bool = Field(default=True, description="`on` or `off`: store each answer, and reuse stored ones")
    pool: int = Field(
        default=1, description="average pooling of each image's tokens: window and stride, 1-64; 1 is off"
    )
    feature_cache: int = Field(
        default=2048, description="MiB of memory for the vision tower's output of each image; `off`: none"
    )
    min_pixels: int | None = Field(
        default=None, description="fewest pixels of a picture, which is enlarged to them (Qwen-VL)"
    )
    max_pixels: int | None = Field(
        default=None, description="most pixels of a picture, which is shrunk to them (Qwen-VL)"
    )
    max_tiles: int | None = Field(
        default=None, description="most tiles of a picture (InternVL, LLaVA-NeXT, LLaVA-OneVision)"
    )
    image_size: int | None = Field(
        default=None, description="pixels of a picture's longer side (Idefics2, Idefics3, SmolVLM)"
    )
    tuned: str | None = Field(
        default=None,
        description="a file of `mimic tune`, which sets the mask and the argument that was chosen",
    )
    order: str = Field(
        default="fixed", description="order of a doc's images: `fixed`, `reversed`, `seeded` or `seeded:SEED`"
    )
    image_marks: str = Field(
        default="remove",
        description="`<image>` in a task's text: `remove`, `interleave` (the images stand there) or `text` "
        "(the model reads it)",
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto", description="of the weights; `auto`: float32 on a CPU, else the checkpoint's"
    )
    device: str | None = Field(default=None, description="`cpu`, `cuda` or `cuda:1`; a GPU if there is one")
    device_map: Literal["auto"] | None = Field(
        default=None, description="`auto`: the layers of one model are spread over all GPUs, by accelerate"
    )
    tp_plan: Literal["auto"] | None = Field(
        default=None,
        description="`auto`: each process of `torchrun` holds a part of each layer of one model, by "
        "transformers' plan",
    )
    peft: str | None = Field(default=None, description="a PEFT adapter's folder or Hub id")
    batch_size: int = Field(
        default=1, description="docs at a time, or passes of a mask that has several for each doc"
    )

    @field_validator("layers", mode="before")
    @classmethod
    def _layers(cls, value: Any) -> Any:
        return "+".join(map(str, value)) if isinstance(value, list | tuple | range) else value

    @field_validator("journal", mode="before")
    @classmethod
    def _journal(cls, value: Any) -> bool:
        words = {"on": True, "off": False, True: True, False: False}
        if value not in words:
            raise UserError(f"journal must be on or off, got '{value}'")
        return words[value]

    @field_validator("pool", mode="before")
    @classmethod
    def _pool(cls, value: Any) -> int:
        return check_integer("pool", _number(value), least=1, most=_MOST_POOLED)

    @field_validator(*LIMITS, mode="before")
    @classmethod
    def _limits(cls, value: Any, info: ValidationInfo) -> int:
        return check_integer(str(info.field_name), _number(value), least=1, most=_MOST_PIXELS)

    @field_validator("feature_cache", mode="before")
    @classmethod
    def _feature_cache(cls, value: Any) -> int:
        number = 0 if value in ("off", False) else _number(value)
        return check_integer("feature_cache", number, least=0, most=_MOST_CACHED)

    @field_validator("order", mode="before")
    @classmethod
    def _order(cls, value: Any) -> str:
        return parse_order(str(value))

    @field_validator("image_marks", mode="before")
    @classmethod
    def _image_marks(cls, value: Any) -> str:
        if value not in MARK_RULES:
            raise UserError(nearest("image_marks", str(value), MARK_RULES))
        return str(value)

    @field_validator("device_map", "tp_plan", mode="before")
    @classmethod
    def _spread(cls, value: Any, info: ValidationInfo) -> Any:
        if value != "auto":
            raise UserError(f"{info.field_name} must be auto, got '{value}'")
        return value

    @field_validator("batch_size", mode="before")
    @classmethod
    def _batch_size(cls, value: Any) -> int:
        if not str(value).isdecimal() or int(value) < 1:
            raise UserError(f"batch_size must be an integer of at least 1, got '{value}'")
        return int(value)


@dataclass(frozen=True)
class AdapterOptions:
    """All that a user said of a *_mask model.

    Attributes:
        general: whatever the mask.
        mask: of the intervention.
        sinks: if the intervention needs them.
        relevance: if the intervention needs it.
        given: the names of the arguments that the user gave.
        tuning: the file that set one of the arguments, or None.
    """

    general: ModelOptions
    mask: MaskOptions
    sinks: SinkOptions | None
    relevance: RelevanceOptions | None
    given: frozenset[str]
    tuning: Tuning | None = None

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "AdapterOptions":
        """Check what upstream passes on.

        Raises:
            UserError: an unknown key or value, one that the chosen mask does not use, or one that differs
                from what ``tuned=`` chose.
        """
        values = {key: value for key, value in given.items() if key not in _IGNORED and value is not None}
        tuning = None if "tuned" not in values else read_tuning(Path(str(values["tuned"])).expanduser())
        if tuning is not None:
            values = tuning.applied(values)
        name = str(values.get("mask", ModelOptions().mask))
        mask, needs = _parts_of(name)
        parts: list[type[Arguments]] = [ModelOptions, mask, *needs]
        known = {field for part in parts for field in part.arguments()}
        for key, value in values.items():
            if key not in known or (key == "layers" and mask.default_layers == "none"):
                raise UserError(_unused(key, value, name))
        options = cls(
            general=ModelOptions.read(_own(ModelOptions, values)),
            mask=mask.read(_own(mask, values)),
            sinks=SinkOptions.read(_own(SinkOptions, values)) if SinkOptions in needs else None,
            relevance=RelevanceOptions.read(_own(RelevanceOptions, values))
            if RelevanceOptions in needs
            else None,
            given=frozenset(values),
            tuning=tuning,
        )
        _check_devices(options.general, values)
        return options

    def limits(self) -> dict[str, int]:
        """The given limits of what the model looks at (`vision_limits`)."""
        values = {name: getattr(self.general, name) for name in LIMITS}
        return {name: value for name, value in values.items() if value is not None}

    def intervention(self) -> "Intervention":
        """The intervention that ``mask=`` names."""
        return self.mask.build()

    def layer_set(self, depth: int) -> frozenset[int]:
        """The layers that ``layers=`` or the mask's default names; none for ``mask=none``.

        Args:
            depth: layers of the decoder.

        Raises:
            UserError: not of a known form, or out of range.
        """
        usual = self.mask.usual_layers()
        try:
            layers = parse_layers(self.general.layers or usual, depth)
        except UserError as error:
            if self.general.layers:
                raise
            raise UserError(
                f"mask={self.general.mask} changes layers {usual} unless layers= says so, and a decoder of "
                f"{depth} layers has none of them: give layers="
            ) from error
        if self.general.layers and not layers:
            raise UserError(f"layers={self.general.layers} names no layer: choose mask=none instead")
        return layers


def argument_parts(mask: str) -> tuple[type[MaskOptions], tuple[type[Arguments], ...]]:
    """The class of a mask's arguments, and those of what it needs.

    Raises:
        UserError: an unknown mask.
    """
    chosen, needs = _parts_of(mask)
    return chosen, tuple(needs)


def _own(part: type[Arguments], values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that are a part's."""
    return {key: value for key, value in values.items() if key in part.arguments()}


def _parts_of(mask: str) -> tuple[type[MaskOptions], list[type[Arguments]]]:
    """The class of a mask's arguments, and those of what it needs.

    Raises:
        UserError: an unknown mask or need; a class that is no `MaskOptions`; an argument of two classes.
    """
    chosen = INTERVENTIONS.get(mask)
    if not (isinstance(chosen, type) and issubclass(chosen, MaskOptions)):
        raise UserError(f"mask={mask} names no subclass of model_adapters.interventions.options.MaskOptions")
    for need in chosen.needs:
        if need not in PROVIDERS:
            raise UserError(f"mask={mask}: {nearest('need', need, PROVIDERS)}")
    needs = list(dict.fromkeys(PROVIDERS[need] for need in sorted(chosen.needs)))
    parts: list[type[Arguments]] = [ModelOptions, chosen, *needs]
    names = [name for part in parts for name in part.arguments()]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"mask={mask} defines the argument '{name}', which exists already")
    return chosen, needs


def _unused(key: str, value: Any, mask: str) -> str:
    """One line for an argument that is unknown, or that only other masks use."""
    users = [name for name, names in _arguments_of_masks() if key in names]
    if not users:
        known = {name for _, names in _arguments_of_masks() for name in names}
        return nearest("model argument", key, {*known, *ModelOptions.arguments()})
    choices = " or ".join(f"mask={name}" for name in users)
    return f"{key}={value} is not used by mask={mask}: leave it out, or choose {choices}"


def _arguments_of_masks() -> Iterator[tuple[str, set[str]]]:
    """Each mask and the arguments that it uses beside the general ones."""
    for name in INTERVENTIONS:
        mask, needs = _parts_of(name)
        names = {field for kind in (mask, *needs) for field in kind.arguments()}
        yield name, names | ({"layers"} if mask.default_layers != "none" else set())


def argument_table() -> str:
    """The table of docs/models.md: argument, default, masks that use it, meaning (Markdown).

    An argument that means different things to two masks has a line for each.
    """
    used: dict[tuple[str, str, str | None], list[str]] = {}
    general = {_described(field, info): ["all"] for field, info in ModelOptions.arguments().items()}
    for name in INTERVENTIONS:
        mask, needs = _parts_of(name)
        for kind in (mask, *needs):
            for field, info in kind.arguments().items():
                used.setdefault(_described(field, info), []).append(name)
    lines = ["| argument | default | used by | meaning |", "|---|---|---|---|"]
    for (field, default, meaning), users in (general | used).items():
        masks = ", ".join(sorted(users))
        if field == "mask":
            names = ", ".join(f"`{name}`" for name in INTERVENTIONS)
            meaning = f"{meaning}: {names}, or `package.module:Options` of another package"
        lines.append(f"| `{field}` | {default} | {masks} | {meaning} |")
    return "\n".join(lines)


def _described(field: str, info: FieldInfo) -> tuple[str, str, str | None]:
    """An argument, its default and its meaning, as the table has them."""
    default = "" if info.default is None else f"`{str(info.default).lower()}`"
    return field, default, info.description


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


def _check_devices(options: ModelOptions, given: Mapping[str, Any]) -> None:
    name = "device_map" if options.device_map else "tp_plan" if options.tp_plan else None
    if name is None:
        return
    if options.device is not None:
        raise UserError(f"device={options.device} is not used with {name}=auto: leave one of them out")
    processes = world_size()
    if options.device_map and options.tp_plan:
        raise UserError("device_map=auto and tp_plan=auto both spread one model: leave one of them out")
    if options.device_map and processes > 1:
        raise UserError(
            f"device_map=auto spreads one model over all GPUs, and {processes} processes would each do so: "
            "start one process, or leave device_map out"
        )
    if options.tp_plan and processes < 2:
        raise UserError(
            "tp_plan=auto spreads one model over several processes, and this is the only one: start "
            "`torchrun --nproc_per_node N -m mimic_tasks ...`, or leave tp_plan out"
        )
    if options.tp_plan:
        for key in ("heads", "peft"):
            if given.get(key) not in (None, "all", "selected"):
                raise UserError(f"{key}={given[key]} does not go with tp_plan=auto: leave one of them out")
        if given.get("relevance") == "attention":
            raise UserError(
                "relevance=attention is a mean over all heads, of which each process has some with "
                "tp_plan=auto: leave one of them out"
            )


def _number(value: Any) -> Any:
    """`value` as an int if it reads like one, else as it is."""
    return int(value) if str(value).isdecimal() else value
