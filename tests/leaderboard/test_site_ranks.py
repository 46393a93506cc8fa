"""Rank tricks: what lifts a submission above what its answers deserve is refused or changes nothing."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from leaderboard.arms import read_arm
from leaderboard.site.build import RunFolder
from leaderboard.site.rules import check_length
from leaderboard.site.submission import check_submission
from mimic_eval.records import INTERVENTIONS, RUN_SETTINGS, UserError
from mimic_tasks.coco_classes import COCO_CLASSES
from mimic_tasks.locate import EMBEDDED
from mimic_tasks.truth import FolderTruth
from model_adapters.interventions import INTERVENTIONS as REGISTERED
from tests.leaderboard.test_site_attacks import built, checked, permuted, refused, team
from tests.leaderboard.test_submissions import (
    ABOUT,
    COUNTING,
    DOCS,
    LISTING,
    TRUTH,
    edit,
    results,
    submission,
)
from tests.makers.docs_runs import drawn, unscored, write_docs_run
from tests.makers.runs import BLOCK, NONE

PLACE = {doc["content_hash"]: i for i, doc in enumerate(DOCS["counting"])}


def right_after(n: int, hidden: int = 0, reason: str = "out of memory") -> Any:
    """Counting: wrong in the first n docs, the first of them unscored, right in the others."""

    def answer(kind: str, doc: Mapping[str, Any]) -> str:
        if PLACE[doc["content_hash"]] < hidden:
            return unscored(reason)
        return str(int(doc["gt"]) + (PLACE[doc["content_hash"]] < n))

    return answer


def boards(site: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted((site / "data/boards").glob("*.json"))]


def ranks(site: Path) -> dict[str, Any]:
    (board,) = boards(site)
    return {own["label"]: own["rank"] and tuple(own["rank"].values()) for own in board["standings"]}


# unscored docs


def test_wrong_docs_sent_as_unscored_do_not_lift_a_rank(tmp_path: Path) -> None:
    full = team(tmp_path / "full", ("counting",), right_after(0), "Full")
    hiding = team(tmp_path / "hiding", ("counting",), right_after(6, 3), "Hiding")
    site = built(tmp_path / "site", *checked(full, hiding))
    assert ranks(site) == {"Full · none": (1, 1), "Hiding · none": (2, 2)}  # was 1-2 of both


def test_rows_stand_in_the_order_of_scores_with_unscored_docs_as_wrong(tmp_path: Path) -> None:
    honest = team(tmp_path / "honest", ("counting",), right_after(2), "Honest")
    hiding = team(tmp_path / "hiding", ("counting",), right_after(3, 3), "Hiding")
    site = built(tmp_path / "site", *checked(honest, hiding))
    (board,) = boards(site)
    told = [(own["label"], own["rows"][0]["score"], own["rows"][0]["unscored"]) for own in board["standings"]]
    assert told == [("Honest · none", pytest.approx(58 / 60), 0), ("Hiding · none", 1.0, 3)]
    assert [own["score_with_unscored_as_wrong"] for own in board["standings"]] == pytest.approx(
        [58 / 60, 57 / 60]
    )


def test_an_unscored_list_is_all_missed_in_ranks(tmp_path: Path) -> None:
    hashes = [doc["content_hash"] for doc in DOCS["listing"][:3]]
    hiding = lambda kind, doc: unscored("x") if doc["content_hash"] in hashes else str(doc["gt"])  # noqa: E731
    site = built(tmp_path / "site", *checked(team(tmp_path / "a", ("listing",), hiding, "A")))
    (board,) = boards(site)
    sizes = [len(doc["gt"].split(", ")) for doc in DOCS["listing"]]
    missed = sum(sizes[:3])
    want = 2 * (sum(sizes) - missed) / (2 * sum(sizes) - missed)
    assert board["standings"][0]["score_with_unscored_as_wrong"] == pytest.approx(want)


def test_pictures_that_decode_here_are_not_undecodable_there(tmp_path: Path) -> None:
    for i, reason in enumerate(
        ("image 1 of 3 cannot be decoded", "image 2 of 3 (id 7) is missing", "it has no images")
    ):
        folder = team(tmp_path / f"a{i}", ("counting",), right_after(1, 1, reason), "A")
        refused(folder, "but its pictures can be decoded here: run it again")
    broken = FolderTruth([EMBEDDED])
    broken.decodes = lambda task, content_hash: False  # type: ignore[method-assign]
    assert check_submission(folder, broken)


# one thing many times


def sent(folder: Path, settings: list[dict[str, Any]], answer: Any) -> Path:
    for i, own in enumerate(settings):
        docs = {"counting": DOCS["counting"]}
        write_docs_run(folder, docs, answer(i) if callable(answer) else answer, own, date=f"20260101_{i:06d}")
    (folder / "submission.yaml").write_text(ABOUT.replace("Tiny 7B", folder.name))
    return folder


def test_settings_that_no_model_of_ours_announces_are_refused(tmp_path: Path) -> None:
    folder = sent(tmp_path / "many", [{**NONE, "note": f"v{i}"} for i in range(2)], lambda i: right_after(20))
    refused(folder, "Unknown setting 'note'")


def test_made_up_interventions_do_not_make_entries(tmp_path: Path) -> None:
    folder = sent(tmp_path / "many", [{**NONE, "mask": f"v{i}"} for i in range(3)], lambda i: right_after(i))
    refused(folder, "Unknown intervention 'v0'")


@pytest.mark.parametrize(
    ("name", "value"),
    [("dtype", "n\u043ene"), ("pool", float("nan")), ("tau", float("inf")), ("order", "x" * 201),
     ("family", {"a": 1}), ("layers", "3\u200b-5"), ("checkpoint", "a\u202eb"), ("mu", [1.0] * 65)],
)  # fmt: skip
def test_values_of_settings_are_plain(tmp_path: Path, name: str, value: Any) -> None:
    refused(
        sent(tmp_path / "a", [{**NONE, name: value}], lambda i: right_after(3)),
        f"the setting {name} has the value",
    )


GREEDY = {"max_new_tokens": 16, "do_sample": False, "until": []}
"""How our models announce that they generate."""


def test_how_a_run_generated_is_taken_and_read_as_one_setting_of_all_tasks(tmp_path: Path) -> None:
    """Before, the check refused each new run, and two tasks' runs were two entries: other lengths."""
    folder, unused = tmp_path / "a", {"temperature": 0.7, "suppress_tokens": [1, 2]}
    for i, kind in enumerate(("counting", "listing")):
        generation = {f"mimic_{kind}": {**GREEDY, "max_new_tokens": 16 * (i + 1)}}
        settings = {**NONE, "generation": generation, "generation_config_unused": unused}
        docs = {kind: DOCS[kind]}
        write_docs_run(folder, docs, drawn(3, 0.8, docs), settings, date=f"20260101_{i:06d}")
    assert "generation" not in read_arm(folder).settings
    (folder / "submission.yaml").write_text(ABOUT)
    assert check_submission(folder, TRUTH)["name"] == "a"


