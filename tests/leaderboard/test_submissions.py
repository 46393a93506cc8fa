"""`mimic leaderboard check`: a good submission passes; a wrong or hostile one is refused, with the place."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leaderboard.site.claims import claims_of
from leaderboard.site.submission import MOST_UNSCORED, check_submission, submissions_in
from mimic_eval.records import UserError
from mimic_tasks.locate import EMBEDDED
from mimic_tasks.permuted import hooks as permuted_hooks
from mimic_tasks.permuted.orders import Orders
from mimic_tasks.truth import FolderTruth
from tests.conftest import Command
from tests.makers.docs_runs import docs_in, drawn, unscored, write_docs_run
from tests.makers.runs import NONE, write_run

ABOUT = """\
who: Ada & co
what: Tiny 7B
checkpoint: https://example.org/tiny-7b
hardware: 2 CPU cores
link: https://example.org/paper
"""
TRUTH = FolderTruth([EMBEDDED])
DOCS = docs_in(EMBEDDED)


def submission(folder: Path, answer: Any = None) -> Path:
    """A good one of Counting and Listing."""
    docs = {kind: DOCS[kind] for kind in ("counting", "listing")}
    write_docs_run(folder, docs, answer or drawn(3, 0.8, docs), NONE)
    (folder / "submission.yaml").write_text(ABOUT)
    return folder


def edit(folder: Path, pattern: str, change: Callable[[Any], Any]) -> None:
    """Change the first line of JSON of a file."""
    (file,) = folder.glob(pattern)
    first, *rest = file.read_text().split("\n")
    file.write_text("\n".join([json.dumps(change(json.loads(first))), *rest]))


def test_a_good_submission_passes_and_its_metadata_come_back(tmp_path: Path) -> None:
    told = check_submission(submission(tmp_path / "team-a"), TRUTH)
    assert told == {
        "name": "team-a",
        "who": "Ada & co",
        "what": "Tiny 7B",
        "checkpoint": "https://example.org/tiny-7b",
        "hardware": "2 CPU cores",
        "link": "https://example.org/paper",
    }


def test_an_answer_in_every_task_is_scored_again_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "all"
    write_docs_run(folder, DOCS, drawn(5, 0.5, DOCS), NONE)
    (folder / "submission.yaml").write_text(ABOUT)
    assert check_submission(folder, TRUTH)["name"] == "all"


METADATA = [
    ("who: <script>alert(1)</script>\n", "lacks what, checkpoint, hardware"),
    (ABOUT + "extra: 1\n", "Unknown key 'extra'"),
    (ABOUT.replace("https://example.org/paper", "javascript:alert(1)"), "'link' must be an https address"),
    (ABOUT.replace("https://example.org/paper", "http://example.org"), "'link' must be an https address"),
    (ABOUT.replace("https://example.org/paper", "https://a@evil.org/"), "'link' must be an https address"),
    (ABOUT.replace("https://example.org/paper", 'https://a.org/"onclick'), "'link' must be an https address"),
    (ABOUT.replace("Ada & co", '"a\\u202eb"'), "'who' must be one line of 1 to 200 printable characters"),
    (ABOUT.replace("Ada & co", "x" * 201), "'who' must be one line"),
    (ABOUT.replace("Ada & co", "[a, b]"), "'who' must be one line"),
    (ABOUT.replace("Ada & co", "&a x").replace("Tiny 7B", "*a"), "aliases are not read"),
    (ABOUT.replace("Ada & co", '!!python/object/apply:os.system ["touch /tmp/x"]'), "'who' must be one line"),
    ("a: b: c: [", "is not YAML that can be read"),
    ("- a\n", "must map who, what, checkpoint, hardware, link, paper, code to texts"),
    ("x" * 9000, "has over 8000 bytes"),
]


@pytest.mark.parametrize(("text", "told"), METADATA)
def test_metadata_that_are_wrong_or_hostile_are_refused(tmp_path: Path, text: str, told: str) -> None:
    folder = submission(tmp_path / "a")
    (folder / "submission.yaml").write_text(text)
    with pytest.raises(UserError, match=re.escape(told)):
        check_submission(folder, TRUTH)


IN_TOML = re.sub(r"(?m)^(\w+): (.*)$", r'\1 = "\2"', ABOUT)
METADATA_IN_TOML = [
    ('who = "<script>alert(1)</script>"\n', "lacks what, checkpoint, hardware"),
    (IN_TOML + "extra = 1\n", "Unknown key 'extra'"),
    (IN_TOML + 'who = "Somebody else"\n', "is not TOML that can be read"),
    (IN_TOML.replace("https://example.org/paper", "javascript:alert(1)"), "'link' must be an https address"),
    (IN_TOML.replace("Ada & co", "a\\u202eb"), "'who' must be one line of 1 to 200 printable characters"),
    (IN_TOML.replace("Ada & co", "x" * 201), "'who' must be one line"),
    (IN_TOML.replace('"Ada & co"', '["a", "b"]'), "'who' must be one line"),
    (IN_TOML.replace('"Ada & co"', "2026-01-01"), "'who' must be one line"),
    (IN_TOML.replace("who =", "who.name ="), "'who' must be one line"),
    ("[who]\n" + IN_TOML, "'who' must be one line"),
    (ABOUT, "is not TOML that can be read"),
    ("a = " + "[" * 60, "over 50 brackets"),
    ("a = " + "9" * 5000, "is not TOML that can be read"),
    ('"\\u001b]0;pwned" = 1', "Unknown key"),
    ("\ud800", "is not TOML that can be read"),
    ("#" * 9000, "has over 8000 bytes"),
]


@pytest.mark.parametrize(("text", "message"), METADATA_IN_TOML)
def test_toml_that_is_wrong_or_hostile_is_refused(tmp_path: Path, text: str, message: str) -> None:
    folder = submission(tmp_path / "a")
    (folder / "submission.yaml").unlink()
    (folder / "submission.toml").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        check_submission(folder, TRUTH)
    assert str(caught.value).isprintable()


def test_toml_gives_the_metadata_that_the_yaml_of_older_submissions_gives(tmp_path: Path) -> None:
    folder = submission(tmp_path / "subs/a")
    want = check_submission(folder, TRUTH)
    (folder / "submission.toml").write_text(IN_TOML)
    with pytest.raises(UserError, match=r"holds submission\.toml and submission\.yaml: keep one of them"):
        check_submission(folder, TRUTH)
    (folder / "submission.yaml").unlink()
    assert submissions_in(tmp_path / "subs") == submissions_in(folder) == [folder]
    assert check_submission(folder, TRUTH) == want
    (folder / "submission.toml").unlink()
    with pytest.raises(UserError, match=r"has no submission\.toml"):
        check_submission(folder, TRUTH)


def claim(name: str, value: Any) -> Callable[[Any], Any]:
    def change(sample: Any) -> Any:
        return {**sample, "mimic": {**sample["mimic"], name: value}}

    return change


COUNTING = "*_samples_mimic_counting.jsonl"


def unanswered(sample: Any) -> Any:
    return {**sample, "mimic": {**sample["mimic"], "status": "unscored", "reason": "x", "response": None}}


LISTING = "*_samples_mimic_listing.jsonl"
WRONG = [
    (COUNTING, claim("content_hash", "0" * 64), "which no doc of the data has"),
    (COUNTING, claim("gt", "1 <script>"), "claims gt = '1 <script>', our scoring gives"),
    (COUNTING, claim("question", "Easy?"), "claims question = 'Easy?', our scoring gives"),
    (COUNTING, claim("n_images", 99), "claims n_images = 99, our scoring gives"),
    (COUNTING, claim("score", 0.5), "claims score = 0.5, our scoring gives"),
    (COUNTING, claim("parsed", 12345), "claims parsed = 12345, our scoring gives"),
    (COUNTING, claim("response", "x" * 10_001), "its answer must be a text of at most 10000 characters"),
    (COUNTING, claim("response", ["a"]), "doc 0: 'response' must be a text, got ['a']"),
    (COUNTING, claim("status", "unscored"), "doc 0 is unscored without a reason"),
    (COUNTING, unanswered, "our scoring gives {}"),
    (COUNTING, lambda sample: {**sample, "unscored": -60}, "claims unscored = -60, our scoring gives 0"),
    (COUNTING, claim("base_hash", "x"), "doc 0: 'base_doc_id' must be an integer, got None"),
    (COUNTING, lambda own: {**own, "exact_match": {"score": 0.25}}, "claims exact_match = {'score': 0.25}"),
    (COUNTING, lambda sample: {**sample, "mimic": "x"}, "doc 0: 'mimic' must be an object, got 'x'"),
    (LISTING, lambda s: {**s, "f1": {**s["f1"], "counts": [9, 9, 9]}}, "claims f1 = "),
    (LISTING, lambda s: {**s, "f1_official": {"score": 1.0, "counts": [1, 1, 1]}}, "claims f1_official = "),
]  # fmt: skip


@pytest.mark.parametrize(("file", "change", "told"), WRONG)
def test_samples_that_are_not_what_they_claim_are_refused(
    tmp_path: Path, file: str, change: Callable[[Any], Any], told: str
) -> None:
    folder = submission(tmp_path / "a")
    edit(folder, file, change)
    with pytest.raises(UserError, match=re.escape(told)):
        check_submission(folder, TRUTH)


def results(folder: Path, change: Callable[[Any], None]) -> None:
    (file,) = folder.glob("*_results.json")
    told = json.loads(file.read_text())
    change(told)
    file.write_text(json.dumps(told))


RESULTS = [
    (lambda r: r["mimic"]["run"].update(tau=10**400), "the setting tau has the value 1000"),
    (lambda r: r["results"]["mimic_counting"].update({"exact_match,none": 0.999}), "claims exact_match = 0.999"),  # noqa: E501
    (lambda r: r["configs"]["mimic_counting"]["metadata"].update(label="coco"), "calls its data 'coco'"),
    (lambda r: r["results"].update({"../../mimic_counting": {}}), "is no name of a task"),
    (lambda r: r["results"].update(mimic_common={"exact_match,none": 1.0}), "has no samples|not in"),
    (lambda r: r["results"].update(mme={}), "is no MIMIC task"),
    (lambda r: r["results"]["mimic_counting"].update({"f1,none": 1.0}), "has no metric f1|not in"),
    (lambda r: r.update({"n-samples": []}), "not in lmms-eval's form"),
    (lambda r: r.update(mimic="x"), "not in lmms-eval's form"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "told"), RESULTS)
def test_results_that_are_not_what_the_answers_give_are_refused(
    tmp_path: Path, change: Callable[[Any], None], told: str
) -> None:
    folder = submission(tmp_path / "a")
    results(folder, change)
    with pytest.raises(UserError, match=told):
        check_submission(folder, TRUTH)


def test_a_claim_that_no_count_of_docs_gives_is_named_as_such(tmp_path: Path) -> None:
    folder = submission(tmp_path / "a")
    results(folder, lambda told: told["results"]["mimic_counting"].update({"exact_match,none": 0.7191}))
    with pytest.raises(
        UserError, match=r"claims exact_match = 0\.7191, .*; no count of 60 docs gives the claimed"
    ):
        check_submission(folder, TRUTH)
    (claim_of,) = [
        one for one in claims_of(folder) if (one.task, one.metric) == ("mimic_counting", "exact_match")
    ]
    assert (claim_of.printed, claim_of.n, claim_of.check.verdict) == ("0.719100", 60, "not attainable")
    assert claim_of.check.reason == "the nearest: 43/60 = 0.7166667, 44/60 = 0.7333333"
    mean = claims_of(permuted_run(tmp_path / "p"))[0].check
    assert (mean.verdict, mean.reason) == ("cannot be said", "an F1 is no share of docs")


def permuted_run(folder: Path, change: Callable[[Any], Any] = lambda sample: sample) -> Path:
    """Listing under its cyclic orders, every answer right."""
    samples: list[Any] = []
    for number, doc in enumerate(DOCS["listing"]):
        orders = Orders("cyclic", 0).of(base_hash=doc["content_hash"], n=doc["n_images"])
        for index, order in enumerate(orders):
            boxes, ids = ([own[i] for i in order] for own in (doc["boxes"], doc["image_ids"]))
            row = {
                **doc, "boxes": boxes, "image_ids": ids,
                "base_doc_id": number, "base_hash": doc["content_hash"],
                "order": list(order), "order_index": index, "n_orders": len(orders), "orders": "cyclic",
                "order_seed": 0,
            }  # fmt: skip
            sample = json.loads(json.dumps(permuted_hooks.process_listing(row, [doc["gt"]])))
            sample["mimic"]["run"] = dict(NONE)  # not that of a model of another test
            sample = change({**sample, "doc_id": len(samples)})
            samples.append(sample)
    task, names = "mimic_listing_permuted", ("doc_f1_over_orders", "doc_f1_over_orders_official")
    write_run(folder, {task: samples}, NONE, metrics=names)
    (file,) = folder.glob("*_results.json")
    told = json.loads(file.read_text())
    told["configs"][task]["metadata"]["label"] = "embedded"
    for name in names:
        own = permuted_hooks.aggregate_over_orders(sample[name] for sample in samples)
        told["results"][task][f"{name},none"] = own
    file.write_text(json.dumps(told))
    (folder / "submission.yaml").write_text(ABOUT)
    return folder


def test_orders_are_drawn_again_and_none_can_be_left_out(tmp_path: Path) -> None:
    assert check_submission(permuted_run(tmp_path / "good"), TRUTH)

    def other(sample: Any) -> Any:
        sample["mimic"]["order"] = sorted(sample["mimic"]["order"])
        return sample

    def one(sample: Any) -> Any:
        sample["mimic"] |= {"n_orders": 1, "order_index": 0}
        return sample

    def regrouped(sample: Any) -> Any:
        sample["doc_f1_over_orders"]["doc"] = 0
        return sample

    for name, change, told in (
        ("a", other, "claims order = "),
        ("b", one, "claims order = |claims n_orders = 1"),
        ("c", regrouped, "claims doc_f1_over_orders = "),
    ):
        with pytest.raises(UserError, match=told):
            check_submission(permuted_run(tmp_path / name, change), TRUTH)
    cut = permuted_run(tmp_path / "d")
    (file,) = cut.glob("*.jsonl")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    left = len(file.read_text().splitlines())
    results(cut, lambda r: r["n-samples"]["mimic_listing_permuted"].update(effective=left))
    with pytest.raises(
        UserError, match=f"holds {left} of {left + 1} docs and orders; run it without --limit"
    ):
        check_submission(cut, TRUTH)


def test_some_docs_are_not_all_docs(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    write_docs_run(folder, {"counting": DOCS["counting"][:50]}, drawn(1, 1, DOCS), NONE)
    (folder / "submission.yaml").write_text(ABOUT)
    with pytest.raises(UserError, match="holds 50 of 60 docs and orders; run it without --limit"):
        check_submission(folder, TRUTH)
    twice = tmp_path / "b"
    docs = [*DOCS["counting"], DOCS["counting"][0]]
    write_docs_run(twice, {"counting": docs}, drawn(1, 1, DOCS), NONE)
    (twice / "submission.yaml").write_text(ABOUT)
    with pytest.raises(UserError, match="a doc is there more than once"):
        check_submission(twice, TRUTH)


def test_docs_left_unscored_to_look_better_are_refused(tmp_path: Path) -> None:
    def choosy(most: int) -> Any:
        left = {doc["content_hash"] for doc in DOCS["counting"][:most]}
        return lambda kind, doc: unscored("hard") if doc["content_hash"] in left else doc["gt"]

    few = int(MOST_UNSCORED * 60)
    assert check_submission(submission(tmp_path / "few", choosy(few)), TRUTH)
    with pytest.raises(UserError, match=f"{few + 1} of 60 answers are unscored; at most 5 % are taken"):
        check_submission(submission(tmp_path / "many", choosy(few + 1)), TRUTH)


def test_files_and_names_that_do_not_belong_are_refused(tmp_path: Path) -> None:
    folder = submission(tmp_path / "a")
    for name in ("index.html", "x_results.json.sh", ".hidden_results.json"):
        (folder / name).write_text("x")
        with pytest.raises(UserError, match=r"holds submission\.toml, "):
            check_submission(folder, TRUTH)
        (folder / name).unlink()
    (folder / "x_results.json").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="is a link or a special file"):
        check_submission(folder, TRUTH)
    (folder / "x_results.json").unlink()
    assert check_submission(folder, TRUTH)
    for name in ("A", "a b", "..x", "a.b", "x" * 62, "<b>"):
        with pytest.raises(UserError, match="a submission's folder is named by small letters"):
            check_submission(folder.rename(tmp_path / name), TRUTH)
        folder = (tmp_path / name).rename(tmp_path / "a")


def test_files_that_are_too_large_are_refused_before_they_are_read(tmp_path: Path) -> None:
    folder = submission(tmp_path / "a")
    big = folder / "x_samples_mimic_counting.jsonl"
    with big.open("wb") as file:
        file.truncate(64_000_001)
    with pytest.raises(UserError, match="has 64000001 bytes; at most 64000000 are taken"):
        check_submission(folder, TRUTH)
    big.unlink()
    big = folder / "x_results.json"
    with big.open("wb") as file:
        file.truncate(4_000_001)
    with pytest.raises(UserError, match="has 4000001 bytes; at most 4000000 are taken"):
        check_submission(folder, TRUTH)


def test_which_folders_a_path_means(tmp_path: Path) -> None:
    one, two = submission(tmp_path / "subs/a"), submission(tmp_path / "subs/b")
    assert submissions_in(tmp_path / "subs") == [one, two]
    assert submissions_in(one) == [one]
    write_docs_run(tmp_path / "runs/x", {"counting": DOCS["counting"][:3]}, drawn(1, 1, DOCS), NONE)
    assert submissions_in(tmp_path / "runs") == []
    (tmp_path / "subs/c").mkdir()
    with pytest.raises(UserError, match=r"c has no submission\.toml"):
        submissions_in(tmp_path / "subs")


def test_the_command_checks_builds_and_refuses(command: Command, tmp_path: Path) -> None:
    folder = submission(tmp_path / "subs/team-a")
    done = command("mimic", "leaderboard", "check", tmp_path / "subs")
    assert done.returncode == 0, done.stderr
    head, *numbers = done.stdout.splitlines()
    assert head == f"{folder}: good"
    said = {tuple(line.split(": ")[1].split(" = ")[0].split()): line for line in numbers}
    (file,) = folder.glob("*_results.json")
    score = json.loads(file.read_text())["results"]["mimic_counting"]["exact_match,none"]
    right = round(60 * score)
    assert said["mimic_counting", "exact_match"] == (
        f"  {file.name}: mimic_counting exact_match = {right / 60:.6f}, n 60: attainable ({right}/60)"
    )
    assert said["mimic_listing", "f1"].endswith("n 60: cannot be said (an F1 is no share of docs)")
    site = tmp_path / "site"
    done = command("mimic", "leaderboard", "build", tmp_path / "subs", "--out", site)
    assert done.returncode == 0, done.stderr
    (page,) = (site / "models").iterdir()
    assert "Ada &amp; co" in page.read_text()
    assert '<a href="https://example.org/paper" rel="nofollow noreferrer noopener">' in page.read_text()
    about = folder / "submission.yaml"
    about.write_text("".join(line for line in ABOUT.splitlines(keepends=True) if "link" not in line))
    done = command("mimic", "leaderboard", "build", tmp_path / "subs", "--out", site)
    assert done.returncode == 0, done.stderr
    assert "example.org/paper" not in page.read_text()
    edit(folder, COUNTING, claim("score", 0.5))
    for words in (("check",), ("build", "--out", tmp_path / "other")):
        done = command("mimic", "leaderboard", *words, tmp_path / "subs")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "claims score = 0.5, our scoring gives" in done.stderr
    assert not (tmp_path / "other").exists()
    runs = command("mimic", "leaderboard", "check", tmp_path)
    assert runs.returncode == 2
    assert "holds no submission.toml" in runs.stderr
