"""The table: from samples, from our record, or from upstream's scores alone."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from leaderboard.runs import Run, read_runs
from leaderboard.summary import (
    NOT_LOGGED,
    WILSON,
    score_samples,
    summarize_run,
    summarize_runs,
    unscored_reasons,
)
from leaderboard.table import render_table
from mimic_eval.cli.formats import Format
from mimic_eval.cli.report import report
from mimic_eval.records import UserError, read_samples
from mimic_tasks.locate import EMBEDDED
from stats import mean_interval, micro_f1, wilson
from tests.makers.docs_runs import docs_in, write_docs_run
from tests.makers.runs import NONE, binary, permuted, write_run


def results(**more: Any) -> dict[str, Any]:
    scores = {"exact_match,none": 0.75, "exact_match_official,none": 0.5, "unscored,none": 1, "alias": "x"}
    return {
        "results": {"mimic_counting": scores, "mmmu": {"acc,none": 1.0}},
        "configs": {"mimic_counting": {"metadata": {"label": "embedded"}}},
        "n-samples": {"mimic_counting": {"original": 9, "effective": 5}},
        "date": "x",
        "config": {"model": "llava_ov_mask", "model_args": "pretrained=org/m"},
        **more,
    }


def sample(doc_id: int, ours: float | None, official: float | None) -> dict[str, Any]:
    items = [{} if score is None else {"score": score} for score in (ours, official)]
    record: dict[str, Any] = {"kind": "counting", "content_hash": f"h{doc_id}"}
    if ours is None:
        record |= {"status": "unscored", "reason": "cut off"}
    else:
        record |= {"status": "parsed", "response": "1", "parsed": 1, "score": ours}
    return {
        "doc_id": doc_id, "exact_match": items[0], "exact_match_official": items[1],
        "unscored": int(ours is None), "mimic": record,
    }  # fmt: skip


def test_samples_give_scores_without_the_unscored_docs() -> None:
    samples = [sample(0, 1.0, 1.0), sample(1, 0.0, 1.0), sample(2, None, None), sample(3, 1.0, 0.0)]
    run = Run("r", results(), {"mimic_counting": samples})
    ours, official = summarize_run(run)
    want = wilson(2, 3)
    assert (ours.n, ours.unscored, ours.score, ours.low, ours.high) == (
        3,
        1,
        want.estimate,
        want.low,
        want.high,
    )
    assert (official.score, official.interval) == (pytest.approx(2 / 3), WILSON)
    assert unscored_reasons(run) == ["mimic_counting doc 2: cut off"]


def test_scores_alone_give_the_same_interval() -> None:
    ours, official = summarize_run(Run("r", results(), {}))
    want = wilson(3, 4)
    assert (ours.n, ours.unscored, ours.low, ours.high) == (4, 1, want.low, want.high)
    assert (ours.checkpoint, ours.mask, ours.data) == ("org/m", "block", "embedded")
    assert official.score == 0.5


def listing_run(counts: list[tuple[int, int, int]]) -> Run:
    scores = {"f1,none": 0.5, "unscored,none": 0}
    n = {"mimic_listing": {"effective": len(counts)}}
    data = results(results={"mimic_listing": scores}, **{"n-samples": n})
    samples = [{**sample(i, 0.5, None), "f1": {"score": 0.5, "counts": c}} for i, c in enumerate(counts)]
    return Run("r", data, {"mimic_listing": samples})


def test_f1_is_micro_with_an_interval_from_8_docs() -> None:
    counts = [(2, 2, 2), (0, 1, 2), (1, 3, 1)] * 3
    (row,) = summarize_run(listing_run(counts))
    want = micro_f1(*zip(*counts, strict=True))
    assert (row.score, row.low, row.high) == (want.estimate, want.low, want.high)
    assert row.interval == "score interval, t quantile, effective sample size 95 %"
    (row,) = summarize_run(listing_run(counts[:3]))
    assert (row.low, row.high, row.interval) == (None, None, "no interval below 8 docs")
    (row,) = summarize_run(listing_run([(2, 2, 2)] * 60))
    assert (row.score, row.high) == (1.0, 1.0)
    assert row.low == pytest.approx(60 / (60 + 2.0009953780882688**2))  # "none: all docs score alike" before
    (row,) = summarize_run(Run("r", listing_run(counts).results, {}))
    assert (row.score, row.low, row.interval) == (0.5, None, NOT_LOGGED)


def test_the_docs_of_a_matched_set_are_one_observation() -> None:
    """30 sets of 8 equal docs say as much as 30 docs; as 240 docs the interval was a third as wide."""
    samples = [sample(8 * i + cell, float(i % 3 > 0), 1.0) for i in range(30) for cell in range(8)]
    for number, one in enumerate(samples):
        one["mimic"]["cell"] = f"n_images={2 + number % 8}"
    data = results(results={"mimic_counting": {"exact_match,none": 0.6, "unscored,none": 0}})
    data["n-samples"]["mimic_counting"] = {"effective": 240}
    (row,) = summarize_run(Run("r", data, {"mimic_counting": samples}))
    want = mean_interval([float(i % 3 > 0) for i in range(30)])
    assert (row.n, row.low, row.high) == (240, pytest.approx(want.low), pytest.approx(want.high))
    assert row.interval.endswith(" 95 %, over 30 matched sets")
    alone = wilson(160, 240)
    assert row.high - row.low > 2.5 * (alone.high - alone.low)


def test_the_docs_of_a_permuted_sweep_are_matched_sets_too() -> None:
    """10 sets of 4 equal docs in 2 orders, one doc unscored in an order. It was an interval over 39 docs."""
    rights = [[i % 2 == 0, None if (i, cell) == (3, 1) else i < 5] for i in range(10) for cell in range(4)]
    samples = [
        one
        for doc, own in enumerate(rights)
        for one in permuted(doc, [(0, 1), (1, 0)], own, cell=f"n_images={2 + doc % 4}")
    ]
    scored = score_samples(read_samples(samples, "made"), "exact_match_over_orders")
    kept = [(doc // 4, sum(map(bool, own)) / 2) for doc, own in enumerate(rights) if None not in own]
    want = mean_interval([score for _, score in kept], clusters=[number for number, _ in kept])
    assert (scored.n, scored.unscored) == (39, 1)
    assert (scored.low, scored.high) == pytest.approx((want.low, want.high))
    assert scored.interval.endswith("over 10 matched sets")


def test_the_table_names_data_checkpoint_mask_and_how_intervals_were_made() -> None:
    run = {"checkpoint": "embedded", "checkpoint_kind": "random", "mask": "block", "layers": "3-5"}
    table = render_table(summarize_run(Run("r", results(mimic={"run": run}), {})))
    assert table.startswith(
        "data embedded; model llava_ov_mask; checkpoint embedded (random); mask block 3-5\n"
    )
    low, high = (100 * end for end in (wilson(3, 4).low, wilson(3, 4).high))
    assert f"exact match  4 of 9  75.0 [{low:.1f}, {high:.1f}]         50.0         1" in table
    assert "Wilson 95 %; over docs of this image pool" in table
    assert "data embedded: the packaged glyph scenes" in table
    assert "mmmu" not in table


def test_a_model_that_is_not_ours_has_no_mask() -> None:
    data = results(config={"model": "qwen2_vl", "model_args": "pretrained=org/q"})
    row = summarize_run(Run("r", data, {}))[0]
    assert (row.checkpoint, row.mask) == ("org/q", "-")


def test_samples_tell_the_settings_of_a_run_by_upstreams_own_command() -> None:
    told = sample(0, 1.0, 1.0)
    told["mimic"]["run"] = {
        "checkpoint": "embedded",
        "checkpoint_kind": "random",
        "mask": "block",
        "layers": "3-5",
    }
    row = summarize_run(Run("r", results(), {"mimic_counting": [told]}))[0]
    assert (row.checkpoint, row.mask) == ("embedded (random)", "block 3-5")


def test_a_folder_is_read_oldest_first_with_its_samples_in_order(tmp_path: Path) -> None:
    for date in ("20260102_000000", "20260101_000000"):
        (tmp_path / "m").mkdir(exist_ok=True)
        (tmp_path / f"m/{date}_results.json").write_text(json.dumps(results(date=date)))
        lines = [json.dumps(sample(i, 1.0, 1.0)) for i in (0, 2, 1, 4, 3)]
        (tmp_path / f"m/{date}_samples_mimic_counting.jsonl").write_text("\n".join(lines) + "\n")
    runs = read_runs(tmp_path)
    assert [run.results["date"] for run in runs] == ["20260101_000000", "20260102_000000"]
    assert [s["doc_id"] for s in runs[0].samples["mimic_counting"]] == [0, 1, 2, 3, 4]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        read_runs(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds no \*_results\.json"):
        read_runs(tmp_path)
    (tmp_path / "x_results.json").write_text("{")
    with pytest.raises(UserError, match="holds no finished run"):
        read_runs(tmp_path)
    (tmp_path / "x_results.json").write_text("{}")
    with pytest.raises(UserError, match="is not a results file of lmms-eval"):
        read_runs(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"results": []}, "it has no 'results'"),
        (
            {"results": {"mimic_counting": []}},
            r"lmms-eval's form: results / mimic_counting must be an object, got \[\]",
        ),
        ({"results": {"mimic_counting": {"exact_match,none": "0.5"}}}, "must be within 0-1, got '0.5'"),
        ({"results": {"mimic_counting": {"exact_match,none": 7}}}, "must be within 0-1, got 7"),
        ({"n-samples": {}}, "the number of docs of mimic_counting is missing"),
        ({"n-samples": {"mimic_counting": {"effective": 1e999}}}, "effective of mimic_counting is inf"),
        ({"configs": {"mimic_counting": {"metadata": "x"}}}, "metadata must be an object, got 'x'"),
        ({"mimic": {"rows": [{"task": "a"}]}}, "mimic / rows are not rows of this version's table"),
    ],
)
def test_results_of_another_form_are_refused_in_one_line(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "x_results.json").write_text(json.dumps(results(**change)))
    with pytest.raises(UserError, match=message) as error:
        [summarize_run(run) for run in read_runs(tmp_path)]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("[1]\n" * 5, "a line has no doc_id"),
        ('{"doc_id": "x"}\n' * 5, "a line has no doc_id"),
        ('{"doc_id": 1}\n' * 6, "holds 6 samples where x_results.json speaks of 5"),
        (
            '{"doc_id": 1, "exact_match": 1.0}\n' * 5,
            "x_samples_mimic_counting.jsonl: doc 1: 'mimic' must be an object, got None",
        ),
    ],
)
def test_samples_of_another_form_are_refused_in_one_line(lines: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x_results.json").write_text(json.dumps(results()))
    (tmp_path / "x_samples_mimic_counting.jsonl").write_text(lines)
    with pytest.raises(UserError, match=message):
        [summarize_run(run) for run in read_runs(tmp_path)]


def test_an_answer_with_a_line_separator_is_one_answer(tmp_path: Path) -> None:
    told = [{**sample(i, 1.0, 1.0), "resps": "a\u2028b\u0085c"} for i in range(5)]
    (tmp_path / "x_results.json").write_text(json.dumps(results()))
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in told)
    (tmp_path / "x_samples_mimic_counting.jsonl").write_text(text, encoding="utf-8")
    (run,) = read_runs(tmp_path)
    assert summarize_run(run)[0].n == 5


def test_a_file_in_place_of_a_folder_is_said(tmp_path: Path) -> None:
    """It was "no such folder"."""
    file = tmp_path / "a_results.json"
    file.write_text("{}")
    with pytest.raises(UserError, match=r"a_results\.json is a file: give its folder"):
        read_runs(file)


def test_a_run_below_two_of_the_folders_is_one_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs" / "one"
    counting = {"counting": docs_in(EMBEDDED)["counting"]}
    write_docs_run(run, counting, lambda kind, doc: str(doc["gt"]), NONE)
    report([tmp_path / "runs", run, Path(f"{run}/.")], figure=False, out=None, json_=True)
    rows = json.loads(capsys.readouterr().out)
    assert [row["metric"] for row in rows] == ["exact_match", "exact_match_official"]


def test_every_form_of_the_table_has_the_same_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two runs, of which one limited; the table fits 100 columns, the files hold every row and field."""
    counting = docs_in(EMBEDDED)["counting"]
    for name, docs, settings in (("a", counting, NONE), ("b", counting[:20], {**NONE, "pool": 4})):
        right = {doc["content_hash"]: i % 2 == 0 for i, doc in enumerate(docs)}
        answer = lambda kind, doc, right=right: str(doc["gt"] if right[doc["content_hash"]] else 99)  # noqa: E731
        write_docs_run(tmp_path / name, {"counting": docs}, answer, settings)
    out = tmp_path / "out"
    runs = [tmp_path / "a", tmp_path / "b"]
    report(runs, figure=False, json_=False, sub_tasks=False, out=out)
    said = capsys.readouterr().out
    assert max(map(len, said.replace(str(out), "").splitlines())) <= 100
    assert said.startswith("data embedded; model llava_ov_mask; checkpoint m\n")
    low, high = (100 * end for end in (wilson(10, 20).low, wilson(10, 20).high))
    assert f"none, pool 4  exact match  20  50.0 [{low:.1f}, {high:.1f}]         50.0\n" in said
    lines = list(csv.DictReader(io.StringIO((out / "report.csv").read_text())))
    assert [(line["mask"], line["metric"], line["n"]) for line in lines] == [
        ("none", "exact_match", "60"), ("none", "exact_match_official", "60"),
        ("none, pool 4", "exact_match", "20"), ("none, pool 4", "exact_match_official", "20"),
    ]  # fmt: skip
    assert float(lines[2]["low"]) == wilson(10, 20).low
    full = " ".join((out / "report.md").read_text().split())
    assert f"| mimic_counting | exact_match | 20 | 50.0 | {low:.1f} to {high:.1f} | 0 |" in full
    report(runs, figure=False, json_=False, sub_tasks=False, out=None, format_=Format.latex)
    assert capsys.readouterr().out == (out / "report.tex").read_text()
    assert f"none, pool 4 & 50.0 [{low:.1f}, {high:.1f}] \\\\\n" in (out / "report.tex").read_text()


def test_long_names_of_runs_are_above_the_table(tmp_path: Path) -> None:
    """The name of a setting broken over four lines of a column could not be read or copied."""
    heads = {**NONE, "mask": "knockout", "edges": "answer>image[target]", "heads": "L0H1+L2H3"}
    for name, settings in (("a", NONE), ("b", heads)):
        rows = {"mimic_counting": [binary(i, i > 3) for i in range(9)]}
        write_run(tmp_path / name, rows, settings, metrics=("exact_match",))
    table = render_table(summarize_runs(read_runs(tmp_path))).splitlines()
    assert table[1:3] == ["A: none", "B: knockout, edges answer>image[target], heads L0H1+L2H3"]
    assert [line.split()[:2] for line in table[5:7]] == [["mimic_counting", "A"], ["mimic_counting", "B"]]
