"""`relevance=sam_clip`: segments, ranked by CLIP; tiny checkpoints of the real classes, on disk."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mimic_eval.records import UserError
from model_adapters.layout import Layout, Span
from model_adapters.options import AdapterOptions
from model_adapters.picture import image_hash
from model_adapters.relevance import parse_relevance
from model_adapters.relevance.clip import Clip
from model_adapters.relevance.outside import fitted
from model_adapters.relevance.places import TokenPlaces, grid, joined, nowhere, tiles
from model_adapters.relevance.query import Query
from model_adapters.relevance.sam import Sam, Segments
from model_adapters.relevance.sources import RelevanceSource
from tests.makers.outside import make_sam2, picture

pytestmark = pytest.mark.slow
QUESTION = "How many dogs are there in total?"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "relevance"


def query(images: list[Image.Image]) -> Query:
    return Query.of_doc({"question": QUESTION}, images, name="some_task doc 4")


def pipeline_of(folder: Path) -> Any:
    from transformers import AutoModelForMaskGeneration, AutoProcessor, MaskGenerationPipeline

    model = AutoModelForMaskGeneration.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder).image_processor
    return MaskGenerationPipeline(model=model, image_processor=processor)


def different(masks: list[torch.Tensor]) -> list[int]:
    """The index of the first of equal masks."""
    texts = [mask.numpy().tobytes() for mask in masks]
    return [i for i, text in enumerate(texts) if texts.index(text) == i]


# --- Segments


@pytest.mark.parametrize("size", [(60, 40), (40, 60), (64, 64), (33, 17)])
def test_segments_are_those_of_transformers_pipeline(sam_folder: Path, size: tuple[int, int]) -> None:
    image = picture(3, size)
    want = pipeline_of(sam_folder)(image, num_workers=0)
    first = different(want["masks"])
    got = Sam(str(sam_folder)).segments(image, image_hash(image))
    assert got.masks.shape == (len(first), size[1], size[0])
    assert torch.equal(got.masks, torch.stack(want["masks"])[first])
    assert torch.equal(got.scores, want["scores"][first])
    assert len(first) >= 1


@pytest.mark.parametrize("video", [False, True], ids=["sam2", "sam2_video"])
def test_sam_2_gives_segments_too(tmp_path: Path, video: bool) -> None:
    make_sam2(tmp_path / "sam2", video=video)
    image = picture(3, (50, 64))
    want = pipeline_of(tmp_path / "sam2")(image, num_workers=0)
    got = Sam(str(tmp_path / "sam2")).segments(image, image_hash(image))
    assert len(got.masks) > 0
    assert torch.equal(got.masks, torch.stack(want["masks"])[different(want["masks"])])
    model = Sam(str(tmp_path / "sam2"))
    for one, alone in zip(
        model.segmented([picture(4), image]),
        [model.segmented([p])[0] for p in (picture(4), image)],
        strict=True,
    ):
        assert one["masks"].tobytes() == alone["masks"].tobytes()


def test_a_second_look_reads_the_same_segments_from_the_cache(sam_folder: Path, own_cache: Path) -> None:
    image = picture(3)
    first = Sam(str(sam_folder)).segments(image, image_hash(image))
    second = Sam(str(sam_folder))
    again = second.segments(image, image_hash(image))
    assert "loaded" not in vars(second)
    assert torch.equal(first.masks, again.masks)
    assert torch.equal(first.scores, again.scores)
    assert len(list((own_cache / "sam").rglob("*.npz"))) == 1


def test_a_picture_of_one_pixel_has_each_segment_once(sam_folder: Path) -> None:
    """The pipeline gives hundreds of equal masks there: boxes without area suppress nothing."""
    image = picture(1, (1, 1))
    copies = pipeline_of(sam_folder)(image, num_workers=0)["masks"]
    assert len(copies) > 100
    got = Sam(str(sam_folder)).segments(image, image_hash(image))
    assert len(got.masks) == len(different(copies)) <= 2


def test_a_picture_larger_than_sams_input_is_shrunk(
    sam_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_adapters.relevance.sam._LONGEST", 32)
    image = picture(1, (128, 40))
    got = Sam(str(sam_folder)).segments(image, image_hash(image))
    assert got.masks.shape[1:] == (10, 32)


@pytest.mark.parametrize(
    ("size", "longest", "want"),
    [
        ((640, 480), 1024, (640, 480)),
        ((5000, 1), None, (5000, 50)),
        ((1, 5000), 1024, (11, 1024)),
        ((2048, 1024), 1024, (1024, 512)),
        ((1, 1), 1024, (1, 1)),
        ((100, 1), None, (100, 1)),
        ((101, 1), None, (101, 2)),
    ],
)
def test_sides_are_stretched_to_a_hundredth_and_cut_at_the_longest(
    size: tuple[int, int], longest: int | None, want: tuple[int, int]
) -> None:
    assert fitted(picture(0, size), longest=longest).size == want


# --- Ranks


def test_the_mean_over_a_segment_weighs_each_patch_by_its_area() -> None:
    torch.manual_seed(0)
    values = torch.randn(3, 3, dtype=torch.float64)
    masks = torch.rand(20, 7, 5) < 0.4
    masks[0] = False
    want = []
    for mask in masks.tolist():
        total = weight = 0.0
        for y, row in enumerate(mask):
            for x, inside in enumerate(row):
                for i in range(3):
                    for j in range(3):
                        tall = min((y + 1) / 7, (i + 1) / 3) - max(y / 7, i / 3)
                        wide = min((x + 1) / 5, (j + 1) / 3) - max(x / 5, j / 3)
                        area = max(tall, 0) * max(wide, 0) * inside
                        total, weight = total + area * float(values[i, j]), weight + area
        want.append(total / weight if weight else -np.inf)
    got = Segments(masks, torch.ones(20)).means(values)
    assert got.tolist() == pytest.approx(want, abs=1e-12)


def test_the_best_segments_are_those_with_the_highest_means_and_sams_order_decides_ties() -> None:
    masks = torch.zeros(5, 4, 4, dtype=torch.bool)
    masks[0, 0, 0] = masks[1, 3, 3] = masks[2, 0, 3] = masks[3, 3, 0] = True  # the fifth is empty
    values = torch.zeros(4, 4)
    values[3, 3], values[3, 0] = 2.0, 1.0
    segments = Segments(masks, torch.linspace(1, 0.9, 5))
    assert torch.equal(segments.best(values, 1), masks[[1]])
    assert torch.equal(segments.best(values, 3), masks[[1, 3, 0]])
    assert torch.equal(segments.best(values, 9), masks[[1, 3, 0, 2]])


def test_clips_grid_is_its_cosine_at_the_patches_centres(clip_folder: Path) -> None:
    image = picture(0)
    maps = Clip(str(clip_folder)).maps(image, image_hash(image), QUESTION)
    torch.testing.assert_close(maps.grid().flatten(), maps.cosines(grid(4, 4).centres), rtol=0, atol=1e-12)


# --- Tokens under a mask


def under(place: TokenPlaces, mask: torch.Tensor) -> list[bool]:
    """By each pixel's rectangle, as a box."""
    height, width = mask.shape
    pixels = [(x / width, y / height, (x + 1) / width, (y + 1) / height) for y, x in mask.nonzero().tolist()]
    boxes = torch.tensor(pixels, dtype=torch.float64).reshape(-1, 4)
    hit: list[bool] = place.overlapping(boxes).tolist()
    return hit


