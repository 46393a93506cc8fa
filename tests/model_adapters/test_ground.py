"""`mimic ground`: the cache of the outside models filled ahead, in batches; tiny checkpoints on disk."""

import multiprocessing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from mimic_eval.records import UserError
from mimic_tasks.images import decode_strict
from mimic_tasks.lmms_hooks import doc_to_messages, doc_to_visual
from model_adapters.picture import image_hash
from model_adapters.relevance import parse_relevance
from model_adapters.relevance.cache import Arrays, OutputCache
from model_adapters.relevance.clip import Clip
from model_adapters.relevance.fill import CacheFiller, StoredDoc
from model_adapters.relevance.grounding import GroundingDino
from model_adapters.relevance.outside import OutsideModel
from model_adapters.relevance.places import grid
from model_adapters.relevance.query import Query
from model_adapters.relevance.sam import Sam
from tests.makers.grounding import entries, fill, png, source_of, stored
from tests.makers.outside import picture

EMBEDDED = Path(__file__).resolve().parents[2] / "mimic_tasks/embedded"
TOLERANCE = {"grounding": 2e-6, "clip": 2e-5, "sam": 0}
"""Of a batch, against one by one in float32: probabilities and normalised boxes, products of embeddings."""


pytestmark = pytest.mark.usefixtures("relevance_cache")


SIZES = [(60, 40), (60, 40), (40, 60), (60, 40), (90, 40), (40, 60), (64, 64), (60, 40), (33, 47)]


# --- Batches


@pytest.mark.parametrize("relevance", ["grounded_clip", "sam_clip"])
def test_outputs_in_batches_are_those_one_by_one(
    relevance: str, folders: dict[str, str], tmp_path: Path
) -> None:
    """One padded batch of Grounding DINO gives pictures of other sizes other boxes: scores moved by 0.86."""
    docs = [
        stored(f"How many dogs are in picture {i}?", png(picture(i, size)), targets=targets)
        for i, size in enumerate(SIZES)
        for targets in (("dog",), ("chair", "cat"))[: 1 + i % 2]
    ]
    caches = [tmp_path / "one", tmp_path / "many"]
    for batch_size, folder in zip((1, 4), caches, strict=True):
        fill(source_of(relevance, folders, cache=OutputCache(folder)), docs, batch_size=batch_size)
    alone, together = map(entries, caches)
    assert alone.keys() == together.keys()
    kinds = parse_relevance(relevance).models
    assert {folder.name for folder in caches[1].iterdir()} == set(kinds)
    for kind in kinds:
        keys = [key for key in alone if f'"kind": "{kind}"' in key]
        assert len(keys) >= len(SIZES)
        for key in keys:
            assert alone[key].keys() == together[key].keys()
            for name, want in alone[key].items():
                got = together[key][name]
                assert got.shape == want.shape, name
                assert np.abs(got.astype(float) - want.astype(float)).max(initial=0) <= TOLERANCE[kind], name


def test_grounding_dino_takes_only_pictures_of_one_size_in_a_batch(grounding_folder: Path) -> None:
    model = GroundingDino(str(grounding_folder))
    assert model.batch_of((60, 40)) != model.batch_of((40, 60))
    with pytest.raises(ValueError, match="images of several sizes in one batch"):
        model.detected([picture(0, (60, 40)), picture(1, (40, 60))], ["dog."] * 2)


