"""The arguments of `mimic finetune`, checked before anything heavy is imported; the recipes of METHODS 10."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mimic_eval.records import UserError, check_integer, nearest
from mimic_eval.records.processes import world_size

METHODS = ("lora", "full")
PROJECTOR = ("frozen", "trained")
PRECISIONS = ("auto", "bf16", "fp16", "fp32")
_MOST_ROWS = 4
"""Rows that go through the model at once unless the user says how many: those of the release."""


class Recipe(NamedTuple):
    """A recipe of METHODS 10.

    Attributes:
        batch: samples an optimizer step.
        dropout: LoRA's.
        projector: of `PROJECTOR`.
        variant: of the block mask.
    """

    batch: int
    dropout: float
    projector: str
    variant: str


RECIPES: Mapping[str, Recipe] = {
    "paper": Recipe(batch=128, dropout=0.0, projector="frozen", variant="paper"),
    "released": Recipe(batch=192, dropout=0.05, projector="trained", variant="released"),
}
LEARNING_RATES = {"lora": 2.5e-5, "full": 2.5e-6}
MASKS = {"lora": "block", "full": "none"}
"""The paper's block-masked model is the LoRA one; its full fine-tuning has no mask."""
RANK, ALPHA = 128, 32
WARMUP = 0.03


