"""The embedding file that synthesis takes: the one given, or the newest export of a segmentation run on the same data."""

from pathlib import Path

from shared.data.spec import DatasetSpec
from shared.embedding_file import EMBEDDINGS_FILE, ClassEmbeddings
from shared.errors import InputError
from shared.run.directory import find_runs


def find_embeddings(path: str | None, spec: DatasetSpec, *, required: bool) -> Path | None:
    """The file given, or the newest export of a segmentation run on the same data; None when there is none and it is not required.

    Raises:
        InputError: the file given does not fit `spec`, or a file is required and no run on this data has exported one.
    """
    if path is not None:
        ClassEmbeddings.load(path).require_match(spec, path)
        return Path(path)
    for run in find_runs("seg.train"):
        candidate = run.path / EMBEDDINGS_FILE
        if candidate.is_file() and _fits(candidate, spec):
            return candidate
    if required:
        raise InputError(
            f"no class embeddings of data set {spec.name} ({spec.num_classes} classes) under runs/seg.train; "
            f"run `python -m seg.train` with the same data settings first, or give --embeddings FILE"
        )
    return None


def _fits(path: Path, spec: DatasetSpec) -> bool:
    try:
        ClassEmbeddings.load(path).require_match(spec, path)
    except InputError:
        return False
    return True
