"""Grounding DINO and CLIP as sources of relevance: tiny checkpoints of the real classes, on disk."""

import multiprocessing
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mimic_eval.records import UserError
from model_adapters.layout import Layout, Span
from model_adapters.picture import image_hash
from model_adapters.relevance import parse_relevance
from model_adapters.relevance.cache import OutputCache, cache_folder
from model_adapters.relevance.clip import Clip, PatchMaps
from model_adapters.relevance.grounding import GroundingDino
from model_adapters.relevance.places import grid, joined, nowhere
from model_adapters.relevance.query import Query
from model_adapters.relevance.sources import RelevanceSource
from tests.makers.outside import make_grounding, picture

QUESTION = "How many dogs are there in total?"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "relevance"


def query_of(images: list[Image.Image], **columns: Any) -> Query:
    return Query.of_doc({"question": QUESTION, **columns}, images, name="some_task doc 4")


# --- CLIP


def test_the_cosine_of_a_sampled_embedding_is_grid_samples() -> None:
    torch.manual_seed(0)
    for side in (1, 2, 3, 24):
        patches = torch.randn(side, side, 17, dtype=torch.float64)
        text = torch.randn(17, dtype=torch.float64)
        centres = torch.rand(50, 2, dtype=torch.float64)
        centres[:4] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
        sampled = torch.nn.functional.grid_sample(
            patches.permute(2, 0, 1)[None],
            (2 * centres - 1)[None, None],
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )[0, :, 0].T
        want = torch.nn.functional.cosine_similarity(sampled, text[None], dim=-1)
        torch.testing.assert_close(PatchMaps.of(patches, text).cosines(centres), want, rtol=0, atol=1e-12)