@dataclass(frozen=True)
class FinetuneOptions:
    """Everything that a training depends on, but for the versions of libraries.

    None stands for what the recipe says.

    Attributes:
        pretrained: a folder, a Hub id or ``embedded:NAME``.
        data: mixtures (YAML) and files of LLaVA's conversation JSON.
        out: the folder to write; ``out/training`` holds what a killed run resumes from.
        recipe: of `RECIPES`.
        method: of `METHODS`.
        mask: the intervention in training.
        layers: where it applies; None: its default layers.
        mask_args: further arguments of the mask, ``variant=released,prefix=true``.
        image_folder: that the paths of pictures are relative to; None: as the data's manifest says.
        epochs: times that each sample is seen; not with `steps`.
        steps: optimizer steps.
        batch: samples an optimizer step, all processes together.
        rows: samples that go through the model at once, in each process.
        learning_rate: the largest one.
        rank: LoRA's.
        alpha: LoRA's.
        dropout: LoRA's.
        projector: of `PROJECTOR`.
        seed: of the order of the samples, LoRA's first weights and dropout.
        precision: of `PRECISIONS`; ``auto``: bf16 on a GPU, else fp32.
        checkpointing: activation checkpointing: memory for a quarter more time.
        eval_tasks: a task folder to evaluate on.
        eval_every: steps between evaluations.
        eval_docs: docs of each task in an evaluation, the first ones.
        save_every: steps between the checkpoints that a killed run resumes from.
        workers: processes that open and prepare pictures; None: 4 with a GPU, else none.
        report_to: names of transformers' integrations, as ``wandb``.
        device: ``cpu`` or ``cuda``; None: a GPU if there is one.
    """

    pretrained: str
    data: tuple[Path, ...]
    out: Path
    recipe: str = "paper"
    method: str = "lora"
    mask: str | None = None
    layers: str | None = None
    mask_args: str = ""
    image_folder: Path | None = None
    epochs: float | None = None
    steps: int | None = None
    batch: int | None = None
    rows: int | None = None
    learning_rate: float | None = None
    rank: int | None = None
    alpha: int | None = None
    dropout: float | None = None
    projector: str | None = None
    seed: int = 0
    precision: str = "auto"
    checkpointing: bool = True
    eval_tasks: Path | None = None
    eval_every: int | None = None
    eval_docs: int = 50
    save_every: int = 100
    workers: int | None = None
    report_to: tuple[str, ...] = ()
    device: str | None = None

    def __post_init__(self) -> None:
        if not self.pretrained:
            raise UserError("--pretrained is empty: give a folder, a Hub id or embedded:NAME")
        if not self.data:
            raise UserError("--data FILE is needed: the mixture.yaml of an export, or LLaVA's JSON")
        _check_name("--recipe", self.recipe, tuple(RECIPES))
        _check_name("method", self.method, METHODS)
        _check_name("--precision", self.precision, PRECISIONS)
        if self.projector is not None:
            _check_name("--projector", self.projector, PROJECTOR)
        if self.device not in (None, "cpu", "cuda"):
            raise UserError(f"--device must be cpu or cuda, got '{self.device}'")
        given = [name for name in ("rank", "alpha", "dropout") if getattr(self, name) is not None]
        if self.method == "full" and given:
            raise UserError(f"--{given[0]} is an argument of LoRA and is not used with --full: leave it out")
        if self.epochs is not None and self.steps is not None:
            raise UserError("--epochs and --steps both say how long to train: leave one of them out")
        if self.epochs is not None and not 0 < self.epochs <= 1000:
            raise UserError(f"--epochs must be above 0 and at most 1000, got {self.epochs:g}")
        for name in ("steps", "batch", "rows", "rank", "alpha", "eval_every", "eval_docs", "save_every"):
            value = getattr(self, name)
            if value is not None:
                check_integer(f"--{name.replace('_', '-')}", value, least=1, most=100_000_000)
        if self.workers is not None:
            check_integer("--workers", self.workers, least=0, most=256)
        check_integer("--seed", self.seed, least=0, most=2**32 - 1)
        if self.learning_rate is not None and not 0 < self.learning_rate < 1:
            raise UserError(f"--learning-rate must be above 0 and below 1, got {self.learning_rate}")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise UserError(f"--dropout must be at least 0 and below 1, got {self.dropout}")
        if (self.eval_tasks is None) != (self.eval_every is None):
            raise UserError("--eval-data FOLDER and --eval-every STEPS go together: give both or none")
        if self.eval_tasks is not None and not self.eval_tasks.is_dir():
            raise UserError(f"--eval-data {self.eval_tasks}: no such folder; mimic build makes one")
        if self.image_folder is not None and not self.image_folder.is_dir():
            raise UserError(f"--image-folder {self.image_folder}: no such folder")
        self._check_batch()

    def _check_batch(self) -> None:
        """That an optimizer step is a number of equal parts."""
        processes, batch = world_size(), self.batch_size
        if batch % processes:
            raise UserError(f"--batch {batch} is no multiple of {processes} processes: choose another")
        if self.rows is not None and (batch // processes) % self.rows:
            among = f" in each of {processes} processes" if processes > 1 else ""
            raise UserError(
                f"--batch {batch} is no multiple of --rows {self.rows}{among}: choose another of the two"
            )

    @property
    def batch_size(self) -> int:
        """Samples an optimizer step."""
        return RECIPES[self.recipe].batch if self.batch is None else self.batch

    @property
    def row_count(self) -> int:
        """Samples that go through the model at once: at most `_MOST_ROWS` unless `rows` says so."""
        share = self.batch_size // world_size()
        return self.rows or next(n for n in range(min(_MOST_ROWS, share), 0, -1) if not share % n)

    @property
    def accumulated(self) -> int:
        """Parts of an optimizer step in each process."""
        return self.batch_size // world_size() // self.row_count

    @property
    def peak_rate(self) -> float:
        """The largest learning rate."""
        return self.learning_rate or LEARNING_RATES[self.method]

    @property
    def lora(self) -> tuple[int, int, float]:
        """LoRA's rank, alpha and dropout."""
        dropout = RECIPES[self.recipe].dropout if self.dropout is None else self.dropout
        return self.rank or RANK, self.alpha or ALPHA, dropout

    @property
    def trains_projector(self) -> bool:
        """Whether the projector is trained, in full."""
        return (self.projector or RECIPES[self.recipe].projector) == "trained"

    def mask_arguments(self) -> dict[str, Any]:
        """The mask with its arguments, as `AdapterOptions.parse` takes them.

        Raises:
            UserError: `mask_args` is malformed.
        """
        name = self.mask or MASKS[self.method]
        arguments: dict[str, Any] = {"mask": name}
        if self.layers is not None:
            arguments["layers"] = self.layers
        for part in filter(None, self.mask_args.split(",")):
            key, equals, value = (text.strip() for text in part.partition("="))
            if not equals or not key or not value:
                raise UserError(f"--mask-args must read key=value,key=value; '{part}' does not")
            if key in ("mask", "layers") or key in arguments:
                raise UserError(f"--mask-args gives '{key}' again: give it once, --mask and --layers apart")
            arguments[key] = {"true": True, "false": False}.get(value.lower(), value)
        if name == "block":
            arguments.setdefault("variant", RECIPES[self.recipe].variant)
        return arguments

    def identity(self, *, digest: str, samples: int) -> dict[str, Any]:
        """What must be the same for a killed run to go on with the same result.

        Args:
            digest: of the data.
            samples: how many there are.
        """
        rank, alpha, dropout = self.lora
        return {
            "pretrained": self.pretrained,
            "data": [str(path) for path in self.data],
            "data_digest": digest,
            "samples": samples,
            "recipe": self.recipe,
            "method": self.method,
            **self.mask_arguments(),
            **({} if self.method == "full" else {"rank": rank, "alpha": alpha, "dropout": dropout}),
            "projector": "trained" if self.trains_projector else "frozen",
            "learning_rate": self.peak_rate,
            "batch": self.batch_size,
            "epochs": None if self.steps else self.epochs or 1.0,
            "steps": self.steps,
            "seed": self.seed,
            "precision": self.precision,
        }

    def samples_seen(self, samples: int) -> int:
        """How many samples are learnt, repetitions counted.

        Args:
            samples: of the data.
        """
        if self.steps is not None:
            return self.steps * self.batch_size
        return max(1, round((self.epochs or 1.0) * samples))


def _check_name(option: str, given: str, valid: Sequence[str]) -> None:
    if given not in valid:
        raise UserError(nearest(option, given, valid))
