"""What a diagnosis says: crossing, tests by hand, the Dirichlet band, figures, pairs of runs, heads."""

import csv
import html
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from leaderboard.diagnosis.analysis import analysed, crossing
from leaderboard.diagnosis.comparison import compared
from leaderboard.diagnosis.drawing import render_csv, render_svg, words_of
from leaderboard.diagnosis.heads import EDGES, ROWS, random_heads, search, write_search
from leaderboard.diagnosis.output import write_summary
from leaderboard.diagnosis.reading import Diagnosis, mean_of, read_diagnosis
from leaderboard.diagnosis.results import Band, Plot, Point, Series, points
from leaderboard.diagnosis.shown import read_shown
from leaderboard.site.build import RunFolder, build_site
from leaderboard.site.texts import measured
from mimic_eval.records import UserError
from model_adapters.heads import parse_heads
from model_adapters.options import AdapterOptions
from stats import entropy_null, hodges_lehmann, holm, wilcoxon_signed_rank
from tests.makers.runs import NONE, binary, write_run

pytestmark = pytest.mark.slow
DOCS, LAYERS = 12, 8


def diagnosis(*, seed: int = 0, shift: float = 0.0, mask: str = "none") -> Diagnosis:
    """Random shares; intra rises with depth, sinks fall with the place, entropy is `shift` lower."""
    rng = np.random.default_rng(seed)
    images = np.array([2, 4] * (DOCS // 2))
    depth = np.linspace(0, 1, LAYERS)
    noise = 0.02 * rng.random((DOCS, LAYERS))
    most = np.arange(4) < images[:, None]
    place = np.where(most, np.arange(4) / (images[:, None] - 1), np.nan)
    share = np.repeat((0.5 - 0.3 * place)[:, None], LAYERS, axis=1) + noise[:, :, None]
    targets = np.where(most, (np.arange(4) == 0).astype(float), np.nan)
    to_image = np.where(most[:, None], 0.1 + 0.05 * (targets[:, None] == 1) + noise[:, :, None] / 2, np.nan)
    return Diagnosis(
        name=mask,
        run={"depth": LAYERS, "heads": 2, "run": {"mask": mask}},
        docs=tuple(("mimic_counting", f"{doc:064d}", doc) for doc in range(DOCS)),
        images=images,
        by_layer={
            "intra": 0.1 + 0.4 * depth + noise,
            "inter": 0.4 - 0.3 * depth + noise,
            "recurrence": 0.2 + noise,
            "recurrence_random": 0.5 + noise,
            "entropy_answer": 0.9 - shift - 0.2 * depth + noise / 2,
            "answer_in_boxes": 0.3 + noise,
        },
        by_image={"sink_share": share, "answer_to_image": to_image},
        of_doc={"tokens_in_boxes": np.full(DOCS, 0.1) + rng.random(DOCS) / 50},
        targets=targets,
    )


def test_the_crossing_is_where_intra_stays_above() -> None:
    inter = np.full(5, 0.5)
    assert crossing(np.array([0.1, 0.6, 0.3, 0.4, 0.8]), inter) == pytest.approx(3.25)
    assert crossing(np.array([0.1, np.nan, np.nan, 0.9, 0.9]), inter) == pytest.approx(1.5)
    assert crossing(np.full(5, 0.4), inter) is None
    assert crossing(np.full(5, 0.6), inter) is None
    assert crossing(np.array([0.1, 0.9, 0.1, 0.9, 0.4]), inter) is None


def test_means_leave_out_what_is_not_there() -> None:
    values = np.array([[1.0, np.nan], [3.0, np.nan]])
    np.testing.assert_array_equal(mean_of(values, axis=0), [2.0, np.nan])


def test_tests_are_those_of_stats_in_their_named_families() -> None:
    run = diagnosis()
    summary = analysed(run)
    tests = {test.name: test for test in summary.tests}
    share = mean_of(run.by_image["sink_share"], axis=1)
    difference = share[:, 0] - share[np.arange(DOCS), run.images - 1]
    found = tests["sink share, first - last image"]
    wanted, shift = wilcoxon_signed_rank(difference), hodges_lehmann(difference, bounds=(-1, 1))
    assert (found.pvalue, found.test, found.n) == (wanted.pvalue, wanted.method, DOCS)
    assert (found.shift, found.low, found.high) == (shift.estimate, shift.low, shift.high)
    assert found.shift == pytest.approx(0.3)
    families: dict[str, list[Any]] = {}
    for test in summary.tests:
        families.setdefault(test.family, []).append(test)
    assert set(families) == {
        "primary tests (7)", "intra - inter by quartile of depth (4)", "entropy of adjacent quartiles (3)",
    }  # fmt: skip
    for family in families.values():
        assert [test.holm for test in family] == list(holm([test.pvalue for test in family]).adjusted)
    assert tests["distance of sinks - of random places"].shift == pytest.approx(-0.3)
    assert tests["answer to image, target - distractor"].shift == pytest.approx(0.05)
    assert tests["entropy (answer rows), last - first quartile"].shift == pytest.approx(
        -0.2 * 6 / 7, abs=0.01
    )


def test_facts_of_the_figures_by_hand() -> None:
    run = diagnosis()
    facts = analysed(run).facts
    assert facts["crossing"]["estimate"] == pytest.approx(3.0, abs=0.01)  # 0.1 + 0.4 x = 0.4 - 0.3 x at 3/7
    assert facts["sink_share"]["first_to_last"]["estimate"] == pytest.approx(-0.3)
    assert facts["sink_share"]["spearman"]["estimate"] == -1.0
    assert facts["docs_by_images"] == {"2": 6, "4": 6}
    null = facts["entropy"]["null"]
    last = run.by_quartile("entropy_answer")[run.images == 4, 3]
    assert null["4"]["median_of_last_quartile"] == pytest.approx(np.median(last))
    assert null["4"]["p_higher_than_null"] == entropy_null(4).pvalue_high(float(np.median(last)))
    assert facts["entropy"]["spearman_of_layer"]["estimate"] < -0.9


def test_the_band_is_the_mean_of_the_nulls_of_the_docs() -> None:
    plots = {plot.name: plot for plot in analysed(diagnosis()).plots}
    band = plots["entropy"].band
    assert band is not None
    wanted = (entropy_null(2).quantile(0.025) + entropy_null(4).quantile(0.025)) / 2
    assert band.low == pytest.approx((wanted,) * 4)
    assert [line.label for line in plots["sink_share"].series] == ["2 images (6 docs)", "4 images (6 docs)"]
    assert set(plots) == {
        *("inter_intra", "recurrence", "sink_share", "entropy", "answer_by_place", "answer_by_role"),
        "in_boxes",
    }


def test_a_figure_is_the_same_bytes_again_with_its_text_and_its_numbers() -> None:
    for plot in analysed(diagnosis()).plots:
        svg = render_svg(plot)
        assert svg == render_svg(plot)
        text = svg.decode()
        assert "http://www.w3.org" in text
        for line in plot.series:
            assert line.label in text
        rows = list(csv.DictReader(io.StringIO(render_csv(plot))))
        drawn = sum(len(line.points) for line in plot.series)
        assert len(rows) == drawn + (0 if plot.band is None else len(plot.band.x))
        assert float(rows[0]["value"]) == pytest.approx(plot.series[0].points[0].value, rel=1e-5)
        assert plot.title in words_of(plot)


def test_a_point_of_few_docs_has_no_interval() -> None:
    same = points([0.0], np.zeros((20, 1)))  # a mask blocked it; the band went from 0 to 0.17
    assert same == (Point(0.0, 0.0, None, None, 20),)
    few = points([0.0], np.array([[0.1], [0.2], [np.nan]]))
    assert [(point.low, point.n) for point in few] == [(None, 2)]
    plot = Plot(
        "x",
        "T",
        "x",
        "y",
        (Series("a", few),),
        (),
        band=Band("b", (0.0, 1.0), (0.1,) * 2, (0.2,) * 2, (0.15,) * 2),
    )
    assert b"b" in render_svg(plot)


def test_two_runs_are_paired_on_their_common_docs() -> None:
    a, b = diagnosis(), diagnosis(shift=0.1, mask="ar").chosen([*range(2, DOCS)][::-1])
    summary = compared(a, b)
    tests = {test.name: test for test in summary.tests}
    for q in range(4):
        found = tests[f"entropy (answer rows), quartile {q + 1}, B - A"]
        assert found.shift == pytest.approx(-0.1)
        assert found.n == DOCS - 2
    assert tests["intra-image attention, B - A"].shift == 0
    assert summary.facts["left_out"] == {"only_a": 2, "only_b": 0}
    assert summary.facts["names"] == ["none", "ar"]
    assert {test.family for test in summary.tests} == {f"all measures of the comparison ({len(tests)})"}


def test_the_same_image_is_followed_through_two_orders() -> None:
    """The measures depend on the place alone: 0.5 less 0.3 from the first place to the last (`diagnosis`)."""
    fixed, turned = diagnosis(), diagnosis()
    turned = replace(turned, run={**turned.run, "run": {"mask": "none", "order": "reversed"}})
    tests = {test.name: test for test in compared(fixed, turned).tests}
    found = tests["sink share of the same image, earlier - later place"]
    # two images: both move by one place of one, 0.3; four: by 3, 1, 1, 3 places of three, 0.3 (2/3)
    assert (found.low, found.high) == pytest.approx((0.2, 0.3))
    assert found.n == DOCS
    assert found.pvalue < 0.001
    assert "sink share of the same image, earlier - later place" not in {
        test.name for test in compared(fixed, diagnosis()).tests
    }


def test_runs_that_cannot_be_paired_are_refused() -> None:
    a = diagnosis()
    other = diagnosis()
    with pytest.raises(UserError, match="no doc in common"):
        compared(a.chosen([0]), other.chosen([1]))
    deeper = Diagnosis(**{**vars(other), "run": {**other.run, "depth": 9}})
    with pytest.raises(UserError, match="8 layers, none 9: layers cannot be paired"):
        compared(a, deeper)


def heads_folder(folder: Path, *, boxes: bool = True) -> Path:
    """A finished run of 3 layers with 2 heads, layer 1 not watched; head L2H1 looks into the boxes."""
    rows = []
    for doc in range(10):
        for layer in (0, 2):
            for head in (0, 1):
                inside = 0.8 if (layer, head) == (2, 1) else 0.1 + 0.01 * (layer + head)
                for in_box, mass in ((True, inside + 0.01 * (doc % 2)), (False, 0.9 - inside)):
                    rows.append((doc, layer, head, "last", "image", 1, in_box if boxes else None, 1, mass))
                rows.append((doc, layer, head, "last", "question", None, None, 1, 0.1 - 0.01 * (doc % 2)))
                rows.append((doc, layer, head, "question", "image", 1, not boxes or None, 4, 4.0))
    names = ("doc", "layer", "head", "query", "key", "key_image", "key_in_box", "rows", "mass")
    columns: dict[str, Any] = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    columns["key_in_box"] = pa.array(columns["key_in_box"], type=pa.bool_())
    columns |= {"task": ["mimic_counting"] * len(rows), "query_image": pa.nulls(len(rows), pa.int16())}
    pq.write_table(pa.table(columns), folder / "diagnose.parquet")
    run = {"format": "mimic_eval diagnosis", "depth": 3, "heads": 2, "watched": [0, 2]}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "diagnose.json").write_text("{}")
    return folder


def test_heads_are_ranked_by_their_attention_in_the_boxes(tmp_path: Path) -> None:
    found = search(heads_folder(tmp_path), best=1)
    assert [(head.layer, head.head) for head in found.ranked] == [(2, 1), (2, 0), (0, 1), (0, 0)]
    assert found.ranked[0].score.estimate == pytest.approx(0.805)
    assert found.ranked[0].score.n == found.docs == 10
    assert random_heads(found, seed=0) == [(2, 0)]  # of the same layer


def test_the_files_of_a_search_are_read_as_heads(tmp_path: Path) -> None:
    found = search(heads_folder(tmp_path), best=2)
    files = write_search(found, tmp_path, tmp_path / "out", controls=2, seed=5)
    assert [file.name for file in files] == [
        *("heads.json", "heads_random_1.json", "heads_random_2.json", "heads_all.json")
    ]
    read = [parse_heads(f"@{file}") for file in files]
    assert [heads and heads.pairs for heads in read] == [
        {(2, 0), (2, 1)}, {(0, 0), (0, 1)}, {(0, 0), (0, 1)}, {(0, 0), (0, 1), (2, 0), (2, 1)},
    ]  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "out" / "heads.csv").open()))
    assert [row["chosen"] for row in rows] == ["True", "True", "False", "False"]


