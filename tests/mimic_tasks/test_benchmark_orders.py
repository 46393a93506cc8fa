"""Docs of public benchmarks in other orders of their images and options: what moves, and what has none."""

from collections import Counter
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from mimic_eval.records import Sample, UserError, benchmark_of
from mimic_tasks.benchmarks import BENCHMARKS, Question
from mimic_tasks.benchmarks import permuted as hooks
from mimic_tasks.benchmarks.orders import KINDS, OrderedDoc, in_order, why_not
from mimic_tasks.benchmarks.tasks import permuted_config
from mimic_tasks.folder import dump_yaml
from mimic_tasks.images import decode_strict
from mimic_tasks.locate import OFFICIAL
from tests.makers import benchmarks as made


def doc(text: str, options: tuple[str, ...] = ("yes", "no"), truth: str | None = "A") -> Question:
    listed = "".join(f"\n{letter}. {option}" for letter, option in zip("ABCDE", options, strict=False))
    return Question("1", "part", text + listed, options, truth, str(truth))


def text_of(ordered: OrderedDoc) -> str:
    return "".join(part if isinstance(part, str) else f"[{part}]" for part in ordered.parts)


def test_options_move_with_their_images_and_the_truths_letter() -> None:
    question = doc("Like <image>?", ("<image>", "the <image> one", "neither"), "B")
    assert why_not("options", question, 3) is None
    ordered = in_order("options", question, 3, (2, 1, 0))
    assert text_of(ordered) == "Like [0]?\nA. neither\nB. the [2] one\nC. [1]"
    assert (ordered.truth, ordered.position, ordered.letters) == ("B", 1, (2, 1, 0))
    assert ordered.options == ("neither", "the <image> one", "<image>")
    for order in permutations(range(3)):
        ordered = in_order("options", question, 3, order)
        lines = dict(zip("ABC", text_of(ordered).split("\n")[1:], strict=True))
        assert lines[ordered.truth] == f"{ordered.truth}. the [2] one"  # the same option is right


def test_images_change_places_and_the_text_does_not() -> None:
    question = doc("<image><image><image>\nIs there a cat in any of them?")
    assert why_not("images", question, 3) is None
    ordered = in_order("images", question, 3, (2, 0, 1))
    assert text_of(ordered) == "[2][0][1]\nIs there a cat in any of them?\nA. yes\nB. no"
    assert (ordered.truth, ordered.position) == ("A", None)


def test_references_follow_their_images() -> None:
    question = doc(
        "<image> <image> <image>\nIs image 1 like the third image?", ("Image 2", "the First picture"), "A"
    )
    assert why_not("references", question, 3) is None
    assert why_not("images", question, 3) == "the text names places or an order"
    ordered = in_order(
        "references", question, 3, (2, 0, 1)
    )  # the stored images 1, 2, 3 are now 2nd, 3rd, 1st
    text = "[2] [0] [1]\nIs image 2 like the first image?\nA. Image 3\nB. the Second picture"
    assert text_of(ordered) == text
    assert (ordered.truth, ordered.position, ordered.options) == ("A", 2, ("Image 3", "the Second picture"))


def test_an_open_truth_that_names_an_image_follows_it() -> None:
    question = Question("1", "p", "<image><image>\nIs it image 1 or image 2?", (), "image 2", "image 2")
    ordered = in_order("references", question, 2, (1, 0))
    assert (text_of(ordered), ordered.truth, ordered.position) == (
        "[1][0]\nIs it image 2 or image 1?",
        "image 1",
        0,
    )


