"""Hostile files and names in submissions: refused in one line and soon, or shown harmlessly."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from leaderboard.site.submission import check_submission, submissions_in
from mimic_eval.records import UserError
from tests.leaderboard.test_site_attacks import built, checked, refused, team
from tests.leaderboard.test_submissions import ABOUT, COUNTING, DOCS, TRUTH, edit, results, submission
from tests.makers.docs_runs import drawn
from tests.work import calls, modules_at_work

# tracebacks and hangs

YAMLS = [
    ABOUT.replace("Ada & co", '"\\U00110000"'),
    ABOUT.replace("Ada & co", '"\\UFFFFFFFF"'),
    "%YAML 1." + "9" * 5000 + "\n---\n" + ABOUT,
]


@pytest.mark.parametrize("text", YAMLS)
def test_yaml_that_its_reader_trips_over_is_one_line(tmp_path: Path, text: str) -> None:
    folder = submission(tmp_path / "a")
    (folder / "submission.yaml").write_text(text)
    refused(folder, "is not YAML that can be read")


def test_brackets_in_the_yaml_do_not_hold_the_check_up(tmp_path: Path) -> None:
    folder = submission(tmp_path / "a")
    for brackets in (10, 7900):
        (folder / "submission.yaml").write_text("[" * brackets)
        refused(folder)  # what is compiled at the first refusal is not counted
        assert calls(lambda: refused(folder)) < 10_000


@pytest.mark.parametrize(
    "scores", [{"exact_match,none": 10**400, "exact_match_official,none": 0}, ["exact_match,none"], "x"]
)
def test_scores_in_no_form_are_one_line(tmp_path: Path, scores: Any) -> None:
    folder = submission(tmp_path / "a")
    results(folder, lambda r: r["results"].update(mimic_counting=scores))
    refused(folder)


def test_folders_in_folders_are_one_line(tmp_path: Path) -> None:
    folder, here = submission(tmp_path / "a"), Path.cwd()
    os.chdir(folder)
    try:
        for _ in range(1200):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(here)
    try:
        refused(folder)
    finally:
        import subprocess

        subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_samples_of_no_doc_are_refused_before_intervals_are_drawn(tmp_path: Path) -> None:
    folder = submission(tmp_path / "a")
    (file,) = folder.glob("*_samples_mimic_listing.jsonl")
    file.write_text(
        "".join(
            json.dumps({"doc_id": i, "unscored": 0, "f1": {"score": 0.5, "counts": [i, i + 1, i + 2]}}) + "\n"
            for i in range(8_000)  # 0.6 MB; 64 MB are taken
        )
    )
    results(folder, lambda r: r["n-samples"]["mimic_listing"].update(effective=8_000))
    work = modules_at_work(lambda: refused(folder))
    assert not {"stats.bootstrap", "stats.means"} & set(work)
    assert work.total() < 200 * 8_000


def test_a_sample_of_hundred_thousand_lists_is_refused(tmp_path: Path) -> None:
    folder = submission(tmp_path / "a")  # 20 million of these in 60 MB: 1.5 GB of memory, and "good"
    edit(folder, COUNTING, lambda sample: {**sample, "x": [[]] * 100_000})
    refused(folder)


@pytest.mark.parametrize("content", ["", "mimicData(1,\n{"])
def test_a_cut_off_file_of_the_site_is_made_again(tmp_path: Path, content: str) -> None:
    given = checked(submission(tmp_path / "a"))
    site = built(tmp_path / "site", *given)
    file = min((site / "data/answers").iterdir())
    before = file.read_bytes()
    file.write_text(content)
    built(site, *given)
    assert file.read_bytes() == before


# what is taken and what is not


def test_a_link_in_place_of_a_submission_is_refused(tmp_path: Path) -> None:
    submission(tmp_path / "outside")
    (tmp_path / "subs").mkdir()
    (tmp_path / "subs/team").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="link"):
        [check_submission(folder, TRUTH) for folder in submissions_in(tmp_path / "subs")]


def test_the_group_that_lmms_eval_writes_for_tasks_mimic_is_no_fault(tmp_path: Path) -> None:
    folder = submission(tmp_path / "a")
    results(folder, lambda r: r["results"].update(mimic={" ": " ", "alias": "mimic"}))
    assert check_submission(folder, TRUTH)


def test_the_submission_that_one_stands_in_can_be_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(submission(tmp_path / "a"))
    assert check_submission(submissions_in(Path())[0], TRUTH)["name"] == "a"


@pytest.mark.parametrize("text", ["\u3164", "\u2800", "\u034f"])
def test_a_name_can_be_seen(tmp_path: Path, text: str) -> None:
    folder = submission(tmp_path / "a")
    (folder / "submission.yaml").write_text(ABOUT.replace("Ada & co", text))
    refused(folder)


def test_a_key_twice_in_the_yaml_is_refused(tmp_path: Path) -> None:
    folder = submission(tmp_path / "a")
    (folder / "submission.yaml").write_text(ABOUT + "who: Somebody else\n")
    refused(folder)


def test_no_page_holds_signs_that_turn_or_hide_text(tmp_path: Path) -> None:
    folder = submission(tmp_path / "a")
    results(folder, lambda r: r["config"].update(model="llava\u202e\x1b[31m"))
    inside = folder / "x\x1b[2K\u202ey"
    inside.mkdir()
    for file in folder.glob("2026*"):
        file.rename(inside / file.name)
    try:
        site = built(tmp_path / "site", *checked(folder))
    except UserError:
        return
    for page in site.rglob("*.html"):
        assert not {"\u202e", "\x1b"} & set(page.read_text()), page.name


def test_messages_hold_no_signs_for_the_terminal(tmp_path: Path) -> None:
    folder = submission(tmp_path / "a")
    (folder / "submission.yaml").write_text('"\\e]0;pwned\\a": x\n')
    with pytest.raises(UserError) as caught:
        check_submission(folder, TRUTH)
    assert "\x1b" not in str(caught.value)


def test_a_picture_of_the_site_holds_no_comment_of_the_source(tmp_path: Path) -> None:
    from functools import partial

    from PIL import Image

    from leaderboard.site.documents import Album
    from mimic_tasks.catalog import CatalogDoc, CatalogPicture, _decoded

    stored, written = io.BytesIO(), dict[str, bytes]()
    Image.new("RGB", (40, 40)).save(stored, "JPEG", comment=b"<script>alert(1)</script>")
    picture = CatalogPicture("0" * 64, "1", [], partial(_decoded, stored.getvalue()))
    list(Album({}, lambda name: None, written.__setitem__).show_all([CatalogDoc("h", "q", "1", [picture])]))
    assert all(b"<script>" not in data for data in written.values())


def test_a_yaml_of_another_name_does_not_make_a_submission_a_run_of_ours(tmp_path: Path) -> None:
    folder = submission(tmp_path / "subs/team")
    (folder / "submission.yaml").rename(folder / "submission.yml")
    with pytest.raises(UserError, match=r"submission\.yaml"):  # today []: built as runs, unchecked
        submissions_in(tmp_path / "subs")


def test_no_cell_of_a_csv_starts_a_formula_where_semicolons_part_cells(tmp_path: Path) -> None:
    site = built(
        tmp_path / "site", *checked(team(tmp_path / "a", ("counting",), drawn(3, 0.8, DOCS), "a;=cmd()"))
    )
    assert ";=" not in (site / "csv/overview.csv").read_text()
