"""Labels: a run is called by its checkpoint, adapter and intervention, and by all that is not the default."""

from pathlib import Path

import pytest

from leaderboard.arms import read_arm
from leaderboard.comparison import compare
from leaderboard.labels import Label, Named, brief_labels, label, labels
from leaderboard.runs import read_runs
from leaderboard.summary import summarize_run, summarize_runs
from leaderboard.table import render_table
from tests.makers.runs import BLOCK, NONE, binary, write_run

AR = {
    **BLOCK,
    "mask": "ar",
    "relevance": "grounded_clip",
    "links": "later_images",
    "score": "ratio",
    "tau": 20.0,
}


def told(*settings: dict[str, object]) -> list[Label]:
    return labels([Named("m_mask", own) for own in settings])


def test_a_label_names_the_adapter_the_relevance_and_what_is_not_the_default() -> None:
    base = {
        "checkpoint": "org/q",
        "checkpoint_kind": "trained",
        "peft": "out/lora",
        "pool": 4,
        "order": "reversed",
    }
    assert label(Named("m_mask", {**AR, **base})) == (
        "m_mask",
        "org/q (trained) + out/lora",
        "ar 3-5, relevance grounded_clip, pool 4, order reversed",
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"relevance": "attention"}, "ar 3-5, relevance attention"),
        ({"links": "later_tokens"}, "ar 3-5, relevance grounded_clip, links later_tokens"),
        ({"score": "z", "tau": 7.5}, "ar 3-5, relevance grounded_clip, score z, tau 7.5"),
        ({"prefix": True}, "ar 3-5, relevance grounded_clip, prefix true"),
        (
            {"box_threshold": 0.35, "text_threshold": 0.25, "relevance_dtype": "float32"},
            "ar 3-5, relevance grounded_clip",
        ),
        (
            {"box_threshold": 0.1, "text_threshold": 0.9, "relevance_dtype": "bfloat16"},
            "ar 3-5, relevance grounded_clip, box_threshold 0.1, text_threshold 0.9, "
            "relevance_dtype bfloat16",
        ),
        ({"relevance": "sam_clip", "sam": "a/b", "top": 5}, "ar 3-5, relevance sam_clip"),
        ({"relevance": "sam_clip", "top": 3}, "ar 3-5, relevance sam_clip, top 3"),
        ({"prefix": False, "tau": "20.0"}, "ar 3-5, relevance grounded_clip"),
        ({"layers": "0-2"}, "ar 0-2, relevance grounded_clip"),
        ({"temperature": 1.5}, "ar 3-5, relevance grounded_clip, temperature 1.5"),  # a setting to come
        (
            {"batch_size": 8, "device": "cuda", "kernel": "sdpa", "depth": 24},
            "ar 3-5, relevance grounded_clip",
        ),
    ],
)
def test_each_setting_that_is_not_the_default_is_in_the_label(change: dict[str, object], text: str) -> None:
    assert label(Named("m_mask", {**AR, **change})).setting == text


def test_sofas_sigma_and_a_knockouts_edges_are_in_the_label() -> None:
    """A calibration's sigma is a detail."""
    sofa = {**BLOCK, "mask": "sofa", "layers": "0+2+4", "sigma": 0.5, "own_image": False}
    assert label(Named("m_mask", sofa)).setting == "sofa 0+2+4"
    assert label(Named("m_mask", {**sofa, "sigma": 0.3})).setting == "sofa 0+2+4, sigma 0.3"
    assert label(Named("m_mask", {**AR, "sigma": [0.3]})).setting == "ar 3-5, relevance grounded_clip"
    cut = {**BLOCK, "mask": "knockout", "edges": "answer>image[target]", "heads": "L3H0"}
    assert label(Named("m_mask", cut)).setting == "knockout 3-5, edges answer>image[target], heads L3H0"


def test_heads_are_named_where_they_are_not_the_default_of_the_mask() -> None:
    """VAR selects heads unless it is asked for all."""
    own = {"mask": "var", "layers": "2-22", "variant": "paper", "p": 0.6, "rho": 0.5, "rows": "after_last"}
    var = {**NONE, **own, "min_visual_share": 0.2, "heads": "selected"}
    assert label(Named("m_mask", var)).setting == "var 2-22"
    every = {**var, "heads": "all", "variant": "released", "layers": "2-23", "p": 0.8}
    assert label(Named("m_mask", every)).setting == "var 2-23, heads all, variant released, p 0.8"


