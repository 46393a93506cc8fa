"""From a planned doc to its columns (METHODS 13), checked before it is stored."""

from random import Random
from typing import Any

from mimic_eval.records import UserError, content_hash
from mimic_tasks.image_store import DocPictures
from mimic_tasks.planning import Controls, PlannedDoc
from mimic_tasks.pool import Pool
from mimic_tasks.scoring import score
from mimic_tasks.task_spec import spec_of
from mimic_tasks.transforms import Transform
from mimic_tasks.verify import verify_controls, verify_doc


class RowMaker:
    """Makes the rows of one task.

    Args:
        pool: where the docs were planned.
        doc_pictures: stores their pictures.
        label: of the results.
        seed: of the wordings.
    """

    def __init__(self, pool: Pool, doc_pictures: DocPictures, *, label: str, seed: str) -> None:
        self._pool = pool
        self._doc_pictures = doc_pictures
        self._label = label
        self._rng = Random(f"{seed}/wording")

    def wording(self, doc: PlannedDoc) -> str:
        """A question for a doc."""
        classes = [self._pool.source.classes[c] for c in doc.targets]
        return spec_of(doc.kind).question(self._rng, classes=classes, category=doc.category)

    def row(
        self,
        doc: PlannedDoc,
        question: str,
        controls: Controls,
        transform: Transform,
        *,
        idx: int,
        doc_id: str,
        cell: str | None = None,
    ) -> dict[str, Any]:
        """A doc's columns but `images`, and `_pictures`: the SHA-256 of each picture it shows.

        The controls (N, s, d, k) and the flags of boxes describe the pictures before their transform.

        Raises:
            UserError: the right answer would not be read as it is.
            WrongDoc: the doc breaks a rule or a control: a defect of ours.
        """
        source = self._pool.source
        n = len(doc.images)
        boxes = [self._pool.boxes(i, frozenset(doc.targets)) for i in doc.images]
        row: dict[str, Any] = {
            "question": question,
            "gt": doc.gt,
            "task": f"{doc.kind}_{doc.split}" if doc.split else doc.kind,
            "idx": idx,
            "id": doc_id,
            "targets": [source.classes[c] for c in doc.targets],
            "category": doc.category,
            "image_ids": [source.images[i].image_id for i in doc.images],
            "boxes": boxes,
            "n_images": n,
            "k": len(doc.targets),
            "spread": doc.spread,
            "distractors": n - doc.spread,
            "split": doc.split,
            "cell": cell,
            "source": self._label,
        }
        areas = [source.images[i].width * source.images[i].height for i in doc.images]
        verify_doc(doc.kind, row, areas=areas)
        verify_controls(doc.kind, row, controls)
        check_scorable(doc.kind, row)
        pictures, moved = self._doc_pictures.show(doc.images, boxes, transform, name=doc_id)
        digest = content_hash(kind=doc.kind, question=question, gt=doc.gt, image_hashes=pictures)
        return {**row, "boxes": moved, "content_hash": digest, "_pictures": pictures}


def check_scorable(kind: str, doc: dict[str, Any]) -> None:
    """The right answer must score 1 on its doc, else the class names do not fit the answers' form.

    Raises:
        UserError: it does not.
    """
    try:
        right = score(kind, doc["gt"], doc).score == 1
    except UserError:
        right = False
    if not right:
        raise UserError(
            f"the answer '{doc['gt']}' of a {kind} doc would not be parsed as it is: rename the class in the "
            "annotations (another class may have the same name but for case or number, or it holds a "
            "character that separates answers), or leave it out with --classes"
        )
