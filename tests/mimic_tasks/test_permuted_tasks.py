"""The permuted tasks: limits, task files, and mistakes in one line."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest

from mimic_eval.cli.lmms.arguments import check_early
from mimic_eval.cli.lmms.wrappers import limiting
from mimic_eval.records import (
    ORDER_SUITE,
    TASK_KINDS,
    UserError,
)
from mimic_tasks.locate import EMBEDDED, PERMUTED, task_folder
from mimic_tasks.permuted import hooks
from mimic_tasks.permuted.expand import expand
from mimic_tasks.permuted.limit import limit_docs
from mimic_tasks.permuted.orders import Orders
from mimic_tasks.permuted.tasks import write_tasks
from tests.makers.permuted import embedded_docs

pytestmark = pytest.mark.usefixtures("no_variables")


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return embedded_docs()


# Limits


class Config(SimpleNamespace):
    test_split, validation_split = "test", None


def task(dataset: Any) -> Any:
    """What `limit_docs` uses of one of upstream's tasks."""

    class Task:
        config = Config()

        def __init__(self) -> None:
            self.dataset = datasets.DatasetDict({"test": dataset})
            self.dataset_no_image = datasets.DatasetDict({"test": dataset})

        @property
        def eval_docs(self) -> Any:
            return self.dataset["test"]

    return Task()


@pytest.mark.parametrize(("limit", "docs"), [(1, 1), (7.0, 7), (0.5, 30), (0.01, 1), (60, 60), (1000, 60)])
def test_a_limit_counts_docs_with_all_their_orders(limit: float, docs: int, plain: dict[str, Any]) -> None:
    tasks = {"permuted": task(expand(plain["common"], Orders())), "plain": task(plain["counting"])}
    had = limit_docs(tasks, limit)
    sizes = [len(doc["images"]) for doc in plain["common"]]
    assert had == {"permuted": sum(sizes), "plain": 60}
    left = tasks["permuted"].eval_docs
    assert list(left["base_doc_id"]) == [i for i in range(docs) for _ in range(sizes[i])]
    assert left.to_list() == tasks["permuted"].dataset_no_image["test"].to_list()
    assert len(tasks["plain"].eval_docs) == docs


def test_without_a_permuted_task_upstreams_limit_is_left_alone(plain: dict[str, Any]) -> None:
    from lmms_eval.api.task import ConfigurableTask, TaskConfig

    object_ = ConfigurableTask.__new__(ConfigurableTask)
    object_._config = TaskConfig(task="x", test_split="test", num_fewshot=0, metadata={"version": 1.0})
    object_.dataset = datasets.DatasetDict({"test": plain["common"]})
    seen: list[Any] = []
    limiting(lambda **given: seen.append(given))(task_dict={"x": object_}, limit=0.5, offset=3)
    assert (seen[0]["limit"], seen[0]["offset"], len(object_.dataset["test"])) == (0.5, 3, 60)


# Task files


def test_the_packaged_task_files_are_what_the_code_writes(tmp_path: Path) -> None:
    names = write_tasks(tmp_path, EMBEDDED, packaged=True)
    assert sorted(names) == sorted(f"mimic_{name}_permuted" for name in (*TASK_KINDS, *ORDER_SUITE))
    for name in (*names, "mimic_permuted", "mimic_order_permuted"):
        assert (PERMUTED / f"{name}.yaml").read_text() == (tmp_path / f"{name}.yaml").read_text()
    assert {*task_folder().permuted} == {file.stem for file in PERMUTED.glob("*.yaml")}


def test_the_packaged_tasks_refuse_other_data(plain: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(hooks.expand_embedded(plain["common"])) > 60
    monkeypatch.setenv("MIMIC_DATA", "/somewhere")
    with pytest.raises(UserError, match="the packaged permuted tasks read the embedded data, but MIMIC_DATA"):
        hooks.expand_embedded(plain["common"])


def test_files_that_are_not_ours_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "mimic_counting.yaml").write_text("task: mimic_counting\ndataset_path: other\n")
    (tmp_path / "mimic_common.yaml").write_text(": not : yaml")
    (tmp_path / "out").mkdir()
    assert write_tasks(tmp_path / "out", tmp_path) == ()


# Mistakes, before a model is loaded


@pytest.mark.parametrize(
    ("variables", "arguments", "message"),
    [
        ({"MIMIC_ORDERS": "cyclick"}, (), "Unknown MIMIC_ORDERS 'cyclick'. Did you mean 'cyclic'?"),
        ({"MIMIC_SEED": "one"}, (), "MIMIC_SEED must be an integer of 1 to 18 digits, got 'one'"),
        ({"MIMIC_ORDERS": "all"}, (), "at most 5 images; doc 2 of mimic_counting in "),
        ({}, ("--offset", "2"), "--offset counts rows, of which mimic_counting_permuted has several a doc"),
        ({}, ("--use_cache", "x"), "--use_cache knows neither weights nor pictures"),
        ({}, ("--model_args", "order=seeded:3"), "order=seeded:3 does not go with mimic_counting_permuted"),
        ({"MIMIC_DATA": "{tmp}"}, (), "has no task 'mimic_counting_permuted'"),
    ],
)
def test_what_can_be_seen_wrong_early_is(
    variables: dict[str, str],
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "mimic_common.yaml").write_text("task: mimic_common\n")
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp=tmp_path))
    with pytest.raises(UserError) as error:
        check_early(["--tasks", "mimic_counting_permuted", "--model", "llava_ov_mask", *arguments])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_plain_tasks_take_what_the_permuted_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIMIC_ORDERS", "circular")
    arguments = ["--tasks", "mimic_counting", "--model", "llava_ov_mask", "--offset", "2"]
    check_early([*arguments, "--model_args", "order=reversed"])


def test_a_pattern_and_the_group_are_permuted_tasks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIMIC_SEED", "x")
    for name in ("mimic_permuted", "mimic_*_permuted", "mimic_common,mimic_oddone_permuted"):
        with pytest.raises(UserError, match="MIMIC_SEED"):
            check_early(["--tasks", name, "--model", "llava_ov_mask"])


def test_the_adapter_refuses_its_own_order_on_a_permuted_doc(plain: dict[str, Any]) -> None:
    from model_adapters.doc_prompt import doc_order

    row = expand(plain["common"], Orders())[0]
    options = {"name": "mimic_common_permuted doc 0", "n": len(row["images"])}
    messages: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "image"}]}]
    assert doc_order("fixed", messages, row, **options) is None
    with pytest.raises(UserError, match="order=reversed does not go with mimic_common_permuted doc 0, shown"):
        doc_order("reversed", messages, row, **options)
