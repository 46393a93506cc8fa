"""`mimic diagnose` on checkpoints on disk: its sums are transformers' attention; a stopped run goes on."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from mimic_eval.cli.commands import app
from mimic_eval.cli.diagnosing import run as module
from mimic_eval.cli.diagnosing.requests import loaded_tasks, requests_for
from mimic_eval.cli.diagnosing.run import Job, diagnose
from mimic_eval.records import UserError
from mimic_tasks.locate import EMBEDDED
from model_adapters.diagnostics import store
from model_adapters.diagnostics.measures import DocRecord
from model_adapters.diagnostics.observing import Watched, Watcher
from model_adapters.models import model_class

pytestmark = pytest.mark.slow
Command = Callable[..., CompletedProcess[str]]
DOCS = 3


@pytest.fixture(autouse=True, scope="module")
def cache(calibrations: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC_CACHE", str(calibrations))
        patch.delenv("MIMIC_DATA", raising=False)
        yield


def job(planted: Path, out: Path, **changes: Any) -> Job:
    """A run on the planted checkpoint; its width holds the ratio score to 11."""
    base = Job("llava_ov_mask", f"pretrained={planted},mask=none", "mimic_counting", DOCS, out, "tau=5")
    return replace(base, **changes)


def under(planted: Path, mask: str) -> dict[str, Any]:
    return {"model_args": f"pretrained={planted},{mask}", "sinks": None}


@pytest.fixture(scope="module")
def plain(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run without a mask."""
    out = tmp_path_factory.mktemp("diagnosed") / "none"
    diagnose(job(planted, out))
    return out


