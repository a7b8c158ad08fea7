"""Reads SentencePiece's model file: its pieces, scores and normalization, with neither protobuf nor sentencepiece."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pege.errors import InputError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # kinds of a piece
Value = int | float | bytes  # of a field
_KINDS = {1: "unigram", 2: "bpe"}


@dataclass(frozen=True)
class SentencePieces:
    """What a model file holds.

    Attributes:
        kind: ``unigram`` or ``bpe``.
        pieces: text, score and kind (``NORMAL``, ``BYTE``, ...) of each, in the order of their ids.
        charsmap: normalization of characters, compiled; may be empty.
    """

    kind: str
    pieces: list[tuple[str, float, int]]
    charsmap: bytes


def read_sentencepieces(path: Path | str) -> SentencePieces:
    """Read a file ``spm.model``.

    Raises:
        InputError: no such file; cut, or something else; pieces that are words or characters.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such file", where=path)
    return parse_sentencepieces(path.read_bytes(), where=path)


def parse_sentencepieces(data: bytes, *, where: object = None) -> SentencePieces:
    """Parse the content of such a file, see `read_sentencepieces`."""
    try:
        return _parse(data, where)
    except (IndexError, struct.error, UnicodeDecodeError, TypeError, KeyError) as e:
        raise InputError("is no whole SentencePiece model", where=where, fix="copy it again") from e


def _parse(data: bytes, where: object) -> SentencePieces:
    pieces, kind, charsmap = [], 1, b""
    for number, value in _fields(data):
        if number == 1:
            piece = dict(_fields(_as_bytes(value)))
            text, score = _as_bytes(piece.get(1, b"")).decode(), float(_as_number(piece.get(2, 0.0)))
            pieces.append((text, score, int(_as_number(piece.get(3, NORMAL)))))
        elif number == 2:  # how it was trained
            kind = int(_as_number(dict(_fields(_as_bytes(value))).get(3, 1)))
        elif number == 3:  # how text is normalized
            charsmap = _as_bytes(dict(_fields(_as_bytes(value))).get(2, b""))
    if not pieces:
        raise IndexError
    if kind not in _KINDS:
        raise InputError("its pieces are whole words or characters", where=where, fix="only unigram and BPE are read")
    return SentencePieces(_KINDS[kind], pieces, charsmap)


def _as_bytes(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError
    return value


def _as_number(value: Value) -> int | float:
    if isinstance(value, bytes):
        raise TypeError
    return value


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Number and value of each field of a protobuf message."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _varint(data, place)
            yield number, value
        elif wire == 2:
            size, place = _varint(data, place)
            if place + size > len(data):
                raise IndexError
            yield number, data[place : place + size]
            place += size
        elif wire in (1, 5):
            layout, size = ("<d", 8) if wire == 1 else ("<f", 4)
            yield number, struct.unpack(layout, data[place : place + size])[0]
            place += size
        else:
            raise TypeError


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
