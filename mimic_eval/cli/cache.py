"""`mimic cache list`, `size` and `prune`."""

import re
import time
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from mimic_eval.records import UserError

if TYPE_CHECKING:
    from model_adapters.caches import CacheEntry

app = typer.Typer(
    help="The cache folder ($MIMIC_CACHE, else ~/.cache/mimic_eval): answers, calibrations, relevance.",
    no_args_is_help=True,
)

_UNITS = {"h": 3600, "d": 86400, "w": 7 * 86400}


@app.command("list")
def list_() -> None:
    """List the contents of the cache folder."""
    from model_adapters.caches import STALE, list_cache

    for entry in list_cache():
        date = time.strftime("%Y-%m-%d", time.localtime(entry.used))
        note = f" ({STALE})" if entry.stale else ""
        typer.echo(f"{_size(entry.size):>10}  {date}  {entry.kind}/{entry.path.name}  {entry.about}{note}")
    _say_total()


@app.command("size")
def size() -> None:
    """Print the size of the cache folder."""
    _say_total()


@app.command("prune")
def prune(
    older_than: Annotated[
        str | None, Option(help="Also remove what is older than this: 12h, 30d, 8w.")
    ] = None,
    kind: Annotated[
        list[str] | None, Option(help="Remove only this: answers, relevance, calibrations, ...; repeat.")
    ] = None,
    everything: Annotated[bool, Option("--all", help="Also remove what this version can still use.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Print what would be removed.")] = False,
) -> None:
    """Remove answers that only other versions of mimic-eval could use, and what else is chosen."""
    from model_adapters.caches import list_cache, prune_cache, remove

    chosen = prune_cache(list_cache(), older_than=_seconds(older_than), kinds=kind, everything=everything)
    if not dry_run:
        remove(chosen)
    total = _size(sum(entry.size for entry in chosen))
    typer.echo(f"{'Would remove' if dry_run else 'Removed'} {len(chosen)} entries, {total}")
    for entry in chosen if dry_run else ():
        typer.echo(f"  {entry.path}")


def _say_total() -> None:
    from model_adapters.caches import list_cache
    from model_adapters.disk import cache_root

    entries = list_cache()
    stale = [entry for entry in entries if entry.stale]
    typer.echo(f"{cache_root()}: {len(entries)} entries, {_total(entries)}")
    if stale:
        typer.echo(
            f"{len(stale)} of them, {_total(stale)}, are of other versions: mimic cache prune removes them"
        )


def _total(entries: "list[CacheEntry]") -> str:
    return _size(sum(entry.size for entry in entries))


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6})([hdw])", text)
    if not match:
        raise UserError(f"--older-than must read 12h, 30d or 8w, got '{text}'")
    return int(match[1]) * _UNITS[match[2]]


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
