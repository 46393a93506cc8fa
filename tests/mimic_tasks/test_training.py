"""`mimic export-training`: LLaVA's form, right answers, separation by content, going on after a kill."""

import json
import re
import signal
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from PIL import Image

from mimic_eval.records import TASK_KINDS, UserError
from mimic_tasks.build import BuildOptions, build
from mimic_tasks.overlap import find_overlap
from mimic_tasks.source_files import SourceFiles
from mimic_tasks.task_spec import spec_of
from mimic_tasks.training.export import ExportOptions, ExportResult, export
from mimic_tasks.training.export_folder import claimed
from tests.conftest import Command, Commands
from tests.makers.builds import refusal
from tests.makers.coco import LARGE, CocoWriter, MadeCoco, make_coco

pytestmark = pytest.mark.slow
FILES = (*(f"{kind}.json" for kind in TASK_KINDS), "mixture.yaml", "manifest.json")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> MadeCoco:
    """400 scenes, all different."""
    from mimic_tasks.scenes import make_scenes

    at = tmp_path_factory.mktemp("scenes")
    return MadeCoco(make_scenes(at / "s", n=400, seed=3, size=192, progress=False), at / "s/images")


def options(source: MadeCoco, out: Path, **changes: Any) -> ExportOptions:
    return ExportOptions(SourceFiles((source.annotations,), (source.images,)), out, **{"docs": 40, **changes})


def exported(source: MadeCoco, out: Path, **changes: Any) -> ExportResult:
    return export(options(source, out, **changes), progress=False)


