"""`mimic check-overlap`: pictures are the same by what they show, not by their names."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mimic_eval.records import UserError
from mimic_tasks.build import BuildOptions, build
from mimic_tasks.overlap import find_overlap
from mimic_tasks.source_files import SourceFiles
from mimic_tasks.training.export import ExportOptions, export
from mimic_tasks.transforms import Transform
from tests.makers.coco import SIDE, MadeCoco, make_coco


def noise(seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return Image.fromarray(values)


def noisy_source(folder: Path, *, seed: int) -> MadeCoco:
    made = make_coco(folder, images=30)
    for i, file in enumerate(sorted(made.images.iterdir())):
        noise(1000 * seed + i).save(file)
    return made


def built(made: MadeCoco, out: Path, **changes: object) -> Path:
    build(
        BuildOptions(
            (made.annotations,), (made.images,), out, docs=10, tasks=("common", "counting"), **changes
        ),  # type: ignore[arg-type]
        progress=False,
    )
    return out


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, MadeCoco]:
    at = tmp_path_factory.mktemp("overlap")
    first, second = noisy_source(at / "1", seed=1), noisy_source(at / "2", seed=2)
    return built(first, at / "a"), built(second, at / "b"), first


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    from mimic_eval import cli

    monkeypatch.setattr("sys.argv", ["mimic", "check-overlap", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_builds_of_different_pictures_share_none_whatever_their_names(
    folders: tuple[Path, Path, MadeCoco],
) -> None:
    overlap = find_overlap(folders[0], folders[1])
    assert overlap.shared == ()
    assert overlap.pictures_a > 5
    assert overlap.pictures_b > 5


def test_a_build_shares_every_picture_with_its_source(folders: tuple[Path, Path, MadeCoco]) -> None:
    overlap = find_overlap(folders[0], folders[2].images)
    assert len(overlap.shared) == overlap.pictures_a < overlap.pictures_b == 30
    for picture in overlap.shared:
        assert picture.same_bytes
        assert picture.in_a.endswith(f"({picture.in_b})")
        assert picture.in_a.startswith(str(int(picture.in_b.removesuffix(".png"))))


def test_a_re_encoded_lossless_copy_under_another_name_is_found(
    folders: tuple[Path, Path, MadeCoco], tmp_path: Path
) -> None:
    original = sorted(folders[2].images.iterdir())[0]
    (tmp_path / "copies/below").mkdir(parents=True)
    with Image.open(original) as image:
        image.save(tmp_path / "copies/below/renamed.PNG", compress_level=1)
        image.save(tmp_path / "copies/again.bmp")
        image.save(tmp_path / "copies/lossy.jpg")
    overlap = find_overlap(folders[2].images, tmp_path / "copies")
    assert [(p.in_a, p.in_b, p.same_bytes) for p in overlap.shared] == [(original.name, "again.bmp", False)]
    assert overlap.pictures_b == 2  # the lossless copies are one picture, the lossy one is another


def test_a_picture_of_the_same_pixels_in_another_shape_is_another(tmp_path: Path) -> None:
    for name, size in (("a", (10, 20)), ("b", (20, 10))):
        (tmp_path / name).mkdir()
        Image.new("RGB", size, "red").save(tmp_path / name / "x.png")
    assert find_overlap(tmp_path / "a", tmp_path / "b").shared == ()


def test_a_broken_picture_is_compared_by_its_bytes_and_counted(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        noise(7).save(tmp_path / name / "whole.png", compress_level=1 if name == "a" else 9)
        data = (tmp_path / "a/whole.png").read_bytes()
        (tmp_path / name / "cut.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "b/cut_elsewhere.png").write_bytes(data[: len(data) // 3])
    overlap = find_overlap(tmp_path / "a", tmp_path / "b")
    assert (overlap.broken_a, overlap.broken_b) == (1, 2)
    assert {(p.in_a, p.same_bytes) for p in overlap.shared} == {("cut.png", True), ("whole.png", False)}


def test_each_stored_picture_is_decoded_once(
    folders: tuple[Path, Path, MadeCoco], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mimic_tasks import images

    decoded: list[bytes] = []
    decode = images.decode_strict
    monkeypatch.setattr(images, "decode_strict", lambda data: decoded.append(data) or decode(data))
    found = find_overlap(folders[0], folders[0])
    assert len(decoded) == len(set(decoded)) == found.pictures_a == len(found.shared)


def test_a_training_export_shares_the_pictures_that_its_records_name(
    folders: tuple[Path, Path, MadeCoco], tmp_path: Path
) -> None:
    made, out = folders[2], tmp_path / "training"
    sources = SourceFiles((made.annotations,), (made.images,))
    export(ExportOptions(sources, out, docs=3, max_images=3), progress=False)
    against_source = find_overlap(out, made.images)
    assert len(against_source.shared) == against_source.pictures_a < 30
    assert all(picture.in_a == picture.in_b and picture.same_bytes for picture in against_source.shared)
    assert find_overlap(out, folders[0]).shared
    assert find_overlap(out, folders[1]).shared == ()
    (out / "mixture.yaml").rename(tmp_path / "mixture.yaml")
    with pytest.raises(UserError, match="is a training export that is not finished: run its command again"):
        find_overlap(folders[0], out)
    (tmp_path / "mixture.yaml").rename(out / "mixture.yaml")
    records = (out / "common.json").read_text()
    (out / "common.json").write_text('[{"id": 1}]')
    with pytest.raises(UserError, match=r"common\.json: holds no records that name their pictures"):
        find_overlap(folders[0], out)
    (out / "common.json").write_text(records)
    made.images.rename(tmp_path / "moved")
    try:
        with pytest.raises(UserError, match=r"names the picture .*\.png, which is not in its image folder"):
            find_overlap(folders[0], out)
    finally:
        (tmp_path / "moved").rename(made.images)


def test_the_command_exits_0_without_and_1_with_shared_pictures(
    folders: tuple[Path, Path, MadeCoco], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, folders[0], folders[1]) == 0
    out = capsys.readouterr().out
    assert "shared: 0 pictures (exit code 0)" in out
    assert f"{folders[0]}: {find_overlap(folders[0], folders[1]).pictures_a} different pictures" in out
    assert run(monkeypatch, folders[2].images, folders[2].images) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "shared: 30 pictures (exit code 1)" in lines
    assert sum(line.startswith("  ") and " = " in line for line in lines) == 20
    assert lines[-1] == "  and 10 more"


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing", "no such folder"), ("empty", "holds neither a task"), ("wrong", "parquet")],
)
def test_bad_input_is_one_line_and_exit_code_2(
    name: str,
    message: str,
    folders: tuple[Path, Path, MadeCoco],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong/common").mkdir(parents=True)
    (tmp_path / "wrong/common/test.parquet").write_bytes(b"PAR1, it says")
    with pytest.raises(UserError, match=message):
        find_overlap(tmp_path / name, folders[0])
    assert run(monkeypatch, folders[0], tmp_path / name) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert message in line


@pytest.mark.parametrize("change", [Transform(downsample=4), Transform(stitch="grid")])
def test_a_changed_picture_is_known_by_what_it_was_made_from(
    change: Transform, folders: tuple[Path, Path, MadeCoco], tmp_path: Path
) -> None:
    made, out = folders[2], tmp_path / "changed"
    options = BuildOptions(
        (made.annotations,), (made.images,), out, tasks=("common",), docs=6, transform=change
    )
    build(options, progress=False)
    used = {i for doc in pq.read_table(out / "common/test.parquet").to_pylist() for i in doc["image_ids"]}
    overlap = find_overlap(out, made.images)
    assert {picture.in_b for picture in overlap.shared} == {f"{i:012d}.png" for i in used}
    assert all(picture.in_a.endswith(", changed") for picture in overlap.shared)
    (out / "originals.json").write_text("[]")
    with pytest.raises(UserError, match="is not what a build writes"):
        find_overlap(out, made.images)
