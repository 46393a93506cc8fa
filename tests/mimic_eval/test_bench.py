"""The benchmarks: operations and memory of attention, counted, and that each script runs and writes JSON."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from tests.conftest import Command

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import attention  # noqa: E402
import counting  # noqa: E402
import gpu  # noqa: E402
import prefill  # noqa: E402
import training_attention  # noqa: E402
from measuring import Spread, turns  # noqa: E402

SMALL = counting.Shape(heads=4, kv_heads=2, width=8)
NEVER_SQUARE = 1200  # tokens, where N x N is far more than any tensor of N x H x D


def done_pairs(name: str, images: int, tokens: int) -> float:
    """(query, key) pairs, heads counted, that the kernels of a prefill go through."""
    layout = counting.layout_of(images, tokens)
    with counting.watched() as watch:
        counting.prefill(name, counting.draw(layout, SMALL), layout)
    return watch.pairs


@pytest.mark.parametrize("images", [2, 5, 10, 20])
def test_block_goes_through_no_more_pairs_than_its_spans_need(images: int) -> None:
    """But for the last run of text, whose mask is not skipped: less than T^2 / 2 pairs."""
    layout = counting.layout_of(images, 60)
    needed = counting.block_pairs(layout)
    extra = done_pairs("block", images, 60) / SMALL.heads - needed
    assert 0 <= extra <= counting.TEXT_AFTER**2 / 2
    assert done_pairs("none", images, 60) == SMALL.heads * counting.causal_pairs(layout)


@pytest.mark.parametrize(("images", "tokens"), [(2, 50), (8, 100), (35, 729)])
def test_needed_pairs_are_those_of_the_formula(images: int, tokens: int) -> None:
    """METHODS 3: about M P^2 / 2 + T N instead of N^2 / 2; exactly, with each row's own key."""
    layout = counting.layout_of(images, tokens)
    n, before, after = layout.length, counting.TEXT_BEFORE, counting.TEXT_AFTER
    text = before * (before + 1) / 2 + after * n - after * (after - 1) / 2
    assert counting.block_pairs(layout) == images * tokens * (tokens + 1) / 2 + text
    assert counting.causal_pairs(layout) == n * (n + 1) / 2


def test_needed_pairs_are_the_ones_of_the_written_out_mask() -> None:
    from model_adapters.interventions.block.reference import block_mask
    from model_adapters.interventions.reference import causal_mask

    layout = counting.layout_of(3, 11)
    assert counting.block_pairs(layout) == int(block_mask(layout).sum())
    assert counting.causal_pairs(layout) == int(causal_mask(layout).sum())


def test_block_saves_more_of_the_attention_the_more_images_there_are() -> None:
    rows = prefill.count(prefill.SHAPES["quick"], [2, 5, 10, 35], 50)
    saved = [row["saved_in_masked_layers"] for row in rows]
    assert saved == sorted(saved)
    for row in rows:
        assert row["saved_of_attention"] == pytest.approx(row["saved_in_masked_layers"] / 2)
        assert row["saved_of_model"] < row["saved_of_attention"]
        shape, n = prefill.SHAPES["quick"], row["length"]
        behind = shape.layers * shape.attention.flops(n * (n - 1) / 2)  # the counter takes N x N
        assert row["counter_none"] - row["model_none"] == pytest.approx(behind)