@pytest.mark.parametrize("sides", [(1, 1), (4, 4), (7, 5), (40, 60), (3, 100)])
def test_tokens_under_a_mask_are_those_that_overlap_a_pixel_of_it(sides: tuple[int, int]) -> None:
    places = (
        joined([grid(4, 4), nowhere(1)]),
        grid(3, 5, view=(-0.2, 0.0, 1.2, 1.0)),
        tiles(2, 2, tokens=(3, 3), thumbnail=True),
    )
    rng = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.3, 1.0):
        mask = torch.from_numpy(rng.random(sides) < share)
        for place in places:
            assert place.under(mask).tolist() == under(place, mask)


# --- The source


def layouts_of(*lengths: int) -> list[Layout]:
    spans, at = [], 2
    for length in lengths:
        spans.append(Span(at, at + length))
        at += length + 2
    return [Layout(at, 0, tuple(spans))]


def test_sam_clip_grounds_the_tokens_under_the_best_segments(sam_folder: Path, clip_folder: Path) -> None:
    doc = query([picture(3), picture(5, (40, 60))])
    places = [[joined([grid(4, 4), nowhere(1)]), grid(5, 3)]]
    layouts = layouts_of(17, 15)
    shares = []
    for top in (1, 2, 1000):
        source = RelevanceSource(
            parse_relevance("sam_clip"), sam=str(sam_folder), clip=str(clip_folder), top=top
        )
        counts = [Counter[str]()]
        got = source.relevance([doc], places, layouts, counts=counts)
        most = 0
        for m, (span, place) in enumerate(zip(layouts[0].images, places[0], strict=True)):
            image, key = doc.images[m], doc.image_hashes[m]
            segments = source.sam.segments(image, key)
            cosines = source.clip.maps(image, key, QUESTION).grid()
            order = segments.means(cosines).argsort(descending=True, stable=True)[:top]
            most += len(order)
            union = segments.masks[order].any(dim=0)
            in_g = got.grounded[0, span.start : span.end]
            assert in_g.tolist() == under(place, union)
            want = source.clip.cosines(image, key, QUESTION, place.centres).float()
            scores = got.score[0, span.start : span.end]
            assert torch.equal(scores[in_g], want[in_g[place.is_place]])
            assert not scores[~in_g].any()
        assert counts[0]["segments"] == most > 0
        assert "boxes" not in counts[0]
        shares.append(int(got.grounded.sum()))
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]
    assert source.settings() == {
        "relevance": "sam_clip",
        "sam": str(sam_folder),
        "top": 1000,
        "clip": str(clip_folder),
        "relevance_dtype": "float32",
    }
    assert set(source.identities()) == {"sam", "clip"}


