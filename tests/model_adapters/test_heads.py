"""`heads=`: the forms, the file, and what does not fit a decoder."""

from pathlib import Path

import pytest

from mimic_eval.records import UserError
from model_adapters.heads import Heads, parse_heads, read_heads, write_heads


@pytest.mark.parametrize(
    ("text", "layer", "heads", "canonical"),
    [
        ("0-3", 7, (0, 1, 2, 3), "0-3"),
        ("5", 0, (5,), "5"),
        (" 1 + 5-7 ", 2, (1, 5, 6, 7), "1+5-7"),
        ("L12H3+L14H0", 12, (3,), "L12H3+L14H0"),
        ("L12H3+L14H0", 13, (), "L12H3+L14H0"),
        ("l2h4-5+L2H0+L2H1", 2, (0, 1, 4, 5), "L2H0-1+L2H4-5"),
    ],
)
def test_each_form_names_heads_of_layers(
    text: str, layer: int, heads: tuple[int, ...], canonical: str
) -> None:
    parsed = parse_heads(text)
    assert parsed is not None
    assert parsed.of_layer(layer) == heads
    assert str(parsed) == canonical
    assert parse_heads(str(parsed)) == parsed


def test_all_is_every_head() -> None:
    assert parse_heads("all") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "heads must be all, 0-3"),
        ("1,2", "got '1,2'"),
        ("-1", "got '-1'"),
        ("L3", "got 'L3'"),
        ("3-1", "3-1 falls"),
        ("L1H3-1", "3-1 falls"),
        ("0+L1H3", "name the layer of every head, or of none"),
        ("@/no/such/file.json", "cannot be read"),
    ],
)
def test_another_form_is_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        parse_heads(text)
    assert "\n" not in str(error.value)


def test_a_written_file_is_read_back(tmp_path: Path) -> None:
    write_heads(tmp_path / "h.json", [(3, 1), (0, 2)], by="share inside the boxes", docs=50)
    assert parse_heads(f"@{tmp_path / 'h.json'}") == Heads(None, frozenset({(3, 1), (0, 2)}))
    (tmp_path / "bare.json").write_text("[[3, 1], [0, 2]]")
    assert read_heads(tmp_path / "bare.json") == read_heads(tmp_path / "h.json")


OTHERS = ("", "{", "{}", "[]", "3", '{"heads": []}', "[[1]]", "[[1, 2, 3]]", "[[1, -2]]", "[[1, true]]",
          "[1, 2]", '[["1", 2]]', "\xff")  # fmt: skip


@pytest.mark.parametrize("content", OTHERS)
def test_a_file_of_something_else_is_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "h.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"h\.json (is no JSON|must hold a list of)") as error:
        read_heads(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0-4", "heads must be within 0-3 for 4 heads, got 4"),
        ("L1H7", "heads must be within 0-3 for 4 heads, got 7"),
        ("L6H0", "layers must be within 0-5 for a 6-layer decoder, got L6"),
        ("L1H0+L3H0+L4H1", "name layers 3-4, which are not among the changed layers 0-2: name them in"),
    ],
)
def test_heads_that_the_decoder_lacks_are_refused(text: str, message: str) -> None:
    heads = parse_heads(text)
    assert heads is not None
    with pytest.raises(UserError, match=message):
        heads.check(layers=frozenset(range(3)), depth=6, heads=4)
    parsed = parse_heads("L2H3+L0H0")
    assert parsed is not None
    parsed.check(layers=frozenset(range(3)), depth=6, heads=4)