def test_a_long_setting_is_cut_and_still_tells_two_runs_apart() -> None:
    """Three hundred heads from a file were three hundred heads in every table."""
    heads = ["+".join(f"L{layer}H{head}" for layer in range(28) for head in (0, last)) for last in (2, 3)]
    cut = {**BLOCK, "mask": "knockout", "edges": "answer>image"}
    one, two = told(*({**cut, "heads": each} for each in heads))
    assert one.setting.startswith("knockout 3-5, edges answer>image, heads L0H0+L0H2+L1H0+")
    assert len(one.setting) < 180
    assert one != two


def test_runs_with_different_settings_never_read_the_same() -> None:
    wide, narrow = told({**NONE, "dtype": "float32"}, {**NONE, "dtype": "bfloat16"})
    assert (wide.setting, narrow.setting) == ("none, dtype float32", "none, dtype bfloat16")
    one, two = told({**NONE, "x": "1, y 2"}, {**NONE, "x": "1", "y": "2"})
    assert one.setting != two.setting
    a, b = told({**NONE, "x": "1"}, {**NONE, "x": "1", "mask": "none, x 1", "y": None, "layers": "none"})
    assert a != b
    sly, plain = told(
        {**NONE, "layers": "none", "mask": "block 3-5"}, {**NONE, "mask": "block", "layers": "3-5"}
    )
    assert sly != plain


def test_where_texts_cannot_tell_a_number_does() -> None:
    one, two, again = told(
        {**NONE, "x": "1, y 2", "y": "2"},
        {**NONE, "x": "1", "y": "2, y 2"},
        {**NONE, "x": "1", "y": "2, y 2"},
    )
    assert (one.setting, two.setting) == ("none, x 1, y 2, y 2 #1", "none, x 1, y 2, y 2 #2")
    assert again == two  # the same settings, run again


def test_settings_that_older_runs_do_not_announce_are_the_usual_ones() -> None:
    assert len(set(told(NONE, {**NONE, "pool": 1, "order": "fixed", "peft": None}))) == 1


def test_a_brief_label_is_what_differs() -> None:
    def brief(*settings: dict[str, object]) -> list[str]:
        return brief_labels([Named("m_mask", own) for own in settings])

    assert brief(NONE, {**NONE, "peft": "lora"}) == ["no adapter", "adapter lora"]
    assert brief({**AR, "relevance": "attention"}, AR) == ["relevance attention", "relevance grounded_clip"]
    assert brief(NONE, {**NONE, "temperature": 1.5}) == ["no temperature", "temperature 1.5"]


def test_docs_of_the_calibration_do_not_make_another_model(tmp_path: Path) -> None:
    """Runs of earlier versions do not name them; what they changed (sink dimensions, tau) is named."""
    older = {"mimic_common": [binary(0, True)]}
    newer = {"mimic_counting": [binary(0, True)]}
    write_run(tmp_path / "a" / "1", older, AR, metrics=("exact_match",))
    named = {**AR, "calibration": "32 docs of embedded, seed 0"}
    write_run(tmp_path / "a" / "2", newer, named, metrics=("exact_match",))
    assert set(read_arm(tmp_path / "a").samples) == {"mimic_common", "mimic_counting"}
    assert "calibration" not in label(Named("m_mask", named)).setting


def test_the_table_and_compare_name_the_adapter(tmp_path: Path) -> None:
    """B16: two rows with other scores and the same model, checkpoint and mask."""
    for name, right, own in (("base", True, NONE), ("lora", False, {**NONE, "peft": "out/lora"})):
        rows = {"mimic_counting": [binary(i, right, gt="1") for i in range(4)]}
        write_run(tmp_path / name, rows, own, metrics=("exact_match",))
    runs = read_runs(tmp_path)
    assert [row.checkpoint for row in summarize_runs(runs)] == ["m", "m + out/lora"]
    assert [row.checkpoint for run in runs for row in summarize_run(run)] == ["m", "m + out/lora"]
    assert "m + out/lora" in render_table(summarize_runs(runs))
    found = compare([read_arm(tmp_path / name) for name in ("base", "lora")])
    assert (found.baseline, found.others) == ("no adapter", ("adapter out/lora",))
