"""Safetensors files with a JSON description, and their errors in one line."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from shared.errors import InputError
from shared.files import atomic_write


def write_tensors(path: str | Path, tensors: dict[str, torch.Tensor], kind: str, about: dict[str, Any]) -> None:
    """Write tensors and a JSON-able description of them, whole or not at all.

    Args:
        kind: what the file is, such as "class embeddings/1"; `read_tensors` asks for it.
        about: plain JSON values.
    """
    ready = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        save_file(ready, temporary, metadata={"format": kind, "about": json.dumps(about)})


def read_tensors(path: str | Path, kind: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and the description that `write_tensors` wrote.

    Raises:
        InputError: no such file, damaged, or of another kind.
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
    try:
        return tensors, json.loads(metadata["about"])
    except (KeyError, ValueError) as error:
        raise InputError(f"{path} has lost its description ({error}); write it again") from error


def _word(kind: str) -> str:
    return kind.split("/")[0]