def test_runs_that_sampled_are_of_another_setting(tmp_path: Path) -> None:
    for i, more in enumerate(({}, {"do_sample": True, "temperature": 0.5})):
        settings = {**NONE, "generation": {"mimic_counting": {**GREEDY, **more}}}
        docs = {"counting": DOCS["counting"]}
        write_docs_run(tmp_path, docs, drawn(3, 0.8, docs), settings, date=f"20260101_{i:06d}")
    with pytest.raises(UserError, match="holds runs of 2 models or settings"):
        read_arm(tmp_path)


@pytest.mark.parametrize(
    "value",
    [{"t": {"until": [["x"]]}}, {"t": {"\u202e": 1}}, {"t": {"until": ["x"] * 300}}, {"t": {"a": "\x1b"}}],
)
def test_tables_of_settings_hold_plain_values(tmp_path: Path, value: Any) -> None:
    folder = sent(tmp_path / "a", [{**NONE, "generation": value}], lambda i: right_after(3))
    refused(folder, "the setting generation has the value")


def test_many_settings_of_one_checkpoint_do_not_weaken_the_tests_of_others(tmp_path: Path) -> None:
    """29 runs of one submission made the family 465 tests, and rank 1 was lost to an honest entry."""
    honest = [
        team(tmp_path / "a", ("counting",), right_after(10), "A"),
        team(tmp_path / "b", ("counting",), right_after(20), "B"),
    ]
    alone = ranks(built(tmp_path / "alone", *checked(*honest)))
    assert alone == {"A · none": (1, 1), "B · none": (2, 2)}
    many = sent(
        tmp_path / "many", [{**NONE, "pool": i + 1} for i in range(12)], lambda i: right_after(21 + i)
    )
    site = built(tmp_path / "site", *checked(*honest, many))
    (board,) = boards(site)
    assert board["tests_in_family"] == 3
    found = ranks(site)
    assert found["A · none"] == (1, 1)
    assert found["many · none"] == (2, 3)  # pool 1: the default
    assert [own["note"] for own in board["standings"] if own["label"] == "many · none, pool 4"] == [
        "not ranked: another setting of many · none"
    ]


