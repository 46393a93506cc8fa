"""Public benchmarks read from small files in their forms: prompts, images, records, and what is missing."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mimic_eval.cli.lmms.arguments import check_tasks
from mimic_eval.records import BENCHMARK_MEASURES, Sample, Unscorable, UserError, benchmark_of
from mimic_tasks.benchmarks import BENCHMARKS, hooks
from mimic_tasks.benchmarks.files import NoSuchImage, read_image
from mimic_tasks.benchmarks.reading import read_docs
from mimic_tasks.benchmarks.tasks import PLACEHOLDER, benchmark_config
from mimic_tasks.folder import dump_yaml
from mimic_tasks.locate import OFFICIAL
from tests.makers import benchmarks as made


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.write_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(autouse=True)
def _local(sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIMIC_DATASETS", str(sets))


def docs_of(name: str) -> list[dict[str, Any]]:
    return list(read_docs(BENCHMARKS[name]))


def shape(messages: list[dict[str, Any]]) -> list[str]:
    (message,) = messages
    return [part.get("text", "IMAGE") for part in message["content"]]


def test_the_table_of_records_names_every_set() -> None:
    assert {name: one.measure for name, one in BENCHMARKS.items()} == BENCHMARK_MEASURES
    for name, one in BENCHMARKS.items():
        assert [benchmark_of(task) for task in one.tasks] == [name, name]
    assert benchmark_of("mimic_counting") is None
    assert benchmark_of("muirbench") is None  # upstream's


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize("interleaved", [False, True])
def test_the_packaged_tasks_are_what_the_code_says(name: str, interleaved: bool) -> None:
    config = benchmark_config(BENCHMARKS[name], interleaved=interleaved)
    assert (OFFICIAL / f"{config['task']}.yaml").read_text() == dump_yaml(config)
    assert json.loads((OFFICIAL / PLACEHOLDER).read_text())


PROMPTS = {
    "muirbench": ("muirbench", "muir_doc_to_text"),
    "mirb": ("mirb", "mirb_doc_to_text"),
    "blink": ("blink", "blink_doc_to_text"),
    "mantis": ("mantis", "mantis_doc_to_text"),
    "mmt_mi": ("mmt", "mmt_doc_to_text"),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_are_those_of_upstream(name: str) -> None:
    from importlib import import_module

    import yaml

    folder, function = PROMPTS[name]
    utils = import_module(f"lmms_eval.tasks.{folder}.utils")
    task = {"mmt_mi": "_default_template_yaml", "blink": "_default_template_yaml"}.get(name, f"{folder}.yaml")
    text = (Path(str(utils.__file__)).parent / task).read_text().replace("!function ", "")
    config = yaml.safe_load(text)
    settings = config["lmms_eval_specific_kwargs"]["default"]
    for doc in docs_of(name):
        assert hooks.text_of(BENCHMARKS[name], doc) == getattr(utils, function)(doc, settings)
    assert config["generation_kwargs"]["max_new_tokens"] == BENCHMARKS[name].new_tokens


def test_libench_asks_as_upstream_in_each_part() -> None:
    docs = docs_of("libench")
    assert [doc["config"] for doc in docs] == ["in_domain"] * 3 + ["out_of_domain", "multi_view_in_domain"]
    prompts = [hooks.text_of(BENCHMARKS["libench"], doc) for doc in docs]
    assert prompts[:4] == [row["question"] for part in list(made.LIBENCH.values())[:2] for row in part]
    assert prompts[4] == made.LIBENCH["multi_view_in_domain"][0]["conversations"]


@pytest.mark.parametrize(("name", "number", "want"), [
    ("muirbench", 0, ["Which of the following images shows a dog?\nA. ", "IMAGE", "\nB. ", "IMAGE",
     "\nC. None of the choices\nAnswer with the option's letter from the given choices directly."]),
    ("muirbench", 2, ["Is ", "IMAGE", " like ", "IMAGE", ", ?\nA. yes\nB. no\n"
     "Answer with the option's letter from the given choices directly."]),
    ("muirbench", 3, ["IMAGE", "IMAGE", "How many apples? ", "IMAGE", "\nA. 1\nB. 2\nC. 3\nD. 4\n"
     "Answer with the option's letter from the given choices directly."]),
    ("mirb", 1, ["Answer with a single number.How many dogs? ", "IMAGE", " ", "IMAGE"]),
    ("mmt_mi", 0, ["IMAGE", "IMAGE", "Question: ", "IMAGE", "\nWhich image is the same?\nA: the first\n"
     "B: the second\nAnswer the question using a single character from the given options."]),
    ("mibench", 0, ["Left image is ", "IMAGE", ". Right image is ", "IMAGE", ". Is a lemon cut?"
     "Please only strictly answer from the choice list: Yes | No"]),
])  # fmt: skip
def test_images_stand_at_their_marks(name: str, number: int, want: list[str]) -> None:
    doc, benchmark = docs_of(name)[number], BENCHMARKS[name]
    assert shape(hooks.interleaved_messages_of(benchmark, doc)) == want
    upstream = shape(hooks.messages_of(benchmark, doc))
    assert upstream == ["IMAGE"] * doc["n_images"] + [hooks.text_of(benchmark, doc)]


def test_marks_and_images_that_do_not_match_are_in_the_record() -> None:
    docs = docs_of("muirbench")
    counts = [hooks.process_muirbench_interleaved(doc, ["A"])["mimic"]["image_marks"] for doc in docs]
    assert [(one["marks"], one["images"], one["extra_marks"], one["images_first"]) for one in counts] == [
        (2, 2, 0, 0), (2, 2, 0, 0), (3, 2, 1, 0), (1, 3, 0, 2),
    ]  # fmt: skip
    assert hooks.process_muirbench(docs[2], ["A"])["mimic"]["image_marks"] == {
        "form": "upstream", "marks": 3, "images": 2,
    }  # fmt: skip


def test_the_pictures_are_those_of_the_set_in_order() -> None:
    for name, seeds in (("muirbench", (1, 2)), ("mantis", (1, 2)), ("mmt_mi", (0, 1, 2)), ("mmiu", (0, 1)),
                        ("mibench", (0, 1)), ("libench", (1, 2)), ("blink", (0, 1))):  # fmt: skip
        from mimic_tasks.images import decode_strict

        pictures = hooks.visual_of(BENCHMARKS[name], docs_of(name)[0])
        assert [one.tobytes() for one in pictures] == [decode_strict(made.png(s)).tobytes() for s in seeds], (
            name
        )


def test_a_sample_holds_both_scores_and_the_sub_task() -> None:
    doc = docs_of("mirb")[0]
    entries = hooks.process_mirb(doc, ["The answer is (B)."])
    assert entries["exact_match"] == {"score": 1.0}
    assert entries["exact_match_official"] == {"score": 0.0}  # only "B" or "B. ..." is a letter there
    sample = Sample.from_json({**entries, "doc_id": 0}, "a file")
    assert (sample.kind, sample.sub_task, sample.gt, sample.parsed) == ("mirb", "codeu", "B", "B")
    assert (sample.n_images, sample.content_hash) == (2, doc["content_hash"])
    assert hooks.process_mirb(doc, ["?"])["unparsed"] == 1


def test_a_doc_without_a_truth_is_unscored() -> None:
    entries = hooks.process_mmiu(docs_of("mmiu")[3], ["A"])
    assert entries["unscored"] == 1
    assert entries["mimic"]["reason"] == "the set gives no answer to it"
    items = [hooks.process_mmiu(doc, ["A"])["official_overall"] for doc in docs_of("mmiu")]
    assert hooks.aggregate_overall(items) == (0.5 + 0) / 2  # spot_the_diff 1 of 2, jigsaw 0 of 1; mevis none


def test_every_doc_of_a_set_has_another_hash() -> None:
    for name in BENCHMARKS:
        hashes = [doc["content_hash"] for doc in docs_of(name)]
        assert len(set(hashes)) == len(hashes), name


def test_mmiu_reads_extracted_folders_and_archives_of_both_forms(sets: Path, tmp_path: Path) -> None:
    """Entries below a folder of the archive's name, entries without it, and files on the disk."""
    import zipfile

    name = docs_of("mmiu")[0]["files"][0]
    want = made.png(0)
    assert read_image(sets / "MMIU-Benchmark", name) == want
    with zipfile.ZipFile(tmp_path / "High-level-obj-semantic.zip", "w") as archive:
        archive.writestr(name, want)
    assert read_image(tmp_path, name) == want
    (tmp_path / "else" / name).parent.mkdir(parents=True)
    (tmp_path / "else" / name).write_bytes(want)
    assert read_image(tmp_path / "else", name) == want
    for wrong, text in (("x/y.png", "neither in"), ("../y.png", "outside of"), ("/etc/passwd", "outside of")):
        with pytest.raises(NoSuchImage, match=text):
            read_image(tmp_path, wrong)


