"""Lists of class names as people and tools write them; what is taken and what is left out is said, and what could be either is refused."""

import json
import re
from pathlib import Path

from shared.errors import InputError
from shared.files.text_file import Rows, composed, is_number, read_text, say_once, split_cells

NO_CLASS = "__ignore__"
"""What labelme has in the first line of its labels.txt, for pixels without a class (its number there is -1)."""
NAME_TITLES = ("name", "names", "class name", "class names", "class", "classes", "label", "labels", "label name", "category", "categories")
ID_TITLES = ("id", "ids", "class id", "label id", "index", "idx", "value", "train id", "trainid")
_NUMBERED = re.compile(r"(?P<id>\d+)\s*[:,;\t ]\s*(?P<name>\S.*)")
_COLOURED = re.compile(r"(?P<name>.*\S)(?:\s*[,;\t ]\s*\d{1,3}){3}")


def read_class_names(path: Path, advice: str) -> list[str]:
    """The names of a file, in the order of the class ids: a JSON list; a CSV or TSV file with column titles; or text with a name per line.

    Lines that begin with #, and labelme's __ignore__, are no classes. Numbers before the names and colours behind them are left out, if all
    lines have them.

    Args:
        advice: what to do about a file that cannot be read.

    Raises:
        InputError: no such file, not of these forms, numbers that are not in order, or a first line that looks like a title.
    """
    text = read_text(path, "class names", advice)
    if path.suffix.lower() == ".json":
        return [composed(name) for name in _json_names(text, path)]
    lines = [(number, composed(line.strip())) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    for number, line in lines:
        if line.startswith("#"):
            say_once(f"{path}: left out line {number} ({line[:60]}), which is a comment")
    lines = [(number, line) for number, line in lines if not line.startswith("#")]
    columns = path.suffix.lower() in (".csv", ".tsv")
    names = _column("\n".join(line for _, line in lines), path) if columns else _plain_names(lines, path)
    if NO_CLASS in names:
        say_once(f"{path}: left out {NO_CLASS}, which stands for pixels without a class")
    return [name for name in names if name != NO_CLASS]


def require_different(names: list[str], source: str) -> None:
    """Refuse a list with a name that stands there twice, or with none."""
    if not names:
        raise InputError(f"{source} holds no class name; expected one name per class")
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise InputError(f"{source} names {', '.join(twice[:3])} more than once; give every class a name of its own")


def _json_names(text: str, path: Path) -> list[str]:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}; expected a list of class names") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f'{path} holds no list of names; expected ["first class", "second class", …]')
    return names


# --- A name per line ------------------------------------------------------------------------------------------------------------


def _plain_names(lines: list[tuple[int, str]], path: Path) -> list[str]:
    names = [line for _, line in lines]
    if len(names) > 1 and _is_title(names[0].rstrip(":")):
        raise InputError(
            f"line {lines[0][0]} of {path}, {names[0]!r}, looks like a title and would be class 0; remove it, or, if it is a class, give "
            "the names as a JSON list"
        )
    numbered = [_NUMBERED.fullmatch(name) for name in names]
    if len(names) > 1 and all(numbered):
        _require_order([match["id"] for match in numbered if match], path)
        say_once(f"{path}: left out the number before every name")
        names = [match["name"] for match in numbered if match]
    coloured = [_COLOURED.fullmatch(name) for name in names]
    if names and all(coloured):
        say_once(f"{path}: left out the three numbers behind every name")
        names = [match["name"] for match in coloured if match]
    return names


def _is_title(word: str) -> bool:
    return _plain(word) in NAME_TITLES


def _plain(word: str) -> str:
    """In small letters, with spaces for the usual joints."""
    return re.sub(r"[\s_-]+", " ", word.strip().lower())


# --- Columns --------------------------------------------------------------------------------------------------------------------


def _column(text: str, path: Path) -> list[str]:
    rows = split_cells(text, path)
    if not rows:
        return []
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        raise InputError(f"{path} has lines of {min(lengths)} to {max(lengths)} cells; as many in every line were expected")
    if len(rows[0]) == 1:
        return _plain_names(list(enumerate((row[0] for row in rows), 1)), path)
    titles = _titles(rows)
    body = rows[1:] if titles else rows
    texts = [place for place in range(len(rows[0])) if not all(is_number(row[place]) for row in body)]
    titled = [titles.index(title) for title in NAME_TITLES if title in titles]
    if not titled and len(texts) != 1:
        shown = ", ".join(rows[0])
        raise InputError(f"which column of {path} ({shown}) holds the class names is not clear; call it name in the first line")
    place = titled[0] if titled else texts[0]
    ids = next((titles.index(title) for title in ID_TITLES if title in titles), None if titles or place == 0 else 0)
    if ids is not None:
        _require_order([row[ids] for row in body], path)
    names = f"column {rows[0][place]}" if titles else f"column {place + 1}"
    say_once(f"{path}: took the {len(body)} class names of {names}" + (f"; line 1 ({','.join(rows[0])}) is titles" if titles else ""))
    return [composed(row[place]) for row in body]


def _titles(rows: Rows) -> list[str]:
    """The first row where it is one of titles: no number in it, and a known title or a number below one of them."""
    first, body = rows[0], rows[1:]
    if any(map(is_number, first)) or not body:
        return []
    words = [_plain(cell) for cell in first]
    known = any(word in NAME_TITLES or word in ID_TITLES for word in words)
    return words if known or any(is_number(cell) for cell in body[0]) else []


def _require_order(ids: list[str], path: Path) -> None:
    """Refuse numbers that do not count the lines: the order of the lines is that of the class ids."""
    if not all(re.fullmatch(r"\d+", number) for number in ids):
        return
    first = int(ids[0])
    for place, number in enumerate(ids):
        if int(number) != first + place:
            raise InputError(f"{path} numbers class {place} as {number}, where {first + place} was expected; sort the lines by class id")
