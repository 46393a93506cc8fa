"""A damaged task folder is refused in one line before a model is loaded, by every command that reads it."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from shutil import copytree
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lmms_eval.api.task import TaskConfig

from mimic_eval.records import UserError
from mimic_tasks.build import build
from mimic_tasks.folder_check import check_keys, check_tasks_folder
from mimic_tasks.locate import EMBEDDED
from mimic_tasks.overlap import find_overlap
from mimic_tasks.show import summarize_folder
from mimic_tasks.task_spec import spec_of
from tests.makers.builds import options
from tests.makers.coco import MadeCoco

DOCS = "counting/test.parquet"


@pytest.fixture(scope="module")
def built(made_coco: MadeCoco, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "out"
    build(options(made_coco, out, docs=6), progress=False)
    return out


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(copytree(built, tmp_path / "copy"))


def rewrite(file: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(file)), file)


def with_column(
    name: str, value: Callable[[Any], Any], kind: pa.DataType | None = None
) -> Callable[..., Any]:
    """A table whose column holds other values, of the same type or of `kind`."""

    def change(table: pa.Table) -> pa.Table:
        old = table.column(name)
        new = pa.array([value(own) for own in old.to_pylist()], kind or old.type)
        return table.set_column(table.column_names.index(name), name, new)

    return change


def flip(file: Path, share: float, length: int = 64) -> None:
    data = bytearray(file.read_bytes())
    start = int(share * len(data))
    data[start : start + length] = bytes(255 - own for own in data[start : start + length])
    file.write_bytes(data)


def nulls(_: Any) -> None:
    return None


COLUMNS: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "truths that are missing": (with_column("gt", nulls), "doc 0 has gt = None"),
    "truths that are empty": (with_column("gt", lambda _: ""), "doc 0 has gt = ''"),
    "truths of blanks": (with_column("gt", lambda _: " "), "doc 0 has gt = ' '"),
    "negative truths": (
        with_column("gt", lambda _: "-3"),
        "doc 0 has gt = '-3': the truth of Counting is an int",
    ),
    "words for numbers": (
        with_column("gt", lambda _: "three"),
        "gt = 'three': the truth of Counting is an int",
    ),
    "fractions": (with_column("gt", lambda _: "2.0"), "the truth of Counting is an integer"),
    "two truths for one class": (
        with_column("gt", lambda _: "a: 1, b: 2"),
        "the truth of Counting is an int",
    ),
    "truths that are numbers": (
        with_column("gt", int, pa.int64()),
        "doc 0 has gt = .*, which must be a text",
    ),
    "a column of truths that is null": (with_column("gt", nulls, pa.null()), "doc 0 has gt = None"),
    "no truths": (lambda table: table.drop_columns(["gt"]), "has no column gt"),
    "no questions": (lambda table: table.drop_columns(["question"]), "has no column question"),
    "no pictures": (lambda table: table.drop_columns(["images"]), "has no column images"),
    "empty questions": (with_column("question", lambda _: ""), "doc 0 has question = ''"),
    "a question of 5 MB": (with_column("question", lambda q: q * 100_000), "question = '.*'\\.\\.\\., which"),
    "missing hashes": (with_column("content_hash", nulls), "doc 0 has content_hash = None"),
    "short hashes": (with_column("content_hash", lambda h: h[:5]), "must be 64 hexadecimal digits"),
    "no targets": (with_column("targets", nulls), "doc 0 has targets = None"),
    "empty targets": (with_column("targets", lambda _: []), "doc 0 has targets = a list of 0"),
    "numbers as targets": (
        with_column("targets", lambda _: [1], pa.list_(pa.int64())),
        "a list of class names",
    ),
    "missing image ids": (with_column("image_ids", nulls), "doc 0 has image_ids = None"),
    "missing pictures": (with_column("images", nulls), "doc 0 has no pictures"),
    "docs without pictures": (with_column("images", lambda _: []), "doc 0 has no pictures"),
    "texts as pictures": (
        with_column("images", lambda _: ["a"], pa.list_(pa.string())),
        "column images holds",
    ),
    "missing sizes": (with_column("n_images", nulls), "doc 0 has n_images = None"),
    "texts as sizes": (with_column("spread", str, pa.string()), "must be an integer from 0"),
    "negative sizes": (with_column("distractors", lambda _: -1), "doc 0 has distractors = -1"),
    "no docs": (lambda table: table.slice(0, 0), "holds no docs"),
}


def test_what_builds_write_is_let_through(built: Path) -> None:
    check_tasks_folder(built)
    check_tasks_folder(EMBEDDED)


@pytest.mark.parametrize("damage", COLUMNS)
def test_docs_that_no_build_writes_are_refused_before_the_run(damage: str, copy: Path) -> None:
    change, message = COLUMNS[damage]
    rewrite(copy / DOCS, change)
    with pytest.raises(UserError, match=message) as caught:
        check_tasks_folder(copy)
    assert DOCS in str(caught.value)
    assert len(str(caught.value)) < 600
    check_tasks_folder(copy, ["mimic_common", "gsm8k"])  # what is not asked for does not matter
    for asked in ("mimic", "mimic_counting", "mimic_count*", "mimic_counting_permuted", "mimic_permuted"):
        with pytest.raises(UserError, match=message):
            check_tasks_folder(copy, [asked])


def test_a_damaged_file_is_refused_wherever_the_damage_is(copy: Path) -> None:
    file = copy / DOCS
    good = file.read_bytes()
    refused = 0
    for share in (0, 0.2, 0.5, 0.9, 0.97, 0.999):
        flip(file, share)
        try:
            check_tasks_folder(copy)
        except UserError as error:
            assert DOCS in str(error)  # noqa: PT017
            refused += 1
        file.write_bytes(good)
    assert refused >= 4  # flipped bytes of a picture's own data may stand: the doc's hash sees them
    for kept in (0, 3, 100, len(good) // 2, len(good) - 1):
        file.write_bytes(good[:kept])
        with pytest.raises(UserError, match="is not a parquet file that can be read"):
            check_tasks_folder(copy)
    file.unlink()
    with pytest.raises(UserError, match=r"its docs .*test\.parquet are not there"):
        check_tasks_folder(copy)


YAMLS = {
    "a: [": "is not YAML",
    "- 1": "is no task file",
    "": "is no task file",
    "[" * 3000 + "]" * 3000: "is nested too deeply",
    "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
    + "".join(f"a{i}: &a{i} [{','.join(['*a' + (str(i - 1) if i else '')] * 10)}]\n" for i in range(9)): (
        "holds more than 100000 values"
    ),
    "\0": "is not YAML",
    "dataset_path: parquet\ntask: mimic_common": "must have `task: mimic_counting`",
    "dataset_path: parquet\ntask: mimic_counting": "dataset_kwargs must name the docs",
}


@pytest.mark.parametrize("text", YAMLS)
def test_a_damaged_task_file_is_refused_before_the_run(text: str, copy: Path) -> None:
    (copy / "mimic_counting.yaml").write_text(text)
    with pytest.raises(UserError, match=YAMLS[text]) as caught:
        check_tasks_folder(copy)
    assert "mimic_counting.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "process_counting",
            "process_listing",
            "must be mimic_tasks.lmms_hooks.process_counting, got .*listing",
        ),
        ("process_counting", "process_nothing", "must be mimic_tasks.lmms_hooks.process_counting, got"),
        ("lmms_hooks.keep_bytes", "lmms_hooks.no_bytes", "lmms_hooks.no_bytes, which is not there"),
        (
            "mimic_tasks.lmms_hooks.doc_to_text",
            "mimic_tasks.gone.text",
            "mimic_tasks.gone.text, which is not",
        ),
        ("mimic_tasks.lmms_hooks.doc_to_text", "os.doc_to_text", "os.doc_to_text, which is not there"),
        ("mimic_tasks.lmms_hooks.doc_to_text", "text", "names the function text, which is not there"),
        ("lmms_hooks.aggregate_unscored", "lmms_hooks.unscored", "lmms_hooks.unscored, which is not there"),
        (
            "aggregation: !function mimic",
            "aggregation: mimic",
            "each metric's aggregation must name a function",
        ),
        (
            "generation_kwargs:",
            "generation_kwargs: [1]\nx:",
            "generation_kwargs must be a mapping, got a list",
        ),
    ],
)
def test_a_task_file_with_another_function_is_refused_before_the_run(
    old: str, new: str, message: str, copy: Path
) -> None:
    """Counting was scored by Listing's function, or the run ended in an ImportError after loading."""
    file = copy / "mimic_counting.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(UserError, match=message):
        check_tasks_folder(copy, ["mimic"])