def test_a_missing_picture_makes_its_doc_unscored(sets: Path, tmp_path: Path, monkeypatch: Any) -> None:
    copied = shutil.copytree(sets, tmp_path / "sets")
    (copied / "MIBench" / "image.zip").unlink()
    (copied / "MIBench" / "image").mkdir()
    monkeypatch.setenv("MIMIC_DATASETS", str(copied))
    with pytest.raises(Unscorable, match=r"general_comparison/a\.png is neither in"):
        hooks.visual_of(BENCHMARKS["mibench"], docs_of("mibench")[0])
    doc = {**docs_of("muirbench")[0]}
    doc["image_list"] = [doc["image_list"][0], {"bytes": b"no picture", "path": None}]
    with pytest.raises(Unscorable, match="image 2 of 2 "):
        hooks.visual_of(BENCHMARKS["muirbench"], doc)


@pytest.mark.parametrize(("change", "message"), [
    ("", "no such folder"),
    ("empty", r"MuirBench \(MUIRBENCH/MUIRBENCH\) is not in MIMIC_DATASETS=.*: hf download "
              "MUIRBENCH/MUIRBENCH --repo-type dataset --local-dir .*/MUIRBENCH, or unset MIMIC_DATASETS to "
              "read the Hub"),
    ("folder", r"no parquet file of split 'test' missing\): hf download"),
])  # fmt: skip
def test_a_missing_set_is_one_line_before_anything_is_loaded(
    change: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "sets"
    if change:
        root.mkdir()
    if change == "folder":
        (root / "MUIRBENCH").mkdir()
    monkeypatch.setenv("MIMIC_DATASETS", str(root))
    with pytest.raises(UserError, match=message):
        check_tasks("mimic_muirbench_interleaved", None)


def test_without_a_local_copy_and_without_the_hub_it_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("MIMIC_DATASETS")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"MMIU \(FanqingM/MMIU-Benchmark\) is neither in MIMIC_DATASETS nor"):
        check_tasks("mimic_mmiu", None)
    check_tasks("mimic_counting", None)


