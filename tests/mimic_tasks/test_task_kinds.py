"""A kind of task is one record: a fifth one, from another package, needs no edit of ours."""

import json
import shutil
from importlib import import_module
from pathlib import Path

import pytest

from leaderboard.measures import Graded, measure_of
from leaderboard.summary import score_samples
from mimic_eval.cli.build import parse_kind
from mimic_eval.records import ORDER_SUITE, TASK_KINDS, TASKS, Sample, UserError, measure_name, task_kinds
from mimic_eval.records.tasks import task_targets
from mimic_tasks import lmms_hooks
from mimic_tasks.build import build
from mimic_tasks.folder import read_task_yaml
from mimic_tasks.folder_check import check_tasks_folder
from mimic_tasks.locate import EMBEDDED
from mimic_tasks.permuted.tasks import write_tasks
from mimic_tasks.planning import Controls
from mimic_tasks.scoring import corpus_score
from mimic_tasks.show import summarize_folder
from mimic_tasks.stored_docs import read_docs, task_files, task_kind
from mimic_tasks.sweeps import parse_sweep
from mimic_tasks.task_spec import TaskSpec, spec_of
from mimic_tasks.verify import WrongDoc, verify_controls, verify_doc
from tests.makers.builds import docs_of, options
from tests.makers.coco import MadeCoco

FIFTH = Path(__file__).parents[1] / "fifth_kind" / "howmany.py"
POINTS = "[mimic_eval.tasks]\nhowmany = howmany:SPEC\n"


