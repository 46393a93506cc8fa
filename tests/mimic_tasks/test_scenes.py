"""Scenes: exact boxes, the visibility rules, determinism, and every mistake by its message."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mimic_tasks
from mimic_eval.records import UserError
from mimic_tasks.coco_classes import COCO_CLASSES
from mimic_tasks.planning import Controls, plan_task
from mimic_tasks.pool import make_pool
from mimic_tasks.scenes import Scene, draw_scene, drawing, make_scenes, render, scene_classes
from mimic_tasks.sources import read_coco

GLYPHS = Path(mimic_tasks.__file__).parent / "glyphs"
SIZE = 128
N = 60
SUPERCATEGORY = {c.name: c.supercategory for c in COCO_CLASSES}


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("scenes") / "out", n=N, seed=7, size=SIZE, progress=False)


@pytest.fixture(scope="module")
def data(scenes: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(scenes.read_text())
    return loaded


def boxes_by_image(data: dict[str, Any]) -> dict[int, list[list[int]]]:
    found: dict[int, list[list[int]]] = {image["id"]: [] for image in data["images"]}
    for annotation in data["annotations"]:
        found[annotation["image_id"]].append(annotation["bbox"])
    return found


def box_where(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y


def test_coco_has_80_classes_in_12_supercategories_with_its_own_ids() -> None:
    assert len(COCO_CLASSES) == len({c.name for c in COCO_CLASSES}) == 80
    assert len({c.supercategory for c in COCO_CLASSES}) == 12
    ids = [c.id for c in COCO_CLASSES]
    assert ids == sorted(set(range(1, 91)) - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})


def test_at_least_50_classes_of_10_supercategories_have_a_glyph() -> None:
    assert len(scene_classes()) >= 50
    assert len({SUPERCATEGORY[name] for name in scene_classes()}) >= 10


def test_every_packaged_png_is_a_trimmed_sprite_of_a_coco_class() -> None:
    files = sorted(GLYPHS.glob("*.png"))
    assert {path.stem.replace("_", " ") for path in files} == set(scene_classes())
    assert sum(path.stat().st_size for path in files) < 400_000
    for path in files:
        with Image.open(path) as sprite:
            assert sprite.mode == "RGBA"
            assert sprite.getchannel("A").getbbox() == (0, 0, *sprite.size)


def test_the_font_s_licence_is_packaged_with_its_copyright_line() -> None:
    text = (GLYPHS / "OFL.txt").read_text()
    assert "Copyright: 2013-2017 Google Inc." in text
    assert "SIL OPEN FONT LICENSE Version 1.1" in text


def test_same_seed_same_bytes_in_another_process(scenes: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mimic_tasks.scenes import make_scenes; "
        f"make_scenes(Path(sys.argv[1]), n={N}, seed=7, size={SIZE}, progress=False)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "again")], check=True, env=environment)
    first = digests(scenes.parent.parent)
    assert len(first) == N + 1
    assert digests(tmp_path / "again") == first


def test_another_seed_gives_other_scenes(scenes: Path, tmp_path: Path) -> None:
    make_scenes(tmp_path / "b", n=3, seed=8, size=SIZE, progress=False)
    first, other = digests(scenes.parent.parent), digests(tmp_path / "b")
    assert not set(first.values()) & set(other.values())


def test_a_box_is_the_tight_bounds_of_half_covered_pixels() -> None:
    names = scene_classes()
    for i in range(0, len(names), 3):
        scene = draw_scene(
            np.random.default_rng(i),
            large=names[i : i + 3],
            small=names[i],
            size=SIZE,
            max_overlap=0.1,
            fewest=1,
        )
        assert scene is not None
        for thing in scene.objects:
            alone = replace(scene, objects=(thing,))
            pictures = [
                np.asarray(
                    render(replace(alone, background=Image.new("RGB", (SIZE, SIZE), colour))), dtype=int
                )
                for colour in ("white", "black")
            ]
            alpha = 255 - (pictures[0] - pictures[1]).max(axis=2)
            allowed = [box_where(alpha >= 128 + rounding) for rounding in (-1, 0, 1)]
            assert tuple(thing.box) in allowed, thing.sprite.name


def test_scaling_a_sprite_draws_no_bright_rim_around_it() -> None:
    # Bicubic and Lanczos filters overshoot at the outline: the mouse, 240 at its brightest, had a rim of 255.
    with Image.open(GLYPHS / "mouse.png") as glyph:
        pixels = np.asarray(glyph)
    brightest = pixels[pixels[:, :, 3] >= 128][:, :3].max()
    scene = draw_scene(
        np.random.default_rng(0), large=["mouse"] * 4, small=None, size=384, max_overlap=0.1, fewest=4
    )
    assert scene is not None
    for thing in scene.objects:
        drawn = np.asarray(thing.sprite.image)
        assert drawn[drawn[:, :, 3] >= 64][:, :3].max() <= brightest + 2


def test_written_boxes_enclose_what_the_written_picture_shows(tmp_path: Path) -> None:
    path = make_scenes(
        tmp_path / "out",
        n=24,
        size=SIZE,
        objects=(1, 1),
        classes=["apple", "donut", "car"],
        small_share=0,
        progress=False,
    )
    data = json.loads(path.read_text())
    plain = 0
    for image, annotation in zip(data["images"], data["annotations"], strict=True):
        with Image.open(tmp_path / "out" / "images" / image["file_name"]) as picture:
            pixels = np.asarray(picture.convert("RGB"), dtype=int)
        x, y, width, height = annotation["bbox"]
        outside = np.ones((SIZE, SIZE), dtype=bool)
        outside[max(0, y - 3) : y + height + 3, max(0, x - 3) : x + width + 3] = False
        if len(np.unique(pixels[outside], axis=0)) > 1:
            continue  # not a plain background
        plain += 1
        differs = np.abs(pixels - pixels[outside][0]).max(axis=2)
        shown = box_where(differs > 24)
        for derived, written in zip(shown, (x, y, width, height), strict=True):
            assert abs(derived - written) <= 2  # an edge pixel less than half covered may differ too
        inside = differs[y : y + height, x : x + width] > 12
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()
    assert plain >= 5


def test_every_object_is_fully_inside_and_hides_little_of_any_other(data: dict[str, Any]) -> None:
    for boxes in boxes_by_image(data).values():
        for x, y, width, height in boxes:
            assert 0 <= x < x + width <= SIZE
            assert 0 <= y < y + height <= SIZE
        for (x, y, w, h), (u, v, s, t) in combinations(boxes, 2):
            shared = max(0, min(x + w, u + s) - max(x, u)) * max(0, min(y + h, v + t) - max(y, v))
            assert shared <= 0.1 * min(w * h, s * t)


def test_every_object_covers_five_percent_but_one_small_one_in_some_scenes(data: dict[str, Any]) -> None:
    with_small = 0
    for boxes in boxes_by_image(data).values():
        shares = [w * h / SIZE**2 for _, _, w, h in boxes]
        small = [share for share in shares if share < 0.05]
        assert len(small) <= 1
        assert all(0.015 <= share <= 0.04 for share in small)
        assert 1 <= len(shares) - len(small) <= 8
        assert max(shares) < 0.16
        with_small += len(small)
    assert 1 <= with_small <= 0.25 * N


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 12)])
def test_small_share_says_how_many_scenes_have_a_small_object(
    share: float, expected: int, tmp_path: Path
) -> None:
    path = make_scenes(tmp_path / "out", n=12, size=64, small_share=share, progress=False)
    annotations = json.loads(path.read_text())["annotations"]
    assert sum(a["area"] < 0.05 * 64**2 for a in annotations) == expected


def test_eight_objects_fit_without_any_overlap(tmp_path: Path) -> None:
    path = make_scenes(
        tmp_path / "out", n=10, size=SIZE, objects=(8, 8), max_overlap=0, small_share=0, progress=False
    )
    data = json.loads(path.read_text())
    assert [len(boxes) for boxes in boxes_by_image(data).values()] == [8] * 10


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
def test_pycocotools_loads_the_file_and_agrees_on_the_masks(scenes: Path, data: dict[str, Any]) -> None:
    from pycocotools.coco import COCO

    coco = COCO(str(scenes))
    assert len(coco.getImgIds()) == N
    truth = {c.id: (c.name, c.supercategory) for c in COCO_CLASSES}
    for category in coco.loadCats(coco.getCatIds()):
        assert truth[category["id"]] == (category["name"], category["supercategory"])
    for annotation in data["annotations"][:20]:
        assert int(coco.annToMask(annotation).sum()) == annotation["area"]


def test_the_file_names_its_seed_versions_and_arguments(data: dict[str, Any]) -> None:
    assert data["info"]["seed"] == 7
    assert {"version", "numpy", "pillow"} <= data["info"].keys()
    assert data["info"]["arguments"] == {
        "n": N,
        "seed": 7,
        "size": SIZE,
        "objects": [1, 8],
        "max_overlap": 0.1,
        "small_share": 0.1,
        "classes": None,
    }


def test_pictures_are_palette_png(scenes: Path, data: dict[str, Any]) -> None:
    for image in data["images"]:
        with Image.open(scenes.parent.parent / "images" / image["file_name"]) as picture:
            assert (picture.format, picture.mode, picture.size) == ("PNG", "P", (SIZE, SIZE))


def test_classes_are_shown_about_equally_often(tmp_path: Path) -> None:
    names = ["dog", "cat", "car", "hot dog", "clock", "kite", "vase"]
    path = make_scenes(
        tmp_path / "out", n=70, size=64, classes=names, objects=(1, 4), small_share=0, progress=False
    )
    data = json.loads(path.read_text())
    assert {c["name"] for c in data["categories"]} == set(names)
    pairs = {(a["image_id"], a["category_id"]) for a in data["annotations"]}
    shown = Counter(category for _, category in pairs)
    assert len(shown) == len(names)
    assert max(shown.values()) <= 1.35 * min(shown.values())


def test_a_small_pool_serves_every_task(scenes: Path) -> None:
    pool = make_pool(read_coco(scenes, scenes.parent.parent / "images"))
    for kind in ("counting", "listing", "common", "oddone"):
        plan = plan_task(kind, pool, Controls(), docs=40, seed=0)
        assert plan.shortage is None, kind
        assert plan.largest_answer_share() <= 0.4


def test_objects_that_do_not_fit_are_left_out_down_to_the_fewest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "_AIMED_SHARES", (0.3, 0.3))

    def draw(fewest: int) -> Scene | None:
        return draw_scene(
            np.random.default_rng(0),
            large=["apple"] * 6,
            small=None,
            size=64,
            max_overlap=0,
            fewest=fewest,
        )

    scene = draw(1)
    assert scene is not None
    assert len(scene.objects) < 6
    assert draw(6) is None


def test_a_scene_that_cannot_be_placed_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "_AIMED_SHARES", (0.3, 0.3))
    message = (
        r"^8 objects of at least 5 % .* do not fit into scene 1 with --max-overlap 0\.0; lower --objects"
    )
    with pytest.raises(UserError, match=message):
        make_scenes(tmp_path / "out", n=2, size=64, objects=(8, 8), max_overlap=0.0, progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, r"--n must be at least 1, got 0"),
        ({"seed": -1}, r"--seed must be at least 0, got -1"),
        ({"size": 63}, r"--size must be within 64-4096 pixels, got 63"),
        ({"objects": (0, 3)}, r"--objects must be a range within 1-8, got 0-3"),
        ({"objects": (2, 9)}, r"--objects must be a range within 1-8, got 2-9"),
        ({"objects": (4, 3)}, r"--objects must be a range within 1-8, got 4-3"),
        ({"max_overlap": 1.0}, r"--max-overlap must be at least 0 and below 1, got 1\.0"),
        ({"max_overlap": -0.1}, r"--max-overlap must be at least 0 and below 1, got -0\.1"),
        ({"max_overlap": float("nan")}, r"--max-overlap must be at least 0 and below 1, got nan"),
        ({"small_share": 1.5}, r"small_share must be within 0-1, got 1\.5"),
        ({"classes": ["dogg"]}, r"Unknown class 'dogg'\. Did you mean 'dog'\? Valid: airplane, "),
        ({"classes": []}, r"--classes must name at least one class"),
    ],
)
def test_a_bad_argument_is_one_line_and_writes_nothing(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="^" + message) as caught:
        make_scenes(tmp_path / "out", **{"n": 1, "progress": False, **options})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for out, message in ((tmp_path, "exists and is not empty"), (tmp_path / "notes.txt", "is a file")):
        with pytest.raises(UserError, match=f"--out .* {message}: choose"):
            make_scenes(out, n=1, progress=False)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^--out .*file/out: cannot be written"):
        make_scenes(tmp_path / "file" / "out", n=1, progress=False)


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    path = make_scenes(tmp_path, n=1, size=64, progress=False)
    assert path == tmp_path / "annotations" / "instances_scenes.json"
