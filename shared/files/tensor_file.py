"""Safetensors files with a JSON description and a checksum of both, and their errors in one line."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from shared.errors import InputError
from shared.files.atomic import atomic_write, keep_as
from shared.files.json_file import to_json


def write_tensors(
    path: str | Path, tensors: dict[str, torch.Tensor], kind: str, about: dict[str, Any], previous: Path | None = None
) -> None:
    """Write tensors and a JSON-able description of them, whole or not at all.

    Args:
        kind: what the file is, such as "class embeddings/1"; `read_tensors` asks for it.
        about: plain JSON values; a number that is not finite becomes null.
        previous: where an earlier `path` is kept from the moment that the new file is read back and found right. None: it is replaced.

    Raises:
        InputError: the file cannot be written, or does not hold afterwards what was written. The earlier one is still there.
    """
    # cloned, as safetensors refuses tensors that share memory
    ready = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    described = to_json(about)
    with atomic_write(path) as temporary:
        checksum = _checksum(ready, ready.__getitem__, described)
        save_file(ready, temporary, metadata={"format": kind, "about": described, "sha256": checksum})
        # read back before the old file is given up
        with safe_open(temporary, framework="pt") as file:
            if _checksum(file.keys(), file.get_tensor, described) != checksum:
                raise InputError(f"what was written to {path} reads back otherwise; check the disk")
        # before the rename, which takes this name away from the old file
        if previous is not None and Path(path).is_file():
            keep_as(Path(path), previous)


def read_tensors(path: str | Path, kind: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and the description that `write_tensors` wrote.

    Raises:
        InputError: no such file, damaged, or of another kind. A file from before there were checksums is taken without.
    """
    if not Path(path).is_file():
        raise InputError(f"no file {path}; {_word(kind)} were expected there")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    except (SafetensorError, OSError) as error:
        raise InputError(f"cannot read {path}: {error}; it is cut short, damaged or no safetensors file: write it again") from error
    if metadata.get("format") != kind:
        raise InputError(f"{path} is a safetensors file of format {metadata.get('format')}; {_word(kind)} ({kind}) were expected")
    if "sha256" in metadata and metadata["sha256"] != _checksum(tensors, tensors.__getitem__, metadata.get("about", "")):
        raise InputError(f"{path} is damaged: its content does not have the checksum that it was written with; write it again")
    try:
        return tensors, json.loads(metadata["about"])
    except (KeyError, ValueError) as error:
        raise InputError(f"{path} has lost its description ({error}); write it again") from error


def _checksum(names: Iterable[str], get: Callable[[str], torch.Tensor], about: str) -> str:
    """SHA-256 over the description and, by name, the kind, shape and bytes of every tensor."""
    total = hashlib.sha256(about.encode())
    # sorted, as a file need not give its names in the order of writing
    for name in sorted(names):
        tensor = get(name)
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # as bytes, because NumPy has no bfloat16
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _word(kind: str) -> str:
    return kind.split("/")[0]
