"""What is measured of one doc, from its sums (METHODS 8). Attention is averaged over heads.

| measure | of | what |
|---|---|---|
| `intra`, `inter` | layer | attention of a row of an image to its image, and to other images |
| `recurrence`, `recurrence_random` | layer | Chamfer distance (Eq. 6) of sinks, of random places |
| `sink_share` | layer, image | zeta, what an image's rows give to its sinks of what they give to it (Eq. 7) |
| `entropy_question`, `entropy_answer` | layer | H_norm of attention over images (Eq. 8), mean over rows |
| `question_to_image`, `answer_to_image` | layer, image | attention of a row to an image |
| `question_in_boxes`, `answer_in_boxes` | layer | attention in truth boxes over attention to all images |
| `tokens_in_boxes` | - | tokens in truth boxes over tokens of all images: what even attention would give |

`answer` rows predict the answer's tokens: the prompt's last token and the generated ones. `question` rows are
the rest of the text after the images. Truth boxes are those of target classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from model_adapters.diagnostics.groups import TEXTS

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class DocRecord:
    """What is stored of one doc. L layers, H heads, M images, Q groups of rows, G of keys (`groups`).

    Attributes:
        task: its task.
        doc: its number in the task.
        content_hash: of the doc.
        key: of all that its prompt shows.
        answer: the model's.
        layers: those that were watched, of L.
        mass: float64 (L, H, Q, G), as of `sums.DocSums`, and the next four.
        rows: int64 (Q).
        entropy: float64 (L, Q).
        entropy_rows: int64 (L, Q).
        tokens_of: int64 (G).
        targets: bool (M), True = the image shows a target class; None for a doc without boxes.
        boxes: whether truth boxes are known and can be mapped to tokens.
        sinks: float64 (S, 5): layer, image from 1, token of the image, x and y of its middle (NaN: nowhere);
            None if sinks were not looked for.
        recurrence: float64 (L, 4), `recurrence.Recurrence` of each layer; None without places or sinks.
    """

    task: str
    doc: int
    content_hash: str
    key: str
    answer: str
    layers: tuple[int, ...]
    mass: Array
    rows: Array
    entropy: Array
    entropy_rows: Array
    tokens_of: Array
    targets: Array | None
    boxes: bool
    sinks: Array | None
    recurrence: Array | None

    @property
    def images(self) -> int:
        """M."""
        return len(self.rows) - len(TEXTS) - 1


class Measured(NamedTuple):
    """One number; `layer`, `image` (from 1) and `role` (``target``, ``distractor``) where it has them."""

    measure: str
    layer: int | None
    image: int | None
    role: str | None
    value: float


def measured(record: DocRecord) -> Iterator[Measured]:
    """All that is measured of a doc."""
    images = len(TEXTS)
    by_row = record.mass.mean(axis=1)  # (L, Q, G)
    cells = by_row[:, :, images : images + 4 * record.images].reshape(*by_row.shape[:2], record.images, 4)
    to_image = cells.sum(axis=3)  # (L, Q, M)
    question = [TEXTS.index("question")]
    answer = [TEXTS.index("last"), record.mass.shape[2] - 1]
    visual_rows = record.rows[images : images + record.images].sum()
    roles = [_role(record.targets, m) for m in range(record.images)]
    for layer in record.layers:
        own = np.trace(to_image[layer, images : images + record.images])
        total = to_image[layer, images : images + record.images].sum()
        yield Measured("intra", layer, None, None, float(own / visual_rows))
        yield Measured("inter", layer, None, None, float((total - own) / visual_rows))
        if record.recurrence is not None and record.recurrence[layer, 2]:
            yield Measured("recurrence", layer, None, None, float(record.recurrence[layer, 0]))
            yield Measured("recurrence_random", layer, None, None, float(record.recurrence[layer, 1]))
        if record.sinks is not None:
            for m in range(record.images):
                itself = cells[layer, images + m, m]  # sinks outside and inside of boxes: 1 and 3
                if itself.sum() > 0:
                    share = float((itself[1] + itself[3]) / itself.sum())
                    yield Measured("sink_share", layer, m + 1, roles[m], share)
        for name, rows in (("question", question), ("answer", answer)):
            if (count := record.entropy_rows[layer, rows].sum()) and record.images > 1:
                entropy = float(record.entropy[layer, rows].sum() / count)
                yield Measured(f"entropy_{name}", layer, None, None, min(1.0, entropy))
            if not (count := record.rows[rows].sum()):
                continue
            for m in range(record.images):
                share = float(to_image[layer, rows, m].sum() / count)
                yield Measured(f"{name}_to_image", layer, m + 1, roles[m], share)
            to_all = cells[layer, rows].sum()
            if record.boxes and to_all > 0:
                inside = float(cells[layer, rows][:, :, 2:].sum() / to_all)
                yield Measured(f"{name}_in_boxes", layer, None, None, inside)
    if record.boxes:
        tokens = record.tokens_of[images : images + 4 * record.images].reshape(record.images, 4)
        yield Measured("tokens_in_boxes", None, None, None, float(tokens[:, 2:].sum() / tokens.sum()))


def _role(targets: Sequence[bool] | Array | None, image: int) -> str | None:
    if targets is None:
        return None
    return "target" if targets[image] else "distractor"