def test_a_function_of_the_users_own_is_taken(copy: Path) -> None:
    file = copy / "mimic_counting.yaml"
    file.write_text(file.read_text().replace("mimic_tasks.lmms_hooks.doc_to_text", "prompts.text"))
    (copy / "prompts.py").write_text("def text(doc): return doc['question']\n")
    check_tasks_folder(copy)


def test_a_key_that_upstream_does_not_have_is_refused_before_the_run(copy: Path) -> None:
    known = [field.name for field in fields(TaskConfig)]
    check_keys(copy, ["mimic"], known)
    file = copy / "mimic_counting.yaml"
    file.write_text(file.read_text().replace("generation_kwargs:", "generation_kwarg:"))
    with pytest.raises(UserError, match=r"key 'generation_kwarg'\. Did you mean 'generation_kwargs'"):
        check_keys(copy, ["mimic"], known)
    check_keys(copy, ["mimic_listing"], known)


def test_a_damaged_note_on_the_columns_is_refused(copy: Path) -> None:
    for note in (b"{", b"[]", json.dumps({"info": {"features": {"gt": 3}}}).encode()):
        rewrite(copy / DOCS, lambda table, own=note: table.replace_schema_metadata({"huggingface": own}))  # type: ignore[misc]
        with pytest.raises(UserError, match="the note on its columns is damaged"):
            check_tasks_folder(copy)