def test_a_set_in_another_form_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{name: value for name, value in row.items() if name != "answer"} for row in made.MUIRBENCH]
    made.write_table(tmp_path / "muirbench" / "test-0.parquet", rows)
    monkeypatch.setenv("MIMIC_DATASETS", str(tmp_path))
    with pytest.raises(
        UserError, match=r"not in the form that MuirBench had \(KeyError: 'answer' in doc 0\)"
    ):
        docs_of("muirbench")


def test_the_card_of_a_copy_says_which_files_are_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mantis-Eval's repository holds other sets beside it; without a card every file of the split counts."""
    folder = tmp_path / "Mantis-Eval"
    for part in ("mantis_eval", "q-bench2"):
        made.write_table(folder / part / "test-00000-of-00001.parquet", made.MANTIS)
    monkeypatch.setenv("MIMIC_DATASETS", str(tmp_path))
    assert len(docs_of("mantis")) == 4
    part = "configs:\n- config_name: {0}\n  data_files:\n  - split: test\n    path: {0}/test-*\n"
    (folder / "README.md").write_text(
        f"---\nlicense: mit\n{part.format('mantis_eval')}---\n# Made for a test\n"
    )
    assert len(docs_of("mantis")) == 2


def test_parts_whose_names_contain_each_other_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part, rows in made.LIBENCH.items():
        made.write_table(tmp_path / "libench" / f"{part}-test-00000-of-00001.parquet", rows)
    monkeypatch.setenv("MIMIC_DATASETS", str(tmp_path))
    assert [doc["config"] for doc in docs_of("libench")] == [
        part for part, rows in made.LIBENCH.items() for _ in rows
    ]


def test_a_mistake_that_upstream_retries_is_one_line() -> None:
    """Upstream tries five times to load a set; what it raises then names no cause."""
    from tenacity import RetryError, retry, stop_after_attempt

    from mimic_eval.cli.lmms.outcome import given_up

    @retry(stop=stop_after_attempt(2))
    def load() -> None:
        raise UserError("the set is broken")

    with pytest.raises(RetryError) as raised:
        load()
    assert str(given_up(raised.value)) == "the set is broken"
    plain = ValueError("else")
    assert given_up(plain) is plain
