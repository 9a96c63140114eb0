"""One matrix of a MATLAB file of version 5 to 7, read here and not by scipy, whose compiled reader a damaged file can bring down.

A file is a header of 128 bytes and a row of elements, each a type, a size and so many bytes, filled up to a multiple of 8. A variable is an
element of elements: flags, dimensions, name, values (MathWorks, MAT-File Format, chapter 1). It may be compressed.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shared.errors import InputError

HEADER = 128
ORDERS = {b"IM": "<", b"MI": ">"}
MATRIX, COMPRESSED = 14, 15
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""How numbers lie in an element, by its type."""
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
"""What numbers a variable has, by the class in its flags; they may be stored in fewer bytes."""
HEAD = 512
"""Bytes of a variable that hold its flags, dimensions and name, at least."""


class Damaged(ValueError):
    """The file is not as it should be."""


def read_matrix(path: Path, name: str, *, max_values: int) -> np.ndarray:
    """The real matrix called `name`, of any number of dimensions.

    Raises:
        KeyError: there is no such variable.
        InputError: no file, another kind of file, a damaged one, or more values than allowed.
    """
    try:
        content = path.read_bytes()
        return _find(content, name, max_values)
    except (OSError, Damaged, zlib.error, struct.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot read the MATLAB file {path}: {reason}; repair or replace it") from error


def _find(content: bytes, name: str, max_values: int) -> np.ndarray:
    order = ORDERS.get(content[HEADER - 2 : HEADER])
    if order is None or len(content) < HEADER:
        raise Damaged("it is no MATLAB file of version 5 to 7 (in MATLAB: save -v7)")
    for kind, data in _elements(memoryview(content)[HEADER:], order):
        if kind == COMPRESSED:
            # an element around the variable, which says what it holds before its values
            head = next(_elements(memoryview(_unpacked(data, HEAD)), order, cut=True), (0, memoryview(b"")))[1]
        elif kind == MATRIX:
            head = data[:HEAD]
        else:
            continue
        if _name(head, order) == name:
            return _values(data if kind == MATRIX else _variable(_unpacked(data, 8 * max_values + HEAD), order), order, max_values)
    raise KeyError(name)


def _elements(data: memoryview, order: str, *, cut: bool = False) -> Iterator[tuple[int, memoryview]]:
    """(type, bytes) of each element; `cut`: the last one may be cut short."""
    place = 0
    while place + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        if kind >> 16:  # four bytes at most, in the place of the size
            kind, size, start, step = kind & 0xFFFF, kind >> 16, place + 4, 8
            if size > 4:
                raise Damaged("an element is longer than its place")
        else:
            start, step = place + 8, 8 + (size if kind == COMPRESSED else -(-size // 8) * 8)
        if start + size > len(data) and not cut:
            raise Damaged("it is cut short")
        yield kind, data[start : start + size]
        place += step


def _unpacked(data: memoryview, most: int) -> bytes:
    """The first bytes of what was compressed, `most` at most: a small file may unfold to any size."""
    return zlib.decompressobj().decompress(data, most)


def _variable(unpacked: bytes, order: str) -> memoryview:
    kind, data = next(_elements(memoryview(unpacked), order), (0, memoryview(b"")))
    if kind != MATRIX:
        raise Damaged("a variable is no matrix")
    return data


def _name(head: memoryview, order: str) -> str:
    parts = _elements(head, order, cut=True)
    names = [bytes(data) for place, (_, data) in zip(range(3), parts) if place == 2]
    return names[0].decode("latin-1") if names else ""


def _values(variable: memoryview, order: str, max_values: int) -> np.ndarray:
    parts = list(_elements(variable, order))
    if len(parts) < 4 or len(parts[0][1]) < 4 or len(parts[1][1]) % 4 or parts[3][0] not in STORED:
        raise Damaged("the variable holds no matrix of numbers")
    (flags,) = struct.unpack_from(f"{order}I", parts[0][1])
    number, shape = CLASSES.get(flags & 0xFF), np.frombuffer(parts[1][1], f"{order}i4").tolist()
    if number is None or flags & 0x0800:
        raise Damaged("the variable holds no matrix of real numbers")
    stored = np.dtype(order + STORED[parts[3][0]])
    count = int(np.prod(shape, dtype=object)) if min(shape, default=-1) >= 0 else -1
    if not 0 <= count <= max_values or count * stored.itemsize != len(parts[3][1]):
        raise Damaged(f"the variable of size {shape} does not hold as many values, or more than {max_values}")
    return np.frombuffer(parts[3][1], stored).reshape(shape, order="F").astype(np.dtype(number))