@pytest.mark.parametrize("name", counting.INTERVENTIONS)
def test_no_intervention_makes_an_n_by_n_tensor(name: str) -> None:
    layout = counting.layout_of(8, (NEVER_SQUARE - 54) // 8)
    qkv = counting.draw(layout, SMALL)
    with counting.watched() as watch:
        counting.prefill(name, qkv, layout)
    assert watch.largest < layout.length**2 / 4
    assert watch.largest <= 4 * qkv[0].numel()


def test_the_watch_sees_an_n_by_n_tensor() -> None:
    layout = counting.layout_of(4, 20)
    query, key, value = counting.draw(layout, SMALL)
    links = attention.Materialised(layout)
    keys, values = (x.repeat_interleave(2, dim=1) for x in (key, value))
    with counting.watched() as watch:
        links.as_written(query, keys, values)
    assert watch.largest == SMALL.heads * layout.length**2


@pytest.mark.parametrize("name", counting.INTERVENTIONS)
def test_memory_of_a_layer_grows_with_n(name: str) -> None:
    peaks, lengths = [], []
    for images in (8, 32):
        layout = counting.layout_of(images, 100)
        qkv = counting.draw(layout, SMALL)
        peaks.append(counting.peak_bytes(lambda qkv=qkv, layout=layout: counting.prefill(name, qkv, layout)))
        lengths.append(layout.length)
    assert peaks[1] / peaks[0] < 1.25 * lengths[1] / lengths[0]  # N x N: the square of that


def test_materialised_eq_10_is_what_ar_gives() -> None:
    row = attention.measure_ar(3, 20, 1)
    assert float(row["difference"]) < 1e-5 < float(row["edit"])


def test_the_whole_prefill_with_block_is_the_one_with_the_mask() -> None:
    decoder = prefill.Decoder(prefill.SHAPES["quick"], "cpu", torch.float32)
    row = prefill.measure(decoder, 3, 20, 1, ["none", "block", "masked"])
    assert row["difference"] < 1e-4 < row["edit"]


def test_block_attention_trains_with_the_gradients_of_the_mask_and_without_its_memory() -> None:
    """Query, output and both gradients are a few N x H x D; the mask is copied for each head in between."""
    peaks = []
    for images in (10, 20):
        layout = training_attention.layout_of(images, 57, 3)
        row = training_attention.row_of(layout, SMALL, rounds=1, peak=training_attention.peak_bytes_of_step)
        assert row["error"] < 1e-5
        assert row["ratios"].keys() == {"block_over_masked", "block_over_dense"}
        peaks.append(row["peak_bytes"])
    assert peaks[1]["block"] / peaks[0]["block"] < 2.3
    assert peaks[1]["block"] < peaks[1]["masked"]


def test_turns_begin_with_another_way_in_each_round() -> None:
    said: list[str] = []
    seconds = turns({name: lambda name=name: said.append(name) for name in "abc"}, rounds=3)
    assert "".join(said) == "cab" + "abc" + "bca" + "cab"
    assert all(len(own.values) == 3 for own in seconds.values())


def test_a_ratio_is_taken_round_by_round() -> None:
    ratio = Spread((1.0, 4.0, 9.0)) / Spread((1.0, 2.0, 3.0))
    assert ratio.record() == {"median": 2.0, "least": 1.0, "most": 3.0, "rounds": 3}
    assert ratio.shown(1) == "2.0 (1.0-3.0)"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("attention", "training_attention", "prefill", "masks", "diagnose_cost", "relevance_cost"),
        *("peers", "orders", "gpu"),
    ],
)
def test_a_benchmark_runs_and_writes_its_record(name: str, command: Command, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    device = ["--device", "cpu"] if name == "gpu" else []
    done = command("python", BENCHMARKS / f"{name}.py", "--quick", "--threads", 1, "--out", out, *device)
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads(out.read_text())
    assert record["quick"] is True
    assert record["threads"] == 1
    assert record["versions"]["torch"] == version("torch")
    if name == "peers":  # the precondition of every comparison
        assert [row["upstream"] for row in record["rows"]] == ["llava_hf", "qwen2_vl", "internvl_hf"]
        for row in record["rows"]:
            assert row["same_lengths"], row
            assert row["same_as_upstream"]["none, 1"] == row["same_as_upstream"]["none, 8"] == row["docs"], (
                row
            )
            assert row["empty_texts"] == 0
            assert row["different_texts"] == row["docs"]
            assert row["same_as_upstream"]["block, 8"] < row["docs"]
            assert row["docs_that_ar_edits"] > 0
    if name == "gpu":
        assert {row["mask"] for row in record["parity"]} >= set(counting.INTERVENTIONS)
        checks = [*record["parity"], *record["training_attention"], record["training"]]
        assert all(row["passes"] for row in checks)
    if name == "orders":
        for row in record["rows"]:
            assert row.get("same_texts") == row.get("texts")


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU it would run")
def test_make_gpu_without_a_gpu_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert gpu.main() == 2
    assert "make gpu needs a GPU" in capsys.readouterr().err


@pytest.mark.parametrize("mask", ["block", "ar", "mask_only"])
def test_the_gpu_check_fails_for_a_wrong_kernel(mask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that ignores its mask is some thousand roundings away."""
    monkeypatch.setitem(gpu.MASKS, mask, counting.INTERVENTIONS["none"])
    rows = gpu.parity(SMALL, 9, "cpu")
    assert {row["mask"] for row in rows if not row["passes"]} == {mask}
