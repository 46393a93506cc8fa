"""`mimic leaderboard build` and `mimic leaderboard check`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mimic_eval.records import UserError

if TYPE_CHECKING:
    from leaderboard.site.build import RunFolder

app = typer.Typer(help="Static leaderboard: build its pages, check submissions.", no_args_is_help=True)

Data = Annotated[
    list[Path] | None,
    typer.Option("--data", help="Task folder with the docs; repeat. [default: the embedded data]"),
]


@app.command("build")
def build(
    runs: Annotated[
        list[Path], typer.Argument(help="--output_path of runs, folders around them, submissions.")
    ],
    out: Annotated[Path, typer.Option(help="Output folder; a leaderboard there is updated.")] = Path("site"),
    data: Data = None,
    title: Annotated[str, typer.Option(help="The site's title.")] = "MIMIC leaderboard",
    why: Annotated[
        list[Path] | None,
        typer.Option(help="--out of `mimic diagnose` or of its compare, for the page Why; repeat."),
    ] = None,
    url: Annotated[
        str, typer.Option(help="Address of the site, for the picture and title of links to it.")
    ] = "",
) -> None:
    """Build a site of plain files that opens offline: ranks, curves, robustness, pairs, docs."""
    from leaderboard.site.build import build_site
    from mimic_tasks.catalog import Catalog
    from mimic_tasks.locate import EMBEDDED

    sources = [Catalog(folder) for folder in data or [EMBEDDED]]
    built = build_site(_given(runs, data), out, sources=sources, title=title, diagnoses=why or [], url=url)
    for note in built.notes:
        typer.echo(note, err=True)
    typer.echo(f"{built.entries} entries on {built.boards} boards, {built.docs} docs")
    typer.echo(f"Wrote {built.index}: open it in a browser, no network needed")


@app.command("check")
def check(
    path: Annotated[Path, typer.Argument(help="A submission's folder, or a folder of submissions.")],
    data: Data = None,
) -> None:
    """Check submissions: names, sizes, metadata, doc hashes, every score computed again.

    Of each number it prints whether it is attainable: a share of n docs must be a whole number of them.
    """
    from leaderboard.site.claims import claims_of

    given = _given([path], data)
    if any(folder.submission is None for folder in given):
        raise UserError(f"{path} holds no submission.toml: give a folder submissions/NAME, or submissions/")
    for folder in given:
        typer.echo(f"{folder.folder}: good")
        for claim in claims_of(folder.folder):
            typer.echo(f"  {claim.line}")


def _given(paths: list[Path], data: list[Path] | None) -> "list[RunFolder]":
    """The folders of runs, submissions checked."""
    from leaderboard.site.build import RunFolder
    from leaderboard.site.submission import check_submission, submissions_in
    from mimic_tasks.locate import EMBEDDED
    from mimic_tasks.truth import FolderTruth

    given = []
    for path in dict.fromkeys(paths):
        submissions = submissions_in(path)
        if not submissions:
            given.append(RunFolder(path))
            continue
        truth = FolderTruth(data or [EMBEDDED])
        given += [RunFolder(submission, check_submission(submission, truth)) for submission in submissions]
    return given
