"""Which evaluation sets a mixture names, and what `mimic check-overlap` says of it."""

import re
from importlib.resources import files
from pathlib import Path

import pytest
from PIL import Image

from finetune.mixture import evaluation_sets
from finetune.mixture.evaluation_sets import EVALUATION_SETS
from mimic_eval.cli import main
from tests.finetune.mixture.test_reader import folder, mixture_of, put, record

__all__ = ["folder"]


def found(*paths: Path) -> dict[str, int | None]:
    return {one.name: one.samples for one in evaluation_sets(paths)}


def test_sets_are_recognised_by_file_id_field_and_picture_folder(folder: Path) -> None:
    samples = [
        record("nlvr2_12"),
        record("NLVR2-13") | {"metadata": {"dataset": "NLVR2"}},
        {"sample_id": 7, "metadata": {"dataset": "COMICS_Dialogue"}, **record("x")},
        record("x", ["spot_the_diff/images/1.png", "spot_the_diff/images/2.png"]),
        record("x", "docvqa/1.png") | {"data_source": "doc-vqa"},
        record("counting-000001"),
        ["no", "sample"],
    ]
    file = put(folder, "all.json", samples)
    assert found(file) == {"NLVR2": 2, "COMICS": 1, "Spot-the-Diff": 1, "DocVQA": 1}
    assert found(put(folder, "MathV360K_IconQA_22599.jsonl", samples)) == found(file) | {"IconQA": 7}
    mixture = mixture_of(folder, (file, "first:2"), (folder / "M4-Instruct/nlvr.json", "all"))
    assert found(mixture) == {"NLVR2": None, "M4-Instruct": None}
    assert [(one.file.name, one.samples) for one in evaluation_sets([mixture])] == [
        ("all.json", 2),
        ("nlvr.json", None),
        ("nlvr.json", None),
    ]


RELEASE = [
    "HQ-Edit-Diff", "RAVEN", "3D-LLM_3_datasets", "ScanQA", "dreamsim",
    "iconqa", "imagecode", "multi_vqa", "nextqa", "nlvr2",
    "star", "coinstruct", "WebQA", "TQA", "nuscenes",
    "MIT-States_StateCoherence", "MIT-States_PropertyCoherence", "VISION",
    "RecipeQA_ImageCoherence", "ALFRED",
    "OCR-VQA", "DocVQA", "IEdit", "Spot-the-Diff", "Birds-to-Words",
    "CLEVR-Change", "AESOP", "FlintstonesSV", "PororoSV", "VIST",
    "HQ-Edit", "MagicBrush", "MagicBrush-Diff",
]  # fmt: skip
"""The sets that the release adds to its own data (METHODS 10)."""


def test_of_the_33_sets_of_the_release_29_are_evaluated_by_a_task(folder: Path) -> None:
    files = [(folder / f"data/jsons/{name}.json", "all") for name in RELEASE]
    known = evaluation_sets([mixture_of(folder, *files)])
    named = [one.file.stem for one in known]
    assert len(RELEASE) == 33
    assert set(RELEASE) - set(named) == {"dreamsim", "imagecode", "multi_vqa", "star"}
    assert len(named) == 29


@pytest.mark.parametrize(
    "name",
    [
        "llava_vision_flan.json",
        "aokvqa.json",
        "A-OKVQA.json",
        "mme_realworld.json",
        "revisited.json",
        "unlvr2.json",
    ],
)
def test_similar_names_are_other_sets(folder: Path, name: str) -> None:
    assert found(mixture_of(folder, (folder / name, "all"))) == {}


def test_every_named_task_exists() -> None:
    """In lmms-eval 0.7.3, or here."""
    packages = files("lmms_eval") / "tasks", files("mimic_tasks") / "official"
    texts = (path.read_text() for package in packages for path in Path(str(package)).rglob("*.yaml"))
    names = {
        name for text in texts for name in re.findall(r"""^(?:task|group): *["']?([^"'\s]+)""", text, re.M)
    }
    assert {task for _, tasks in EVALUATION_SETS.values() for task in tasks} <= names


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["mimic", "check-overlap", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def test_the_command_warns_of_a_mixture_without_its_pictures(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = put(folder, "m4.json", [record("nlvr2_1", "away.png"), record("a", "away.png")])
    code, out, err = run(capsys, monkeypatch, mixture_of(folder, (file, "all")))
    task = "llava_interleave_bench_in_domain"
    assert (code, err) == (0, f"warning: {file}: 1 sample names NLVR2, evaluated by {task}\n")
    assert out == f"trained on sets that are evaluated by: {task}\n"
    plain = put(folder, "b.json", [record("a")])
    assert run(capsys, monkeypatch, plain) == (0, f"{plain} names no known evaluation set\n", "")


def test_the_command_compares_the_pictures_of_a_mixture_with_a_folder(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = tmp_path / "evaluation"
    for at, name, color in ((folder, "p.png", 1), (folder, "q.png", 2), (evaluation, "x.png", 2)):
        at.mkdir(exist_ok=True)
        Image.new("L", (9, 9), color).save(at / name)
    (folder / "annotations").mkdir()
    file = put(folder / "annotations", "nlvr2.jsonl", [record("a", ["p.png", "q.png"], "<image><image> x")])
    code, out, err = run(capsys, monkeypatch, file, evaluation, "--image-folder", folder)
    assert (code, err.count("warning")) == (1, 1)
    assert f"{file}: 2 different pictures\n" in out
    assert f"  {folder / 'q.png'} = x.png\n" in out
    code, _, err = run(capsys, monkeypatch, file, evaluation)
    assert code == 2
    assert "0 of 2 pictures" in err


def test_what_is_no_mixture_needs_a_second_folder(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(capsys, monkeypatch, folder)[0] == 2
    code, _, err = run(capsys, monkeypatch, folder, folder, "--image-folder", folder)
    assert code == 2
    assert "--image-folder is for a mixture" in err
