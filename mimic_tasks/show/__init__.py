"""One offline page of a built task folder: the question and pictures of each doc, and the balance of answers.

`summarize_folder` gathers everything as plain values; `mimic_tasks.show.page` only renders them.
"""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError
from mimic_eval.records.reading import read_json
from mimic_eval.viewer import PictureView, make_thumbnail, view_picture
from mimic_tasks.catalog import CatalogPicture, pictures_of
from mimic_tasks.stored_docs import chosen_files, count_docs, read_docs

_MOST_BARS = 10
_MOST_VALUES = 20
_PLAIN = ("question", "gt", "id", "n_images", "k", "spread", "distractors", "split", "category", "cell")
_COLUMNS = (*_PLAIN, "images", "image_ids", "boxes", "targets")


@dataclass(frozen=True)
class ChartBar:
    """A value, how many docs have it, and the bar's length as a share of the longest."""

    label: str
    count: int
    length: float


@dataclass(frozen=True)
class Histogram:
    """How the docs of a task spread over one column."""

    title: str
    bars: tuple[ChartBar, ...]


@dataclass(frozen=True)
class BalanceTable:
    """How classes or answers spread over the cells of a sweep.

    Attributes:
        title: what is counted, and the test's verdict.
        cells: the cells' names.
        rows: a value, its count in each cell, and each count as a share of the table's largest.
    """

    title: str
    cells: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...], tuple[float, ...]], ...]


@dataclass(frozen=True)
class FolderDoc:
    """A doc of the folder; `search` is what the page's text filter looks through, in lower case."""

    id: str
    question: str
    answer: str
    n_images: int
    cell: str
    controls: tuple[tuple[str, str], ...]
    images: tuple[PictureView, ...]
    search: str


@dataclass(frozen=True)
class EmbeddedPicture:
    """A picture, once for all docs that have it: its size in pixels and its thumbnail as a data URI."""

    width: int
    height: int
    uri: str


@dataclass(frozen=True)
class TaskSummary:
    """A task by its short name: charts over all its docs, a sweep's balance, and the docs on the page."""

    kind: str
    total: int
    charts: tuple[Histogram, ...]
    balance: tuple[BalanceTable, ...]
    docs: tuple[FolderDoc, ...]


@dataclass(frozen=True)
class Summary:
    """All that the page shows; `dataclasses.asdict` of it is JSON-able."""

    title: str
    label: str | None
    seed: int | None
    tasks: tuple[TaskSummary, ...]
    pictures: dict[str, EmbeddedPicture]


def summarize_folder(path: Path, *, limit: int = 100, kinds: Sequence[str] | None = None) -> Summary:
    """Read what the page of a task folder shows.

    Args:
        path: a folder that `mimic build` wrote.
        limit: docs of each task to show, the first ones; the charts are over all docs.
        kinds: short task names, or None for all that the folder has.

    Raises:
        UserError: no task in the folder, or not the one requested; a file that cannot be read.
    """
    if limit < 1:
        raise UserError(f"--docs must be at least 1, got {limit}")
    files = chosen_files(path, kinds)
    manifest = _manifest(path)
    pictures: dict[str, EmbeddedPicture | str] = {}
    tasks = tuple(_task(kind, file, limit, pictures) for kind, file in files.items())
    label, arguments = manifest.get("label"), manifest.get("arguments")
    seed = arguments.get("seed") if isinstance(arguments, dict) else None
    return Summary(
        title=path.resolve().name,
        label=label if isinstance(label, str) else None,
        seed=seed if isinstance(seed, int) else None,
        tasks=tasks,
        pictures={key: picture for key, picture in pictures.items() if isinstance(picture, EmbeddedPicture)},
    )


def _manifest(path: Path) -> dict[str, Any]:
    """The build's manifest; empty if the folder has none."""
    file = path / "manifest.json"
    if not file.is_file():
        return {}
    manifest = read_json(file)
    return manifest if isinstance(manifest, dict) else {}


def _task(kind: str, file: Path, limit: int, pictures: dict[str, EmbeddedPicture | str]) -> TaskSummary:
    answers: Counter[str] = Counter()
    sizes: Counter[int] = Counter()
    spreads: Counter[int] = Counter()
    for doc in read_docs(file, ("gt", "n_images", "spread")):
        answers[str(doc["gt"])] += 1
        sizes[doc["n_images"] or 0] += 1
        spreads[doc["spread"] or 0] += 1
    charts = (
        Histogram("Answers", _bars(answers)),
        Histogram("Images in a doc (N)", _bars(sizes)),
        Histogram("Images with a target (s)", _bars(spreads)),
    )
    total = count_docs(file)
    rows = zip(range(min(limit, total)), read_docs(file, _COLUMNS), strict=False)
    docs = tuple(_doc(doc, pictures) for _, doc in rows)
    return TaskSummary(kind, total, charts, _balance(file.with_name("balance.json")), docs)


