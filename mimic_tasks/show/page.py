"""The HTML page of a summary: one file that opens without a network."""

from pathlib import Path

from mimic_eval.records import UserError
from mimic_eval.records.folders import write_atomically
from mimic_eval.viewer import TEMPLATES
from mimic_tasks.show import Summary


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse a path where the page cannot be written.

    Args:
        out: the file.
        overwrite: another file there may be replaced. A page of this command may be there anyhow: whether
            it is the same one is seen when it is made.

    Raises:
        UserError: a file that exists, a folder, or no folder to write in.
    """
    if out.is_dir():
        raise UserError(f"--out {out} is a folder: name a file")
    if out.exists() and not overwrite and not _is_page(out):
        raise _exists(out)
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: no such folder {out.parent}")


def render_page(summary: Summary) -> str:
    """The page as HTML; every text in it is escaped, and it makes no request to the outside."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(summary=summary)


def write_page(summary: Summary, out: Path, *, overwrite: bool = False) -> bool:
    """Write the page of a summary atomically; False if the same page was there already.

    Raises:
        UserError: as for `check_out`, or another page is there.
    """
    page = render_page(summary).encode(errors="replace")
    check_out(out, overwrite=overwrite)
    if out.exists():
        if out.read_bytes() == page:
            return False
        if not overwrite:
            raise _exists(out)
    write_atomically(out, page)
    return True


def _is_page(out: Path) -> bool:
    with out.open("rb") as file:
        return b": MIMIC docs</title>" in file.read(4096)


def _exists(out: Path) -> UserError:
    return UserError(f"--out {out} exists: --overwrite replaces it")