@pytest.fixture
def fifth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed package with one module and its entry point."""
    site = tmp_path / "site"
    information = site / "howmany-0.1.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: howmany\nVersion: 0.1\n")
    (information / "entry_points.txt").write_text(POINTS)
    shutil.copy(FIFTH, site)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(TASKS, "_targets", dict(TASKS._targets))
    monkeypatch.setattr(TASKS, "_read_group", False)
    return "howmany"


def test_a_fifth_kind_is_built_verified_shown_and_scored(
    fifth: str, made_coco: MadeCoco, tmp_path: Path
) -> None:
    out = tmp_path / "tasks"
    result = build(options(made_coco, out, docs=2, tasks=("listing", fifth)), progress=False)
    assert [line.split(":")[0] for line in result.summary] == ["mimic_listing", "mimic_howmany"]
    assert list(task_files(out)) == ["listing", "howmany"]
    assert task_kind("howmany_spread") == parse_kind("mimic_howmany") == "howmany"
    docs = docs_of(out, fifth)
    assert len(docs) == 2
    for doc in docs:
        verify_doc(fifth, doc)
        verify_controls(fifth, doc, Controls())
    with pytest.raises(WrongDoc, match="gt is the number of images with a target"):
        verify_doc(fifth, {**docs[0], "gt": "9"})
    check_tasks_folder(out)

    shown = summarize_folder(out, kinds=[fifth])
    assert [len(task.docs) for task in shown.tasks] == [2]

    yaml = read_task_yaml(out / "mimic_howmany.yaml")
    assert [entry["metric"] for entry in yaml["metric_list"]] == ["mean_score", "unscored"]
    assert yaml["generation_kwargs"]["max_new_tokens"] == 8
    module, _, name = yaml["process_results"].rpartition(".")
    process = getattr(import_module(module), name)
    off_by_one = [str(int(str(doc["gt"])) + 1) for doc in docs]
    logged = [process(doc, [answer]) for doc, answer in zip(docs, off_by_one, strict=True)]
    expected = [1 - 1 / int(str(doc["n_images"])) for doc in docs]
    assert [entry["mean_score"]["score"] for entry in logged] == expected
    assert lmms_hooks.aggregate_exact_match([e["mean_score"] for e in logged]) == sum(expected) / 2
    sample = Sample.from_json({"doc_id": 0, **json.loads(json.dumps(logged[0]))}, "sample 0")
    assert (sample.kind, sample.items["mean_score"].score) == (fifth, expected[0])
    assert "mean_score_official" not in sample.items
    row = score_samples([sample], "mean_score")  # "Wilson 95 %" if taken for right or wrong
    assert (row.score, row.interval) == (expected[0], "no interval below 8 docs")

    total = corpus_score(fifth, zip(off_by_one, docs, strict=True))
    assert (total.score, total.score_official) == (sum(expected) / 2, None)
    assert isinstance(measure_of(fifth, permuted=False), Graded)


def test_a_fifth_kind_has_a_permuted_task(fifth: str, made_coco: MadeCoco, tmp_path: Path) -> None:
    build(options(made_coco, tmp_path / "tasks", docs=2, tasks=(fifth,)), progress=False)
    (tmp_path / "out").mkdir()
    assert write_tasks(tmp_path / "out", tmp_path / "tasks") == ("mimic_howmany_permuted",)
    yaml = read_task_yaml(tmp_path / "out" / "mimic_howmany_permuted.yaml")
    module, _, name = yaml["process_results"].rpartition(".")
    assert module == "mimic_tasks.permuted.hooks"
    assert callable(getattr(import_module(module), name))
    assert yaml["metric_list"][0]["metric"] == "mean_score_over_orders"


def test_a_kind_without_sweeps_is_refused_by_a_sweep(fifth: str) -> None:
    with pytest.raises(UserError, match="How-Many has no sweeps"):
        parse_sweep({"name": "x", "task": fifth, "vary": {"n_images": [2, 3]}})


def test_a_module_in_the_folder_of_specs_is_a_kind(tmp_path: Path) -> None:
    for name in ("howmany", "listing", "_helper"):
        (tmp_path / f"{name}.py").touch()
    targets = task_targets([str(tmp_path)])
    assert list(targets) == [*TASK_KINDS, "howmany"]
    assert targets["howmany"] == "mimic_tasks.specs.howmany:SPEC"


def test_the_four_kinds_are_those_of_the_paper_and_come_first(fifth: str) -> None:
    assert task_kinds() == (*TASK_KINDS, "howmany", *ORDER_SUITE)
    assert [spec_of(kind).name for kind in TASK_KINDS] == list(TASK_KINDS)
    assert [spec_of(kind).title for kind in TASK_KINDS] == ["Counting", "Listing", "Common", "Odd-One"]
    assert [measure_name(kind) for kind in TASK_KINDS] == ["binary", "corpus_f1", "binary", "binary"]


@pytest.mark.parametrize("target", ["howmany:score", "mimic_tasks.specs.common:SPEC"])
def test_an_entry_point_must_name_a_record_of_its_name(
    fifth: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TASKS, "_targets", {**TASKS._targets, fifth: target})
    monkeypatch.setattr(TASKS, "_read_group", True)
    with pytest.raises(UserError, match="task 'howmany' must be a TaskSpec with name='howmany', got "):
        spec_of(fifth)


def test_an_unknown_kind_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"Unknown task 'countin'. Did you mean 'counting'\?"):
        spec_of("countin")


def test_a_kind_is_no_import_path() -> None:
    """Result files of strangers name kinds: none of them may import a module."""
    with pytest.raises(UserError, match="Unknown task"):
        spec_of("json:loads")
    assert measure_name("json:loads") == "binary"


def test_a_hook_of_an_unknown_kind_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="process_nothing"):
        lmms_hooks.process_nothing  # noqa: B018


def test_a_name_that_a_path_cannot_hold_is_refused() -> None:
    with pytest.raises(UserError, match="lower-case letters and digits"):
        TaskSpec(**{**vars(spec_of("common")), "name": "odd_one"})


@pytest.mark.parametrize("kind", TASK_KINDS)
def test_what_a_doc_is_about(kind: str) -> None:
    """Phrases and boxes of a question, from its columns (METHODS 7)."""
    doc = next(iter(read_docs(task_files(EMBEDDED)[kind], ("targets", "category", "boxes"))))
    spec, boxes = spec_of(kind), doc["boxes"][0]
    expected = {"counting": tuple(doc["targets"]), "listing": (doc["category"],)}
    assert spec.named(doc["targets"], doc["category"]) == expected.get(kind, ())
    of_targets = tuple(box for box in boxes if box["target"])
    relevant = of_targets if kind in expected else tuple(boxes)
    assert spec.relevant_boxes(boxes, doc["targets"]) == relevant
