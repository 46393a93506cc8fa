"""Hostile submissions and folders: `mimic leaderboard` refuses them in one line, or shows them harmlessly."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leaderboard.site.build import RunFolder, build_site
from leaderboard.site.submission import check_submission
from mimic_eval.records import UserError, unscored_response
from mimic_tasks.permuted import hooks as permuted_hooks
from mimic_tasks.permuted.orders import parse_orders
from tests.leaderboard.test_submissions import ABOUT, COUNTING, DOCS, TRUTH, claim, edit, results, submission
from tests.makers.docs_runs import drawn, write_docs_run
from tests.makers.runs import NONE, write_run


def refused(folder: Path, told: str = ".") -> None:
    with pytest.raises(UserError, match=told):
        check_submission(folder, TRUTH)


def checked(*folders: Path) -> list[RunFolder]:
    return [RunFolder(folder, check_submission(folder, TRUTH)) for folder in folders]


def built(out: Path, *given: RunFolder) -> Path:
    build_site(given, out, sources=[], title="T")
    return out


def team(folder: Path, kinds: tuple[str, ...], answer: Any, what: str, settings: Any = NONE) -> Path:
    write_docs_run(folder, {kind: DOCS[kind] for kind in kinds}, answer, settings)
    (folder / "submission.yaml").write_text(ABOUT.replace("Tiny 7B", what))
    return folder


def permuted(folder: Path, answer: Callable[..., str], pick: Callable[[Any, int], tuple[str, int]]) -> Path:
    """Counting under orders of which each may have its own rule and seed."""
    samples: list[Any] = []
    for number, doc in enumerate(DOCS["counting"]):
        n = doc["n_images"]

        def drawn_orders(i: int, doc: Any = doc, n: int = n) -> tuple[str, int, list[Any]]:
            rule, seed = pick(doc, i)
            return rule, seed, parse_orders(rule, str(seed)).of(base_hash=doc["content_hash"], n=n)

        for i in range(len(drawn_orders(0)[2])):
            rule, seed, orders = drawn_orders(i)
            boxes, ids = ([own[j] for j in orders[i]] for own in (doc["boxes"], doc["image_ids"]))
            row = {
                **doc, "boxes": boxes, "image_ids": ids, "base_doc_id": number,
                "base_hash": doc["content_hash"], "order": list(orders[i]), "order_index": i,
                "n_orders": len(orders), "orders": rule, "order_seed": seed,
            }  # fmt: skip
            said = permuted_hooks.process_counting(row, [answer(doc, i, orders[i])])
            sample = {**json.loads(json.dumps(said)), "doc_id": len(samples)}
            sample["mimic"]["run"] = dict(NONE)  # not that of a model of another test
            samples.append(sample)
    task, names = "mimic_counting_permuted", ("exact_match_over_orders", "exact_match_over_orders_official")
    write_run(folder, {task: samples}, NONE, metrics=names)

    def scores(told: Any) -> None:
        told["configs"][task]["metadata"]["label"] = "embedded"
        for name in names:
            own = permuted_hooks.aggregate_over_orders(sample[name] for sample in samples)
            told["results"][task][f"{name},none"] = own

    results(folder, scores)
    (folder / "submission.yaml").write_text(ABOUT)
    return folder


# what stands in --out


def test_a_renewed_site_keeps_files_that_no_build_wrote(tmp_path: Path) -> None:
    given = checked(submission(tmp_path / "a"))
    site = built(tmp_path / "site", *given)
    (site / ".git").mkdir()
    (site / ".git/HEAD").write_text("ref: refs/heads/gh-pages")
    (site / "CNAME").write_text("example.org")
    built(site, *given)
    assert (site / ".git/HEAD").is_file()
    assert (site / "CNAME").is_file()


def test_a_folder_of_another_program_with_a_data_site_json_is_left_alone(tmp_path: Path) -> None:
    given = checked(submission(tmp_path / "a"))
    mine = tmp_path / "hugo"
    (mine / "data").mkdir(parents=True)
    (mine / "data/site.json").write_text('{"title": "my own web site"}')
    (mine / "thesis.md").write_text("mine")
    with pytest.raises(UserError, match="holds something else than a leaderboard"):
        built(mine, *given)
    assert (mine / "thesis.md").is_file()


def test_a_mark_that_lists_no_files_is_told_apart(tmp_path: Path) -> None:
    given = checked(submission(tmp_path / "a"))
    old = tmp_path / "old"
    (old / "data").mkdir(parents=True)
    for files in ("", ', "files": ["../thesis.md"]', ', "files": 1'):
        (old / "data/site.json").write_text(f'{{"version": 1, "made_by": "mimic leaderboard build"{files}}}')
        with pytest.raises(UserError, match="does not list the site's files"):
            built(old, *given)


def test_a_refused_build_leaves_no_folder(tmp_path: Path) -> None:
    given = checked(submission(tmp_path / "a"))
    broken = tmp_path / "b"
    broken.mkdir()
    (broken / "x_results.json").write_text("{]}")
    with pytest.raises(UserError, match="not JSON"):
        built(tmp_path / "site", *given, RunFolder(broken))
    assert not (tmp_path / "site").exists()


# scores that are not what they seem


def test_our_headline_cannot_be_left_out_so_that_the_official_score_stands_for_it(tmp_path: Path) -> None:
    folder = team(tmp_path / "a", ("common",), lambda kind, doc: f"no {doc['gt']}", "Cheat")  # official: 1.0
    results(folder, lambda r: r["results"]["mimic_common"].pop("exact_match,none"))
    refused(folder, "exact_match")


def test_a_task_without_any_metric_is_refused_by_check_too(tmp_path: Path) -> None:
    folder = submission(tmp_path / "a")
    results(folder, lambda r: r["results"].update(mimic_counting={}))
    refused(folder)


def test_one_unscored_order_of_each_wrong_doc_does_not_choose_the_docs(tmp_path: Path) -> None:
    right = {doc["content_hash"] for doc in DOCS["counting"][:6]}

    def answer(doc: Any, i: int, order: Any) -> str:
        return doc["gt"] if doc["content_hash"] in right else unscored_response("x") if i == 1 else "999"

    refused(permuted(tmp_path / "a", answer, lambda doc, i: ("random:30", 0)), "unscored")


def test_the_orders_of_a_run_are_of_one_rule_and_seed(tmp_path: Path) -> None:
    def seed(doc: Any, i: int) -> tuple[str, int]:
        for own in range(50):  # that one which leaves the first image in its place
            orders = parse_orders("random:2", str(own)).of(base_hash=doc["content_hash"], n=doc["n_images"])
            if orders[i][0] == 0:
                return "random:2", own
        return "random:2", 0

    refused(permuted(tmp_path / "a", lambda doc, i, order: doc["gt"] if order[0] == 0 else "999", seed))


@pytest.mark.parametrize(("name", "value"), [("order", [0]), ("order", ["x"]), ("base_doc_id", "x")])
def test_a_plain_doc_says_nothing_of_orders(tmp_path: Path, name: str, value: Any) -> None:
    folder = submission(tmp_path / "a")  # [0]: a board of its own, rank 1 of 1; "x": build alone refuses
    edit(folder, COUNTING, claim(name, value))
    refused(folder)


@pytest.mark.parametrize("number", [10**4000, -5], ids=["huge", "negative"])
def test_the_number_of_a_doc_is_its_place_in_the_task(tmp_path: Path, number: int) -> None:
    folder = submission(tmp_path / "a")
    edit(folder, COUNTING, lambda sample: {**sample, "doc_id": number})
    refused(folder)


def test_how_many_docs_a_task_has_is_checked(tmp_path: Path) -> None:
    folder = submission(tmp_path / "a")
    results(folder, lambda r: r["n-samples"]["mimic_counting"].update(original=10**4000))
    refused(folder)


# other people's entries


def test_a_copy_of_a_submission_does_not_take_its_tests(tmp_path: Path) -> None:
    team(tmp_path / "a", ("counting",), drawn(3, 0.8, DOCS), "Engine")
    team(tmp_path / "b", ("counting",), drawn(9, 0.3, DOCS), "Other")
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    (tmp_path / "c/submission.yaml").write_text(ABOUT.replace("Tiny 7B", "Zopy"))
    try:
        given = checked(*(tmp_path / name for name in "abc"))
    except UserError:
        return  # refused: as good
    site = built(tmp_path / "site", *given)
    (file,) = (site / "data/boards").glob("*.js")
    record = json.loads(file.read_text().split("\n")[1])
    assert len(set(record["results"].values())) == 3
    assert len({tuple(sorted(test[:2])) for test in record["tests"]}) == 1  # a and c are one
    board = json.loads(next((site / "data/boards").glob("*.json")).read_text())
    ranks = {own["label"]: (own["rank"]["best"], own["note"]) for own in board["standings"]}
    assert ranks == {
        "Engine · none": (1, "the same answers as Zopy · none"),
        "Zopy · none": (1, "the same answers as Engine · none"),
        "Other · none": (2, ""),
    }


def test_no_submission_writes_into_the_label_of_another(tmp_path: Path) -> None:
    victim = team(tmp_path / "a", ("counting",), drawn(3, 0.8, DOCS), "Engine")
    text = "IS A FRAUD \u202e"
    evil = team(tmp_path / "b", ("counting",), drawn(9, 0.3, DOCS), "Engine", {**NONE, text: "x"})
    try:
        given = checked(victim, evil)
    except UserError:
        return
    site = built(tmp_path / "site", *given)
    labels = json.loads((site / "data/index.js").read_text().split("\n")[1])["entries"].values()
    assert not [label for label in labels if "FRAUD -" in label or "\u202e" in label or text + " -" in label]


def test_labels_that_look_alike_are_told_apart(tmp_path: Path) -> None:
    import unicodedata

    one = team(tmp_path / "a", ("counting",), drawn(3, 0.8, DOCS), "Caf\u00e9")
    two = team(tmp_path / "b", ("counting",), drawn(9, 0.3, DOCS), "Cafe\u0301")
    try:
        site = built(tmp_path / "site", *checked(one, two))
    except UserError:
        return
    labels = json.loads((site / "data/index.js").read_text().split("\n")[1])["entries"].values()
    assert len({unicodedata.normalize("NFC", label) for label in labels}) == 2


def test_many_settings_do_not_fill_the_disk(tmp_path: Path) -> None:
    victim = team(tmp_path / "a", ("counting",), drawn(3, 0.8, DOCS), "Engine")
    many = {f"k{i:04d}{'x' * 70}": "" for i in range(500)}
    evil = team(tmp_path / "b", ("counting",), drawn(9, 0.3, DOCS), "Engine")
    results(evil, lambda r: r["mimic"].update(run={**NONE, **many}))
    try:
        given = checked(victim, evil)
    except UserError:
        return
    site = built(tmp_path / "site", *given)
    assert sum(file.stat().st_size for file in site.rglob("*") if file.is_file()) < 3_000_000


def test_two_submissions_of_one_name_are_not_one_entry(tmp_path: Path) -> None:
    one = team(tmp_path / "one/team", ("counting",), drawn(3, 0.8, DOCS), "Engine")
    two = team(tmp_path / "two/team", ("common",), drawn(3, 0.8, DOCS), "Engine")
    about = two / "submission.yaml"
    about.write_text(about.read_text().replace("Ada & co", "Eve"))
    try:
        site = built(tmp_path / "site", *checked(one, two))
    except UserError:
        return
    assert len(list((site / "models").iterdir())) == 2


def test_ids_of_two_entries_differ_though_48_bits_of_their_hashes_do_not(tmp_path: Path) -> None:
    given = [("eve-3", "11311282", 3), ("eve-4", "18341104", 9)]  # found in 2 minutes; 2 ** 48 for any id
    folders = [
        team(tmp_path / name, ("counting",), drawn(seed, 0.5, DOCS), name, {**NONE, "x": x})
        for name, x, seed in given
    ]
    about = {"who": "Eve", "checkpoint": "x", "hardware": "h"}
    site = built(
        tmp_path / "site",
        *(RunFolder(folder, {"name": folder.name, "what": folder.name, **about}) for folder in folders),
    )
    assert len(list((site / "models").iterdir())) == 2
