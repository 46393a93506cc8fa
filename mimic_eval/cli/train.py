"""`mimic train-reference`."""

from pathlib import Path
from typing import Annotated

import typer

from mimic_eval.records import announce_kept


def train_reference(
    family: Annotated[str, typer.Argument(help="internvl, llava_onevision or qwen2_vl.")],
    out: Annotated[Path, typer.Option(help="The folder to write; a killed run goes on from it.")],
    mask: Annotated[str, typer.Option(help="In training, in its default layers: none or block.")] = "none",
    steps: Annotated[int, typer.Option(help="Batches of questions.")] = 6000,
    glances: Annotated[int, typer.Option(help="Batches of pictures for the vision tower before.")] = 4000,
    seed: Annotated[int, typer.Option(help="Seed of the weights and of the batches.")] = 0,
    scenes: Annotated[int, typer.Option(help="Pictures to learn from.")] = 12000,
    scene_seed: Annotated[int, typer.Option(help="Seed of the pictures; the exam's is the next one.")] = 1001,
    docs: Annotated[int, typer.Option(help="Planned docs a task.")] = 8000,
    images: Annotated[int, typer.Option(help="The most pictures a batch.")] = 48,
    common_weight: Annotated[
        int, typer.Option(help="How often a doc is of Common, for one of Counting.")
    ] = 3,
    oddone_weight: Annotated[int, typer.Option(help="How often one is of Odd-One, for one of Counting.")] = 9,
    learning_rate: Annotated[float, typer.Option(help="The largest one.")] = 1.5e-3,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints to go on from.")] = 200,
    exam_every: Annotated[int, typer.Option(help="Steps between exams on held-out docs.")] = 500,
    exam_docs: Annotated[int, typer.Option(help="Held-out docs a task.")] = 60,
) -> None:
    """Train a tiny reference checkpoint from nothing on glyph scenes: an hour or so on one core."""
    from finetune.card import is_trained
    from finetune.reference import ReferenceOptions
    from finetune.reference import train_reference as train
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
    )
    complete = is_trained(out)
    announce_kept(lambda: "the same command goes on from the last checkpoint")
    scores = train(options)
    for name, value in scores.items():
        typer.echo(f"{name.removeprefix('final_'):<12} {value:.3f}")
    typer.echo(f"{done(out) if complete else f'Wrote {out}'}; its card is {out / 'README.md'}")
