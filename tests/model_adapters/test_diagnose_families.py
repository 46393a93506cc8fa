"""Every named family, and `hf_mask`, can be diagnosed: rows sum to 1 and answers are those of a run."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic_eval.records import DOC_COLUMNS
from mimic_tasks.lmms_hooks import doc_to_messages
from mimic_tasks.locate import EMBEDDED
from mimic_tasks.stored_docs import read_docs
from model_adapters.diagnostics.observing import Watcher
from model_adapters.families import FAMILIES, model_names
from model_adapters.models import model_class

SETTINGS = {"max_new_tokens": 3, "do_sample": False, "until": []}


def requests_of(model: Any, docs: Sequence[Any]) -> list[Any]:
    """As upstream makes them."""
    model.task_dict = {"mimic_oddone": {"test": docs}}
    args = [("", doc_to_messages, dict(SETTINGS), i, "mimic_oddone", "test") for i in range(len(docs))]
    return [type("Request", (), {"args": one})() for one in args]


@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name in FAMILIES.ours if FAMILIES.get(name).tiny])
def test_a_family_is_watched_in_its_prompt_and_its_answer(family: str, tmp_path: Path) -> None:
    FAMILIES.get(family).make_tiny(tmp_path / "tiny", seed=0)
    model = model_class(model_names(family)[0])(
        pretrained=str(tmp_path / "tiny"), mask="block", layers="all", journal=False
    )
    watcher = Watcher(model, None)
    docs = list(islice(read_docs(EMBEDDED / "oddone" / "test.parquet", DOC_COLUMNS), 2))
    requests = requests_of(model, docs)
    for request, usual in zip(requests, model.generate_until(requests), strict=True):
        shown = watcher.show(request)
        seen = watcher.watch(shown, tokens=True)
        record = watcher.record(shown, seen)
        assert seen.answer == usual.text
        watched = sorted(watcher.layers)
        np.testing.assert_allclose(
            record.mass[watched].sum(axis=3), np.broadcast_to(record.rows, record.mass[watched].shape[:3]),
            rtol=1e-4,
        )  # fmt: skip
        assert record.boxes is model.family.has_places
        assert record.images == shown.images > 1
        assert seen.sums.tokens is not None
        of_prompt = record.mass[watched].mean(axis=1)[:, :, :-1].sum(axis=2)
        np.testing.assert_allclose(seen.sums.tokens[watched].sum(dim=2), of_prompt, rtol=1e-4, atol=1e-6)
