"""`mimic train-reference`: a tiny checkpoint of a family, from nothing to its card."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from finetune.reference.options import ReferenceOptions, shape
from finetune.reference.questions import corpus, vocabulary
from mimic_eval.records import UserError
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

_DECODER = {"hidden": 128, "weight_scale": 0.02}
ARGUMENTS = "arguments.json"
CARD_FILES = ("README.md", "training.json", "loss.svg", NOTE)
SINK_LAYER = 1
"""The first layer whose input has planted sinks."""


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
    from finetune.reference.lessons import CURRICULUM, LessonPlan, Lessons
    from finetune.reference.optimizer import MuonAdamW
    from finetune.reference.sight import Sight
    from finetune.reference.tallies import Tallies
    from finetune.reference.trainer import MaskedTrainer, training_arguments

    folder = options.out / "training"
    _claim(options, folder)
    if is_trained(options.out):
        return trained_scores(options.out)
    pool = training_pool(options.scenes, options.scene_seed, options.scene_size)
    exam = Exam(exam_folder(options.scene_seed + 1, options.exam_docs))
    model, family, engine = _load(options, _seen(options, folder, pool))
    planted = getattr(model.config.get_text_config(), "planted_sinks", None)
    _keep_sight(model, layers=planted["layer"] if planted else 0, words=options.perception is not None)
    plan = LessonPlan(
        options.steps,
        options.seed,
        options.docs,
        options.images,
        common=options.common_weight,
        oddone=options.oddone_weight,
        classes=options.count_classes,
        extra=options.extra,
        across=options.across,
        positions=options.positions,
        describe=None if options.start is None else CURRICULUM[-1].describe / 2,
    )
    sight = Sight(model, family, [image.path for image in pool.source.images])
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
        data_collator=Collator(
            family,
            sight,
            Tallies(pool, sight) if options.tallies else None,
            task_weight=options.task_weight,
        ),
        train_dataset=Lessons(pool, plan, _docs_file(options)),
        eval_dataset=exam,
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    if options.average:
        _average(trainer.model, _load(options, folder / "seen")[0], options.average)
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


def _docs_file(options: ReferenceOptions) -> Path:
    """Where the docs that were planned for these options are stored; another version plans again."""
    scenes = f"{options.scenes}-{options.scene_seed}-{options.scene_size}"
    docs = f"{options.docs}-{options.count_classes}-{options.seed}"
    return cache_root() / "finetune" / f"docs-{docs}-of-{scenes}-{version('mimic-eval')}.json"


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
    """The checkpoint whose vision tower has learnt to see: what the questions start from."""
    seen = folder / "seen"
    if seen.is_dir():
        return seen
    if options.perception is not None:
        return _perceived(options, folder, pool)
    if options.start is not None:
        return _continued(options, folder, pool)
    start = folder / "start"
    if not (start / NOTE).is_file():  # written last
        shutil.rmtree(start, ignore_errors=True)
        family_class = registry.FAMILIES.get(options.family)
        family_class.make_tiny(
            start,
            seed=options.seed,
            corpus=corpus(),
            words=vocabulary(),
            **_DECODER,
            layers=options.layers,
            vision_layers=options.vision_layers,
            intermediate=options.intermediate or None,
            **shape(options.family, options.grid),
        )
    model, family, _ = _load(options, start)
    model = _glanced(options, model, family, folder, pool)
    return _with_sinks(options, folder, pool, model, family)


def _glanced(options: ReferenceOptions, model: Any, family: Any, folder: Path, pool: Pool) -> Any:
    """The model when it has seen single pictures, as many batches of them as the options say."""
    from transformers import Trainer, set_seed

    from finetune.checkpoints import last_checkpoint
    from finetune.reference.optimizer import MuonAdamW
    from finetune.reference.seeing import CALM, GlanceCollator, Glances, Seeing
    from finetune.reference.trainer import training_arguments

    again = options.perception is not None
    steps = options.more_glances if again else options.glances
    glancing = folder / "seeing"
    if options.start is not None:  # its decoder knows these words
        model.get_input_embeddings().requires_grad_(False)
    set_seed(options.seed)  # of the heads
    seeing = Seeing(model, family, names=pool.source.classes, edges=options.edges, numbers=options.numbers)
    trainer = Trainer(
        model=seeing,
        args=training_arguments(
            glancing, steps=steps, seed=options.seed, save_every=options.save_every, workers=1
        ),
        optimizers=(MuonAdamW(seeing, learning_rate=options.learning_rate), None),
        data_collator=GlanceCollator(family, edges=options.edges, numbers=options.numbers),
        train_dataset=Glances(
            pool,
            steps=steps,
            images=options.images,
            seed=options.seed + again,
            calm=(0.0 if again else CALM) if options.edges else 1.0,
        ),
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(glancing))
    return seeing.model if options.start is not None else seeing.hand_over()


def _continued(options: ReferenceOptions, folder: Path, pool: Pool) -> Path:
    """The checkpoint whose training goes on."""
    start = _copied(options, "start", folder)
    model, family, _ = _load(options, start)
    return _with_sinks(options, folder, pool, model, family)


def _perceived(options: ReferenceOptions, folder: Path, pool: Pool) -> Path:
    """What a checkpoint has below its decoder, and the decoder of `start` or one that has learnt nothing."""
    import torch

    from finetune.reference.background import remove_sinks
    from finetune.reference.seeing import deepen
    from model_adapters.engine import decoder_layers
    from model_adapters.tiny.common import seeded

    start = folder / "start"
    if not (folder / "seeing").is_dir():
        start = _copied(options, "perception", folder)
        taken, family, _ = _load(options, start)
        deepen(taken, options.vision_layers)
        decoder = {id(x) for layer in decoder_layers(taken) for x in layer.parameters()}
        if options.start is not None:
            model, _, _ = _load(options, options.checkpoint_folder("start"))
            deepen(model, getattr(taken.config.vision_config, "num_hidden_layers", 0))
            if hasattr(model.config.get_text_config(), "planted_sinks"):
                remove_sinks(model)  # they are where the former vision tower showed background
        else:
            config = taken.config
            text = config.get_text_config()
            text.num_hidden_layers = options.layers
            text.layer_types = [text.layer_types[0]] * options.layers
            text.intermediate_size = options.intermediate or 2 * text.hidden_size
            text.initializer_range = config.initializer_range = _DECODER["weight_scale"]
            if hasattr(text, "planted_sinks"):
                del text.planted_sinks
            with seeded(options.seed):
                model = type(taken)(config)
        words = id(taken.get_input_embeddings().weight)
        states = {
            name: x
            for name, x in taken.named_parameters()
            if id(x) not in decoder
            and not name.endswith(("language_model.norm.weight", "lm_head.weight"))
            and (options.start is None or id(x) != words)
        }
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name in states:
                    weight.copy_(states[name])
            if options.start is None:
                model.get_output_embeddings().weight.copy_(model.get_input_embeddings().weight)
        model.save_pretrained(start)
    model, family, _ = _load(options, start)
    if options.more_glances:
        model = _glanced(options, model, family, folder, pool)
    return _with_sinks(options, folder, pool, model, family)


def _copied(options: ReferenceOptions, name: str, folder: Path) -> Path:
    """The files of the checkpoint that an option names, without its card."""
    start = folder / "start"
    shutil.rmtree(start, ignore_errors=True)
    card = shutil.ignore_patterns(*CARD_FILES, "training")
    shutil.copytree(options.checkpoint_folder(name), start, ignore=card)
    return start


def _with_sinks(options: ReferenceOptions, folder: Path, pool: Pool, model: Any, family: Any) -> Path:
    """Plant the sinks that the options want, and write the checkpoint that the questions start from."""
    from finetune.reference.background import plant_in_background

    if options.sinks:
        plant_in_background(model, family, pool, share=options.sinks, layer=SINK_LAYER, seed=options.seed)
    partial = folder / "seen.partial"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder / "start", partial)
    model.save_pretrained(partial)
    partial.rename(folder / "seen")
    return folder / "seen"


def _keep_sight(model: Any, *, layers: int = 0, words: bool = False) -> None:
    """Let the decoder learn alone: it gets the visual tokens that it will get in an evaluation.

    Its first layers, which write planted sinks, and what they read are left as they are too; with `words`
    the word embeddings in any case.
    """
    from model_adapters.engine import decoder_layers

    for name, weight in model.named_parameters():
        weight.requires_grad_("language_model" in name or name.startswith("lm_head"))
    if words:
        model.get_input_embeddings().requires_grad_(False)
    if layers:
        for module in (model.get_input_embeddings(), *decoder_layers(model)[:layers]):
            module.requires_grad_(False)


def _average(model: Any, start: Any, share: float) -> None:
    """Make each weight of a model the mean of a start's, of this share, and of the present one."""
    import torch

    with torch.no_grad():
        for weight, first in zip(model.parameters(), start.parameters(), strict=True):
            weight.lerp_(first.to(weight), share)


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