def _balance(file: Path) -> tuple[BalanceTable, ...]:
    """The balance report of a sweep; empty for any other task."""
    if not file.is_file():
        return ()
    report = read_json(file)
    try:
        tables = [_balance_table(of, part) for of, part in report.items()]
        return tuple(t for i, t in enumerate(tables) if not i or t.rows != tables[0].rows)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: is no balance report ({error!r})") from error


def _balance_table(of: str, part: Mapping[str, Any]) -> BalanceTable:
    if part["moves"]:
        verdict = f"not tested: {part['moves']}"
    else:
        verdict = f"{part['test']}: {part['statistic']:.1f}, p = {part['pvalue']:.2g}"
    histograms = part["histograms"]
    totals: Counter[str] = Counter()
    for histogram in histograms.values():
        totals.update(histogram)
    values = [value for value, _ in totals.most_common(_MOST_VALUES)]
    values.sort(key=lambda value: (not value.isdecimal(), int(value) if value.isdecimal() else 0, value))
    counts = [(value, tuple(int(h.get(value, 0)) for h in histograms.values())) for value in values]
    rest = [value for value in totals if value not in values]
    if rest:
        others = tuple(sum(h.get(value, 0) for value in rest) for h in histograms.values())
        counts.append((f"{len(rest)} others", others))
    largest = max((count for _, row in counts for count in row), default=1) or 1
    rows = tuple((value, row, tuple(round(count / largest, 3) for count in row)) for value, row in counts)
    return BalanceTable(f"{of.capitalize()} in each cell ({verdict})", tuple(histograms), rows)


def _bars(counts: Counter[str] | Counter[int]) -> tuple[ChartBar, ...]:
    """The most frequent values, numbers in their order, and one bar for the rest."""
    common = sorted(((str(value), n) for value, n in counts.items()), key=lambda row: (-row[1], row[0]))
    rows, rest = common[:_MOST_BARS], common[_MOST_BARS:]
    if all(value.isdecimal() for value, _ in rows):
        rows.sort(key=lambda row: int(row[0]))
    if rest:
        rows.append((f"{len(rest)} others", sum(count for _, count in rest)))
    longest = max((count for _, count in rows), default=1)
    return tuple(ChartBar(label, count, round(count / longest, 4)) for label, count in rows)


def _doc(doc: Mapping[str, Any], pictures: dict[str, EmbeddedPicture | str]) -> FolderDoc:
    pictures_here = pictures_of(doc)
    images = tuple(_image(i, len(pictures_here), one, pictures) for i, one in enumerate(pictures_here, 1))
    controls = {
        "N": doc["n_images"],
        "s": doc["spread"],
        "d": doc["distractors"],
        "k": doc["k"],
        "split": doc["split"],
        "category": doc["category"],
        "cell": doc["cell"],
        "targets": ", ".join(doc["targets"] or ()),
    }
    classes = sorted({box.label for image in images for box in image.boxes})
    return FolderDoc(
        id=str(doc["id"]),
        question=str(doc["question"]),
        answer=str(doc["gt"]),
        n_images=doc["n_images"] or len(images),
        cell=doc["cell"] or "",
        controls=tuple((name, str(value)) for name, value in controls.items() if value not in (None, "")),
        images=images,
        search="\n".join([str(doc["id"]), str(doc["gt"]), *(doc["targets"] or ()), *classes]).lower(),
    )


def _image(
    position: int, n: int, picture: CatalogPicture, pictures: dict[str, EmbeddedPicture | str]
) -> PictureView:
    key = "p" + picture.sha256[:24]
    if key not in pictures:
        pictures[key] = _embedded(picture)
    embedded = pictures[key]
    size = embedded if isinstance(embedded, str) else (embedded.width, embedded.height)
    return view_picture(picture, position=position, n=n, source=f"#{key}", size=size)


def _embedded(picture: CatalogPicture) -> EmbeddedPicture | str:
    """The picture for the page, or the reason why it cannot be decoded."""
    thumbnail = make_thumbnail(picture.decode)
    if isinstance(thumbnail, str):
        return thumbnail
    uri = "data:image/jpeg;base64," + base64.b64encode(thumbnail.jpeg).decode()
    return EmbeddedPicture(thumbnail.width, thumbnail.height, uri)