@pytest.fixture(scope="module")
def remasked(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same docs under `ar`, with a map."""
    out = tmp_path_factory.mktemp("diagnosed") / "ar"
    args = under(planted, "mask=ar,relevance=oracle,tau=5")
    diagnose(job(planted, out, **args, maps=("0",), map_rows="image:1"))
    return out


def test_the_sums_are_those_of_transformers_own_attention(planted: Path) -> None:
    """Of a whole model: prompt and generated tokens, by layer, head, group of rows and group of keys."""
    from transformers import AutoModelForImageTextToText

    model = model_class("llava_ov_mask")(pretrained=str(planted), mask="none", journal=False)
    watcher = Watcher(model, None)
    with loaded_tasks("llava_ov_mask", "mimic_counting", None) as tasks:
        shown = watcher.show(requests_for(model, tasks, docs=1)[0])
        seen = watcher.watch(shown)
    record = watcher.record(shown, seen)
    usual = AutoModelForImageTextToText.from_pretrained(
        planted, attn_implementation="eager", dtype=torch.float32
    )
    batch = model.family.prepare([shown.single.images], [shown.single.prompt])
    with torch.inference_mode():
        out = usual.generate(
            **batch.inputs, max_new_tokens=16, do_sample=False, output_attentions=True,
            return_dict_in_generate=True, pad_token_id=model.family.pad_token_id,
        )  # fmt: skip
    layout = batch.layouts[0]
    steps = len(out.attentions)
    assert record.rows[-1] == steps - 1 > 0
    names: list[Any] = ["prefix"] * layout.images[0].start
    names += ["between"] * (layout.images[-1].end - len(names))
    names += ["question"] * (layout.length - 1 - len(names))
    names += ["last"]
    for m, image in enumerate(layout.images):
        for token in range(image.start, image.end):
            names[token] = m
    names += ["answer"] * (steps - 1)
    order = ["prefix", "between", "question", "last", *range(len(layout.images)), "answer"]
    place = np.array([order.index(name) for name in names])
    for layer in range(len(out.attentions[0])):
        full = np.zeros((record.mass.shape[1], len(names), len(names)))
        for step, layers in enumerate(out.attentions):
            weights = layers[layer][0].numpy()
            first = 0 if step == 0 else layout.length + step - 1
            full[:, first : first + weights.shape[1], : weights.shape[2]] = weights
        mass = record.mass[layer]
        cells = mass[:, :, 4:-1].reshape(*mass.shape[:2], -1, 4).sum(axis=3)
        found = np.concatenate([mass[:, :, :4], cells, mass[:, :, -1:]], axis=2)
        wanted = np.zeros_like(found)
        for q in range(len(order)):
            for g in range(len(order)):
                wanted[:, q, g] = full[:, place == q][:, :, place == g].sum(axis=(1, 2))
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mask", ["mask=none", "mask=block,layers=all", "mask=ar,relevance=oracle,tau=5"])
def test_watching_changes_no_answer(planted: Path, mask: str) -> None:
    given = dict(part.split("=") for part in mask.split(","))
    model = model_class("llava_ov_mask")(pretrained=str(planted), **given, journal=False)
    watcher = Watcher(model, None)
    with loaded_tasks("llava_ov_mask", "mimic_counting", None) as tasks:
        requests = requests_for(model, tasks, docs=DOCS)
        seen = [
            watcher.watch(watcher.show(request), tokens=i == 0).answer for i, request in enumerate(requests)
        ]
        usual = [result.text for result in model.generate_until(requests)]
    assert seen == usual


def test_a_run_writes_tables_summary_and_figures(plain: Path) -> None:
    names = {path.name for path in plain.iterdir()}
    figures = {
        "inter_intra",
        "recurrence",
        "sink_share",
        "entropy",
        "answer_by_place",
        "answer_by_role",
        "in_boxes",
    }
    assert names >= {f"{figure}.{kind}" for figure in figures for kind in ("svg", "csv")}
    assert names >= {"run.json", "diagnose.json", *(f"{table}.parquet" for table in store.TABLES)}
    assert "docs" not in names
    content = json.loads((plain / "diagnose.json").read_text())
    assert content["results"]["docs"] == DOCS
    assert content["run"]["run"]["mask"] == "none"
    assert content["run"]["sinks"]["tau"] == 5
    assert {figure["name"] for figure in content["figures"]} == figures
    rows = pq.read_table(plain / "diagnose.parquet")
    assert set(rows["doc"].to_pylist()) == set(range(DOCS))
    mass: dict[Any, float] = {}
    count: dict[Any, int] = {}
    for row in rows.select(["doc", "layer", "head", "query", "query_image", "rows", "mass"]).to_pylist():
        key = tuple(row.values())[:5]
        mass[key] = mass.get(key, 0) + row["mass"]
        count[key] = row["rows"]
    assert all(mass[key] == pytest.approx(count[key], rel=1e-4) for key in mass)


def test_a_stopped_run_goes_on_with_the_docs_that_are_missing(
    planted: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, watch, watched = tmp_path / "out", Watcher.watch, []

    def stopped(self: Watcher, shown: Any, **options: Any) -> Watched:
        if len(watched) == 2:
            raise KeyboardInterrupt
        watched.append(shown.prompted.name)
        return watch(self, shown, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Watcher, "watch", stopped)
        with pytest.raises(KeyboardInterrupt):
            diagnose(job(planted, out))
        assert len(list(store.finished_docs(out))) == 2
        assert not (out / "diagnose.json").exists()
        watched[:] = [""]
        diagnose(job(planted, out))
    assert watched == ["", "mimic_counting doc 2"]
    for name in ("measures.parquet", "diagnose.parquet", "entropy.csv"):
        assert (out / name).read_bytes() == (plain / name).read_bytes()


def test_a_finished_run_is_not_run_again_and_another_one_is_refused(
    planted: Path, plain: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(Watcher, "watch")
    diagnose(job(planted, plain))
    assert "is finished already" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"holds another run \(docs 3, not 2\): choose another folder"):
        diagnose(job(planted, plain, docs=2))
    with pytest.raises(UserError, match=r"holds another run \(run.mask none, not block\)"):
        diagnose(job(planted, plain, model_args=f"pretrained={planted},mask=block,layers=all"))


def test_a_folder_where_nothing_was_run_is_free_and_any_other_one_is_not(
    planted: Path, plain: Path, tmp_path: Path
) -> None:
    """A task without docs of several images left `run.json`, and the corrected command was refused."""
    shutil.copy(plain / "run.json", tmp_path / "run.json")
    diagnose(job(planted, tmp_path, docs=1))
    assert json.loads((tmp_path / "run.json").read_text())["docs"] == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(UserError, match="is not empty and holds no diagnosed run"):
        diagnose(job(planted, tmp_path / "mine"))
    (tmp_path / "mine" / "run.json").write_text("{}")
    with pytest.raises(UserError, match=r"its run\.json is not a diagnosed run's"):
        diagnose(job(planted, tmp_path / "mine"))


def test_tasks_are_refused_before_the_model_is_loaded(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_adapters.models.model_class", None)
    for task, line in (("nosuchtask", "unknown task 'nosuchtask'"), ("muirbench", "muirbench: ")):
        with pytest.raises(UserError, match=line):
            diagnose(job(planted, tmp_path / "out", tasks=task))
    assert not (tmp_path / "out").exists()


def test_a_mask_with_negative_weights_can_be_diagnosed(planted: Path, tmp_path: Path) -> None:
    diagnose(job(planted, tmp_path / "out", **under(planted, "mask=dab,layers=all,alpha=50"), docs=2))
    rows = pq.read_table(tmp_path / "out" / "diagnose.parquet").to_pylist()
    assert min(row["mass"] for row in rows) < -0.1


def test_two_processes_do_not_write_one_folder(planted: Path, tmp_path: Path) -> None:
    import fcntl
    import os

    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(UserError, match="is being written by another process"):
        diagnose(job(planted, tmp_path))
    os.close(descriptor)


def test_ar_empties_sinks_and_opens_links_to_later_images(plain: Path, remasked: Path) -> None:
    """Rows of the first image give nothing to sinks after the edit; before it, nothing to later images."""

    def to(folder: Path, chosen: Callable[[dict[str, Any]], bool]) -> float:
        rows = pq.read_table(folder / "diagnose.parquet").to_pylist()
        return sum(
            row["mass"] for row in rows if row["query_image"] == 1 and row["layer"] > 0 and chosen(row)
        )

    assert to(plain, lambda row: bool(row["key_sink"])) > 0
    assert to(remasked, lambda row: bool(row["key_sink"])) == 0
    assert to(plain, lambda row: (row["key_image"] or 0) > 1) == 0
    assert to(remasked, lambda row: (row["key_image"] or 0) > 1 and row["key_in_box"]) > 0
    assert to(remasked, lambda row: (row["key_image"] or 0) > 1 and not row["key_in_box"]) == 0


def test_a_map_shows_the_doc_before_and_after_the_mask(remasked: Path) -> None:
    path = remasked / "maps" / "mimic_counting-0-image_1.png"
    with Image.open(path) as picture:
        picture.load()
        assert picture.height > 2 * 240


def test_compare_and_heads_read_what_a_run_wrote(plain: Path, remasked: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["diagnose", "compare", str(plain), str(remasked), "--out", str(tmp_path / "pair")]
    )
    assert done.exit_code == 0, done.output
    assert "A: none (none). B: ar (ar)." in done.output
    content = json.loads((tmp_path / "pair" / "compare.json").read_text())
    assert {test["n"] for test in content["tests"]} <= {*range(1, DOCS + 1)}
    done = CliRunner().invoke(
        app, ["diagnose", "heads", str(plain), "--best", "2", "--out", str(tmp_path / "heads")]
    )
    assert done.exit_code == 0, done.output
    assert done.output.count("lmms_eval --tasks mimic_counting") == 5  # the best, three random, all
    assert f"heads=@{tmp_path}/heads/heads_random_2.json" in done.output


@pytest.fixture
def other_tasks(tmp_path: Path) -> Path:
    """A folder with a benchmark of another kind: no boxes, its first doc with one image."""
    table = pq.read_table(EMBEDDED / "counting" / "test.parquet").slice(0, 3)
    images = table["images"].to_pylist()
    images[0] = images[0][:1]
    columns = {
        "images": pa.array(images, type=table.schema.field("images").type),
        "question": table["question"],
        "gt": table["gt"],
    }
    pq.write_table(pa.table(columns), tmp_path / "docs.parquet")
    hook = "!function mimic_tasks.lmms_hooks"
    (tmp_path / "photos.yaml").write_text(
        f"""task: photos
dataset_path: parquet
dataset_kwargs: {{data_files: {{test: docs.parquet}}}}
test_split: test
output_type: generate_until
process_docs: {hook}.keep_bytes
doc_to_visual: {hook}.doc_to_visual
doc_to_text: {hook}.doc_to_text
doc_to_messages: {hook}.doc_to_messages
doc_to_target: gt
generation_kwargs: {{max_new_tokens: 2, until: []}}
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""
    )
    return tmp_path


