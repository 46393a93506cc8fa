"""The measures of a diagnosed run, read from its folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mimic_eval.records import UserError
from mimic_eval.records.reading import read_json

FORMAT = "mimic_eval diagnosis"
QUARTILES = 4

Floats = npt.NDArray[np.float64]
DocKey = tuple[str, str, int]
"""Task, content hash, number."""


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The measures of D docs; L layers, M the most images of a doc. What a doc does not have is NaN.

    Attributes:
        name: of the folder.
        run: `run.json`.
        docs: D.
        images: int (D), of each doc.
        by_layer: measure -> (D, L).
        by_image: measure -> (D, L, M).
        of_doc: measure -> (D).
        targets: (D, M), 1 = the image shows a target, 0 = a distractor, NaN: not known or no image.
    """

    name: str
    run: Mapping[str, Any]
    docs: tuple[DocKey, ...]
    images: npt.NDArray[np.int64]
    by_layer: Mapping[str, Floats]
    by_image: Mapping[str, Floats]
    of_doc: Mapping[str, Floats]
    targets: Floats

    @property
    def layers(self) -> int:
        """L, layers of the decoder."""
        return int(self.run["depth"])

    def quartile_of(self, layer: int) -> int:
        """Which quartile of the depth a layer is in, from 0."""
        return layer * QUARTILES // self.layers

    def by_quartile(self, measure: str) -> Floats:
        """(D, 4): a measure of layers averaged over those of each quartile of the depth."""
        values = self.by_layer[measure]
        quartile = np.array([self.quartile_of(layer) for layer in range(self.layers)])
        return np.stack([mean_of(values[:, quartile == q], axis=1) for q in range(QUARTILES)], axis=1)

    def chosen(self, docs: Sequence[int]) -> "Diagnosis":
        """Some of its docs, in this order."""
        at = np.array(docs, dtype=np.int64)
        return replace(
            self,
            docs=tuple(self.docs[i] for i in docs),
            images=self.images[at],
            by_layer={name: values[at] for name, values in self.by_layer.items()},
            by_image={name: values[at] for name, values in self.by_image.items()},
            of_doc={name: values[at] for name, values in self.of_doc.items()},
            targets=self.targets[at],
        )


def mean_of(values: Floats, *, axis: int | tuple[int, ...]) -> Floats:
    """The mean without what is NaN; NaN where nothing is left."""
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0).sum(axis=axis)
    mean: Floats = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def read_run(folder: Path) -> dict[str, Any]:
    """`run.json` of a folder.

    Raises:
        UserError: the folder holds no diagnosed run.
    """
    path = folder / "run.json"
    record = read_json(path) if path.is_file() else None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise UserError(f"{folder} holds no run of `mimic diagnose`: name its --out folder")
    return record


def read_diagnosis(folder: Path) -> Diagnosis:
    """The measures of a finished run.

    Raises:
        UserError: no diagnosed run, one that is not finished, or a damaged file.
    """
    record = read_run(folder)
    path = folder / "measures.parquet"
    if not path.is_file():
        raise UserError(f"{folder} is not finished: run the same `mimic diagnose` command again")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = pq.read_table(path).to_pydict()
        return _gathered(folder.name or str(folder), record, columns)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"{path} is damaged ({error}): delete {folder}, and diagnose again") from error


def _gathered(name: str, run: Mapping[str, Any], columns: Mapping[str, list[Any]]) -> Diagnosis:
    keys = list(zip(columns["task"], columns["content_hash"], columns["doc"], strict=True))
    docs = tuple(dict.fromkeys(keys))
    place = {key: i for i, key in enumerate(docs)}
    depth, most = int(run["depth"]), max(columns["n_images"])
    images = np.zeros(len(docs), dtype=np.int64)
    targets = np.full((len(docs), most), np.nan)
    by_layer: dict[str, Floats] = {}
    by_image: dict[str, Floats] = {}
    of_doc: dict[str, Floats] = {}
    rows = zip(
        keys,
        *(columns[column] for column in ("n_images", "measure", "layer", "image", "role", "value")),
        strict=True,
    )
    for key, count, measure, layer, image, role, value in rows:
        doc = place[key]
        images[doc] = count
        if layer is None:
            of_doc.setdefault(measure, np.full(len(docs), np.nan))[doc] = value
        elif image is None:
            by_layer.setdefault(measure, np.full((len(docs), depth), np.nan))[doc, layer] = value
        else:
            empty = np.full((len(docs), depth, most), np.nan)
            by_image.setdefault(measure, empty)[doc, layer, image - 1] = value
            if role is not None:
                targets[doc, image - 1] = role == "target"
    return Diagnosis(name, run, docs, images, by_layer, by_image, of_doc, targets)
