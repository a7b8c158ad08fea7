"""Weights in Paddle's files, read without paddle and without running anything that a file asks for."""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pege.errors import InputError

Arrays = dict[str, NDArray[Any]]

_NAME_TABLE = "StructuredToParameterName@@"
_SPLIT_TABLE = "UnpackBigParamInfor@@"
#: paddle's VarType numbers of tensors -> numpy's types; 22 is bfloat16
_DTYPES = {0: "?", 1: "<i2", 2: "<i4", 3: "<i8", 4: "<f2", 5: "<f4", 6: "<f8", 20: "u1", 21: "i1", 22: "<u2"}
_BFLOAT16 = 22


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How protocol 2 stores bytes; other codecs (that may unpack bombs) are refused."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"a codec {encoding!r}")
    return text.encode("latin1")


class _Dtype:
    """Stands for ``numpy.dtype``: a plain number type; objects, records and text are refused."""

    order = "="

    def __init__(self, code: str, *_flags: Any) -> None:
        if not re.fullmatch(r"[<>|=]?[fiu][1248]", code):
            raise pickle.UnpicklingError(f"an array of {code[:20]!r}, not of numbers")
        self.code = code.lstrip("<>|=")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    @property
    def numpy(self) -> np.dtype[Any]:
        if self.order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("an order of bytes that there is not")
        return np.dtype(self.order + self.code)


class _Array:
    """Stands for ``numpy.ndarray``. numpy's own reads beyond a list that is shorter than its shape."""

    value: NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, dtype, is_fortran, data = state
        # as many bytes as the shape says, so that an array is never larger than its file
        self.value = np.frombuffer(data, dtype.numpy).reshape(shape, order="F" if is_fortran else "C")


def _reconstruct(kind: Any, _shape: Any, _code: Any) -> _Array:
    """How numpy pickles an array: an empty one, whose state follows."""
    if kind is not _Array:
        raise pickle.UnpicklingError("another array type")
    return _Array()


class _ArraysOnly(pickle.Unpickler):
    """Admits numpy arrays, dictionaries, lists, tuples, text and numbers; any other name in a file is refused.

    Nothing of numpy is called by the file either: what it names are the stand-ins above.
    """

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _reconstruct
        if module == "numpy" and name in ("ndarray", "dtype"):
            return {"ndarray": _Array, "dtype": _Dtype}[name]
        if (module, name) == ("_codecs", "encode"):
            return _encode
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if (module, name) in (("builtins", "tuple"), ("__builtin__", "tuple")):
            return tuple
        raise pickle.UnpicklingError(f"{module}.{name}")


def read_pdparams(path: Path | str) -> Arrays:
    """Read a ``.pdparams`` file: name -> array. bfloat16 (stored as uint16) becomes float32.

    Raises:
        InputError: a cut file, one that holds anything beside arrays, or none.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        if zipfile.is_zipfile(io.BytesIO(content)) and not content.startswith(b"\x80"):
            raise InputError("is a zip archive, not Paddle's weights", where=path)
        found = _ArraysOnly(io.BytesIO(content)).load()
    except OSError as e:
        raise InputError(f"cannot be read ({e.strerror})", where=path) from e
    except pickle.UnpicklingError as e:
        raise InputError(f"refused: it holds something beside arrays, or is cut ({e})", where=path) from e
    except InputError:
        raise
    except Exception as e:  # a pickle machine fed with nonsense fails in any way it likes
        raise InputError(f"is cut or broken ({type(e).__name__})", where=path, fix="fetch it again") from e
    if not isinstance(found, dict):
        raise InputError("holds no table of weights", where=path)
    return _arrays(found, path, len(content))


def _arrays(found: dict[Any, Any], path: Path, n_bytes: int) -> Arrays:
    split = found.pop(_SPLIT_TABLE, None) or {}
    found.pop(_NAME_TABLE, None)
    arrays: Arrays = {}
    for name, value in found.items():
        if isinstance(value, tuple) and len(value) == 2:  # (name inside paddle, array)
            value = value[1]
        value = value.value if isinstance(value, _Array) else None
        if not isinstance(name, str) or value is None:
            shown = repr(name[:80]) if isinstance(name, str) else type(name).__name__  # its text may be endless
            raise InputError(f"{shown} is no array of numbers", where=path)
        n_bytes -= value.nbytes
        if n_bytes < 0:  # one array under many names, each widened below
            raise InputError("refused: its arrays are larger than the file", where=path)
        arrays[name] = _float32(value) if value.dtype == np.uint16 else value
    try:
        for name, about in split.items():  # arrays over 1 GiB lie in slices
            if not isinstance(name, str) or not all(isinstance(part, str) for part in about["slices"]):
                raise TypeError  # a text of something else may be endless
            parts = [arrays.pop(part).ravel() for part in about["slices"]]
            arrays[name] = np.concatenate(parts).reshape(tuple(int(n) for n in about["OriginShape"]))
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise InputError("the slices of a large array do not fit", where=path) from e
    if not arrays:
        raise InputError("holds no weights", where=path)
    return arrays


def _float32(bits: NDArray[Any]) -> NDArray[np.float32]:
    """Widen bfloat16, kept as 16-bit integers."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def read_variable_folder(folder: Path | str, names: list[str]) -> Arrays:
    """Read a folder with a file per variable, as Paddle 1 wrote it (Knover's releases): name -> array.

    Files of other names (moments of the optimizer, counters) are left alone.

    Raises:
        InputError: a missing or cut file.
    """
    found = {}
    for name in names:
        path = Path(folder) / name
        if path.is_file():
            found[name] = _read_variable(path)
    return found


def _read_variable(path: Path) -> NDArray[Any]:
    """Version, levels of detail, version, length of the description, description (protobuf), data; little-endian."""
    content = path.read_bytes()
    try:
        version, n_levels = struct.unpack_from("<IQ", content, 0)
        place = 12
        for _ in range(n_levels):
            (n_bytes,) = struct.unpack_from("<Q", content, place)
            place += 8 + n_bytes
        tensor_version, n_described = struct.unpack_from("<Ii", content, place)
        place += 8
        if version or tensor_version or n_described < 0 or place + n_described > len(content):
            raise ValueError("another version")
        kind, shape = _description(content[place : place + n_described])
        place += n_described
        n_numbers = math.prod(shape)
        if len(content) - place != n_numbers * np.dtype(_DTYPES[kind]).itemsize:
            raise ValueError(f"{len(content) - place} bytes for the shape {shape}")
        array = np.frombuffer(content, dtype=_DTYPES[kind], offset=place, count=n_numbers).reshape(shape)
    except (struct.error, ValueError, KeyError, IndexError, OverflowError) as e:
        raise InputError(f"is cut or no variable of Paddle ({e})", where=path, fix="fetch it again") from e
    return _float32(array) if kind == _BFLOAT16 else array


def _description(message: bytes) -> tuple[int, tuple[int, ...]]:
    """Parse TensorDesc: field 1 the type, field 2 the dimensions (packed or not), all varints."""
    kind, shape, place = 5, [], 0
    while place < len(message):
        tag, place = _varint(message, place)
        if tag == 0x08:
            kind, place = _varint(message, place)
        elif tag == 0x10:
            size, place = _varint(message, place)
            shape.append(size)
        elif tag == 0x12:
            length, place = _varint(message, place)
            stop = place + length
            while place < stop:
                size, place = _varint(message, place)
                shape.append(size)
        else:
            raise ValueError("an unknown field")
    return kind, tuple(shape)


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError("a number that is too long")