@pytest.mark.parametrize(
    ("kind", "gt", "targets", "good"),
    [
        ("counting", "0", ["dog"], True),
        ("counting", "12", None, True),
        ("counting", "dog: 2, cat: 1", ["dog", "cat"], True),
        (
            "counting",
            "Kitchen & dining room table: 2, a, b: 1",
            ["Kitchen & dining room table", "a, b"],
            True,
        ),
        ("counting", "dog: 2", ["dog", "cat"], False),
        ("counting", "dog: two, cat: 1", ["dog", "cat"], False),
        ("counting", "٣", ["dog"], False),
        ("listing", "cat, dog", ["dog", "cat"], True),
        ("listing", "dog, cat", ["dog", "cat"], False),
        ("listing", "cat, ", None, False),
        ("common", "cat", ["cat"], True),
        ("common", "cat", None, True),
        ("oddone", "cat", ["dog"], False),
    ],
)
def test_which_truths_are_of_their_tasks_form(
    kind: str, gt: str, targets: list[str] | None, good: bool
) -> None:
    assert (spec_of(kind).truth_fault(gt, targets or ()) is None) is good


@pytest.mark.parametrize("damage", COLUMNS)
def test_every_reader_of_a_build_refuses_a_damaged_one_or_does_not_need_what_is_damaged(
    damage: str, copy: Path
) -> None:
    """`check-overlap` ended in a traceback for 35 kinds of damage."""
    rewrite(copy / DOCS, COLUMNS[damage][0])
    readers: tuple[Callable[[], Any], ...] = (
        lambda: find_overlap(copy, copy),
        lambda: summarize_folder(copy, limit=3),
    )
    for reader in readers:
        try:
            reader()
        except UserError as error:
            assert "counting" in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", "[" * 100_000, '{"label": 3, "arguments": []}', "\udcff"]
)
def test_a_damaged_manifest_is_one_line_or_passed_over(text: str, copy: Path) -> None:
    for name in ("manifest.json", "originals.json"):
        (copy / name).write_bytes(text.encode(errors="surrogateescape"))
        for reader in (lambda: find_overlap(copy, copy), lambda: summarize_folder(copy, limit=1)):
            with contextlib.suppress(UserError):
                reader()
    with pytest.raises(UserError):
        find_overlap(copy, copy)  # what its pictures were made from is not known