@pytest.mark.parametrize(("kind", "question", "images", "reason"), [
    ("images", doc("<image>?"), 1, "one image"),
    ("images", doc("Is <image> like <image>?"), 2, "images apart, in a sentence or in an option"),
    ("images", doc("Which?", ("<image>", "<image>")), 2, "images apart, in a sentence or in an option"),
    ("images", doc("<image><image>\nWhat is on the left?"), 2, "the text names places or an order"),
    ("images", doc("<image><image>\nWhat happens next?"), 2, "the text names places or an order"),
    ("images", doc("<image><image>\nSee figure 2."), 2, "the text names places or an order"),
    ("images", doc("<image><image>\nSee Image B."), 2, "the text names places or an order"),
    ("images", doc("<image><image>\nWhich?", ("the 2nd", "none")), 2, "the text names places or an order"),
    ("images", doc("<image><image>\nWhich?", truth=None), 2, "no truth"),
    ("references", doc("<image><image>\nWhich is it?"), 2, "no reference to an image's place"),
    ("references", doc("<image><image>\nIs image 1 on the left?"), 2, "a reference that cannot be rewritten"),
    ("references", doc("<image><image>\nIs image 3 red?"), 2, "a reference that cannot be rewritten"),
    ("references", doc("<image><image>\nIs image 1 the last?"), 2, "a reference that cannot be rewritten"),
    ("options", replace(doc("What?"), options=(), truth="3"), 2, "open question"),
    ("options", replace(doc("What?"), text="What? yes | no"), 2, "options not listed line by line"),
    ("options", doc("What?", ("a cat", "a dog", "all of the above")), 2, "an option refers to others"),
    ("options", doc("What?", ("a cat", "a dog", "A and B")), 2, "an option refers to others"),
    ("options", doc("Is option A right?"), 2, "the text names a letter"),
])  # fmt: skip
def test_docs_without_another_order_are_left_out(
    kind: str, question: Question, images: int, reason: str
) -> None:
    assert why_not(kind, question, images) == reason


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.write_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(autouse=True)
def _local(sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIMIC_DATASETS", str(sets))
    monkeypatch.delenv("MIMIC_ORDERS", raising=False)


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_packaged_tasks_are_what_the_code_says(name: str, kind: str) -> None:
    config = permuted_config(BENCHMARKS[name], kind)
    assert (OFFICIAL / f"{config['task']}.yaml").read_text() == dump_yaml(config)
    assert benchmark_of(config["task"]) == name


def test_rows_are_every_cyclic_order_and_excluded_docs_are_counted(capsys: Any) -> None:
    rows = list(hooks.docs_of(BENCHMARKS["muirbench"], "options", None))
    assert [row["base_doc_id"] for row in rows] == [0] * 3 + [1] * 3 + [2] * 2 + [3] * 4
    assert [tuple(row["order"]) for row in rows[:3]] == [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
    assert "MuirBench, options in other orders: 4 of 4 docs\n" in capsys.readouterr().err
    rows = list(hooks.docs_of(BENCHMARKS["muirbench"], "images", None))
    assert {row["base_doc_id"] for row in rows} == {1}
    answer = capsys.readouterr().err
    assert (
        "images in other orders: 1 of 4 docs; left out: 3 images apart, in a sentence or in an option"
        in answer
    )
    with pytest.raises(UserError, match=r"MuirBench: no doc has another order of its references \("):
        hooks.docs_of(BENCHMARKS["muirbench"], "references", None)


def test_a_row_shows_its_pictures_in_its_order() -> None:
    row = list(hooks.docs_of(BENCHMARKS["muirbench"], "options", None))[2]  # None, A's image, B's image
    (message,) = hooks.messages_muirbench_options(row)
    kinds = [part["type"] for part in message["content"]]
    assert kinds == ["text", "image", "text", "image", "text"]
    assert message["content"][0]["text"].endswith("A. None of the choices\nB. ")
    pictures = [part["url"].tobytes() for part in message["content"] if part["type"] == "image"]
    assert pictures == [decode_strict(made.png(seed)).tobytes() for seed in (1, 2)]
    row = list(hooks.docs_of(BENCHMARKS["muirbench"], "options", None))[1]  # B's image, None, A's image
    ordered = [picture.tobytes() for picture in hooks.visual_muirbench_options(row)]
    assert ordered == [decode_strict(made.png(seed)).tobytes() for seed in (2, 1)]


def test_the_same_option_is_the_same_answer_in_every_order() -> None:
    """A model that always says B chooses another option in each order; one that finds it, the same."""
    rows = list(hooks.docs_of(BENCHMARKS["muirbench"], "options", None))[3:6]
    letters, right = [], []
    for row in rows:
        truth = "ABC"[list(row["order"]).index(2)]
        for answer, samples in (("B", letters), (truth, right)):
            entries = hooks.process_muirbench_options(row, [answer])
            samples.append(Sample.from_json({**entries, "doc_id": 0}, "a file"))
    assert [one.parsed for one in letters] == ["B", "C", "A"]
    assert [one.score for one in letters] == [0, 1, 0]
    assert [(one.parsed, one.score) for one in right] == [("C", 1)] * 3
    positions = [one.ordering.target_positions for one in right if one.ordering]
    assert positions == [(2,), (1,), (0,)]
    assert Counter(one.base_hash for one in right) == {rows[0]["base_hash"]: 3}
    assert right[0].excluded == {}
