"""The HTML page of a summary: one file that opens without a network."""

from pathlib import Path

from mimic_eval.records import UserError
from mimic_tasks.show import Summary


def check_place(out: Path, *, force: bool) -> None:
    """Refuse a place where the page cannot be written.

    Raises:
        UserError: a file that exists (unless `force`), a folder, or no folder to write in.
    """
    if out.is_dir():
        raise UserError(f"--out {out} is a folder: name a file")
    if out.exists() and not force:
        raise UserError(f"--out {out} exists: choose another file, or pass --force")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: no such folder {out.parent}")


def render_page(summary: Summary) -> str:
    """The page as HTML; every text in it is escaped, and it asks for nothing from outside."""
    from jinja2 import Environment, StrictUndefined

    template = (Path(__file__).parent / "page.html.j2").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(template).render(summary=summary)


def write_page(summary: Summary, out: Path, *, force: bool = False) -> None:
    """Write the page of a summary.

    Raises:
        UserError: as for `check_place`.
    """
    page = render_page(summary)
    check_place(out, force=force)
    out.write_text(page, encoding="utf-8", errors="replace")
