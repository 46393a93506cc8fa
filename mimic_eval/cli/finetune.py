"""`mimic finetune`."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from mimic_eval.cli.words import check_given
from mimic_eval.records import UserError, announce_cached


def finetune(
    pretrained: Annotated[
        str | None, Option(help="Checkpoint to start from: a folder, a Hub id or embedded:NAME.")
    ] = None,
    data: Annotated[
        list[Path] | None, Option(help="mixture.yaml of an export, or conversations in LLaVA's JSON; repeat.")
    ] = None,
    out: Annotated[Path | None, Option(help="Output folder; an interrupted run resumes from it.")] = None,
    add: Annotated[list[Path] | None, Option(help="Further conversations in LLaVA's JSON; repeat.")] = None,
    recipe: Annotated[str, Option(help="paper or released: what is not given below.")] = "paper",
    lora: Annotated[
        bool, Option("--lora/--full", help="LoRA in the language model, or the full language model.")
    ] = True,
    mask: Annotated[
        str | None, Option(help="Mask during training. [default: block with --lora, none with --full]")
    ] = None,
    layers: Annotated[str | None, Option(help="Layers with the mask. [default: the mask's]")] = None,
    mask_args: Annotated[
        str, Option(help="Further arguments of the mask: variant=released,prefix=true.")
    ] = "",
    image_folder: Annotated[
        Path | None, Option(help="Folder that the pictures' paths start at. [default: the export's]")
    ] = None,
    epochs: Annotated[float | None, Option(help="Passes over the data. [default: 1]")] = None,
    steps: Annotated[int | None, Option(help="Optimizer steps, instead of --epochs.")] = None,
    batch: Annotated[
        int | None,
        Option(help="Samples per optimizer step, over all processes. [default: 128; released: 192]"),
    ] = None,
    rows: Annotated[
        int | None,
        Option(help="Samples at once on a device; halved when memory runs out. [default: up to 4]"),
    ] = None,
    learning_rate: Annotated[
        float | None, Option(help="Peak learning rate. [default: 2.5e-5 with --lora, 2.5e-6 with --full]")
    ] = None,
    rank: Annotated[int | None, Option(help="Rank of LoRA. [default: 128]")] = None,
    alpha: Annotated[int | None, Option(help="Alpha of LoRA. [default: 32]")] = None,
    dropout: Annotated[float | None, Option(help="Dropout of LoRA. [default: 0; released: 0.05]")] = None,
    projector: Annotated[
        str | None, Option(help="frozen or trained. [default: frozen; released: trained]")
    ] = None,
    seed: Annotated[int, Option(help="Random seed of order, first weights and dropout.")] = 0,
    precision: Annotated[
        str, Option(help="auto, bf16, fp16 or fp32; auto is bf16 on a GPU, fp32 on a CPU.")
    ] = "auto",
    checkpointing: Annotated[
        bool,
        Option(
            "--checkpointing/--no-checkpointing", help="Activation checkpointing: less memory, more time."
        ),
    ] = True,
    eval_tasks: Annotated[
        Path | None, Option("--eval-data", help="Task folder to evaluate on during training.")
    ] = None,
    eval_every: Annotated[int | None, Option(help="Steps between evaluations.")] = None,
    eval_docs: Annotated[int, Option(help="Docs per task in an evaluation.")] = 50,
    save_every: Annotated[int, Option(help="Steps between checkpoints.")] = 100,
    workers: Annotated[
        int | None, Option(help="Processes that open pictures. [default: 4 with a GPU, else 0]")
    ] = None,
    report_to: Annotated[
        list[str] | None, Option(help="Log to wandb, tensorboard, ... (transformers' names); repeat.")
    ] = None,
    device: Annotated[str | None, Option(help="cpu or cuda. [default: a GPU if there is one]")] = None,
) -> None:
    """Train a checkpoint on exported data: LoRA or full, with or without a mask."""
    from finetune.arguments import FinetuneOptions
    from finetune.claim import stored_checkpoints

    check_given("finetune", {"--pretrained": pretrained, "--data": data or add, "--out": out})
    if pretrained is None:
        raise UserError("--pretrained CKPT is needed: a folder, a Hub id or embedded:NAME")
    if out is None:
        raise UserError("--out FOLDER is needed, the folder to write")
    options = FinetuneOptions(
        pretrained=pretrained,
        data=(*(data or ()), *(add or ())),
        out=out,
        recipe=recipe,
        method="lora" if lora else "full",
        mask=mask,
        layers=layers,
        mask_args=mask_args,
        image_folder=image_folder,
        epochs=epochs,
        steps=steps,
        batch=batch,
        rows=rows,
        learning_rate=learning_rate,
        rank=rank,
        alpha=alpha,
        dropout=dropout,
        projector=projector,
        seed=seed,
        precision=precision,
        checkpointing=checkpointing,
        eval_tasks=eval_tasks,
        eval_every=eval_every,
        eval_docs=eval_docs,
        save_every=save_every,
        workers=workers,
        report_to=tuple(report_to or ()),
        device=device,
    )
    announce_cached(lambda: stored_checkpoints(out))
    from finetune.result import evaluation
    from finetune.training import finetune as train
    from mimic_eval.records.folders import done
    from mimic_eval.records.processes import rank as process

    trained = train(options)
    if process():
        return
    for name, value in (trained.record["evaluations"] or [{}])[-1].items():
        if name != "step":
            typer.echo(f"{name:<12} {value:.3f}")
    typer.echo(done(out) if trained.was_complete else f"Wrote {out}")
    print(f"Evaluate it: lmms_eval --tasks mimic {evaluation(options, trained.record)}", file=sys.stderr)