def test_the_same_answers_are_one_entry_whoever_sends_them(tmp_path: Path) -> None:
    folders = [team(tmp_path / name, ("counting",), right_after(20), name.upper()) for name in "bcdefg"]
    spaced = lambda kind, doc: f" {right_after(20)(kind, doc)}\n"  # noqa: E731
    folders.append(team(tmp_path / "h", ("counting",), spaced, "H"))
    folders.append(team(tmp_path / "a", ("counting",), right_after(8), "A"))
    site = built(tmp_path / "site", *checked(*folders))
    (board,) = boards(site)
    assert board["tests_in_family"] == 1
    assert {own: rank for own, rank in ranks(site).items() if own[0] == "A"} == {"A · none": (1, 1)}
    assert {rank for own, rank in ranks(site).items() if own[0] != "A"} == {(2, 2)}
    assert "of 2" in (site / f"tasks/{board['id']}.html").read_text()


def test_a_submission_is_of_one_checkpoint_and_each_setting_is_run_once(tmp_path: Path) -> None:
    two = sent(tmp_path / "two", [NONE, {**BLOCK, "checkpoint": "n"}], lambda i: right_after(i))
    refused(two, "a submission is of one")
    peft = sent(tmp_path / "peft", [NONE, {**NONE, "peft": "lora"}], lambda i: right_after(i))
    refused(peft, "a submission is of one")
    again = sent(tmp_path / "again", [NONE, {**NONE, "batch_size": 2}], lambda i: right_after(i))
    refused(again, "runs of mimic_counting with the same settings: send one of them")
    assert check_submission(
        sent(tmp_path / "good", [NONE, BLOCK], lambda i: right_after(i)), FolderTruth([EMBEDDED])
    )


def test_docs_answered_by_several_models_are_not_one_run(tmp_path: Path) -> None:
    folder = submission(tmp_path / "a")
    edit(folder, COUNTING, lambda s: {**s, "mimic": {**s["mimic"], "run": BLOCK}})
    refused(folder, "doc 0 was answered with other settings than the run announced")


def test_the_logged_answer_is_the_scored_one(tmp_path: Path) -> None:
    folder = submission(tmp_path / "a")
    edit(folder, COUNTING, lambda s: {**s, "filtered_resps": "forty-two"})
    refused(folder, "doc 0 logs 'forty-two' and is scored for ")