def test_the_cosine_of_a_sampled_embedding_is_that_of_a_slow_loop() -> None:
    torch.manual_seed(1)
    patches, text = torch.randn(4, 4, 5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    centres = torch.rand(20, 2, dtype=torch.float64)
    want = []
    for x, y in centres.tolist():
        column, row = min(max(4 * x - 0.5, 0), 3), min(max(4 * y - 0.5, 0), 3)
        embedded = torch.zeros(5, dtype=torch.float64)
        for i in range(4):
            for j in range(4):
                embedded += max(0, 1 - abs(row - i)) * max(0, 1 - abs(column - j)) * patches[i, j]
        want.append(float(embedded @ text / embedded.norm() / text.norm()))
    got = PatchMaps.of(patches, text).cosines(centres)
    assert got.tolist() == pytest.approx(want, abs=1e-12)


def test_at_a_patchs_centre_the_cosine_is_that_of_the_patch_through_norm_and_projection(
    clip_folder: Path,
) -> None:
    from transformers import CLIPModel, CLIPProcessor

    theirs, processor = CLIPModel.from_pretrained(clip_folder), CLIPProcessor.from_pretrained(clip_folder)
    image = picture(0)
    resized = image.resize((32, 32), Image.Resampling.BICUBIC)
    inputs = processor(images=resized, text=[QUESTION], return_tensors="pt")
    with torch.inference_mode():
        states = theirs.vision_model(inputs["pixel_values"]).last_hidden_state[0, 1:]
        patches = theirs.visual_projection(theirs.vision_model.post_layernorm(states))
        text = theirs.get_text_features(inputs["input_ids"], return_dict=True).pooler_output
        want = torch.nn.functional.cosine_similarity(patches, text)
    ours = Clip(str(clip_folder))
    got = ours.cosines(image, image_hash(image), QUESTION, grid(4, 4).centres)
    # PIL's and torchvision's bicubic resizing differ by up to a grey level
    assert (got - want).abs().max() < 0.02 < want.std()
    with torch.inference_mode():
        exact = torch.nn.functional.cosine_similarity(
            ours.patches([image])[0].reshape(16, -1), ours.text(QUESTION)[None]
        )
    torch.testing.assert_close(got, exact.double(), rtol=0, atol=1e-5)


def test_a_wide_image_is_not_cropped(clip_folder: Path) -> None:
    image = picture(0, size=(320, 32))
    changed = image.copy()
    changed.paste((255, 0, 0), (0, 0, 40, 32))  # a centre crop would not see it
    clip = Clip(str(clip_folder))
    assert not torch.equal(clip.patches([image]), clip.patches([changed]))


def test_a_long_question_is_cut_at_77_tokens(clip_folder: Path) -> None:
    clip, long = Clip(str(clip_folder)), "abcdefghi " * 30
    assert torch.equal(clip.text(long), clip.text(long + "and more"))
    assert not torch.equal(clip.text(long), clip.text(long[5:]))


# --- Grounding DINO


def test_boxes_are_those_of_transformers_own_post_processing(grounding_folder: Path) -> None:
    from transformers import GroundingDinoForObjectDetection, GroundingDinoProcessor

    image = picture(1)
    theirs = GroundingDinoForObjectDetection.from_pretrained(grounding_folder).eval()
    processor = GroundingDinoProcessor.from_pretrained(grounding_folder)
    inputs = processor(images=image, text=[["dog", "cat"]], return_tensors="pt")
    with torch.inference_mode():
        outputs = theirs(**inputs)
    threshold = float(outputs.logits.sigmoid().amax(-1).median())  # random weights: half of the boxes
    (want,) = processor.post_process_grounded_object_detection(
        outputs, inputs["input_ids"], threshold=threshold, target_sizes=[(image.height, image.width)]
    )
    ours = GroundingDino(str(grounding_folder), box_threshold=threshold)
    got = ours.boxes(image, image_hash(image), ["dog", "cat"])
    assert len(want["boxes"]) == len(got) > 0
    pixels = got * torch.tensor([image.width, image.height] * 2)
    limits = torch.tensor([image.width, image.height] * 2)
    torch.testing.assert_close(pixels.float(), want["boxes"].clamp(min=0).minimum(limits), rtol=0, atol=1e-3)


def test_no_box_above_the_threshold_gives_no_box(grounding_folder: Path) -> None:
    image = picture(1)
    found = GroundingDino(str(grounding_folder), box_threshold=1.0).boxes(image, image_hash(image), ["dog"])
    assert found.shape == (0, 4)


def test_a_box_needs_its_best_token_above_one_threshold_and_a_word_above_the_other(
    grounding_folder: Path,
) -> None:
    from transformers import GroundingDinoForObjectDetection, GroundingDinoProcessor

    image = picture(1)
    theirs = GroundingDinoForObjectDetection.from_pretrained(grounding_folder).eval()
    processor = GroundingDinoProcessor.from_pretrained(grounding_folder)
    inputs = processor(images=image, text="dog. cat.", return_tensors="pt")
    with torch.inference_mode():
        scores = theirs(**inputs).logits.sigmoid()[0, :, : inputs["input_ids"].shape[1]]
    (words,) = (((inputs["input_ids"] == 200) | (inputs["input_ids"] == 201)).nonzero()[:, 1].tolist(),)
    best, named = scores.amax(-1), scores[:, words].amax(-1)
    assert (best - named).max() > 0.01  # some boxes are best at [CLS], [SEP] or a dot
    ours = GroundingDino(str(grounding_folder))
    seen = set()
    for ours.box_threshold in (0.0, 0.1, float(best.median()), 1.0):
        for ours.text_threshold in (0.0, 0.1, float(named.median()), 1.0):
            want = int(((best > ours.box_threshold) & (named > ours.text_threshold)).sum())
            assert len(ours.boxes(image, image_hash(image), ["dog", "cat"])) == want
            seen.add(want)
    assert len(seen) > 3


def test_thresholds_from_the_floor_on_are_read_from_one_pass(grounding_folder: Path) -> None:
    """With the thresholds in the key, each of Fig. 6b's 81 pairs ran the model again."""
    image = picture(1)
    GroundingDino(str(grounding_folder)).boxes(image, image_hash(image), ["dog"])
    others = [GroundingDino(str(grounding_folder), box_threshold=t / 20) for t in range(1, 21)]
    counts = [len(other.boxes(image, image_hash(image), ["dog"])) for other in others]
    assert not any("loaded" in vars(other) for other in others)
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1] == 0
    below = GroundingDino(str(grounding_folder), box_threshold=0.01)
    assert len(below.boxes(image, image_hash(image), ["dog"])) >= counts[0]
    assert "loaded" in vars(below)


# --- Sources with models


def layouts_of(*rows: list[int], length: int = 60) -> list[Layout]:
    """Rows of images of these lengths, two text tokens before each, padded on the left."""
    layouts = []
    for lengths in rows:
        padding = length - 5 - sum(lengths) - 2 * len(lengths)
        spans, at = [], padding
        for own in lengths:
            spans.append(Span(at + 2, at + 2 + own))
            at += 2 + own
        layouts.append(Layout(length, padding, tuple(spans)))
    return layouts


