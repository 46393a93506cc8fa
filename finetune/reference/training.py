"""`mimic train-reference`: a tiny checkpoint of a family, from nothing to its card."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from finetune.reference.lessons import MAX_IMAGES
from finetune.reference.questions import corpus, vocabulary
from mimic_eval.records import UserError, check_integer, nearest
from mimic_eval.records.folders import (
    check_path,
    differences,
    filled,
    is_abandoned,
    is_finished,
    write_atomically,
)
from mimic_eval.records.reading import read_json
from mimic_tasks.build import BuildOptions, build
from mimic_tasks.planning import Controls, Range
from mimic_tasks.pool import Pool
from mimic_tasks.scenes import make_scenes
from mimic_tasks.source_files import SourceFiles, read_pool
from model_adapters.disk import NOTE, cache_root
from model_adapters.families import registry

MASKS = ("none", "block")
_SHAPES: Mapping[str, Mapping[str, int]] = {
    "internvl": {"image_size": 80, "patch_size": 8, "max_tiles": 1},  # 25 tokens an image
    "llava_onevision": {"image_size": 72, "patch_size": 12, "sides": 1},  # 36
    "qwen2_vl": {"patch_size": 8, "min_tokens": 25, "max_tokens": 25},
}
FAMILIES = tuple(_SHAPES)
"""Those that the recipe has a shape for."""
_DECODER = {"hidden": 128, "layers": 6, "vision_layers": 4, "weight_scale": 0.02}
ARGUMENTS = "arguments.json"


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
        if not 0 < self.learning_rate < 1:
            raise UserError(f"--learning-rate must be above 0 and below 1, got {self.learning_rate}")

    def recipe(self) -> dict[str, Any]:
        """What must be the same for a killed run to go on."""
        arguments = asdict(self)
        for name in ("out", "save_every", "exam_every", "exam_docs"):
            del arguments[name]
        return arguments


def train_reference(options: ReferenceOptions) -> dict[str, float]:
    """Train a checkpoint, or go on where a killed process with the same options was.

    Args:
        options: what to train.

    Returns:
        The last exam's scores; of a checkpoint that is trained already with these options, those of its card.

    Raises:
        UserError: the folder holds another run, or something else.
    """
    from finetune.checkpoints import last_checkpoint
    from finetune.exam import Exam
    from finetune.reference.card import is_trained, trained_scores, write_card
    from finetune.reference.collate import Collator
    from finetune.reference.lessons import LessonPlan, Lessons
    from finetune.reference.optimizer import MuonAdamW
    from finetune.reference.trainer import MaskedTrainer, training_arguments

    folder = options.out / "training"
    _claim(options, folder)
    if is_trained(options.out):
        return trained_scores(options.out)
    pool = training_pool(options.scenes, options.scene_seed, options.scene_size)
    exam = Exam(exam_folder(options.scene_seed + 1, options.exam_docs))
    model, family, engine = _load(options, _seen(options, folder, pool))
    _keep_sight(model)
    plan = LessonPlan(
        options.steps,
        options.seed,
        options.docs,
        options.images,
        common=options.common_weight,
        oddone=options.oddone_weight,
    )
    trainer = MaskedTrainer(
        model,
        engine=engine,
        family=family,
        exam=exam,
        args=training_arguments(
            folder,
            steps=options.steps,
            seed=options.seed,
            save_every=options.save_every,
            exam_every=options.exam_every,
        ),
        optimizers=(MuonAdamW(model, learning_rate=options.learning_rate), None),
        data_collator=Collator(family),
        train_dataset=Lessons(pool, plan),
        eval_dataset=exam,
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    scores = trainer.evaluate(metric_key_prefix="final")
    _finish(options, trainer.model)
    write_card(
        options.out,
        options.recipe(),
        trainer.state.log_history,
        versions(),
        parameters=trainer.model.num_parameters(),
    )
    return scores


def versions() -> dict[str, str]:
    """Of what a training depends on."""
    names = ("mimic-eval", "torch", "transformers", "accelerate", "tokenizers", "numpy", "pillow")
    return {name: version(name) for name in names}


def training_pool(scenes: int, seed: int, size: int) -> Pool:
    """The scenes to learn from, made once in the cache folder."""
    folder = _scenes(scenes, seed, size)
    files = SourceFiles((folder / "annotations/instances_scenes.json",), (folder / "images",))
    return read_pool(files, profile="all")


def exam_folder(seed: int, docs: int) -> Path:
    """A task folder of scenes of another seed, in full size, made once in the cache folder."""
    out = cache_root() / "finetune" / f"exam-{docs}-{seed}"
    if not is_finished(out):
        scenes = _scenes(min(400, 100 + 5 * docs), seed, 384)
        build(
            BuildOptions(
                (scenes / "annotations/instances_scenes.json",),
                (scenes / "images",),
                out,
                docs=docs,
                seed=seed,
                controls=Controls(n_images=Range(1, 4)),
                label="exam",
            ),
            progress=False,
        )
    return out


def _scenes(n: int, seed: int, size: int) -> Path:
    out = cache_root() / "finetune" / f"scenes-{n}-{seed}-{size}"
    if not is_finished(out):
        make_scenes(out, n=n, seed=seed, size=size, wait=True)
    return out


def _claim(options: ReferenceOptions, folder: Path) -> None:
    """Make the folder ours, or refuse one that holds something else."""
    check_path(options.out)
    arguments = folder / ARGUMENTS
    recipe = json.loads(json.dumps(options.recipe()))
    if arguments.is_file():
        begun = read_json(arguments)
        if not isinstance(begun, dict):
            raise UserError(f"{arguments} is not what a training writes: choose another --out")
        if begun != recipe:
            raise UserError(
                f"--out {options.out} holds a training that differs in {differences(begun, recipe)}: "
                "choose another folder, or remove it"
            )
        return
    if options.out.exists() and any(
        not is_abandoned(path) for path in options.out.rglob("*") if path != folder or not path.is_dir()
    ):
        raise filled(options.out)
    write_atomically(arguments, (json.dumps(recipe, indent=1) + "\n").encode())


def _seen(options: ReferenceOptions, folder: Path, pool: Pool) -> Path:
    """The checkpoint whose vision tower has learnt to see, and whose decoder has learnt nothing."""
    from transformers import Trainer, set_seed

    from finetune.checkpoints import last_checkpoint
    from finetune.reference.optimizer import MuonAdamW
    from finetune.reference.seeing import GlanceCollator, Glances, Seeing
    from finetune.reference.trainer import training_arguments

    seen = folder / "seen"
    if seen.is_dir():
        return seen
    start, glancing = folder / "start", folder / "seeing"
    if not (start / NOTE).is_file():  # written last
        shutil.rmtree(start, ignore_errors=True)
        family_class = registry.FAMILIES.get(options.family)
        family_class.make_tiny(
            start,
            seed=options.seed,
            corpus=corpus(),
            words=vocabulary(),
            **_DECODER,
            **_SHAPES[options.family],
        )
    model, family, _ = _load(options, start)
    set_seed(options.seed)  # of the heads
    seeing = Seeing(model, family, names=pool.source.classes)
    trainer = Trainer(
        model=seeing,
        args=training_arguments(
            glancing,
            steps=options.glances,
            seed=options.seed,
            save_every=options.save_every,
        ),
        optimizers=(MuonAdamW(seeing, learning_rate=options.learning_rate), None),
        data_collator=GlanceCollator(family),
        train_dataset=Glances(pool, steps=options.glances, images=options.images, seed=options.seed),
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(glancing))
    shutil.rmtree(folder / "seen.partial", ignore_errors=True)
    shutil.copytree(start, folder / "seen.partial")
    seeing.hand_over().save_pretrained(folder / "seen.partial")
    (folder / "seen.partial").rename(seen)
    return seen


def _keep_sight(model: Any) -> None:
    """Let the decoder learn alone: it gets the visual tokens that it will get in an evaluation."""
    for name, weight in model.named_parameters():
        weight.requires_grad_("language_model" in name or name.startswith("lm_head"))


def _load(options: ReferenceOptions, checkpoint: Path) -> tuple[Any, Any, Any]:
    """A model with our attention in single precision, its family and the engine."""
    from model_adapters.assembly import masked_layers
    from model_adapters.engine import Engine
    from model_adapters.loading import load_family
    from model_adapters.options import AdapterOptions

    model, family = load_family(
        registry.FAMILIES.get(options.family), str(checkpoint), dtype="float32", device="cpu", peft=None
    )
    chosen = AdapterOptions.parse({"mask": options.mask})
    intervention = chosen.intervention()
    depth = model.config.get_text_config().num_hidden_layers
    return model, family, Engine(intervention, masked_layers(chosen, depth))


def _finish(options: ReferenceOptions, model: Any) -> None:
    """Write the trained model in half precision, the weights last.

    The processor's files are those of the start: one that was used would keep how it padded last.
    """
    partial = options.out / "training" / "finished"
    shutil.rmtree(partial, ignore_errors=True)
    model.half().save_pretrained(partial)
    for file in (options.out / "training" / "start").iterdir():
        if file.suffix != ".safetensors" and file.name != NOTE and not (partial / file.name).exists():
            shutil.copy(file, partial)
    files = sorted(partial.iterdir(), key=lambda file: file.suffix == ".safetensors")
    for file in files:
        file.replace(options.out / file.name)
    partial.rmdir()