def test_docs_with_one_image_are_left_out_and_a_task_without_boxes_has_no_roles(
    planted: Path, other_tasks: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    diagnose(job(planted, out, tasks="photos", include_path=other_tasks))
    content = json.loads((out / "diagnose.json").read_text())
    assert content["results"]["docs"] == 2
    assert content["results"]["left_out"] == {"one_image": 1, "unscorable": 0}
    assert any("no boxes of a MIMIC task" in note for note in content["notes"])
    assert not (out / "in_boxes.svg").exists()
    with pytest.raises(UserError, match=r"none of 1 docs has several images .* \(1 have one, 0 cannot"):
        diagnose(job(planted, tmp_path / "one", tasks="photos", include_path=other_tasks, docs=1))
    done = CliRunner().invoke(app, ["diagnose", "heads", str(out), "--best", "1"])
    assert isinstance(done.exception, UserError)
    assert "none of its docs has truth boxes" in str(done.exception)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "model": ({"model": "llava_ov_msk"}, "Did you mean 'llava_ov_mask'"),
    "task": ({"tasks": "mimic_countin"}, "has no task 'mimic_countin'"),
    "docs": ({"docs": 0}, "--docs"),
    "permuted": ({"tasks": "mimic_counting_permuted"}, "shows each doc in several orders"),
    "argument": ({"model_args": "mask=none,tau=5"}, "tau=5 is not used by mask=none"),
    "journal": ({"model_args": "mask=none,journal=off"}, "journal is not used by mimic diagnose"),
    "batch": ({"model_args": "mask=none,batch_size=4"}, "batch_size is not used by mimic diagnose"),
    "sinks": ({"sinks": "taw=5"}, "Did you mean 'tau'"),
    "sinks twice": (
        {"model_args": "mask=mask_only", "sinks": "tau=5"},
        "--sinks is not used by mask=mask_only",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_refused_before_a_model_is_loaded(name: str, tmp_path: Path) -> None:
    changes, line = WRONG[name]
    base = Job("llava_ov_mask", "mask=none", "mimic_counting", DOCS, tmp_path / "out")
    with pytest.raises(UserError, match=line):
        module.check(replace(base, **changes))


def test_a_mask_of_several_passes_is_refused(planted: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mask=orders answers each doc in several passes"):
        diagnose(job(planted, tmp_path / "out", **under(planted, "mask=orders")))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"maps": ("9",)}, "--maps 9: no such doc among the 3 that are run"),
        ({"maps": ("0",), "map_rows": "image:99"}, "--map_rows must be answer, question, last or image:1"),
        ({"maps": ("0",), "map_layers": "99"}, "layers"),
    ],
)
def test_maps_of_what_is_not_there_are_refused(
    planted: Path, plain: Path, changes: dict[str, Any], line: str
) -> None:
    with pytest.raises(UserError, match=line):
        diagnose(job(planted, plain, **changes))


