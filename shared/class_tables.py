"""Vectors of classes from a file of any origin: embedding files, text embeddings, word vectors, codes of a hierarchy.

    .safetensors   embedding file of a segmentation run
    .npz           arrays `names` (K,) of text and `vectors` (K, D)
    .npy           (C, D), rows in the order of the data set's classes
    .csv           a line per class: its name, then D numbers, with commas, semicolons or tabs between them; a first line of column titles
                   may stand above

Rows are brought to the classes by name, and to length 1: only directions count. K rows, C classes, D numbers per row.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from shared.embedding_file import ClassEmbeddings
from shared.errors import InputError
from shared.files.text_file import composed, is_number, read_named_numbers

Contents = tuple[list[str] | None, np.ndarray]


@dataclass(frozen=True, eq=False)
class ClassTable:
    """Named unit vectors. names: K different ones, or None where a file has only rows. vectors: (K, D) float32."""

    names: tuple[str, ...] | None
    vectors: torch.Tensor
    path: str

    def rows_of(self, class_names: Sequence[str], dataset: str) -> torch.Tensor:
        """(C, D): the vectors of these classes, in their order.

        Raises:
            InputError: a class has no row, or a row no class; names the first one and the file.
        """
        if self.names is None:
            if len(self.vectors) != len(class_names):
                raise InputError(
                    f"{self.path} has {len(self.vectors)} rows without names, but {dataset} has {len(class_names)} classes; "
                    "give a row per class in their order, or a table with names (.npz, .csv)"
                )
            return self.vectors
        place = {name: row for row, name in enumerate(self.names)}
        known = set(class_names)
        missing = [name for name in class_names if name not in place]
        extra = [name for name in self.names if name not in known]
        if missing:
            raise InputError(f"{self.path} has no row for class {missing[0]} of {dataset}{_and_others(missing)}; add it")
        if extra:
            raise InputError(f"{self.path} has a row for {extra[0]}, which is no class of {dataset}{_and_others(extra)}; remove it")
        return self.vectors[[place[name] for name in class_names]]


def read_class_table(path: str | Path) -> ClassTable:
    """Read and check a table.

    Raises:
        InputError: no such file, of another kind, damaged; a name that occurs twice; a row that is not finite or zero. It names class and
            file.
    """
    reader = READERS.get(Path(path).suffix)
    if reader is None:
        raise InputError(f"{path} is no class table: its name must end in {', '.join(READERS)}")
    if not Path(path).is_file():
        raise InputError(f"no class table {path}")
    names, vectors = reader(Path(path))
    if vectors.ndim != 2 or 0 in vectors.shape or not (np.issubdtype(vectors.dtype, np.number) and np.isrealobj(vectors)):
        raise InputError(f"{path} holds {vectors.dtype} of shape {vectors.shape}; real numbers (classes, size) were expected")
    if names is not None:
        if len(names) != len(vectors):
            raise InputError(f"{path} has {len(names)} names for {len(vectors)} rows; one name per row was expected")
        name, times = Counter(names).most_common(1)[0]
        if times > 1:
            raise InputError(f"{path} has {times} rows for class {name}; keep one")
    rows = vectors.astype(np.float64)
    for problem, bad in (("holds a value that is not finite", ~np.isfinite(rows).all(1)), ("is zero", (rows == 0).all(1))):
        if bad.any():
            row = int(bad.argmax())
            raise InputError(f"the row of class {names[row] if names else row} in {path} {problem}; every class needs a direction")
    return ClassTable(None if names is None else tuple(names), F.normalize(torch.from_numpy(rows)).float(), str(path))


def _read_embedding_file(path: Path) -> Contents:
    embeddings = ClassEmbeddings.load(path)
    return list(embeddings.class_names), embeddings.vectors.numpy()


def _read_npz(path: Path) -> Contents:
    arrays = _load_numpy(path)
    if not isinstance(arrays, dict) or not {"names", "vectors"} <= arrays.keys():
        found = ", ".join(arrays) if isinstance(arrays, dict) else "one array"
        raise InputError(f"{path} holds {found or 'nothing'}; arrays names (K,) and vectors (K, D) were expected")
    return [composed(str(name)) for name in arrays["names"].ravel()], arrays["vectors"]


def _read_npy(path: Path) -> Contents:
    array = _load_numpy(path)
    if isinstance(array, dict):
        raise InputError(f"{path} is an archive of arrays; call it .npz")
    return None, array


def _load_numpy(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    try:
        # a pickle could run code
        loaded = np.load(path, allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except Exception as error:  # a damaged archive fails in any way
        raise InputError(
            f"cannot read {path}: {str(error) or type(error).__name__}; it is damaged, or holds more than numbers and text"
        ) from error


def _read_csv(path: Path) -> Contents:
    lines = read_named_numbers(path, "class table", "give a line per class: its name, then numbers")
    # the first cell tells nothing: a class may be called anything, also "name" or "7"
    if lines and len(lines[0]) > 1 and not any(map(is_number, lines[0][1:])):
        del lines[0]  # column titles
    width = len(lines[0]) if lines else 0
    for name, *cells in lines:
        wrong = next((cell for cell in cells if not is_number(cell)), None)
        if wrong is not None:
            raise InputError(f"the row of class {name} in {path} holds {wrong!r}; a name and then numbers were expected")
        if len(cells) + 1 != width or not cells:
            raise InputError(f"the row of class {name} in {path} holds {len(cells)} numbers; {max(width - 1, 1)} were expected")
    return [line[0] for line in lines], np.array([line[1:] for line in lines], np.float64)


def _and_others(names: list[str]) -> str:
    return f" ({len(names) - 1} more)" if len(names) > 1 else ""


READERS: dict[str, Callable[[Path], Contents]] = {
    ".safetensors": _read_embedding_file,
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".csv": _read_csv,
}