def test_the_edges_of_a_search_block_its_rows_in_its_heads(tmp_path: Path) -> None:
    found = search(heads_folder(tmp_path), best=2)
    file = write_search(found, tmp_path, tmp_path / "out", controls=0, seed=0)[0]
    assert set(EDGES) == set(ROWS)
    for edges in EDGES.values():
        given = {"mask": "knockout", "edges": edges, "layers": "all", "heads": f"@{file}"}
        options = AdapterOptions.parse(given)
        assert options.intervention().settings()["heads"] == "L2H0-1"


def test_a_search_without_boxes_or_with_too_many_heads_is_refused(tmp_path: Path) -> None:
    heads_folder(tmp_path, boxes=False)
    with pytest.raises(UserError, match="none of its docs has truth boxes"):
        search(tmp_path, best=1)
    heads_folder(tmp_path)
    with pytest.raises(UserError, match="--best must be below 4"):
        search(tmp_path, best=4)
    (tmp_path / "diagnose.json").unlink()
    with pytest.raises(UserError, match="is not finished"):
        search(tmp_path, best=1)


def test_a_folder_without_a_run_or_with_a_damaged_one_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run of `mimic diagnose`"):
        read_diagnosis(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"format": "mimic_eval diagnosis", "depth": 3}))
    with pytest.raises(UserError, match="is not finished"):
        read_diagnosis(tmp_path)
    (tmp_path / "measures.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"measures\.parquet is damaged"):
        read_diagnosis(tmp_path)


def shown_folder(folder: Path, *, comparison: bool = False, **changes: Any) -> Path:
    """A folder as the command writes it."""
    folder.mkdir()
    run = {"model": "llava_ov_mask", "tasks": "mimic_counting", "run": {"checkpoint": "a/b", "mask": "none"}}
    summary = analysed(diagnosis())
    other = {**run, "run": {**run["run"], "mask": "block", "layers": "4-7"}}  # type: ignore[dict-item]
    if comparison:
        summary = compared(diagnosis(), diagnosis(shift=0.1, mask="block"))
    summary.facts["docs"] = DOCS
    given = {"a": run, "b": other} if comparison else run
    write_summary(folder, summary, run=given, name="compare.json" if comparison else "diagnose.json")
    file = folder / ("compare.json" if comparison else "diagnose.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return folder


def test_a_diagnosis_is_read_back_as_it_was_drawn(tmp_path: Path) -> None:
    shown = read_shown(shown_folder(tmp_path / "one"))
    plots = analysed(diagnosis()).plots
    assert shown.title == "llava_ov_mask, a/b, none: mimic_counting"
    assert [figure.plot.name for figure in shown.figures] == [plot.name for plot in plots]
    for figure, plot in zip(shown.figures, plots, strict=True):
        assert render_csv(figure.plot) == render_csv(plot)
        assert render_svg(figure.plot) == (tmp_path / "one" / f"{plot.name}.svg").read_bytes()
    pair = read_shown(shown_folder(tmp_path / "pair", comparison=True))
    assert "none" in pair.title
    assert "block 4-7" in pair.title
    assert shown.id != pair.id


@pytest.mark.parametrize(
    "changes",
    [
        {"figures": [{"name": "../../x"}]},
        {"figures": 3},
        {"tests": [{"name": "x"}]},
        {"results": {}},
        {"run": []},
        {"figures": [{"name": "x", "series": [], "band": None, "mark": None}]},
    ],
)
def test_a_damaged_diagnosis_is_one_line(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"diagnose\.json is damaged"):
        read_shown(shown_folder(tmp_path / "one", **changes))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no finished run of `mimic diagnose`, and no comparison"):
        read_shown(tmp_path / "empty")


def test_the_page_why_has_figures_words_numbers_and_tests(tmp_path: Path) -> None:
    samples = [binary(i, i % 2 == 0, n_images=2, spread=1) for i in range(4)]
    names = ("exact_match", "exact_match_official")
    run = RunFolder(write_run(tmp_path / "run", {"mimic_counting": samples}, NONE, metrics=names))
    made = [shown_folder(tmp_path / "one"), shown_folder(tmp_path / "pair", comparison=True)]
    build_site([run], tmp_path / "site", sources=(), title="Made", diagnoses=made)
    page = (tmp_path / "site" / "why.html").read_text()
    assert 'href="why.html" aria-current="page"' in page
    assert 'href="why.html"' in (tmp_path / "site" / "index.html").read_text()
    for folder in made:
        shown = read_shown(folder)
        for plot, words in shown.figures:
            assert (tmp_path / "site" / "why" / f"{shown.id}-{plot.name}.svg").read_bytes() == render_svg(
                plot
            )
            assert (tmp_path / "site" / "csv" / f"why-{shown.id}-{plot.name}.csv").is_file()
            assert f'alt="{html.escape(words, quote=False)}'[:60] in page.replace("&#39;", "'")
        for test in shown.tests:
            assert measured(test.shift, test.name) in page
    build_site([run], tmp_path / "site", sources=(), title="Made")  # the page goes with its diagnoses
    assert not (tmp_path / "site" / "why.html").exists()
    assert "why.html" not in (tmp_path / "site" / "index.html").read_text()