def test_clip_grounds_every_token_of_a_place_and_scores_it_alone_as_in_a_batch(clip_folder: Path) -> None:
    place = joined([grid(3, 3), nowhere(1)])
    docs = [query_of([picture(0), picture(1)]), query_of([picture(2)])]
    places = [[place, place], [grid(4, 5)]]
    layouts = layouts_of([10, 10], [20])
    source = RelevanceSource(parse_relevance("clip"), clip=str(clip_folder))
    got = source.relevance(docs, places, layouts)
    assert got.grounded.shape == got.score.shape == (2, 60)
    assert int(got.grounded.sum()) == 2 * 9 + 20
    for b, layout in enumerate(layouts):
        outside = torch.ones(60, dtype=torch.bool)
        for m, span in enumerate(layout.images):
            outside[span.start : span.end] = False
            image, own = docs[b].images[m], places[b][m]
            want = Clip(str(clip_folder)).cosines(image, image_hash(image), QUESTION, own.centres)
            assert torch.equal(got.score[b, span.start : span.end][own.is_place], want.float())
            assert torch.equal(got.grounded[b, span.start : span.end], own.is_place)
        assert not got.grounded[b, outside].any()
        assert not got.score[b, outside].any()
        alone = source.relevance([docs[b]], [places[b]], [layout])
        assert torch.equal(alone.score[0], got.score[b])
    assert source.settings() == {
        "relevance": "clip",
        "clip": str(clip_folder),
        "relevance_dtype": "float32",
    }


def test_grounded_clip_scores_only_tokens_under_a_box_and_counts_docs_without_any(
    clip_folder: Path, grounding_folder: Path
) -> None:
    source = RelevanceSource(
        parse_relevance("grounded_clip"), grounding=str(grounding_folder), clip=str(clip_folder)
    )
    doc, layouts = query_of([picture(0)]), layouts_of([17])
    places = [joined([grid(4, 4), nowhere(1)])]
    scores, counts = {}, [Counter[str]() for _ in range(2)]
    for threshold in (0.0, 1.0):
        source.grounding.box_threshold = threshold
        boxes = source.boxes(doc)
        assert boxes is not None
        got = source.relevance([doc], [places], layouts, counts=[counts[int(threshold)]])
        (span,) = layouts[0].images
        assert torch.equal(got.grounded[0, span.start : span.end], places[0].overlapping(boxes[0]))
        assert not got.grounded[0, span.end - 1]  # the newline
        scores[threshold] = got.score
    assert scores[0.0].any()
    assert not scores[1.0].any()
    for name in ("docs_without_grounding", "images_without_grounding"):
        assert [own[name] for own in counts] == [0, 1]
    assert source.settings() == {
        "relevance": "grounded_clip",
        "grounding": str(grounding_folder),
        "box_threshold": 1.0,
        "text_threshold": 0.25,
        "clip": str(clip_folder),
        "relevance_dtype": "float32",
    }


def test_what_the_outside_models_are_told_never_holds_the_answer(grounding_folder: Path) -> None:
    told = []

    class Spy(GroundingDino):
        def boxes(self, image: Image.Image, image_hash: str, phrases: Any) -> torch.Tensor:
            told.append(tuple(phrases))
            return super().boxes(image, image_hash, phrases)

    source = RelevanceSource(parse_relevance("uniform:grounded_clip"))
    source.grounding = Spy(str(grounding_folder))
    for kind, targets, category in (
        ("counting_balanced", ["dog", "cat"], None),
        ("listing", ["zebra"], "animal"),
        ("common", ["zebra"], None),
        ("oddone", ["zebra"], None),
    ):
        question = "Which object class is present in every one of these images?"
        doc = {"task": kind, "targets": targets, "category": category, "question": question, "boxes": None}
        source.boxes(Query.of_doc(doc, [picture(0)], name="a doc"))
    assert told == [("dog", "cat"), ("animal",), ("object",), ("object",)]


# --- The cache