def test_the_command_says_what_is_missing_in_one_line(command: Command) -> None:
    done = command("mimic", "diagnose", "--model", "llava_ov_mask")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "error: mimic diagnose needs --model and --tasks; `mimic diagnose --help` shows all options"
    ]


def test_a_model_without_a_calibration_runs_without_sinks(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path / "empty"))
    diagnose(job(planted, tmp_path / "out", sinks=None, docs=1))
    assert "Sinks are left out: this model has no calibration" in capsys.readouterr().err
    content = json.loads((tmp_path / "out" / "diagnose.json").read_text())
    assert "Sinks were not looked for: no recurrence and no sink share." in content["notes"]
    diagnose(job(planted, tmp_path / "other", docs=1))
    assert "no calibration found: making one from" in capsys.readouterr().err
    assert "looked for" not in (tmp_path / "other" / "diagnose.json").read_text()


def test_a_record_of_another_prompt_is_made_again(planted: Path, plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(plain / "run.json", out / "run.json")
    run = json.loads((out / "run.json").read_text())
    stale = DocRecord(
        task="mimic_counting", doc=0, content_hash="", key="stale", answer="", layers=(0,),
        mass=np.zeros((run["depth"], run["heads"], 7, 13)), rows=np.zeros(7, int), entropy=np.zeros((4, 7)),
        entropy_rows=np.zeros((4, 7), int), tokens_of=np.zeros(13, int), targets=None, boxes=False,
        sinks=None, recurrence=None,
    )  # fmt: skip
    store.write_doc(out, stale)
    diagnose(job(planted, out))
    assert (out / "measures.parquet").read_bytes() == (plain / "measures.parquet").read_bytes()