def records_of(out: Path, kind: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads((out / f"{kind}.json").read_text())
    return records


def pictures_of(out: Path) -> set[str]:
    return {name for kind in TASK_KINDS for record in records_of(out, kind) for name in record["image"]}


def manifest_of(out: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((out / "manifest.json").read_text())
    return manifest


def contents(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in FILES}


def journal_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "checked.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def export_folder(scenes: MadeCoco, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of 200 samples a task."""
    out = tmp_path_factory.mktemp("export_folder") / "training"
    exported(scenes, out, docs=200)
    return out


@pytest.mark.parametrize("kind", TASK_KINDS)
def test_a_record_is_llavas_form_exactly(kind: str, export_folder: Path, scenes: MadeCoco) -> None:
    records = records_of(export_folder, kind)
    assert len({record["id"] for record in records}) == len(records) == 200
    for record in records:
        assert list(record) == ["id", "image", "conversations"]
        human, gpt = record["conversations"]
        assert (human["from"], gpt["from"]) == ("human", "gpt")
        assert list(human) == list(gpt) == ["from", "value"]
        n = len(record["image"])
        assert n == len(set(record["image"])) == human["value"].count("<image>")
        assert human["value"].startswith("<image>\n" * n)
        question = human["value"].removeprefix("<image>\n" * n)
        wordings = [
            re.escape(text).replace(r"\{things\}", "[a-z ]+").replace(r"\{category\}", "[a-z ]+")
            for text in spec_of(kind).wordings
        ]
        assert any(re.fullmatch(text, question) for text in wordings), question
        assert gpt["value"]
        assert all((scenes.images / name).is_file() for name in record["image"])
    least = {"counting": 1, "listing": 1, "common": 2, "oddone": 3}[kind]
    assert {len(record["image"]) for record in records} == set(range(least, 11))


def test_the_mixture_names_each_file_and_its_strategy(scenes: MadeCoco, tmp_path: Path) -> None:
    result = exported(scenes, tmp_path / "out", sampling={"listing": "random:50%"})
    mixture = yaml.safe_load(result.mixture.read_text())
    assert mixture == {
        "datasets": [
            {
                "json_path": str(tmp_path / f"out/{kind}.json"),
                "sampling_strategy": "random:50%" if kind == "listing" else "all",
            }
            for kind in TASK_KINDS
        ]
    }
    assert result.image_folder == scenes.images


def test_the_ground_truths_are_those_of_the_annotations(export_folder: Path, scenes: MadeCoco) -> None:
    """Recomputed from the COCO JSON alone."""
    data = json.loads(scenes.annotations.read_text())
    names = {row["id"]: (row["name"], row["supercategory"]) for row in data["categories"]}
    files = {row["id"]: row["file_name"] for row in data["images"]}
    shown: dict[str, Counter[str]] = {name: Counter() for name in files.values()}
    for row in data["annotations"]:
        shown[files[row["image_id"]]][names[row["category_id"]][0]] += 1
    category_of = dict(names.values())
    plurals = {name: _plural(name) for name in category_of}
    for kind in TASK_KINDS:
        for record in records_of(export_folder, kind):
            question, answer = (turn["value"] for turn in record["conversations"])
            images = [shown[name] for name in record["image"]]
            with_class = Counter(name for image in images for name in image)
            if kind == "counting":
                (asked,) = [n for n, p in plurals.items() if re.search(rf"\b(the|of|many) {p}\b", question)]
                assert answer == str(sum(image[asked] for image in images))
            elif kind == "listing":
                (category,) = re.findall('"(.*)"', question)
                assert answer == ", ".join(sorted(n for n in with_class if category_of[n] == category))
            elif kind == "common":
                assert [n for n, count in with_class.items() if count == len(images)] == [answer]
            else:
                assert [n for n, count in with_class.items() if 2 * count < len(images)] == [answer]
                assert not [n for n, count in with_class.items() if 2 * count == len(images)]


def _plural(name: str) -> str:
    from mimic_tasks.scoring import plural

    return re.escape(plural(name))


@pytest.mark.parametrize("kind", ["listing", "common", "oddone"])
def test_no_question_names_its_answer(kind: str, export_folder: Path) -> None:
    for record in records_of(export_folder, kind):
        question, answer = (turn["value"].lower() for turn in record["conversations"])
        for name in answer.split(", "):
            assert not re.search(rf"\b{re.escape(name)}s?\b", question), (name, question)


def test_several_classes_are_asked_by_k(scenes: MadeCoco, tmp_path: Path) -> None:
    exported(scenes, tmp_path / "out", tasks=("counting",), k=2)
    for record in records_of(tmp_path / "out", "counting"):
        assert re.fullmatch(r"[a-z ]+: \d+, [a-z ]+: \d+", record["conversations"][1]["value"])


def test_paths_are_relative_to_the_common_parent_of_several_folders(tmp_path: Path) -> None:
    made = [make_coco(tmp_path / name, seed=i) for i, name in enumerate(("a", "b"))]
    for file in made[1].images.iterdir():
        Image.effect_noise((100, 100), 50).save(file)
    sources = SourceFiles(tuple(m.annotations for m in made), tuple(m.images for m in made))
    result = export(ExportOptions(sources, tmp_path / "out", docs=20, max_images=4), progress=False)
    assert result.image_folder == tmp_path
    assert manifest_of(tmp_path / "out")["image_folder"] == str(tmp_path)
    assert {name.split("/")[0] for name in pictures_of(tmp_path / "out")} == {"a", "b"}
    assert all((tmp_path / name).is_file() for name in pictures_of(tmp_path / "out"))


def test_the_manifest_says_what_was_asked_read_and_written(export_folder: Path, scenes: MadeCoco) -> None:
    manifest = manifest_of(export_folder)
    assert manifest["arguments"]["max_images"] == 10
    assert manifest["files"][0]["name"] == "instances_scenes.json"
    assert manifest["image_folder"] == str(scenes.images)
    for kind in TASK_KINDS:
        task = manifest["tasks"][kind]
        assert (task["file"], task["docs"], task["shortage"]) == (f"{kind}.json", 200, None)
        assert sum(task["sizes"].values()) == 200


# Pictures that cannot be used


def test_unfit_pictures_are_in_no_record_and_the_manifest_says_why(tmp_path: Path) -> None:
    made = make_coco(tmp_path / "source")
    files = sorted(made.images.iterdir())
    data = files[0].read_bytes()
    files[0].write_bytes(data[: len(data) // 2])
    files[1].unlink()
    Image.new("RGB", (50, 50)).save(files[2])
    files[4].write_bytes(files[3].read_bytes())
    result = exported(made, tmp_path / "out", docs=60, max_images=4)
    reasons = {row["file"]: row["reason"] for row in manifest_of(tmp_path / "out")["images_dropped"]}
    expected = ["cannot be decoded", "missing", "is 50 x 50 pixels, annotated as 100 x 100"]
    for file, reason in zip(files, [*expected, *["but with other annotations"] * 2], strict=False):
        assert reason in reasons.pop(file.name)
        assert file.name not in pictures_of(tmp_path / "out")
    assert reasons == {}
    assert result.summary[-1] == "5 pictures were left out, 0 of them as excluded: manifest.json says why"


def test_an_excluded_build_and_a_lossless_copy_are_left_out_by_content(
    scenes: MadeCoco, tmp_path: Path
) -> None:
    evaluation = tmp_path / "tasks"
    build(BuildOptions((scenes.annotations,), (scenes.images,), evaluation, docs=5), progress=False)
    copies = tmp_path / "copies"
    (copies / "below").mkdir(parents=True)
    copied = sorted(scenes.images.iterdir())[:20]
    for i, file in enumerate(copied):
        with Image.open(file) as image:
            image.convert("RGB").save(copies / f"below/{i}.bmp")
    exported(scenes, tmp_path / "all")
    assert find_overlap(tmp_path / "all", evaluation).shared
    assert find_overlap(tmp_path / "all", copies).shared
    result = exported(scenes, tmp_path / "apart", exclude=(evaluation, copies))
    for folder in (evaluation, copies):
        overlap = find_overlap(tmp_path / "apart", folder)
        assert overlap.shared == ()
        assert overlap.pictures_a == len(pictures_of(tmp_path / "apart"))
    assert pictures_of(tmp_path / "apart").isdisjoint(file.name for file in copied)
    manifest = manifest_of(tmp_path / "apart")
    reasons = {row["file"]: row["reason"] for row in manifest["images_dropped"]}
    assert any(
        reason == f"is excluded: it shows what below/0.bmp of {copies} shows" for reason in reasons.values()
    )
    assert f"{len(reasons)} of them as excluded" in result.summary[-1]
    assert [row["folder"] for row in manifest["excluded"]] == [str(evaluation), str(copies)]
    exported(scenes, tmp_path / "again", exclude=(tmp_path / "apart",))
    assert find_overlap(tmp_path / "again", tmp_path / "apart").shared == ()


# Going on


def test_the_same_options_give_the_same_records(scenes: MadeCoco, tmp_path: Path) -> None:
    for name in "ab":
        exported(scenes, tmp_path / name)
    a, b = (contents(tmp_path / name) for name in "ab")
    assert a.pop("mixture.yaml") != b.pop("mixture.yaml")  # it names its own folder
    assert a == b
    exported(scenes, tmp_path / "c", seed=1)
    assert records_of(tmp_path / "c", "common") != records_of(tmp_path / "a", "common")


def test_a_finished_folder_is_left_as_it_is(scenes: MadeCoco, tmp_path: Path) -> None:
    exported(scenes, tmp_path / "out")
    before = {
        file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in (tmp_path / "out").iterdir()
    }
    assert exported(scenes, tmp_path / "out").was_complete
    after = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in (tmp_path / "out").iterdir()}
    assert after == before


def test_a_torn_line_and_half_written_files_are_written_again(scenes: MadeCoco, tmp_path: Path) -> None:
    out = tmp_path / "out"
    exported(scenes, out)
    before = contents(out)
    journal = (out / "checked.jsonl").read_bytes()
    lines = journal.splitlines(keepends=True)
    for name in ("mixture.yaml", "manifest.json", "oddone.json"):
        (out / name).unlink()
    (out / "oddone.json.partial").write_text("[\n{")
    (out / "checked.jsonl").write_bytes(b"".join(lines[:50]) + lines[50][:-20])
    assert not exported(scenes, out).was_complete
    assert contents(out) == before
    assert (out / "checked.jsonl").read_bytes() == journal
    assert sorted(file.name for file in out.iterdir()) == sorted((*FILES, "arguments.json", "checked.jsonl"))


def test_checked_pictures_are_not_opened_again_but_changed_ones_are(
    scenes: MadeCoco, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mimic_tasks.training import pictures

    opened: list[str] = []
    read = pictures.read_checked

    def counted(path: Path, *, width: int, height: int) -> Any:
        opened.append(path.name)
        return read(path, width=width, height=height)

    source = make_coco(tmp_path / "source")
    monkeypatch.setattr(pictures, "read_checked", counted)
    exported(source, tmp_path / "out", max_images=4)
    assert len(opened) == len(set(opened)) > 20
    opened.clear()
    (tmp_path / "out/mixture.yaml").unlink()
    victim = sorted(pictures_of(tmp_path / "out"))[5]
    (source.images / victim).write_bytes(b"no picture")
    exported(source, tmp_path / "out", max_images=4)
    assert victim in opened
    assert len(opened) < 10
    assert victim not in pictures_of(tmp_path / "out")


def test_an_export_killed_at_any_point_goes_on_and_ends_with_the_same_bytes(
    scenes: MadeCoco, tmp_path: Path, commands: Commands
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    for file in sorted(scenes.images.iterdir())[::9]:
        with Image.open(file) as image:
            image.save(copies / file.name, compress_level=1)
    command = (
        "mimic", "export-training", *scenes.options(), "--docs", 150, "--exclude", copies,
        "--out", tmp_path / "out",
    )  # fmt: skip
    with commands.started(*command) as process:
        done = process.wait(300)
    assert done.returncode == 0, done.stderr
    expected, found_out = contents(tmp_path / "out"), journal_of(tmp_path / "out")
    journal = tmp_path / "out/checked.jsonl"
    size_of_all = journal.stat().st_size
    (tmp_path / "out").rename(tmp_path / "before")
    rng = Random(1)
    reached, killed = 0, 0
    for _ in range(8):
        with commands.started(*command) as process:
            target = reached + rng.uniform(0.05, 0.4) * size_of_all
            while not process.ended(0.005) and (not journal.exists() or journal.stat().st_size < target):
                pass
            killed += process.end().returncode == -signal.SIGKILL
        size = journal.stat().st_size if journal.exists() else 0
        assert size >= reached
        reached = size
        if (tmp_path / "out/mixture.yaml").exists():
            break
    assert killed >= 2
    assert reached
    with commands.started(*command) as process:
        done = process.wait(300)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == expected
    assert sorted(map(str, journal_of(tmp_path / "out"))) == sorted(map(str, found_out))


# Refusals


def test_another_command_is_told_what_differs(scenes: MadeCoco, tmp_path: Path) -> None:
    source = make_coco(tmp_path / "source")
    exported(source, tmp_path / "out", docs=20, max_images=4)
    before = contents(tmp_path / "out")
    with pytest.raises(
        UserError, match=r"differs in --docs \(20, now 30\), --seed \(0, now 1\): give the same"
    ):
        exported(source, tmp_path / "out", docs=30, seed=1, max_images=4)
    with pytest.raises(UserError, match=r"differs in --exclude \(none, now .*/images\)"):
        exported(source, tmp_path / "out", docs=20, max_images=4, exclude=(scenes.images,))
    data = json.loads(source.annotations.read_text())
    data["annotations"][0]["bbox"][2] += 1
    source.annotations.write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"differs in the content of instances_made\.json"):
        exported(source, tmp_path / "out", docs=20, max_images=4)
    assert contents(tmp_path / "out") == before


def test_a_changed_excluded_folder_is_told(scenes: MadeCoco, tmp_path: Path) -> None:
    apart = tmp_path / "apart"
    apart.mkdir()
    Image.new("RGB", (9, 9), "red").save(apart / "a.png")
    exported(scenes, tmp_path / "out", exclude=(apart,))
    assert exported(scenes, tmp_path / "out", exclude=(apart,)).was_complete
    Image.new("RGB", (9, 9), "blue").save(apart / "b.png")
    with pytest.raises(UserError, match=r"differs in the content of .*apart"):
        exported(scenes, tmp_path / "out", exclude=(apart,))


def test_a_moved_export_is_told_apart_because_its_mixture_names_the_old_place(
    scenes: MadeCoco, tmp_path: Path
) -> None:
    exported(scenes, tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"differs in --out \(.*/out, now .*/moved\)"):
        exported(scenes, tmp_path / "moved")


def test_two_processes_at_once_are_refused(scenes: MadeCoco, tmp_path: Path, command: Command) -> None:
    with claimed(tmp_path / "out"):
        done = command("mimic", "export-training", *scenes.options(), "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr == f"error: --out {tmp_path / 'out'} is being written by another process\n"
    assert not (tmp_path / "out").exists()


def test_a_shortage_leaves_nothing_but_what_was_checked(tmp_path: Path) -> None:
    source = CocoWriter(tmp_path / "source")
    for _ in range(6):
        source.image([("dog", LARGE, 0)])
        source.image([("cat", LARGE, 0), ("cup", LARGE, 0)])
    made = source.write()
    with pytest.raises(
        UserError, match=r"common: the data can give \d+ of the 5000 docs asked.*--allow-fewer"
    ):
        exported(made, tmp_path / "out", docs=5000)
    assert not (tmp_path / "out").exists()
    for file in sorted(made.images.iterdir())[:3]:
        file.write_bytes(b"no picture")
    enough = {"docs": 25, "max_images": 3, "tasks": ("common",)}
    with pytest.raises(
        UserError, match=r"pictures were dropped, e\.g\. one not a JPEG, PNG, WebP, BMP, TIFF or GIF picture"
    ):
        exported(made, tmp_path / "out", **enough)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["checked.jsonl"]
    checked = len(journal_of(tmp_path / "out"))
    result = exported(made, tmp_path / "out", **enough, allow_fewer=True)
    assert "common: the data can give" in result.shortages[0]
    assert len(journal_of(tmp_path / "out")) == checked == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sampling", "listing"], "--sampling must be like listing=random:50%, got 'listing'"),
        (
            ["--sampling", "listing=half"],
            "--sampling listing must be all, first:N%, end:N% or random:N%, N an integer",
        ),
        (["--sampling", "listing=random:0%"], "N an integer within 1-100, got 'random:0%'"),
        (["--sampling", "listing=random:101%"], "got 'random:101%'"),
        (["--sampling", "listing=first:2.5%"], "got 'first:2.5%'"),
        (["--sampling", "listng=all"], "Unknown task 'listng'. Did you mean 'listing'?"),
        (["--sampling", "listing=all", "--sampling", "listing=all"], "--sampling gives listing twice"),
        (["--task", "common", "--sampling", "listing=all"], "is for listing, which --tasks leaves out"),
        (["--task", "comon"], "Unknown task 'comon'. Did you mean 'common'?"),
        (
            ["--max-images", "2"],
            "--max-images 2: oddone needs at least 3 images; raise it, or leave the task",
        ),
        (["--max-images", "65"], "--max-images must be an integer within 1-64, got 65"),
        (["--docs", "0"], "--docs must be an integer within 1-1000000, got 0"),
        (["--seed", "-1"], "--seed must be an integer within 0-"),
        (["--max-reuse", "0"], "--max-reuse must be an integer within 1-"),
        (["--k", "6"], "--k must be within 1-5, got 6"),
        (["--classes", "unicorn"], "Unknown class 'unicorn'"),
        (["--exclude", "nowhere"], "nowhere: no such folder"),
        (["--images", "x"], "--images x: no such folder"),
    ],
)
def test_each_wrong_option_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    made_coco: MadeCoco,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    call = ["mimic", "export-training", *made_coco.options(), "--out", str(out), *arguments]
    monkeypatch.setattr("sys.argv", call)
    assert message in refusal(capsys)
    assert not out.exists()


def test_a_place_that_holds_something_else_is_refused(made_coco: MadeCoco, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for name, message in (
        ("full", "exists and is not empty"),
        ("full/mine.txt", "is a file"),
        ("link", "is a link to nothing"),
        ("full/mine.txt/below", "cannot be written"),
        ("a{b,c}", "LLaVA takes { } in a path for a list of files"),
        ("\udcff", "cannot be written"),
    ):
        with pytest.raises(UserError, match=message):
            exported(made_coco, tmp_path / name)
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_a_class_named_like_a_picture_is_refused(tmp_path: Path) -> None:
    made = make_coco(tmp_path / "source")
    made.annotations.write_text(made.annotations.read_text().replace('"dog"', '"<image> dog"'))
    with pytest.raises(UserError, match="holds <image>, the placeholder of a picture: rename it"):
        exported(made, tmp_path / "out", max_images=4)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["checked.jsonl"]
