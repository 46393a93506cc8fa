"""Layers as a user writes them, and registries of names."""

from importlib.metadata import EntryPoint

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimic_eval.records import UserError, registry
from mimic_eval.records.registry import Registry
from model_adapters.layers import format_layers, parse_layers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", {0, 1, 2, 3, 4, 5, 6}),
        ("second_half", {3, 4, 5, 6}),
        ("first_half", {0, 1, 2}),
        ("none", set()),
        ("5", {5}),
        ("2-4", {2, 3, 4}),
        ("::2", {0, 2, 4, 6}),
        ("2:-1", {2, 3, 4, 5}),
        ("-2:", {5, 6}),
        (":3", {0, 1, 2}),
        ("0+2-3 + 5:", {0, 2, 3, 5, 6}),
    ],
)
def test_each_form_of_layers(text: str, expected: set[int]) -> None:
    assert parse_layers(text, 7) == expected


@pytest.mark.parametrize("text", ["", "x", "1-", "3:1:0", "::-1", "1,2", "0.5", "1-2-3", "+", "12:23:"])
def test_another_form_is_refused_with_the_valid_ones(text: str) -> None:
    with pytest.raises(UserError, match=r"layers must be all, second_half|names no layer"):
        parse_layers(text, 7)


@pytest.mark.parametrize("text", ["7", "5-9", "4-2", "0+7"])
def test_layers_that_the_decoder_lacks_are_refused(text: str) -> None:
    with pytest.raises(
        UserError, match=f"layers must be within 0-6 for a 7-layer decoder, got {text}".replace("+", r"\+")
    ):
        parse_layers(text, 7)


@given(st.sets(st.integers(0, 40)))
def test_the_record_holds_the_exact_set(layers: set[int]) -> None:
    assert parse_layers(format_layers(layers), 41) == layers


def test_a_gap_is_in_the_record() -> None:
    """min-max gave '0-4' for these."""
    assert format_layers({0, 2, 4}) == "0+2+4"
    assert format_layers(range(12, 24)) == "12-23"


def test_a_name_gives_its_object_and_a_wrong_one_the_nearest() -> None:
    names = Registry("mask", {"block": "json:loads", "none": "json:dumps"})
    import json

    assert names.get("block") is json.loads
    assert names.get("os.path:join").__name__ == "join"
    assert list(names) == ["block", "none"]
    with pytest.raises(UserError, match=r"Unknown mask 'bloc'\. Did you mean 'block'\?"):
        names.get("bloc")
    with pytest.raises(UserError, match=r"mask 'json:nothing': json:nothing cannot be imported"):
        names.get("json:nothing")
    with pytest.raises(UserError, match="cannot be imported"):
        names.get("no_such_package.x:y")


def test_installed_packages_add_names_and_a_conflict_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("theirs", "json:loads", "g")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == "g" else [])
    assert Registry("mask", {"a": "x:y"}, group="g").names() == ("a", "theirs")
    assert "theirs" not in Registry("mask", {"a": "x:y"})
    with pytest.raises(UserError, match="mask 'theirs' is defined twice: x:y and json:loads"):
        Registry("mask", {"theirs": "x:y"}, group="g").names()
