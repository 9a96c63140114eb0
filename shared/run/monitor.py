"""What a training says of itself beside its losses: gradient norms, memory, images per second."""

import resource
import statistics
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from shared.run.training import RunningMeans
from shared.run.updates import Updater

PEAK_MEMORY = "memory/peak_mib"
"""Name of the peak memory among the resources: of the GPU, or of the process where there is none."""

SKIPPED = "skipped/"


class Monitor:
    """Watches the updates of a training.

    It draws no random number and changes no gradient, so that a training is the same with and without it.

    Args:
        updaters: by name. An update of the first is a step of the training.
        images_per_step: of all processes.
        device: where the memory counts.
    """

    def __init__(self, updaters: Mapping[str, Updater], images_per_step: int, device: torch.device) -> None:
        self._images_per_step, self._device = images_per_step, device
        self._norms = {name: RunningMeans() for name in updaters}
        self._left_out = {name: RunningMeans() for name, updater in updaters.items() if updater.scaler.is_enabled()}
        self._times: list[float] = []
        self._first = next(iter(updaters))
        for name, updater in updaters.items():
            updater.watchers.append(partial(self._before_update, name, updater.clip_norm))

    def gradient_norms(self) -> dict[str, float]:
        """Since the last call, the mean norm of each updater's gradients before they are clipped, and, where there is a limit, the share
        of updates that it has cut: gradient_norm/<name>, clipped/<name>. In precision fp16 also the share of updates that were left out,
        skipped/<name>, which have no norm."""
        found = [*self._norms.items(), *self._left_out.items()]
        return {f"{what}/{name}": mean for name, means in found for what, mean in means.take().items()}

    def resources(self) -> dict[str, float]:
        """Images per second since the last call, of the median step, so that pauses do not count; and the peak of memory so far, in MiB."""
        seconds = [later - earlier for earlier, later in zip(self._times, self._times[1:])]
        del self._times[:-1]
        speed = {"images_per_second": self._images_per_step / max(statistics.median(seconds), 1e-9)} if seconds else {}
        return speed | {PEAK_MEMORY: peak_memory(self._device)}

    def state_dict(self) -> dict[str, Any]:
        """The norms that were not taken yet; see `RunningMeans.state_dict`."""
        found = [*self._norms.items(), *((f"{SKIPPED}{name}", means) for name, means in self._left_out.items())]
        return {name: means.state_dict() for name, means in found}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, means in state.items():
            (self._left_out if name.startswith(SKIPPED) else self._norms)[name.removeprefix(SKIPPED)].load_state_dict(means)

    def _before_update(self, name: str, clip_norm: float | None, norm: torch.Tensor | None) -> None:
        if name in self._left_out:
            self._left_out[name].add({"skipped": torch.tensor(float(norm is None))})
        if norm is not None:
            clipped = {} if clip_norm is None else {"clipped": (norm > clip_norm).float()}
            self._norms[name].add({"gradient_norm": norm.detach()} | clipped)
        if name == self._first:
            self._times.append(time.perf_counter())


def peak_memory(device: torch.device) -> float:
    """MiB: most that torch had allocated on a GPU; on a CPU, most that this process had in memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    per_mib = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / per_mib


def parameter_count(module: nn.Module) -> int:
    """Learned numbers of a network."""
    return sum(parameter.numel() for parameter in module.parameters())
