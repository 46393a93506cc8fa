"""Runs with a file of `mimic tune`: it sets mask and number, and is refused where it does not fit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mimic_eval.records import UserError, announced_run
from model_adapters.models import LlavaOvMask
from model_adapters.options import AdapterOptions
from model_adapters.sinks import model_config
from model_adapters.tuning import read_tuning, save_tuning
from tests.makers.dial import DIAL
from tests.makers.tunings import content


def test_a_run_takes_the_mask_and_the_value_from_the_file(
    tuned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = AdapterOptions.parse({"tuned": str(tuned)})
    assert (options.general.mask, options.mask.amount) == (DIAL, 0.0)  # type: ignore[attr-defined]
    assert AdapterOptions.parse({"tuned": str(tuned), "mask": DIAL, "amount": "0"}).mask == options.mask
    LlavaOvMask(tuned=str(tuned), journal="off")
    said = capsys.readouterr().err
    assert f"tuned={tuned} sets mask={DIAL}, amount=0: chosen on 6 docs of mimic_common, 6 docs of" in said
    assert "under other settings" not in said
    tuning = read_tuning(tuned)
    assert announced_run()["tuned"] == f"amount=0 of {tuning.sha256}"
    assert announced_run()["amount"] == 0.0


def test_a_run_with_other_settings_says_which(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = content(tuned)["settings"]["layers"]
    LlavaOvMask(tuned=str(tuned), layers="0", order="reversed", journal="off")
    differ = f"layers {layers}, here 0, order fixed, here reversed"
    assert f"tuned={tuned} chose amount under other settings: {differ}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"mask": "block"}, f"was made for mask={DIAL}, not mask=block: leave one of them out"),
        ({"amount": "0.5"}, "amount=0.5 differs from amount=0 of tuned="),
        ({"amount": "none"}, "amount=none differs from amount=0"),
        ({"amount": "nan"}, "amount=nan differs from amount=0"),
    ],
)
def test_what_contradicts_the_file_is_refused(tuned: Path, more: dict[str, str], words: str) -> None:
    with pytest.raises(UserError) as said:
        AdapterOptions.parse({"tuned": str(tuned), **more})
    assert words in str(said.value)


def resealed(path: Path, out: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A file with other content that its digest fits."""
    record = {
        key: value for key, value in content(path).items() if key not in ("format", "version", "digest")
    }
    change(record)
    save_tuning(record, out)
    return out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON: make it again with mimic tune"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is not a file of mimic tune"),
        ('{"format": "mimic_eval calibration", "version": 2}', "is not a file of mimic tune"),
        ('{"format": "mimic_eval tuning", "version": 99}', "has version 99, this mimic-eval reads version 1"),
        ('{"format": "mimic_eval tuning", "version": 1}', "is damaged (its content has been changed)"),
    ],
)
def test_a_file_of_something_else_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError) as said:
        AdapterOptions.parse({"tuned": str(tmp_path / "a.json")})
    assert words in str(said.value)


def test_a_file_that_was_cut_off_or_edited_is_refused(tuned: Path, tmp_path: Path) -> None:
    text, path = tuned.read_text(), tmp_path / "a.json"
    path.write_text(text[:-200])
    with pytest.raises(UserError, match="is not JSON"):
        read_tuning(path)
    path.write_text(text.replace('"value": 0.0', '"value": 0.5'))
    with pytest.raises(UserError, match="its content has been changed"):
        read_tuning(path)
    for change in (
        lambda record: record.pop("model"),
        lambda record: record.update(value="high"),
        lambda record: record.update(value=float("nan")),
        lambda record: record.update(data=[]),
    ):
        with pytest.raises(UserError, match="is damaged"):
            read_tuning(resealed(tuned, path, change))
    with pytest.raises(UserError, match="is a folder: name a file"):
        read_tuning(tmp_path)
    with pytest.raises(UserError, match="no such file; make it with: mimic tune"):
        read_tuning(tmp_path / "b.json")


def test_a_file_of_another_model_is_refused(tuned: Path, tiny: Path) -> None:
    with pytest.raises(UserError) as said:
        LlavaOvMask(tuned=str(tuned), pretrained=str(tiny), journal="off")
    assert "is of another model (text_config." in str(said.value)
    assert "tune it for this one with: mimic tune tests.makers.dial:DialOptions --model llava_ov_mask" in str(
        said.value
    )
    with pytest.raises(UserError, match="weights in float32, and this run has them in bfloat16: add dtype"):
        LlavaOvMask(tuned=str(tuned), dtype="bfloat16", journal="off")
    loaded = LlavaOvMask(mask="none", journal="off")
    other = replace(read_tuning(tuned), weights="0" * 64)
    with pytest.raises(UserError, match=r"is of another checkpoint \(embedded:llava_onevision; the weights"):
        other.check_model(
            weights=loaded.weights, config=model_config(loaded.model), dtype="float32", model="llava_ov_mask"
        )


def test_a_changed_model_keeps_its_weights_and_refuses_other_ones(tuned: Path) -> None:
    loaded = LlavaOvMask(mask=DIAL, amount=0.5, journal="off")
    weights = loaded.model
    loaded.change(mask="block", layers="1", journal="off")
    assert loaded.model is weights
    assert (loaded.settings["mask"], loaded.settings["layers"]) == ("block", "1")
    with pytest.raises(UserError, match="dtype=bfloat16 cannot be changed while the model is loaded with"):
        loaded.change(mask="block", dtype="bfloat16", journal="off")
    with pytest.raises(UserError, match="Unknown model argument"):
        loaded.change(mask="block", amounts=1, journal="off")
    assert loaded.settings["mask"] == "block"
