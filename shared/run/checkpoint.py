"""Checkpoints: one safetensors file with every tensor of the training state, and its settings as JSON text.

Nothing in the file is code, and reading its header costs no tensor. A checkpoint describes its own model: the settings,
class names and palette travel with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from shared.config import with_new_names
from shared.distributed import is_first, world_size
from shared.errors import InputError
from shared.files.tensor_file import read_tensors, write_tensors
from shared.joint_norm import merge_running_statistics

FORMAT = "checkpoint tensors/1"


class Stateful(Protocol):
    """Something whose state is a few JSON values."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> object: ...


class TrainingState:
    """Everything that a resumed run needs, by name.

    Args:
        modules: networks whose parameters and buffers are saved under `<name>.`.
        optimizers: optimizers whose state is saved under `<name>.`; learning rates are functions of the step and not saved.
        about: settings and classes, plain JSON values.

    Attributes:
        step: finished updates.
        best: the best validation score so far.
        evaluated: the step whose evaluation is done, with all that follows from it. A run saves before it evaluates, so that an evaluation
            that fails loses nothing: a run whose `evaluated` lacks its step makes up for it when it continues.
        small: whatever else has a state that must go on, such as running means.
    """

    def __init__(self, modules: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer], about: dict[str, Any]) -> None:
        self.modules, self.optimizers, self.about = modules, optimizers, about
        self.step = 0
        self.best: float | None = None
        self.evaluated = 0
        self.small: dict[str, Stateful] = {}

    def save(self, path: Path, previous: Path | None = None) -> None:
        """Write the state to `path`, whole or not at all. What was there is kept as `previous`, if that is given.

        Several processes call this together, and the first one writes.
        """
        merge_running_statistics(*self.modules.values())
        small = {name: item.state_dict() for name, item in self.small.items()}
        if not is_first():
            return
        tensors: dict[str, torch.Tensor] = {}
        for name, module in self.modules.items():
            tensors |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        for name, optimizer in self.optimizers.items():
            tensors |= {f"{name}.{key}": value for key, value in _optimizer_tensors(optimizer).items()}
        meta = self.about | {"step": self.step, "best": self.best, "evaluated": self.evaluated, "small": small, "processes": world_size()}
        write_checkpoint(path, tensors, meta, previous)

    def load(self, path: Path) -> None:
        """Continue from `path`.

        Raises:
            InputError: the file cannot be read or holds other networks than these.
        """
        self.restore(Stored(*read_checkpoint(path), path, {}))

    def restore(self, stored: "Stored") -> None:
        """Continue from a checkpoint that was read.

        Raises:
            InputError: it holds other networks than these.
        """
        tensors, meta, path = stored.tensors, stored.meta, stored.path
        for name, module in self.modules.items():
            load_module(module, tensors, name, path)
        for name, optimizer in self.optimizers.items():
            _load_optimizer(optimizer, _under(tensors, name))
        for name, values in meta.get("small", {}).items():
            if name in self.small:  # else of a feature that is not in use now
                self.small[name].load_state_dict(values)
        self.step, self.best = meta["step"], meta["best"]
        self.evaluated = meta.get("evaluated", self.step)  # earlier versions saved after the evaluation


def write_checkpoint(path: Path, tensors: dict[str, torch.Tensor], meta: dict[str, Any], previous: Path | None = None) -> None:
    """Write what `read_checkpoint` reads, whole or not at all. What was there is kept as `previous`, if that is given."""
    write_tensors(path, tensors, FORMAT, meta, previous)


def read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Every tensor of a checkpoint, and what travels with it, the settings under the names that they have today.

    Raises:
        InputError: no such file, damaged, or not a checkpoint of this project.
    """
    tensors, meta = read_tensors(path, FORMAT)
    return tensors, meta | ({"config": with_new_names(meta["config"])} if "config" in meta else {})


@dataclass(frozen=True)
class Stored:
    """What `read_newest` found.

    Attributes:
        tensors, meta, path: of the checkpoint, see `read_checkpoint`.
        damaged: newer files that cannot be read, and why.
    """

    tensors: dict[str, torch.Tensor]
    meta: dict[str, Any]
    path: Path
    damaged: dict[Path, str]


def read_newest(paths: Sequence[Path]) -> Stored | None:
    """The first of `paths`, newest first, that is there and whole; None where no file is there.

    Raises:
        InputError: there are files, but none is whole.
    """
    damaged: dict[Path, str] = {}
    for path in paths:
        if path.is_file():
            try:
                return Stored(*read_checkpoint(path), path, damaged)
            except InputError as error:
                damaged[path] = str(error)
    if damaged:
        raise InputError(f"{'; '.join(damaged.values())}; no checkpoint is left to continue from: move the run away to start again")
    return None


def load_module(module: nn.Module, tensors: dict[str, torch.Tensor], name: str, path: Path) -> None:
    """Load the tensors under `<name>.` into `module`.

    Raises:
        InputError: names the first tensor that is missing, left over or of another shape.
    """
    stored, own = _under(tensors, name), module.state_dict()
    for key in own | stored:
        have, want = stored.get(key), own.get(key)
        if have is None or want is None or have.shape != want.shape:
            shapes = [tuple(tensor.shape) if tensor is not None else "nothing" for tensor in (have, want)]
            raise InputError(f"checkpoint {path} does not fit the settings: {name}.{key} is {shapes[0]} there, {shapes[1]} here")
    module.load_state_dict(stored)


def _under(tensors: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": torch.as_tensor(value) for index, entry in state.items() for key, value in entry.items() if value is not None}


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Files hold contiguous tensors. Fused optimisers go through a parameter and its moments as they lie in memory, element by element,
    so that each state tensor gets the memory format of its parameter again."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, entry in optimizer.state.items():
        for key, value in entry.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                entry[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
