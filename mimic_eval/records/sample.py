"""One answer to one doc, as a samples file holds it: the hooks write it, everything else reads it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from mimic_eval.records.doc import CONTROL_COLUMNS
from mimic_eval.records.errors import UserError
from mimic_eval.records.over_orders import ORDER_COLUMNS, OVER_ORDERS

VERSION = 1
"""The form of a record. It is written from 2 on: a record without `version` is of form 1."""

UNSCORED = "unscored"

METRICS = (
    "exact_match", "exact_match_official", "class_accuracy", "f1", "f1_official", "mean_score",
    "mean_score_official",
    *(
        f"{base}{OVER_ORDERS}{rules}"
        for base in ("exact_match", "class_accuracy", "doc_f1", "mean_score")
        for rules in ("", "_official")
    ),
    "exact_list", f"exact_list{OVER_ORDERS}",
)  # fmt: skip
"""The metrics of our tasks, the headline first."""


@dataclass(frozen=True)
class Item:
    """What one metric is made from.

    Attributes:
        score: within [0, 1]; None if the doc is unscored.
        counts: of Listing: recalled, generated, relevant.
        doc: of a permuted task, the doc's number.
    """

    score: float | None = None
    counts: tuple[int, int, int] | None = None
    doc: int | None = None

    @classmethod
    def from_json(cls, item: Any, where: str = "item") -> "Item":
        """From a metric's entry.

        Raises:
            UserError: a wrong value; the message begins with `where`.
        """
        fields = _mapping(where, item)
        counts = fields.get("counts")
        if counts is not None:
            counts = _counts(f"{where}: 'counts'", counts)
        return cls(_score(where, fields, "score"), counts, _integer(where, fields, "doc"))

    def to_json(self) -> dict[str, Any]:
        """The metric's entry; what is None has no key."""
        fields = {"doc": self.doc, "score": self.score, "counts": self.counts}
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True)
class Ordering:
    """The image order of a sample of a permuted task; the columns are those of `ORDER_COLUMNS`.

    Attributes:
        target_positions: of the images that hold a target, from 0; None if the doc has no boxes.
    """

    base_doc_id: int
    base_hash: str
    order: tuple[int, ...]
    order_index: int
    n_orders: int
    orders: str
    order_seed: int
    target_positions: tuple[int, ...] | None

    @classmethod
    def from_json(cls, record: Mapping[str, Any], where: str) -> "Ordering":
        """From a sample's record.

        Raises:
            UserError: a missing or wrong field.
        """
        numbers = {
            name: _integer(where, record, name, required=True)
            for name in ("base_doc_id", "order_index", "n_orders", "order_seed")
        }
        texts = {name: _text(where, record, name, required=True) for name in ("base_hash", "orders")}
        order = _integers(f"{where}: 'order'", record.get("order"))
        if sorted(order) != list(range(len(order))) or not order:
            raise UserError(f"{where}: 'order' must be a permutation of 0 to n - 1, got {order!r:.60}")
        positions = record.get("target_positions")
        if positions is not None:
            positions = _integers(f"{where}: 'target_positions'", positions)
            if not all(0 <= position < len(order) for position in positions):
                raise UserError(f"{where}: 'target_positions' must be within 0-{len(order) - 1}")
        return cls(**numbers, **texts, order=order, target_positions=positions)  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        """The columns of the record."""
        positions = None if self.target_positions is None else list(self.target_positions)
        columns = {name: getattr(self, name) for name in ORDER_COLUMNS}
        return {**columns, "order": list(self.order), "target_positions": positions}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One answer to one doc, in one image order.

    Attributes:
        doc_id: the row's number in its task; None before lmms-eval has numbered it.
        items: of each metric.
        kind: of the task, as counting, or a public benchmark.
        content_hash: of the doc, its images in this order.
        gt: the right answer as stored.
        question: as stored.
        response: the model's answer; None if unscored.
        sub_task: the doc's `task` column.
        controls: the columns of `CONTROL_COLUMNS`.
        run: the settings that the model announced.
        matched_set: of a sweep, the number of the doc's matched set.
        status: how the answer was read; ``unscored`` if there is none.
        reason: why it is unscored.
        parsed: the normalised answer; None if it was not read.
        score: within [0, 1]; None if unscored.
        score_official: by the official rules; None where they do not apply.
        position_scores: of a kind with positional answers: the score at each position of the prompt, None
            where nothing is asked.
        ordering: of a permuted task.
        review: of a person's answer, the person's other remarks.
        excluded: of a benchmark's docs in several orders, the docs left out by reason.
        where: the file it was read from, for messages.
    """

    doc_id: int | None = None
    items: Mapping[str, Item]
    kind: str
    content_hash: str
    gt: str | None = None
    question: str | None = None
    response: str | None = None
    sub_task: str | None = None
    controls: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    matched_set: int | None = None
    status: str
    reason: str | None = None
    parsed: Any = None
    score: float | None = None
    score_official: float | None = None
    position_scores: tuple[float | None, ...] | None = None
    ordering: Ordering | None = None
    review: Mapping[str, Any] | None = None
    excluded: Mapping[str, int] | None = None
    where: str = field(default="", compare=False)

    @property
    def unscored(self) -> bool:
        """There is no answer."""
        return self.status == UNSCORED

    @property
    def cell(self) -> str | None:
        """The cell of a sweep."""
        return self.controls.get("cell")

    @property
    def n_images(self) -> int | None:
        """How many images the doc has."""
        return self.controls.get("n_images")

    @property
    def image_ids(self) -> list[Any] | None:
        """Of the images in the source."""
        return self.controls.get("image_ids")

    @property
    def base_hash(self) -> str:
        """The content hash of the doc in the plain task."""
        return self.content_hash if self.ordering is None else self.ordering.base_hash

    def missing(self, name: str) -> UserError:
        """The error for a field that is None and is needed."""
        return UserError(f"{self.where}: doc {self.doc_id}: lacks '{name}'")

    @classmethod
    def from_json(cls, sample: Mapping[str, Any], file: object) -> "Sample":
        """From a line of a samples file of lmms-eval, as the present and earlier versions wrote it.

        Args:
            sample: the line; keys that are not ours are ignored.
            file: where it is from, for messages.

        Raises:
            UserError: a missing or wrong field; the message names file, doc and field.
        """
        where = f"{file}: doc {str(sample.get('doc_id'))[:20]}"
        number = _integer(where, sample, "doc_id", required=True)
        record = _mapping(f"{where}: 'mimic'", sample.get("mimic"))
        version = record.get("version", VERSION)
        if version != VERSION:
            raise UserError(
                f"{where}: its record has version {version!r:.20}, this mimic-eval reads {VERSION}: update it"
            )
        controls = {name: record[name] for name in CONTROL_COLUMNS if name in record}
        for name in ("n_images", "k"):
            _integer(where, controls, name)
        _text(where, controls, "cell")
        if not isinstance(controls.get("image_ids"), list | tuple | None):
            raise UserError(f"{where}: 'image_ids' must be a list, got {controls['image_ids']!r:.60}")
        status = _text(where, record, "status", required=True) or ""
        scored = status != UNSCORED
        review, excluded = record.get("review"), record.get("excluded")
        return cls(
            doc_id=number,
            items={name: _item(sample[name], where, name) for name in _metrics_among(tuple(sample))},
            kind=_text(where, record, "kind", required=True) or "",
            content_hash=_text(where, record, "content_hash", required=True) or "",
            gt=_text(where, record, "gt"),
            question=_text(where, record, "question"),
            response=_text(where, record, "response", required=scored),
            sub_task=_text(where, record, "sub_task"),
            controls=controls,
            run=_mapping(f"{where}: 'run'", record.get("run") or {}),
            matched_set=_integer(where, record, "matched_set"),
            status=status,
            reason=None if scored else _text(where, record, "reason"),
            parsed=record.get("parsed") if scored else None,
            score=_score(where, record, "score", required=True) if scored else None,
            score_official=_score(where, record, "score_official") if scored else None,
            position_scores=_scores(where, record, "position_scores") if scored else None,
            ordering=Ordering.from_json(record, where) if record.get("base_hash") is not None else None,
            review=None if review is None else _mapping(f"{where}: 'review'", review),
            excluded=None if excluded is None else _mapping(f"{where}: 'excluded'", excluded),
            where=str(file),
        )

    def to_json(self) -> dict[str, Any]:
        """The entries that a hook returns: an item for each metric, `unscored`, and the record as `mimic`."""
        record: dict[str, Any] = {
            "kind": self.kind,
            "content_hash": self.content_hash,
            "gt": self.gt,
            "question": self.question,
            "response": self.response,
            "sub_task": self.sub_task,
            "image_ids": self.image_ids,
            **self.controls,
            "run": dict(self.run),
        }
        if self.cell:
            record["matched_set"] = self.matched_set
        if self.unscored:
            record |= {"status": self.status, "reason": self.reason}
        else:
            record |= {"parsed": self.parsed, "status": self.status}
            record |= {"score": self.score, "score_official": self.score_official}
            if self.position_scores is not None:
                record["position_scores"] = list(self.position_scores)
        unscored: Any = int(self.unscored)
        entries: dict[str, Any] = {}
        if self.ordering is not None:
            record |= self.ordering.to_json()
            number = self.ordering.base_doc_id
            entries["docs"] = {"doc": number}
            unscored = {"doc": number, "unscored": unscored}
        if self.review is not None:
            record["review"] = dict(self.review)
        if self.excluded is not None:
            record["excluded"] = dict(self.excluded)
        items = {name: item.to_json() for name, item in self.items.items()}
        return {**entries, **items, "unscored": unscored, "mimic": record}


@lru_cache(maxsize=256)
def _metrics_among(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in METRICS if name in keys)


def _item(entry: Any, where: str, name: str) -> Item:
    """`Item.from_json`, which nearly all entries, a score alone, do not need."""
    if type(entry) is dict and len(entry) == 1:
        score = entry.get("score")
        if type(score) is float and 0.0 <= score <= 1.0:
            return Item(score)
    return Item.from_json(entry, f"{where}: {name}")


def read_samples(rows: Iterable[Mapping[str, Any]], file: object) -> list[Sample]:
    """The samples of a file.

    Raises:
        UserError: as `Sample.from_json`.
    """
    return [Sample.from_json(row, file) for row in rows]


def _mapping(where: str, value: Any) -> Mapping[str, Any]:
    if type(value) is not dict and not isinstance(value, Mapping):  # the first test is the faster
        raise UserError(f"{where} must be an object, got {value!r:.60}")
    return value


def _text(where: str, fields: Mapping[str, Any], name: str, *, required: bool = False) -> str | None:
    value = fields.get(name)
    if isinstance(value, str) or (value is None and not required):
        return value
    raise UserError(f"{where}: '{name}' must be a text, got {value!r:.60}")


def _integer(where: str, fields: Mapping[str, Any], name: str, *, required: bool = False) -> int | None:
    value = fields.get(name)
    if _is_integer(value) or (value is None and not required):
        return value
    raise UserError(f"{where}: '{name}' must be an integer, got {value!r:.60}")


def _score(where: str, fields: Mapping[str, Any], name: str, *, required: bool = False) -> float | None:
    value = fields.get(name)
    if type(value) is float and 0.0 <= value <= 1.0:
        return value
    if value is None and not required:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise UserError(f"{where}: '{name}' must be a number within 0-1, got {value!r:.60}")


def _scores(where: str, fields: Mapping[str, Any], name: str) -> tuple[float | None, ...] | None:
    values = fields.get(name)
    if values is None:
        return None
    if not isinstance(values, list | tuple):
        raise UserError(f"{where}: '{name}' must be a list, got {values!r:.60}")
    return tuple(_score(where, {name: value}, name) for value in values)


def _integers(where: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not all(map(_is_integer, value)):
        raise UserError(f"{where} must be a list of integers, got {value!r:.60}")
    return tuple(value)


def _counts(where: str, value: Any) -> tuple[int, int, int]:
    counts = _integers(where, value)
    if len(counts) != 3 or not 0 <= counts[0] <= min(counts[1:]):
        raise UserError(f"{where} must be recalled, generated and relevant classes, got {value!r:.60}")
    return counts[0], counts[1], counts[2]


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53