def test_captions_of_different_length_may_share_a_batch(grounding_folder: Path) -> None:
    model, captions = GroundingDino(str(grounding_folder), box_threshold=0.0), ["dog.", "cat. chair. object."]
    images = [picture(0), picture(1)]
    together = model.detected(images, captions)
    for image, caption, got in zip(images, captions, together, strict=True):
        (want,) = model.detected([image], [caption])
        for name in want:
            np.testing.assert_allclose(got[name], want[name], rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_has_entries_of_its_own_near_those_of_float32(
    dtype: str, folders: dict[str, str], relevance_cache: Path
) -> None:
    docs = [stored("How many dogs?", png(picture(i))) for i in range(3)]
    for relevance in ("grounded_clip", "sam_clip"):
        fill(source_of(relevance, folders), docs)
    exact = entries(relevance_cache)
    for relevance in ("grounded_clip", "sam_clip"):
        assert sum(fill(source_of(relevance, folders, dtype=dtype), docs).made.values()) in (3, 6)
    both = entries(relevance_cache)
    half = {key: value for key, value in both.items() if key not in exact}
    assert len(half) == len(exact) == 9
    for key, arrays in half.items():
        want = exact[key.replace(f'"dtype": "{dtype}", ', "")]
        if '"kind": "clip"' in key:
            assert np.abs(arrays["text"] - want["text"]).max() < 0.05 * np.abs(want["text"]).max()
            assert not np.array_equal(arrays["text"], want["text"])
    assert fill(source_of("grounded_clip", folders), docs).missing.total() == 0


# --- What is looked at


class CountedClip(Clip):
    seen: list[int]

    def patches(self, images: Sequence[Image.Image]) -> torch.Tensor:
        self.seen.append(len(images))
        return super().patches(images)


def test_each_picture_is_encoded_once_whatever_its_bytes_and_its_docs(folders: dict[str, str]) -> None:
    """CLIP encoded a picture again for each question."""
    image, other = picture(0), picture(1)
    docs = [
        stored("How many dogs?", png(image), png(other)),
        stored("How many cats?", png(image, "BMP"), png(image)),
        stored("How many dogs?", png(image, compress_level=0)),
    ]
    source = source_of("clip", folders)
    source.clip = CountedClip(folders["clip"])
    source.clip.seen = []
    filled = fill(source, docs)
    assert (filled.docs, filled.pictures, filled.made["clip"]) == (3, 2, 3)
    assert sum(source.clip.seen) == 2


def test_in_a_run_a_picture_is_encoded_once_for_several_questions(folders: dict[str, str]) -> None:
    clip, image = CountedClip(folders["clip"]), picture(0)
    clip.seen = []
    for question in ("How many dogs?", "How many cats?"):
        clip.cosines(image, image_hash(image), question, grid(3, 3).centres)
    assert clip.seen == [1]


@pytest.mark.parametrize("relevance", ["grounded_clip", "sam_clip", "uniform:grounded_clip", "clip"])
def test_a_run_then_needs_no_outside_model(
    relevance: str, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[dict[str, Any]] = []
    for kind in ("counting", "listing", "common", "oddone"):
        rows += pq.read_table(EMBEDDED / kind / "test.parquet").slice(0, 1).to_pylist()
    docs = []
    for row in rows:
        pictures = [image["bytes"] for image in row["images"]]
        docs.append(StoredDoc(Query.of_doc({**row, "boxes": None}, (), name="doc"), pictures))
    first = source_of(relevance, folders)
    made = fill(first, docs).made
    assert all(made[name] > 0 for name in first.choice.models)

    def refuse(_: OutsideModel) -> None:
        raise AssertionError("an outside model was loaded")

    monkeypatch.setattr(OutsideModel, "loaded", property(refuse))
    source = source_of(relevance, folders)
    for row in rows:
        query = Query.of_doc(row, doc_to_visual(row), name="doc")
        places = [[grid(4, 4)] * len(query.images)]
        source.relevance([query], places, [layout(len(query.images))])
    unseen = Query.of_doc({"question": "What is this?"}, [picture(9)], name="doc")
    with pytest.raises(AssertionError, match="an outside model was loaded"):
        source.relevance([unseen], [[grid(4, 4)]], [layout(1)])


def layout(images: int) -> Any:
    from model_adapters.layout import Layout, Span

    return Layout(16 * images + 2, 0, tuple(Span(16 * i, 16 * i + 16) for i in range(images)))


def test_a_model_with_ar_answers_after_it_without_loading_any(
    planted: Path, calibrations: Path, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from model_adapters.doc_prompt import take_images
    from model_adapters.models import LlavaOvMask

    (row,) = pq.read_table(EMBEDDED / "counting/test.parquet").slice(0, 1).to_pylist()
    pictures = [image["bytes"] for image in row["images"]]
    fill(
        source_of("grounded_clip", folders),
        [StoredDoc(Query.of_doc({**row, "boxes": None}, (), name="doc"), pictures)],
    )

    def refuse(_: OutsideModel) -> None:
        raise AssertionError("an outside model was loaded")

    monkeypatch.setattr(OutsideModel, "loaded", property(refuse))
    (calibration,) = (calibrations / "calibrations").rglob("*.json")
    given = {"calibration": str(calibration), "tau": "6", "box_threshold": "0.1", "text_threshold": "0"}
    given |= {name: folders[name] for name in ("grounding", "clip")}
    model = LlavaOvMask(pretrained=str(planted), mask="ar", journal="off", **given)
    messages, images = take_images(doc_to_messages(row))
    query = Query.of_doc(row, images, name="doc")
    settings = {"max_new_tokens": 2, "do_sample": False, "until": []}
    (answer,) = model.reply([images], [model.family.prompt(messages)], settings, queries=[query])
    assert answer.record is not None
    assert answer.record["relevance"]["boxes"] > 0


# --- Resuming, sharing, damage


def test_a_second_time_everything_is_cached(folders: dict[str, str], relevance_cache: Path) -> None:
    docs = [stored("How many dogs?", png(picture(i))) for i in range(5)]
    filled = fill(source_of("grounded_clip", folders), docs)
    assert (filled.missing, filled.cached.total()) == ({"grounding": 5, "clip": 5}, 0)
    before = {file: file.stat().st_mtime_ns for file in relevance_cache.rglob("*.npz")}
    source = source_of("grounded_clip", folders)
    again = fill(source, docs)
    assert (again.missing.total(), again.made.total(), again.cached) == (0, 0, {"grounding": 5, "clip": 5})
    assert {file: file.stat().st_mtime_ns for file in relevance_cache.rglob("*.npz")} == before
    assert "loaded" not in vars(source.clip)
    assert "loaded" not in vars(source.grounding)


@pytest.mark.parametrize("damage", ["cut", "empty"])
def test_half_a_file_counts_as_missing_and_is_made_again(
    damage: str, folders: dict[str, str], relevance_cache: Path
) -> None:
    docs = [stored("How many dogs?", png(picture(i))) for i in range(2)]
    fill(source_of("clip", folders), docs)
    whole = {file: file.read_bytes() for file in relevance_cache.rglob("*.npz")}
    file = sorted(whole)[0]
    file.write_bytes(whole[file][: len(whole[file]) // 2] if damage == "cut" else b"")
    filled = fill(source_of("clip", folders), docs)
    assert (filled.cached["clip"], filled.made["clip"]) == (1, 1)
    assert {file: file.read_bytes() for file in relevance_cache.rglob("*.npz")} == whole


def test_what_another_process_stored_meanwhile_is_not_made_again(folders: dict[str, str]) -> None:
    docs = [stored("How many dogs?", png(picture(i))) for i in range(6)]
    first, second = (
        CacheFiller(source_of("clip", folders), lambda: docs, decode_strict, batch_size=2) for _ in range(2)
    )
    first.survey()
    second.survey()
    assert second.run().made["clip"] == 6
    assert (first.run().made["clip"], first.filled.elsewhere) == (0, 6)


def _fill_as_a_process(folders: dict[str, str]) -> None:
    torch.set_num_threads(1)
    docs = [stored("How many dogs?", png(picture(i))) for i in range(12)]
    filled = fill(source_of("grounded_clip", folders), docs, batch_size=3)
    assert filled.made.total() + filled.elsewhere + filled.cached.total() == 24


def test_two_processes_may_fill_one_cache_at_once(folders: dict[str, str], relevance_cache: Path) -> None:
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_fill_as_a_process, args=(folders,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(entries(relevance_cache)) == 24
    assert not list(relevance_cache.rglob("*.tmp"))


class Small(Clip):
    """One that holds two pictures at a time."""

    most = 2

    def outputs(self, images: Any, image_hashes: Any, texts: Any) -> list[list[Arrays]]:
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().outputs(images, image_hashes, texts)


def test_a_batch_that_memory_does_not_hold_is_halved(
    folders: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    docs = [stored("How many dogs?", png(picture(i))) for i in range(11)]
    source = source_of("clip", folders)
    source.clip = Small(folders["clip"])
    assert fill(source, docs, batch_size=8).made["clip"] == 11
    assert [line for line in capsys.readouterr().err.splitlines() if "memory" in line] == [
        "out of memory: CLIP goes on with 4 pictures at a time",
        "out of memory: CLIP goes on with 2 pictures at a time",
        "out of memory: CLIP goes on with 2 pictures at a time",
    ]
    source.clip.most = 0
    with pytest.raises(UserError, match=r"^out of memory with one picture of 60 x 40 in CLIP: use another"):
        fill(source, [stored("How many cats?", png(picture(0)))])


# --- Pictures as other tools write them


def odd_pictures() -> Iterator[tuple[str, bytes]]:
    rgb = picture(0, (60, 40))
    yield "one pixel", png(picture(1, (1, 1)))
    yield "palette", png(rgb.convert("P"))
    yield "palette with transparency", png(rgb.convert("P"), transparency=3)
    yield "CMYK", png(rgb.convert("CMYK"), "JPEG")
    yield "grey", png(rgb.convert("L"))
    yield "bits", png(rgb.convert("1"))
    yield "alpha", png(rgb.convert("RGBA"))
    yield "wide", png(picture(2, (3000, 2)))
    yield "high", png(picture(3, (1, 1500)))
    yield "animated", png(rgb, "GIF", save_all=True, append_images=[picture(4, (60, 40))])


@pytest.mark.parametrize("relevance", ["grounded_clip", "sam_clip"])
def test_odd_pictures_are_looked_at(relevance: str, folders: dict[str, str]) -> None:
    """A picture of 3000 x 2 stopped Grounding DINO's and SAM's processors with a ValueError."""
    pictures = dict(odd_pictures())
    docs = [stored("How many dogs?", data) for data in pictures.values()]
    filled = fill(source_of(relevance, folders), docs)
    assert (filled.left_out, filled.docs) == ([], len(pictures))
    source = source_of(relevance, folders)
    for name, data in pictures.items():
        query = Query.of_doc({"question": "How many dogs?"}, [decode_strict(data)], name=name)
        got = source.relevance([query], [[grid(4, 4)]], [layout(1)])
        assert torch.isfinite(got.score).all(), name


def test_a_doc_with_a_broken_picture_is_left_out_with_its_reason(folders: dict[str, str]) -> None:
    whole = png(picture(0))
    docs = [
        stored("a", whole),
        stored("b", whole, whole[:200]),
        stored("c", None),
        stored("d", b"not a picture"),
    ]
    filled = fill(source_of("clip", folders), docs)
    assert (filled.docs, filled.pictures, filled.made["clip"]) == (1, 1, 1)
    assert [line.split(" cannot")[0] for line in filled.left_out] == [
        "doc 'b': image 2 of 2",
        "doc 'c': image 1 of 1 missing",
        "doc 'd': image 1 of 1 not a JPEG, PNG, WebP, BMP, TIFF or GIF picture",
    ]


def test_sam_is_looked_at_once_for_all_questions(folders: dict[str, str]) -> None:
    docs = [stored(f"How many {name}?", png(picture(0))) for name in ("dogs", "cats", "chairs")]
    filled = fill(source_of("sam_clip", folders), docs)
    assert filled.made == {"sam": 1, "clip": 3}
    assert Sam(folders["sam"]).text_of(docs[0].query) == ""
