"""A doc is scored on the pictures, question and truth that it was built with, or it is unscored."""

import io
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mimic_eval.records import Unscorable, UserError
from mimic_tasks.build import build
from mimic_tasks.dataset_cache import keyed_by_content
from mimic_tasks.embed import embed
from mimic_tasks.lmms_hooks import doc_to_messages, doc_to_visual, hooks_of
from mimic_tasks.locate import EMBEDDED
from mimic_tasks.permuted import hooks as permuted
from mimic_tasks.source_files import SourceFiles
from mimic_tasks.stored_docs import read_docs
from mimic_tasks.sweeps import parse_sweep
from mimic_tasks.sweeps.building import SweepOptions, build_sweeps
from tests.makers.builds import options
from tests.makers.coco import MadeCoco

COLUMNS = ("question", "gt", "task", "images", "image_ids", "content_hash")


def red() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (100, 100), "red").save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def sweep(made_coco: MadeCoco, tmp_path: Path) -> Path:
    spec = {"name": "n", "task": "common", "docs": 3, "vary": {"n_images": [2, 3]}}
    sources = SourceFiles((made_coco.annotations,), (made_coco.images,))
    build_sweeps(SweepOptions((parse_sweep(spec),), sources, tmp_path / "sweep"), progress=False)
    return tmp_path / "sweep"


def test_a_picture_exchanged_under_its_name_makes_its_docs_unscored(sweep: Path, tmp_path: Path) -> None:
    file = sweep / "common_n" / "test.parquet"
    docs = list(read_docs(file, ("image_files", *COLUMNS)))
    for doc in docs:
        del doc["images"]  # as `datasets` gives it
    visual, messages = hooks_of(sweep)
    assert [picture.mode for picture in visual(docs[0])] == ["RGB"] * len(docs[0]["image_files"])
    exchanged = docs[0]["image_files"][0]
    (sweep / exchanged).write_bytes(red())
    for function in (visual, messages):
        with pytest.raises(Unscorable, match=r"image 1 of \d .*is not the picture that its name says"):
            function(docs[0])
    for other in docs:
        if exchanged not in other["image_files"]:
            assert visual(other)
    for reader in (lambda: list(read_docs(file, COLUMNS)), lambda: embed(sweep, tmp_path / "embedded")):
        with pytest.raises(UserError, match="is not the picture that its name says"):
            reader()
    (sweep / exchanged).unlink()
    with pytest.raises(Unscorable, match=r"image 1 of \d .*missing"):
        visual(docs[0])


def test_a_doc_whose_content_was_changed_inside_its_file_is_unscored() -> None:
    doc: dict[str, Any] = next(iter(read_docs(EMBEDDED / "counting/test.parquet", COLUMNS)))
    assert doc_to_visual(doc)
    assert doc_to_messages(doc)
    pixel = bytearray(doc["images"][0]["bytes"])
    recoded = io.BytesIO()
    Image.open(io.BytesIO(bytes(pixel))).convert("RGB").save(recoded, "PNG")  # the same pixels, other bytes
    changes = (
        {"images": [{"bytes": recoded.getvalue()}, *doc["images"][1:]]},
        {"images": doc["images"][::-1]},
        {"images": doc["images"][:-1]},
        {"gt": str(int(doc["gt"]) + 1)},
        {"question": doc["question"] + " "},
    )
    for change in changes:
        with pytest.raises(Unscorable, match="were changed after the build"):
            doc_to_visual({**doc, **change})
    without = {key: value for key, value in doc.items() if key != "content_hash"}
    assert doc_to_visual({**without, "gt": "7"})  # data of others, which has no hash


def test_permuted_docs_have_the_hash_of_their_own_order() -> None:
    import datasets

    from mimic_tasks.permuted.expand import expand
    from mimic_tasks.permuted.orders import Orders

    data = datasets.load_dataset("parquet", data_files=str(EMBEDDED / "oddone/test.parquet"), split="train")
    from mimic_tasks.lmms_hooks import keep_bytes

    rows = expand(keep_bytes(data.select(range(2))), Orders())
    shown = [permuted.doc_to_visual(rows[i]) for i in range(len(rows))]
    assert all(shown)
    with pytest.raises(Unscorable, match="were changed after the build"):
        permuted.doc_to_visual({**rows[1], "order": rows[0]["order"]})


def test_an_official_doc_without_a_stored_hash_is_let_through() -> None:
    from mimic_tasks.lmms_hooks import _with_hash

    doc = {"images": [{"bytes": red()}], "question": "q", "gt": "cat", "task": "common_4", "id": "x"}
    assert doc_to_visual({**doc, **_with_hash(doc)})


@pytest.mark.slow
def test_two_builds_at_one_path_with_equal_file_times_are_two_data_sets(
    made_coco: MadeCoco, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second build got the first one's docs out of the cache of `datasets`."""
    import datasets
    from lmms_eval.tasks import TaskManager

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    out = tmp_path / "out"
    file = out / "common" / "test.parquet"

    def load() -> list[str]:
        """As upstream reads a task's data."""
        task = TaskManager(include_path=str(out), include_defaults=False).load_task_or_group("mimic_common")
        return list(task["mimic_common"].test_docs()["content_hash"])

    held, plain = [], []
    for seed in (0, 1):
        shutil.rmtree(out, ignore_errors=True)
        build(options(made_coco, out, docs=5, seed=seed, tasks=("common",)), progress=False)
        os.utime(file, (1_700_000_000, 1_700_000_000))
        wanted = [doc["content_hash"] for doc in read_docs(file, ("content_hash",))]
        plain.append(load())
        with keyed_by_content():
            assert load() == wanted
            assert load() == wanted
        held.append(wanted)
    assert held[0] != held[1]
    assert plain[1] == plain[0]  # what `datasets` alone does
    assert datasets.load_dataset.__module__.startswith("datasets")