def test_a_second_run_does_not_load_the_model(clip_folder: Path, own_cache: Path) -> None:
    doc, places, layouts = query_of([picture(0)]), [[grid(3, 3)]], layouts_of([9])
    first = RelevanceSource(parse_relevance("clip"), clip=str(clip_folder))
    want = first.relevance([doc], places, layouts)
    assert "loaded" in vars(first.clip)
    second = RelevanceSource(parse_relevance("clip"), clip=str(clip_folder))
    assert torch.equal(second.relevance([doc], places, layouts).score, want.score)
    assert "loaded" not in vars(second.clip)
    (file,) = own_cache.rglob("*.npz")
    assert file.stat().st_size < 10_000
    assert not list(own_cache.rglob("*.tmp"))


def test_every_setting_has_its_own_entry(grounding_folder: Path, own_cache: Path, tmp_path: Path) -> None:
    image = picture(0)
    other = tmp_path / "other"
    shutil.copytree(grounding_folder, other)

    def entries(model: GroundingDino, image: Image.Image, phrases: list[str]) -> int:
        model.boxes(image, image_hash(image), phrases)
        return len(list(own_cache.rglob("*.npz")))

    model = GroundingDino(str(grounding_folder))
    assert entries(model, image, ["dog"]) == 1
    assert entries(model, image.copy(), ["dog"]) == 1
    assert entries(model, picture(1), ["dog"]) == 2
    assert entries(model, image, ["cat"]) == 3
    assert entries(GroundingDino(str(grounding_folder), box_threshold=0.2), image, ["dog"]) == 3
    assert entries(GroundingDino(str(grounding_folder), box_threshold=0.0), image, ["dog"]) == 4
    assert entries(GroundingDino(str(other)), image, ["dog"]) == 4  # the same files elsewhere
    assert entries(GroundingDino(str(other), dtype="bfloat16"), image, ["dog"]) == 5
    make_grounding(other, seed=5)
    assert entries(GroundingDino(str(other)), image, ["dog"]) == 6  # other weights under the same name


def test_images_of_the_same_bytes_and_another_shape_differ() -> None:
    pixels = bytes(range(18))
    hashes = {image_hash(Image.frombytes("RGB", size, pixels)) for size in ((2, 3), (3, 2), (6, 1))}
    assert len(hashes) == 3


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another key", "not npz"])
def test_a_damaged_entry_is_made_anew(damage: str, tmp_path: Path) -> None:
    cache, made = OutputCache(tmp_path), []

    def make() -> dict[str, Any]:
        made.append(1)
        return {"boxes": np.arange(12.0)}

    cache.fetch("kind", {"phrase": "other"}, make)
    (other,) = tmp_path.rglob("*.npz")
    cache.fetch("kind", {"phrase": "a"}, make)
    (file,) = set(tmp_path.rglob("*.npz")) - {other}
    data = file.read_bytes()
    if damage == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        at = data.index(np.arange(12.0).tobytes()) + 11
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "another key":
        file.write_bytes(other.read_bytes())
    else:
        file.write_text("not arrays at all")
    for _ in range(2):
        assert cache.fetch("kind", {"phrase": "a"}, make)["boxes"].tolist() == list(range(12))
    assert len(made) == 3
    assert file.read_bytes() == data


def _fetch_many(folder: Path, worker: int) -> None:
    cache = OutputCache(folder)
    for i in range(60):
        key = {"phrase": str(i % 3), "round": i // 20}
        got = cache.fetch("kind", key, lambda i=i: {"x": np.full(5000, i)})["x"]  # type: ignore[misc]
        assert len(got) == 5000
        assert (got == got[0]).all()


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    workers = [spawn.Process(target=_fetch_many, args=(tmp_path, n)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(list(tmp_path.rglob("*.npz"))) == 9
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_failed_model_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    def fails() -> dict[str, Any]:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        OutputCache(tmp_path).fetch("kind", {}, fails)
    assert not list(tmp_path.rglob("*.*"))


def test_a_file_that_cannot_be_moved_into_place_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*paths: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        OutputCache(tmp_path).fetch("kind", {}, lambda: {"x": np.zeros(1)})
    assert not list(tmp_path.rglob("*.*"))


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "relevance"
    monkeypatch.delenv("MIMIC_CACHE")
    assert cache_folder() == Path.home() / ".cache/mimic_eval/relevance"


def test_a_cache_folder_that_cannot_be_written_is_a_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written .*: set MIMIC_CACHE to a folder that can"):
        OutputCache(tmp_path / "file").fetch("kind", {}, lambda: {"x": np.zeros(1)})
