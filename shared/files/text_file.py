"""Text that other programs write: with a byte order mark or without, and tables whose cells are separated in any of the usual ways."""

import csv
import logging
import unicodedata
from collections.abc import Collection
from functools import cache
from pathlib import Path

from shared.errors import InputError

log = logging.getLogger(__name__)

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_FORMS = [(",", False), (";", False), (";", True), ("\t", False), ("\t", True)]
"""Separator of the cells, and whether numbers have a decimal comma."""

Rows = list[list[str]]


def read_text(path: Path, what: str, advice: str) -> str:
    """A text file in UTF-8, or UTF-16 where a byte order mark says so; the mark is left out.

    Args:
        what, advice: what the file is and what to do about it, for the message.

    Raises:
        InputError: it cannot be read, or is no such text.
    """
    try:
        content = path.read_bytes()
        return content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"cannot read the {what} file {path}: {reason}; {advice}") from error


def read_named_numbers(path: Path, what: str, advice: str, names: Collection[str] = ()) -> Rows:
    """The cells of a CSV file whose lines are a name and numbers, without empty lines: separated by commas, semicolons or tabs, with a
    decimal point or comma, whichever makes numbers of all cells.

    A file of which no way does is read with commas, so that the caller finds the cell that is wrong.

    Args:
        what, advice: see `read_text`.
        names: what can stand in the first column, if that is known; it decides where several ways make numbers.

    Raises:
        InputError: it cannot be read, or says one thing with one separator and another with the other.
    """
    text = read_text(path, what, advice)
    forms = {form: parsed for form in _FORMS if (parsed := _parse(text, *form, path)) is not None}
    fitting = {form: rows for form, rows in forms.items() if _is_table(rows)}
    known = {form: rows for form, rows in fitting.items() if names and any(row[0] in names for row in rows)}
    ways = list((known or fitting).items())
    if not ways:
        return forms[_FORMS[0]]
    (separator, _), rows = ways[0]
    other = next((form for form, others in ways if others != rows), None)
    if other is not None:
        raise InputError(
            f"{path} can be read in two ways, with {SEPARATORS[separator]} or with {SEPARATORS[other[0]]} between the cells; "
            "write the numbers with a decimal point"
        )
    return rows


def split_cells(text: str, path: Path) -> Rows:
    """The cells of a CSV file of any kind: the separator is one that occurs, if possible equally often in all lines, and the most often.

    Raises:
        InputError: it is no CSV text.
    """
    tables = [rows for separator in SEPARATORS if (rows := _parse(text, separator, False, path))]
    several = [rows for rows in tables if any(len(row) > 1 for row in rows)]
    even = [rows for rows in several if len({len(row) for row in rows}) == 1]
    return max(even or several or tables[:1], key=lambda rows: len(rows[0]), default=[])


def is_number(cell: str) -> bool:
    """Whether a cell holds a number, be it infinite or NaN."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def composed(name: str) -> str:
    """The form of a name in which a letter and its accent are one character; macOS, and archives from it, have two."""
    return unicodedata.normalize("NFC", name)


@cache
def say_once(message: str) -> None:
    """Log a warning, the first time that it comes: files are read once for every split."""
    log.warning(message)


def _parse(text: str, separator: str, decimal_comma: bool, path: Path) -> Rows | None:
    """Non-empty rows of stripped cells, or None where a first line names another separator."""
    lines = text.splitlines()
    if lines and lines[0].lower().startswith("sep=") and len(lines[0]) == 5:  # spreadsheets write it
        if lines[0][4] != separator:
            return [] if separator == "," else None
        lines = lines[1:]
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator) if any(map(str.strip, row))]
    except csv.Error as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if decimal_comma:
        rows = [[row[0], *(cell.replace(",", ".", 1) for cell in row[1:])] for row in rows]
    return [[composed(row[0]), *row[1:]] for row in rows]


def _is_table(rows: Rows) -> bool:
    """Whether all rows are as long, and numbers behind the name; the first may be titles, none of them a number."""
    if not rows or len(rows[0]) < 2 or any(len(row) != len(rows[0]) for row in rows):
        return False
    titles = not any(map(is_number, rows[0][1:]))
    return all(is_number(cell) for row in rows[titles:] for cell in row[1:]) and len(rows) > titles
