"""`mimic finetune`: a published checkpoint, trained on exported data, to an adapter or a full checkpoint."""

import copy
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.arguments import WARMUP, FinetuneOptions
from finetune.claim import TRAINING, claimed
from finetune.sharding import is_sharded, load_in_all_processes
from mimic_eval.records import UserError, nearest
from mimic_eval.records.folders import check_path
from mimic_eval.records.processes import rank, world_size
from mimic_eval.records.reading import read_json
from model_adapters.checkpoint_files import read_checkpoint_files
from model_adapters.disk import check_within_reach
from model_adapters.families import FAMILIES
from model_adapters.options import AdapterOptions


@dataclass(frozen=True)
class Trained:
    """What a training leaves.

    Attributes:
        record: as in ``training.json``.
        was_complete: whether nothing had to be done.
    """

    record: dict[str, Any]
    was_complete: bool


def finetune(options: FinetuneOptions) -> Trained:
    """Train a checkpoint, or go on where a killed process with the same arguments was.

    Args:
        options: what to train.

    Raises:
        UserError: an argument, a checkpoint or data that do not fit, or a folder that holds something else.
    """
    chosen = AdapterOptions.parse(options.mask_arguments())
    _check_mask(chosen)
    pretrained = _resolved(options.pretrained)
    check_path(options.out)
    if options.eval_tasks is not None and is_sharded():
        raise UserError(
            "--eval-data needs the model in each process, which FSDP and DeepSpeed spread: leave it out"
        )

    load_in_all_processes()

    from finetune.mixture import evaluation_sets, read_mixture

    mixture = read_mixture(options.data, image_folder=options.image_folder, progress=not rank())
    if not len(mixture):
        raise UserError(f"--data {options.data[0]} holds no sample: check its sampling_strategy")
    if not rank():
        for one in evaluation_sets(options.data):
            print(f"warning: {one}", file=sys.stderr)
    identity = options.identity(digest=mixture.digest, samples=len(mixture))
    with claimed(options.out, identity):
        record = _finished(options.out)
        if record is not None:
            return Trained(record, True)
        return Trained(_train(options, chosen, pretrained, mixture, identity), False)


def _train(
    options: FinetuneOptions, chosen: AdapterOptions, pretrained: str, mixture: Any, identity: dict[str, Any]
) -> dict[str, Any]:
    from transformers import set_seed

    from finetune.batches import Batcher, end_tokens
    from finetune.checkpoints import last_checkpoint
    from finetune.exam import Exam
    from finetune.parts import in_single_precision, learn_decoder, with_lora
    from finetune.result import write_result
    from finetune.trainer import EngineTrainer, Shuffled
    from model_adapters.assembly import changed_layers, check_delimiters
    from model_adapters.engine import Engine
    from model_adapters.memory import is_out_of_memory

    total = options.samples_seen(len(mixture))
    arguments = training_arguments(options, total=total)
    exam = None
    if options.eval_tasks is not None:
        exam = Exam(options.eval_tasks, batch=options.row_count, docs=options.eval_docs)
    model, family = _load(options, pretrained, arguments)
    processor = copy.deepcopy(family.processor)
    depth = model.config.get_text_config().num_hidden_layers
    intervention = chosen.intervention()
    check_delimiters(intervention, family)
    layers = changed_layers(chosen, family, depth)
    intervention.check_decoder(
        layers=layers, depth=depth, heads=model.config.get_text_config().num_attention_heads
    )
    engine = Engine(intervention, layers)
    batcher = Batcher(family, end_tokens=end_tokens(model, family.processor.tokenizer))
    set_seed(options.seed)  # of LoRA's first weights
    if options.method == "lora":
        lora_rank, alpha, dropout = options.lora
        model = with_lora(
            model, rank=lora_rank, alpha=alpha, dropout=dropout, projector=options.trains_projector
        )
    else:
        learn_decoder(model, projector=options.trains_projector)
    passes = passes_dtype(arguments)
    in_single_precision(model, passes=passes)
    engine.watch(model)
    trainer = EngineTrainer(
        model,
        engine=engine,
        family=family,
        batcher=batcher,
        exam=exam,
        args=arguments,
        train_dataset=Shuffled(mixture, seed=options.seed, total=total),
        eval_dataset=exam,
    )
    _say_start(options, trainer, layers=layers, total=total)
    try:
        trainer.train(resume_from_checkpoint=last_checkpoint(options.out / TRAINING))
        if exam is not None and not trainer.is_evaluated():
            trainer.evaluate()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"out of memory beside the model's passes at step {trainer.state.global_step + 1}: use fewer "
            "--rows, a smaller --rank or a larger GPU; the checkpoints before it remain"
        ) from error
    return write_result(
        options,
        identity,
        trainer,
        layers=layers,
        model_type=family.model_type,
        processor=processor,
        dtype=passes,
    )


