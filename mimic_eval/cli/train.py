"""`mimic train-reference`."""

from pathlib import Path
from typing import Annotated

import typer

from mimic_eval.records import announce_cached


def train_reference(
    family: Annotated[str, typer.Argument(help="internvl, llava_onevision, qwen2_5_vl or qwen2_vl.")],
    out: Annotated[Path, typer.Option(help="Output folder; an interrupted run resumes from it.")],
    mask: Annotated[
        str, typer.Option(help="Mask during training, in its default layers: none or block.")
    ] = "none",
    steps: Annotated[int, typer.Option(help="Training steps.")] = 6000,
    glances: Annotated[int, typer.Option(help="Pretraining steps of the vision tower.")] = 4000,
    seed: Annotated[int, typer.Option(help="Random seed of the weights and batches.")] = 0,
    scenes: Annotated[int, typer.Option(help="Number of training images.")] = 12000,
    scene_seed: Annotated[
        int, typer.Option(help="Seed of the training images; evaluation uses the next one.")
    ] = 1001,
    docs: Annotated[int, typer.Option(help="Training docs per task.")] = 8000,
    images: Annotated[int, typer.Option(help="Maximum number of images per batch.")] = 48,
    common_weight: Annotated[int, typer.Option(help="Sampling weight of Common relative to Counting.")] = 3,
    oddone_weight: Annotated[int, typer.Option(help="Sampling weight of Odd-One relative to Counting.")] = 9,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1.5e-3,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 200,
    exam_every: Annotated[int, typer.Option(help="Steps between evaluations on held-out docs.")] = 500,
    exam_docs: Annotated[int, typer.Option(help="Held-out docs per task.")] = 60,
    start: Annotated[
        str | None,
        typer.Option(help="Checkpoint to start from, without pretraining: a folder or embedded:NAME."),
    ] = None,
    sinks: Annotated[
        float,
        typer.Option(help="Share of visual tokens that are made attention sinks before --steps begin."),
    ] = 0.0,
    count_classes: Annotated[int, typer.Option(help="Maximum number of classes per Counting question.")] = 1,
    extra: Annotated[int, typer.Option(help="Further questions per doc.")] = 7,
    across: Annotated[
        bool, typer.Option("--across", help="Also train on which and how many images show a class.")
    ] = False,
    positions: Annotated[
        bool, typer.Option("--positions", help="Also train on the questions of PQA and Retrieval.")
    ] = False,
    grid: Annotated[
        int, typer.Option(help="Visual tokens per side of an image; 0: the family's default.")
    ] = 0,
    intermediate: Annotated[
        int, typer.Option(help="Width of the decoder's MLPs; 0: twice the hidden size.")
    ] = 0,
    layers: Annotated[int, typer.Option(help="Decoder layers.")] = 6,
    edges: Annotated[
        bool, typer.Option("--edges", help="Pretrain the vision tower on the objects' edges too.")
    ] = False,
    numbers: Annotated[
        bool,
        typer.Option(
            "--numbers",
            help="Pretrain the vision tower on how many objects of each class an image has too.",
        ),
    ] = False,
    perception: Annotated[
        str | None,
        typer.Option(
            help="Checkpoint whose vision tower, projector and word embeddings are taken and frozen, below "
            "the decoder of --start or a new one: a folder or embedded:NAME."
        ),
    ] = None,
    more_glances: Annotated[
        int, typer.Option(help="Further pretraining steps of the vision tower of --perception.")
    ] = 0,
    vision_layers: Annotated[
        int, typer.Option(help="Layers of the vision tower; --perception gets those that it lacks.")
    ] = 4,
    tallies: Annotated[
        bool,
        typer.Option(
            "--tallies",
            help="Also train the decoder's visual tokens on how many images so far show their class.",
        ),
    ] = False,
    task_weight: Annotated[
        int, typer.Option(help="Loss weight of the answer for a doc's task; other answers have 1.")
    ] = 1,
    average: Annotated[
        float,
        typer.Option(
            help="Share of the weights of --start in the result, a mean of them and the trained ones."
        ),
    ] = 0.0,
) -> None:
    """Train a tiny reference checkpoint from scratch on glyph scenes: about an hour on one core."""
    from finetune.claim import stored_checkpoints
    from finetune.reference import ReferenceOptions
    from finetune.reference import train_reference as train
    from finetune.reference.card import is_trained
    from mimic_eval.records.folders import done

    options = ReferenceOptions(
        family=family,
        out=out,
        mask=mask,
        steps=steps,
        glances=glances,
        seed=seed,
        scenes=scenes,
        scene_seed=scene_seed,
        docs=docs,
        images=images,
        common_weight=common_weight,
        oddone_weight=oddone_weight,
        learning_rate=learning_rate,
        save_every=save_every,
        exam_every=exam_every,
        exam_docs=exam_docs,
        start=start,
        sinks=sinks,
        count_classes=count_classes,
        extra=extra,
        across=across,
        positions=positions,
        grid=grid,
        intermediate=intermediate,
        layers=layers,
        edges=edges,
        numbers=numbers,
        perception=perception,
        more_glances=more_glances,
        vision_layers=vision_layers,
        tallies=tallies,
        task_weight=task_weight,
        average=average,
    )
    complete = is_trained(out)
    announce_cached(lambda: stored_checkpoints(out))
    scores = train(options)
    for name, value in scores.items():
        typer.echo(f"{name.removeprefix('final_'):<12} {value:.3f}")
    typer.echo(f"{done(out) if complete else f'Wrote {out}'}; its card is {out / 'README.md'}")
