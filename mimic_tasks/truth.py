"""The docs of task folders by task and content hash, and an answer to one of them scored again."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mimic_eval.records import DOC_COLUMNS, ORDER_COLUMNS, UserError, reordered
from mimic_tasks import lmms_hooks
from mimic_tasks.catalog import Catalog
from mimic_tasks.images import BrokenImage
from mimic_tasks.locate import PERMUTED_SUFFIX
from mimic_tasks.permuted import hooks as permuted_hooks
from mimic_tasks.permuted.orders import parse_orders
from mimic_tasks.stored_docs import read_docs, task_files, task_kind
from mimic_tasks.task_spec import spec_of

_COLUMNS = [name for name in DOC_COLUMNS if name != "images"]


class FolderTruth:
    """The docs of folders that `mimic build` or `mimic sweep` wrote; a task is read at its first use.

    Args:
        folders: the first that has a task counts.

    Raises:
        UserError: no such folder, or no task in it.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._files: dict[str, Path] = {}
        for folder in folders:
            files = task_files(folder)
            if not files:
                raise UserError(f"{folder}: holds no task (*/test.parquet); give a folder of `mimic build`")
            self._files = {**files, **self._files}
        self._folders = tuple(folders)
        self._docs: dict[str, dict[str, dict[str, Any]]] = {}

    def hashes(self, task: str) -> frozenset[str]:
        """Content hashes of a task's docs (of a permuted task: its plain docs); empty for no such task."""
        return frozenset(self._of(task))

    def label(self, task: str) -> str:
        """What the data of a task that is there call themselves."""
        return str(next(iter(self._of(task).values()))["source"])

    def max_new_tokens(self, task: str) -> int:
        """How long an answer to a task may be."""
        docs = self._of(task).values()
        k = max((doc["k"] or 1 for doc in docs), default=1)
        images = max((doc["n_images"] for doc in docs), default=0)
        return spec_of(task_kind(self._name(task)) or "").max_new_tokens(k, images)

    def names(self, task: str) -> frozenset[str]:
        """The right answers of a task of classes, in small letters; empty where answers are numbers."""
        if not spec_of(task_kind(self._name(task)) or "").names_classes:
            return frozenset()
        return frozenset(
            name for doc in self._of(task).values() for name in str(doc["gt"]).lower().split(", ")
        )

    def decodes(self, task: str, content_hash: str) -> bool:
        """Whether all pictures of a doc are there and can be decoded."""
        for folder in self._folders:
            for doc in Catalog(folder).find(frozenset([content_hash])):
                try:
                    for picture in doc.pictures:
                        picture.decode()
                except BrokenImage:
                    return False
                return bool(doc.pictures)
        return False

    def n_orders(self, task: str, content_hash: str, rule: str, seed: int) -> int:
        """How many image orders a rule draws for a doc."""
        return len(self._orders(task, content_hash, rule, seed))

    def sample(
        self, task: str, content_hash: str, response: str, order: tuple[str, int, int] | None
    ) -> dict[str, Any]:
        """What our scoring logs for an answer to a doc, as JSON; `order`: rule, seed and number of one."""
        kind = task_kind(self._name(task)) or ""
        row, hooks = self._of(task)[content_hash], lmms_hooks if order is None else permuted_hooks
        if order is not None:
            row = self._row(task, row, *order)
        return dict(json.loads(json.dumps(getattr(hooks, f"process_{kind}")(row, [response]))))

    def _row(self, task: str, doc: Mapping[str, Any], rule: str, seed: int, index: int) -> dict[str, Any]:
        """A doc in one image order, as the permuted task has it (`permuted.expand`)."""
        orders = self._orders(task, doc["content_hash"], rule, seed)
        order = orders[index]
        columns = (doc["image_ids"], doc["boxes"])
        turned = [values and reordered(values, order) for values in columns]
        positional = spec_of(task_kind(self._name(task)) or "").positional
        gt = doc["gt"] if positional is None else positional.in_order(doc["gt"], order)
        number = list(self._of(task)).index(doc["content_hash"])
        values = (number, doc["content_hash"], list(order), index, len(orders), rule, seed)
        named = dict(zip(ORDER_COLUMNS, values, strict=True))
        return {**doc, "gt": gt, "image_ids": turned[0], "boxes": turned[1], **named}

    def _orders(self, task: str, content_hash: str, rule: str, seed: int) -> list[tuple[int, ...]]:
        doc = self._of(task)[content_hash]
        n = len(doc["boxes"] or ()) or doc["n_images"]
        return parse_orders(rule, str(seed)).of(base_hash=content_hash, n=n)

    def _of(self, task: str) -> dict[str, dict[str, Any]]:
        name = self._name(task)
        if name not in self._docs:
            file = self._files.get(name)
            docs = read_docs(file, _COLUMNS) if file is not None else ()
            self._docs[name] = {doc["content_hash"]: doc for doc in docs}
        return self._docs[name]

    @staticmethod
    def _name(task: str) -> str:
        return task.removeprefix("mimic_").removesuffix(PERMUTED_SUFFIX)