def training_arguments(options: FinetuneOptions, *, total: int) -> Any:
    """transformers' arguments: warm-up and cosine, samples in the order of their numbers.

    Args:
        options: of the training.
        total: samples to learn.

    Raises:
        UserError: an integration that is not known or not installed, or a precision that the device lacks.
    """
    import torch
    from transformers import TrainingArguments

    cpu = options.device == "cpu" or not torch.cuda.is_available()
    if options.device == "cuda" and cpu:
        raise UserError("--device cuda: this machine has no GPU that torch can use")
    precision = options.precision if options.precision != "auto" else "fp32" if cpu else "bf16"
    if precision == "fp16" and cpu:
        raise UserError("--precision fp16 needs a GPU: use bf16 or fp32 on a CPU")
    if precision == "bf16" and not cpu and not torch.cuda.is_bf16_supported():
        raise UserError("this GPU has no bfloat16: use --precision fp16 or fp32")
    steps = math.ceil(total / options.batch_size)
    return TrainingArguments(
        output_dir=str(options.out / TRAINING),
        max_steps=steps,
        per_device_train_batch_size=options.row_count,
        gradient_accumulation_steps=options.accumulated,
        learning_rate=options.peak_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(WARMUP * steps),
        weight_decay=0.0,
        max_grad_norm=1.0,
        logging_steps=max(1, min(10, steps // 20)),
        eval_strategy="no" if options.eval_every is None else "steps",
        eval_steps=options.eval_every,
        save_steps=options.save_every,
        save_total_limit=2,
        seed=options.seed,
        use_cpu=cpu,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        activation_checkpointing=options.checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        ddp_find_unused_parameters=False,  # samples without pictures: `EngineTrainer._no_gradient`
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_num_workers=options.workers if options.workers is not None else 0 if cpu else 4,
        report_to=_integrations(options.report_to),
        disable_tqdm=None,
    )


def passes_dtype(arguments: Any) -> Any:
    """torch's dtype of the passes, and of all weights that are not learnt."""
    import torch

    return torch.float16 if arguments.fp16 else torch.bfloat16 if arguments.bf16 else torch.float32


def _integrations(names: tuple[str, ...]) -> list[str] | str:
    """transformers' names of where to log to.

    Raises:
        UserError: not one of them, or its package is not installed.
    """
    from transformers.integrations import get_available_reporting_integrations
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    if not names or names == ("none",):
        return "none"
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise UserError(nearest("--report-to", name, [*INTEGRATION_TO_CALLBACK, "none"]))
        if name not in get_available_reporting_integrations():
            raise UserError(f"--report-to {name}: its package is not installed, try: pip install {name}")
    return list(names)


def _check_mask(chosen: AdapterOptions) -> None:
    """That a mask can be learnt: it needs nothing of a doc but its tokens.

    Raises:
        UserError: it does.
    """
    from model_adapters.interventions.options import DELIMITERS

    name = chosen.general.mask
    if chosen.mask.needs - {DELIMITERS}:
        raise UserError(
            f"--mask {name} needs {', '.join(sorted(chosen.mask.needs - {DELIMITERS}))}, which a training "
            "does not have: choose block or none"
        )
    from model_adapters.passes import has_several

    if has_several(chosen.intervention().passes):
        raise UserError(
            f"--mask {name} answers in several passes, which is no training: choose block or none"
        )


def _resolved(pretrained: str) -> str:
    """The checkpoint's folder or Hub id.

    Raises:
        UserError: there is none.
    """
    from model_adapters.loading import resolve_checkpoint

    resolved = resolve_checkpoint(pretrained, default="llava_onevision")
    check_within_reach("pretrained", resolved)
    return resolved


def _load(options: FinetuneOptions, pretrained: str, arguments: Any) -> tuple[Any, Any]:
    """The checkpoint with our attention in its decoder, by its family, else as `hf_mask` takes it."""
    from model_adapters import internvl2
    from model_adapters.hf import HfFamily
    from model_adapters.loading import load_family

    files = read_checkpoint_files(internvl2.local_folder(pretrained))
    kind = str(files.settings["model_type"])
    native = internvl2.NATIVE_TYPE if kind == internvl2.MODEL_TYPE else kind
    names = [name for name in FAMILIES if name == native]
    if native == "llava":
        names.append("mantis")
    known = [family for name in names if (family := FAMILIES.get(name)).fits(files)]
    first, *others = [*known, HfFamily]
    device = "cpu" if arguments.use_cpu or is_sharded() else f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    return load_family(
        first, pretrained, others=others, dtype=passes_dtype(arguments), device=device, peft=None
    )


def _finished(out: Path) -> dict[str, Any] | None:
    """The record of a training that is done; its card is written last."""
    if not ((out / "README.md").is_file() and (out / "training.json").is_file()):
        return None
    record = read_json(out / "training.json")
    if not isinstance(record, dict):
        raise UserError(f"{out / 'training.json'} is not what a training writes: remove the folder")
    return record


def _say_start(options: FinetuneOptions, trainer: Any, *, layers: Any, total: int) -> None:
    from model_adapters.layers import format_layers

    if rank():
        return
    learnt, every = trainer.model.num_parameters(only_trainable=True), trainer.model.num_parameters()
    mask = options.mask_arguments()["mask"]
    where = f"mask={mask} in layers {format_layers(layers)}" if layers else f"mask={mask}, in no layer"
    each = f"{world_size()} x " if world_size() > 1 else ""
    print(
        f"Training {learnt:,} of {every:,} weights on {total:,} samples in {trainer.args.max_steps:,} steps "
        f"of {options.batch_size} ({each}{options.row_count} at a time), {where}",
        file=sys.stderr,
    )