def test_a_picture_without_segments_is_counted_and_changes_nothing(
    sam_folder: Path, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = Segments(torch.zeros(0, 4, 6, dtype=torch.bool), torch.zeros(0))
    monkeypatch.setattr(Sam, "segments", lambda *_: empty)
    source = RelevanceSource(parse_relevance("sam_clip"), sam=str(sam_folder), clip=str(clip_folder))
    counts = [Counter[str]()]
    got = source.relevance([query([picture(0)])], [[grid(3, 3)]], layouts_of(9), counts=counts)
    assert not got.grounded.any()
    assert dict(counts[0]) == {
        "segments": 0,
        "images": 1,
        "docs_without_grounding": 1,
        "images_without_grounding": 1,
    }


def test_uniform_may_borrow_the_segments_and_degraded_may_not(sam_folder: Path, clip_folder: Path) -> None:
    doc, places, layouts = query([picture(0)]), [[grid(4, 4)]], layouts_of(16)
    given = {"sam": str(sam_folder), "clip": str(clip_folder), "top": 1}
    own = RelevanceSource(parse_relevance("sam_clip"), **given)  # type: ignore[arg-type]
    flat = RelevanceSource(parse_relevance("uniform:sam_clip"), **given)  # type: ignore[arg-type]
    assert flat.choice.models == ("sam", "clip")
    got = flat.relevance([doc], places, layouts)
    assert torch.equal(got.grounded, own.relevance([doc], places, layouts).grounded)
    assert got.grounded.any()
    assert not got.score.any()
    with pytest.raises(UserError, match=r"^relevance=degraded:0\.5:sam_clip: Unknown source of boxes"):
        parse_relevance("degraded:0.5:sam_clip")


# --- Arguments


def test_thresholds_top_and_dtype_have_the_papers_defaults_and_are_read() -> None:
    options = AdapterOptions.parse({"mask": "ar"}).relevance
    assert options is not None
    assert (options.box_threshold, options.text_threshold, options.top) == (0.35, 0.25, 5)
    given = {"mask": "ar", "box_threshold": "0.1", "text_threshold": 1, "relevance_dtype": "bfloat16"}
    options = AdapterOptions.parse(given).relevance
    assert options is not None
    assert (options.box_threshold, options.text_threshold, options.relevance_dtype) == (0.1, 1.0, "bfloat16")
    options = AdapterOptions.parse({"mask": "ar", "relevance": "sam_clip", "top": "3", "sam": "s"}).relevance
    assert options is not None
    assert (options.top, options.sam) == (3, "s")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"box_threshold": "1.5"}, r"^box_threshold must be a number within 0-1, got '1\.5'$"),
        ({"box_threshold": -0.1}, r"^box_threshold must be a number within 0-1, got '-0\.1'$"),
        ({"text_threshold": "nan"}, r"^text_threshold must be a number within 0-1, got 'nan'$"),
        ({"text_threshold": "35%"}, r"^text_threshold must be a number within 0-1, got '35%'$"),
        ({"text_threshold": True}, r"^text_threshold must be a number within 0-1, got 'True'$"),
        ({"relevance": "sam_clip", "top": 0}, r"^top must be an integer within 1-1000, got 0$"),
        ({"relevance": "sam_clip", "top": "2.5"}, r"^top must be an integer within 1-1000, got '2\.5'$"),
        ({"top": 3}, r"^top=3 is not used by relevance=grounded_clip: leave it out$"),
        ({"relevance": "clip", "box_threshold": 0.35}, r"^box_threshold=0\.35 is not used by relevance=clip"),
        ({"relevance": "oracle", "relevance_dtype": "float32"}, r"is not used by relevance=oracle"),
        ({"relevance_dtype": "int8"}, r"^Unknown relevance_dtype 'int8'\. Valid: bfloat16, float16, float32"),
        ({"sam": "s"}, r"^sam=s is not used by relevance=grounded_clip: leave it out$"),
    ],
)
def test_a_wrong_number_or_one_that_is_not_used_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AdapterOptions.parse({"mask": "ar", **given})


def test_checkpoints_of_another_kind_are_refused(sam_folder: Path, grounding_folder: Path) -> None:
    source = RelevanceSource(parse_relevance("sam_clip"), sam=str(grounding_folder), clip=str(sam_folder))
    with pytest.raises(
        UserError,
        match=r"^sam=.* is a 'grounding-dino' checkpoint, 'sam' or 'sam2' or 'sam2_video' is expected$",
    ):
        source.identities()
    source = RelevanceSource(parse_relevance("grounded_clip"), grounding=str(sam_folder))
    with pytest.raises(
        UserError, match=r"^grounding=.* is a 'sam' checkpoint, 'grounding-dino' is expected$"
    ):
        source.identities()