def test_our_models_announce_no_setting_that_is_refused() -> None:
    import ast

    import model_adapters

    keys = set()
    for file in Path(model_adapters.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "announce_run":
                keys |= {keyword.arg for keyword in node.keywords if keyword.arg}
                keys |= {"device_map"}
            if isinstance(node, ast.FunctionDef) and node.name == "settings":
                for part in ast.walk(node):
                    if isinstance(part, ast.Dict):
                        keys |= {key.value for key in part.keys if isinstance(key, ast.Constant)}
                    if isinstance(part, ast.Subscript) and isinstance(part.slice, ast.Constant):
                        keys |= {part.slice.value} if isinstance(part.slice.value, str) else set()
            if (
                file.name == "adapter.py"
                and isinstance(node, ast.Assign)
                and isinstance(node.value, ast.Dict)
            ):
                keys |= {key.value for key in node.value.keys if isinstance(key, ast.Constant)}
    assert {"checkpoint", "peft", "mask", "prefix", "relevance", "tau", "pool", "order"} <= keys
    assert keys <= set(RUN_SETTINGS)
    assert set(REGISTERED.names()) <= set(INTERVENTIONS)


# answers and scores


def test_an_answer_that_names_every_class_is_longer_than_the_task_allows(tmp_path: Path) -> None:
    """Its official score was 1.000."""
    names = ", ".join(row.name for row in COCO_CLASSES)
    refused(
        team(tmp_path / "a", ("common",), lambda kind, doc: f"{doc['gt']}.\n{names}", "A"),
        "characters, at least 9[0-9] tokens, and the task allows 16 tokens",
    )


NAMES = frozenset(row.name for row in COCO_CLASSES)


@pytest.mark.parametrize(
    "answer",
    [
        " ".join(sorted(NAMES)[:40]),
        "".join(sorted(NAMES)[:40]),  # no spaces
        "_".join(sorted(NAMES)[:40]),
        " ".join("".join(sorted(NAMES, key=len)[i : i + 3]) for i in range(0, 60, 3)),  # three to a word
        "\u00ad".join(sorted(NAMES)[:40]),
        " " * 2049,
    ],
)
def test_no_way_of_writing_many_names_fits_into_16_tokens(answer: str) -> None:
    with pytest.raises(UserError, match="the task allows 16 tokens"):
        check_length("x", answer, 16, NAMES)


@pytest.mark.parametrize(
    "answer",
    [
        "There are three refrigerators and two motorcycles in the images shown above, I think.",
        "The only image that does not show a baseball glove is the third image of all",
        "a" * 200,
        "!" * 400,
        "Geschwindigkeitsbegrenzungsschild",
        "\u56fe\u7247\u4e2d\u6709\u4e09\u53ea\u72d7\u548c\u4e24\u53ea\u732b",
        ", ".join(sorted(NAMES)[:10]),
        "",
    ],
)
def test_answers_that_models_give_in_16_tokens_are_taken(answer: str) -> None:
    check_length("x", answer, 16, NAMES)


def test_listing_has_its_official_score(tmp_path: Path) -> None:
    folder = submission(tmp_path / "a")
    results(folder, lambda r: r["results"]["mimic_listing"].pop("f1_official,none"))
    refused(folder, "mimic_listing: lacks the metric f1_official")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.5, "1.0", True, None])
def test_a_score_is_the_number_that_the_answers_give(tmp_path: Path, value: Any) -> None:
    folder = submission(tmp_path / "a", lambda kind, doc: str(doc["gt"]))
    results(folder, lambda r: r["results"]["mimic_counting"].update({"exact_match,none": value}))
    refused(folder, "claims exact_match = ")
    folder = submission(tmp_path / "b", lambda kind, doc: str(doc["gt"]))
    edit(folder, LISTING, lambda s: {**s, "f1": {"score": value, "counts": [value] * 3}})
    refused(folder, "doc 0: f1: 'counts' must be a list of integers")


def test_nobody_is_first_of_one(tmp_path: Path) -> None:
    """Orders drawn by a seed of one's choice were a board of one's own, and rank 1 of 1."""
    given = [
        permuted(tmp_path / name, lambda d, i, o: str(d["gt"]), lambda d, i, s=seed: (f"random:{24}", s))
        for name, seed in (("a", 0), ("b", 7))
    ]
    site = built(tmp_path / "site", *checked(*given))
    found = boards(site)
    assert len(found) == 2
    assert [own["standings"][0]["rank"] for own in found] == [None, None]
    assert [own["standings"][0]["rank_by_flips"] for own in found] == [None, None]


