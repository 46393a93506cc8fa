"""Builds the site of docs/ without network: `python docs/site/build.py --out build/docs` (`make docs`).

The sources are README.md, docs/*.md, and pages made of the code: commands, Python API, studies. A broken link
or anchor, or a page that no table of contents names, ends the build with an error.
"""

import argparse
import shutil
import sys
from pathlib import Path

import reference
import reproduction
from sources import DOCS, ROOT, BrokenLinkError, Sources
from sphinx.cmd.build import build_main

HERE = Path(__file__).resolve().parent
CONTENTS: dict[str, tuple[str, ...]] = {
    "Evaluating": ("tasks", "benchmarks", "models", "families", "scores", "comparing", "leaderboard"),
    "Why a model fails": ("sweeps", "diagnose", "tuning", "review"),
    "Reproducing": ("studies", "studies/index", "ledger"),
    "Training": ("training",),
    "From Python": ("api", "intervene", *(f"python/{module}" for module in reference.MODULES)),
    "Reference": (
        *("commands", "commands/lmms_eval", "commands/data", "commands/results", "commands/models"),
        *("glossary", "METHODS", "coverage", "speed"),
    ),
    "The project": ("LMMS_EVAL", "dependencies", "CHANGELOG"),
}
"""The site's navigation: the pages under each heading."""


def contents() -> str:
    """The navigation as Sphinx reads it."""
    trees = [
        "\n".join(["", "```{toctree}", ":hidden:", ":titlesonly:", f":caption: {caption}", "", *pages, "```"])
        for caption, pages in CONTENTS.items()
    ]
    return "\n".join([*trees, ""])


def write_sources(folder: Path) -> None:
    """Write all that Sphinx reads into an empty folder."""
    sources = Sources(folder)
    sources.page(ROOT / "README.md", after=contents())
    for path in (*sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("*.ipynb"))):
        sources.page(path)
    for name, text in {
        **reference.command_pages(), **reference.python_pages(), **reproduction.study_pages()
    }.items():  # fmt: skip
        sources.write(name, text)
    shutil.copyfile(HERE / "conf.py", folder / "conf.py")
    (folder / "_static").mkdir()
    shutil.copyfile(HERE / "site.css", folder / "_static" / "site.css")


def make_html(source: Path, out: Path) -> int:
    """Make pages of the sources; the exit code is not 0 after any warning, as of a link without a target."""
    cache = str(out.parent / "cache")
    return build_main(["-b", "html", "-q", "-W", "--keep-going", "-d", cache, str(source), str(out)])


def main() -> int:
    """Build the site; its exit code."""
    parser = argparse.ArgumentParser(description="Build the documentation's site.")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "docs", help="for html/ and its sources")
    out: Path = parser.parse_args().out.resolve()
    for part in ("source", "cache", "html"):
        shutil.rmtree(out / part, ignore_errors=True)
    try:
        write_sources(out / "source")
    except BrokenLinkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    code = make_html(out / "source", out / "html")
    if code == 0:
        print(f"{out / 'html' / 'index.html'}: open it in a browser, it needs no network")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
