"""SentencePiece's `tokenizer.model`, read as it is.

The packages that read it (sentencepiece's and transformers' generated code) break when protobuf's version is
not theirs; what is needed of it is little. Source: sentencepiece's `sentencepiece_model.proto`.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

BPE = 2
"""SentencePiece's number for a byte-pair-encoding model."""


class Kind(IntEnum):
    """What a piece is."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Entry(NamedTuple):
    """A piece of the vocabulary; its id is its index."""

    text: str = ""
    score: float = 0.0
    kind: Kind = Kind.NORMAL


class SentencePieceFile(NamedTuple):
    """A model.

    Attributes:
        entries: in the order of their ids.
        model_type: `BPE` or another.
        byte_fallback: unknown characters are spelled in bytes.
        dummy_prefix: a space is put before a text.
        charsmap: what characters become before (Unicode normalisation); empty: nothing is changed.
        collapses_spaces: runs of spaces become one, and none is left at the ends.
    """

    entries: tuple[Entry, ...]
    model_type: int
    byte_fallback: bool
    dummy_prefix: bool
    charsmap: bytes
    collapses_spaces: bool


def read_sentencepiece(path: Path) -> SentencePieceFile:
    """Read a file.

    Raises:
        ValueError: it is none of SentencePiece's.
    """
    entries: list[Entry] = []
    trainer: dict[int, int | bytes] = {}
    rules: dict[int, int | bytes] = {}
    try:
        for number, value in _fields(path.read_bytes()):
            if number == 1 and isinstance(value, bytes):
                entries.append(_entry(dict(_fields(value))))
            elif number in (2, 3) and isinstance(value, bytes):
                (trainer if number == 2 else rules).update(_fields(value))
    except (IndexError, struct.error) as error:
        raise ValueError("it is cut off, or no SentencePiece model") from error
    if not entries:
        raise ValueError("it is no SentencePiece model")
    return SentencePieceFile(
        entries=tuple(entries),
        model_type=int(trainer.get(3, 1)),
        byte_fallback=bool(trainer.get(35, 0)),
        dummy_prefix=bool(rules.get(3, 1)),
        charsmap=charsmap if isinstance(charsmap := rules.get(2), bytes) else b"",
        collapses_spaces=bool(rules.get(4, 1)),
    )


def _entry(fields: dict[int, int | bytes]) -> Entry:
    text, score = fields.get(1, b""), fields.get(2, bytes(4))
    if not isinstance(text, bytes) or not isinstance(score, bytes):
        raise ValueError("it is no SentencePiece model")
    return Entry(text.decode("utf-8"), struct.unpack("<f", score)[0], Kind(int(fields.get(3, 1))))


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message: number, and integer or bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("it is no SentencePiece model")
        if at + size > len(data):
            raise IndexError
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