def test_an_answer_that_is_always_the_same_has_no_rank_by_flips(tmp_path: Path) -> None:
    """Its answer never changes with the order, so it led "by flips"."""
    common = max((doc["gt"] for doc in DOCS["counting"]), key=[d["gt"] for d in DOCS["counting"]].count)
    pick = lambda doc, i: ("random:6", 0)  # noqa: E731

    def turning(doc: Any, i: int, order: Any) -> str:
        return str(int(doc["gt"]) + (i == 1 and PLACE[doc["content_hash"]] % 4 == 0))

    given = [
        permuted(tmp_path / "constant", lambda d, i, o: str(common), pick),
        permuted(tmp_path / "right", lambda d, i, o: str(d["gt"]), pick),
        permuted(tmp_path / "turning", turning, pick),
    ]
    for folder in given:
        (folder / "submission.yaml").write_text(ABOUT.replace("Tiny 7B", folder.name))
    site = built(tmp_path / "site", *checked(*given))
    (board,) = boards(site)
    found = {own["label"]: own["rank_by_flips"] for own in board["standings"]}
    assert found == {
        "right · none": {"best": 1, "worst": 1},
        "turning · none": {"best": 2, "worst": 2},
        "constant · none": None,
    }


# labels


@pytest.mark.parametrize(
    "text",
    ["\u0415ngine", "Engin\u0435", "Eng\u0456ne", "\uff25ngine", "Engine\u0323", "\U0001d404ngine", "En gine",
     "ENGINE", "Eng\u0131ne", "\u0395ngine"],
)  # fmt: skip
def test_a_label_that_looks_like_another_teams_names_its_sender(tmp_path: Path, text: str) -> None:
    one = team(tmp_path / "team-a", ("counting",), right_after(3), "Engine")
    two = team(tmp_path / "team-b", ("counting",), right_after(9), text)
    found = list(ranks(built(tmp_path / "site", *checked(one, two))))
    assert found[0] == "Engine · none (team-a)"
    assert found[1].endswith(" · none (team-b)")


@pytest.mark.parametrize(
    "text", ["En\u200bgine", "Engine\u2060", "E\u00adngine", "Engine · none (team-a)", "Engine \u2022 none"]
)
def test_a_name_holds_nothing_unseen_and_nothing_that_parts_labels(tmp_path: Path, text: str) -> None:
    refused(team(tmp_path / "b", ("counting",), right_after(9), text), "'what' must")


def test_submissions_have_names_that_do_not_look_alike(tmp_path: Path) -> None:
    given = [
        team(tmp_path / name, ("counting",), right_after(i), "E")
        for i, name in enumerate(("team-1", "team-l"))
    ]
    with pytest.raises(UserError, match="equal or look alike: give only one, or rename one"):
        built(tmp_path / "site", *checked(*given))


# people


def test_a_person_stands_on_the_board_of_the_models_without_a_rank(tmp_path: Path) -> None:
    docs = {"counting": DOCS["counting"]}
    runs = [
        write_docs_run(tmp_path / "a", docs, right_after(10), NONE),
        write_docs_run(tmp_path / "b", docs, right_after(40), BLOCK),
    ]
    some = {"counting": DOCS["counting"][20:44]}
    ada = write_docs_run(
        tmp_path / "ada", some, right_after(22), {"checkpoint": "Ada", "mask": "none", "layers": "none"}
    )
    results(ada, lambda r: r["config"].update(model="human"))
    site = built(tmp_path / "site", *map(RunFolder, (*runs, ada)))
    (board,) = boards(site)  # 24 of its 60 docs
    assert (board["docs"], board["tests_in_family"]) == (60, 1)
    (own,) = (own for own in board["standings"] if "human" in own["label"])
    assert (own["label"], own["rank"], own["note"]) == ("Ada · human", None, "a person: not ranked")
    row = own["rows"][0]
    assert (row["n"], row["score"]) == (24, pytest.approx(22 / 24))
    assert 0.7 < row["low"] < row["score"] < row["high"] < 1
    assert '<span class="tag">human</span>' in (site / "index.html").read_text()
    assert "rank 1 of 2" in (site / "index.html").read_text()


def test_a_person_cannot_be_sent_in(tmp_path: Path) -> None:
    folder = submission(tmp_path / "a")
    results(folder, lambda r: r["config"].update(model="human"))
    refused(folder, "the run is a person's")
