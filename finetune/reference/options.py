"""What a reference checkpoint depends on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from finetune.reference.lessons import MAX_IMAGES
from mimic_eval.records import UserError, check_integer, nearest
from mimic_eval.records.reading import read_json

MASKS = ("none", "block")
SHAPES: Mapping[str, Mapping[str, int]] = {
    "internvl": {"image_size": 80, "patch_size": 8, "max_tiles": 1},  # 25 tokens an image
    "llava_onevision": {"image_size": 72, "patch_size": 12, "sides": 1},  # 36
    "qwen2_5_vl": {"patch_size": 8, "min_tokens": 25, "max_tokens": 25},
    "qwen2_vl": {"patch_size": 8, "min_tokens": 25, "max_tokens": 25},
}


def shape(family: str, grid: int) -> dict[str, int]:
    """What a family's pictures are cut into.

    Args:
        family: one of `FAMILIES`.
        grid: visual tokens a side, or 0 for those of `SHAPES`.
    """
    usual = dict(SHAPES[family])
    if not grid:
        return usual
    by_family = {
        "internvl": {"image_size": 16 * grid},  # four patches are one token
        "llava_onevision": {"image_size": usual["patch_size"] * grid},
        "qwen2_5_vl": {"min_tokens": grid**2, "max_tokens": grid**2},
        "qwen2_vl": {"min_tokens": grid**2, "max_tokens": grid**2},
    }
    return {**usual, **by_family[family]}


FAMILIES = tuple(SHAPES)
"""Those that the recipe has a shape for."""
SINK_FAMILIES = ("internvl", "llava_onevision")
"""Those with the decoder and the positions of Qwen2."""

_LATER = (
    *("start", "sinks", "count_classes", "extra", "across", "positions", "grid", "intermediate", "layers"),
    *("edges", "perception", "more_glances", "numbers", "vision_layers"),
    *("tallies", "task_weight", "average"),
)
"""Options that older recipes do not have."""


@dataclass(frozen=True)
class ReferenceOptions:
    """Everything a reference checkpoint depends on, but for the versions of libraries.

    Attributes:
        family: one of `FAMILIES`.
        out: the folder to write; ``out/training`` holds what a killed run resumes from.
        mask: in training, in its default layers: one of `MASKS`.
        steps: batches of questions.
        glances: batches of pictures that the vision tower sees before.
        seed: of weights and batches.
        scenes: pictures to learn from.
        scene_seed: of the scenes; the exam's is the next one.
        scene_size: pixels a side of the scenes.
        docs: planned docs a task.
        images: pictures a batch.
        common_weight: how often a doc is one of Common, when one is of Counting.
        oddone_weight: how often one of Odd-One.
        learning_rate: the largest one.
        save_every: steps between the checkpoints that a killed run resumes from.
        exam_every: steps between exams.
        exam_docs: held-out docs a task.
        start: a checkpoint whose training goes on, as an adapter's ``pretrained``; no glances then.
        sinks: share of the visual tokens that become sinks before the questions; 0: none.
        count_classes: the most classes of a Counting question.
        extra: questions per doc besides the one of its task.
        across: further questions also ask in which and in how many images a class is.
        positions: further questions also ask which images show a class.
        grid: visual tokens a side of an image; 0: as `SHAPES` has them.
        intermediate: width of the decoder's MLPs; 0: twice that of the decoder.
        layers: of the decoder.
        edges: pictures also teach where the edges of objects are.
        numbers: pictures also teach how many objects of each class they show.
        perception: a checkpoint whose vision tower, projector and word embeddings are taken and left as they
            are, below the decoder of `start`, without its planted sinks, or one that has learnt nothing; no
            glances then.
        more_glances: batches of pictures that the vision tower of `perception` sees before.
        vision_layers: of the vision tower; that of `perception` gets those that it lacks, which at first pass
            their input on.
        tallies: the decoder's visual tokens also learn in how many images so far their class is.
        task_weight: of the answer to a doc's first question in the loss; those to further ones have 1.
        average: share of the weights of `start` in the result, which is a weighted mean of them and of the
            last step's (a model soup, https://arxiv.org/abs/2203.05482); 0: the last step's.
    """

    family: str
    out: Path
    mask: str = "none"
    steps: int = 6000
    glances: int = 4000
    seed: int = 0
    scenes: int = 12000
    scene_seed: int = 1001
    scene_size: int = 192
    docs: int = 8000
    images: int = 48
    common_weight: int = 3
    oddone_weight: int = 9
    learning_rate: float = 1.5e-3
    save_every: int = 200
    exam_every: int = 500
    exam_docs: int = 60
    start: str | None = None
    sinks: float = 0.0
    count_classes: int = 1
    extra: int = 7
    across: bool = False
    positions: bool = False
    grid: int = 0
    intermediate: int = 0
    layers: int = 6
    edges: bool = False
    numbers: bool = False
    perception: str | None = None
    more_glances: int = 0
    vision_layers: int = 4
    tallies: bool = False
    task_weight: int = 1
    average: float = 0.0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise UserError(nearest("family", self.family, FAMILIES))
        if self.mask not in MASKS:
            raise UserError(nearest("mask", self.mask, MASKS))
        for name in ("steps", "glances", "docs", "save_every", "exam_every", "exam_docs"):
            check_integer(f"--{name.replace('_', '-')}", getattr(self, name), least=1, most=10_000_000)
        for name in ("seed", "scene_seed"):
            check_integer(f"--{name.replace('_', '-')}", getattr(self, name), least=0, most=2**63 - 2)
        check_integer("--images", self.images, least=MAX_IMAGES, most=10_000)
        for name in ("common_weight", "oddone_weight"):
            check_integer(f"--{name.replace('_', '-')}", getattr(self, name), least=1, most=100)
        check_integer("--scenes", self.scenes, least=100, most=10_000_000)
        check_integer("--count-classes", self.count_classes, least=1, most=5)
        check_integer("--extra", self.extra, least=0, most=100)
        if not 0 <= self.sinks < 1:
            raise UserError(f"--sinks must be at least 0 and below 1, got {self.sinks}")
        if self.sinks and self.family not in SINK_FAMILIES:
            raise UserError(
                f"--sinks cannot be planted in {self.family}: choose {' or '.join(SINK_FAMILIES)}"
            )
        for name in ("grid", "intermediate"):
            check_integer(f"--{name}", getattr(self, name), least=0, most=10_000)
        check_integer("--layers", self.layers, least=4, most=100)
        check_integer("--vision-layers", self.vision_layers, least=4, most=100)
        if self.vision_layers > 4 and self.family != "llava_onevision":
            raise UserError("--vision-layers are those of llava_onevision's vision tower: leave it out")
        check_integer("--task-weight", self.task_weight, least=1, most=1000)
        if not 0 <= self.average < 1:
            raise UserError(f"--average must be at least 0 and below 1, got {self.average}")
        if self.average and self.start is None:
            raise UserError("--average is the share of the weights of --start: name it")
        check_integer("--more-glances", self.more_glances, least=0, most=10_000_000)
        if self.more_glances and self.perception is None:
            raise UserError("--more-glances train the vision tower of --perception further: name it")
        for name in ("start", "perception"):
            if getattr(self, name) is not None:
                self.checkpoint_folder(name)
        if not 0 < self.learning_rate < 1:
            raise UserError(f"--learning-rate must be above 0 and below 1, got {self.learning_rate}")

    def checkpoint_folder(self, name: str) -> Path:
        """The folder that `start` or `perception` names.

        Raises:
            UserError: there is no checkpoint of the family, or `start` has sinks and `sinks` wants some.
        """
        from model_adapters.loading import resolve_checkpoint

        given = getattr(self, name)
        folder = Path(resolve_checkpoint(given, default="")).expanduser()
        config = folder / "config.json"
        if not config.is_file():
            raise UserError(f"--{name} {given}: there is no checkpoint's config.json")
        settings = dict(read_json(config))
        kind = settings.get("model_type")
        if kind != self.family:
            raise UserError(f"--{name} {given} is of type '{kind}', not '{self.family}'")
        if name == "start" and self.sinks and dict(settings.get("text_config") or {}).get("planted_sinks"):
            raise UserError(f"--start {self.start} has planted sinks, which stay: leave --sinks out")
        return folder

    def recipe(self) -> dict[str, Any]:
        """What must be the same for a killed run to go on."""
        arguments = asdict(self)
        for name in ("out", "save_every", "exam_every", "exam_docs"):
            del arguments[name]
        for name in _LATER:
            if arguments[name] == getattr(ReferenceOptions, name):
                del arguments[name]
        if self.start is not None or self.perception is not None:
            del arguments["glances"]
        return arguments
