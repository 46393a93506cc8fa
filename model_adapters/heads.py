"""Heads as a user writes them: ``0-3``, ``L12H3+L14H0-2`` and ``@FILE``.

A file is JSON: a list of [layer, head], or an object whose ``heads`` is one, as `mimic diagnose heads`
writes it.
"""

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError
from model_adapters.layers import format_layers

FORMS = "all, 0-3, 1+5-7 (in every changed layer), L12H3+L14H0-2 (of layers), or @FILE of [layer, head] pairs"

_EVERYWHERE = re.compile(r"(\d+)(?:-(\d+))?")
_OF_LAYER = re.compile(r"[Ll](\d+)[Hh](\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class Heads:
    """Some heads of a decoder, from 0.

    Attributes:
        everywhere: the same heads in every changed layer; None: `pairs` says them.
        pairs: (layer, head).
    """

    everywhere: frozenset[int] | None = None
    pairs: frozenset[tuple[int, int]] = frozenset()

    def of_layer(self, layer: int) -> tuple[int, ...]:
        """The heads of a layer, rising; none for a layer that is not named."""
        if self.everywhere is not None:
            return tuple(sorted(self.everywhere))
        return tuple(sorted(head for of, head in self.pairs if of == layer))

    def check(self, *, layers: Collection[int], depth: int, heads: int) -> None:
        """Compare with a decoder.

        Args:
            layers: the changed ones.
            depth: layers of the decoder.
            heads: query heads of a layer.

        Raises:
            UserError: a head or layer that the decoder does not have, or a layer that is not changed.
        """
        chosen = self.everywhere if self.everywhere is not None else {head for _, head in self.pairs}
        if max(chosen) >= heads:
            raise UserError(f"heads must be within 0-{heads - 1} for {heads} heads, got {max(chosen)}")
        named = {layer for layer, _ in self.pairs}
        if named and max(named) >= depth:
            raise UserError(
                f"heads: layers must be within 0-{depth - 1} for a {depth}-layer decoder, got L{max(named)}"
            )
        if others := named - set(layers):
            raise UserError(
                f"heads name layers {format_layers(others)}, which are not among the changed layers "
                f"{format_layers(layers)}: name them in layers="
            )

    def __str__(self) -> str:
        """As `parse_heads` reads it, in the shortest form: ``0-3``, ``L12H3+L14H0-2``."""
        if self.everywhere is not None:
            return format_layers(self.everywhere)
        parts = []
        for layer in sorted({layer for layer, _ in self.pairs}):
            parts += [f"L{layer}H{run}" for run in format_layers(self.of_layer(layer)).split("+")]
        return "+".join(parts)


def parse_heads(text: str) -> Heads | None:
    """The heads that a text names; None for ``all``.

    Args:
        text: ``all``; heads and ranges of heads joined by ``+``, in every changed layer; the same with their
            layer (``L12H3+L14H0-2``); or ``@FILE``.

    Raises:
        UserError: none of these forms, or a file that is none.
    """
    text = text.strip()
    if text == "all":
        return None
    if text.startswith("@"):
        return read_heads(Path(text[1:]).expanduser())
    everywhere, pairs = set[int](), set[tuple[int, int]]()
    for part in text.replace(" ", "").split("+"):
        if match := _EVERYWHERE.fullmatch(part):
            everywhere |= _range(match[1], match[2], text)
        elif match := _OF_LAYER.fullmatch(part):
            pairs |= {(int(match[1]), head) for head in _range(match[2], match[3], text)}
        else:
            raise UserError(f"heads must be {FORMS}; got '{text}'")
    if everywhere and pairs:
        raise UserError(f"heads={text}: name the layer of every head, or of none")
    return Heads(None, frozenset(pairs)) if pairs else Heads(frozenset(everywhere))


def text_of_heads(heads: Iterable[Any]) -> str:
    """What `parse_heads` reads, of heads or of (layer, head) pairs in a list."""
    pairs = (head if isinstance(head, list | tuple) and len(head) == 2 else (None, head) for head in heads)
    return "+".join(str(head) if layer is None else f"L{layer}H{head}" for layer, head in pairs)


def _range(first: str, last: str | None, text: str) -> set[int]:
    if int(last or first) < int(first):
        raise UserError(f"heads={text}: {first}-{last} falls; the smaller number comes first")
    return set(range(int(first), int(last or first) + 1))


def read_heads(path: Path) -> Heads:
    """The heads of a file.

    Args:
        path: JSON: a list of [layer, head], or an object whose ``heads`` is one.

    Raises:
        UserError: it cannot be read, or holds something else or nothing.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"heads=@{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"heads=@{path} is no JSON: {error}") from error
    pairs = content.get("heads") if isinstance(content, dict) else content
    if not isinstance(pairs, list) or not pairs or not all(_is_pair(pair) for pair in pairs):
        raise UserError(
            f"heads=@{path} must hold a list of [layer, head] with at least one, from 0, or an object whose "
            "'heads' is one"
        )
    return Heads(None, frozenset((layer, head) for layer, head in pairs))


def _is_pair(pair: Any) -> bool:
    numbers = isinstance(pair, list) and len(pair) == 2 and all(type(number) is int for number in pair)
    return numbers and min(pair) >= 0


def write_heads(path: Path, pairs: Iterable[tuple[int, int]], **notes: Any) -> None:
    """Write a file that ``heads=@FILE`` takes.

    Args:
        path: the file.
        pairs: (layer, head) in the order to keep, best first.
        **notes: what else the file says, JSON-able.
    """
    listed = [[int(layer), int(head)] for layer, head in pairs]
    path.write_text(json.dumps({**notes, "heads": listed}, indent=1) + "\n")
