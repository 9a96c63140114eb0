"""Settings that every benchmark of contestants has."""

from dataclasses import dataclass, fields
from typing import Any, Literal

import torch

from shared.benchmark.contest import Limits
from shared.benchmark.isolation import GIB, available_memory
from shared.config import to_dict
from shared.errors import InputError

CHILD_SECONDS = 300.0
UNKNOWN_MEMORY = 8 * GIB  # where the system does not tell what is free


@dataclass
class SuiteConfig:
    """What both halves are told; they extend it."""

    classes: list[int]
    """C."""
    dim: int = 12
    """D, embedding dimension."""
    repeats: int = 5
    """Samples of a call; fewer of one that is slow."""
    seconds: float = 10.0
    """Time for the samples of one contestant and case."""
    memory_limit: float | None = None
    """GiB that a contestant may take, inputs included. Null: half of what is free."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes CUDA when there is a device."""
    threads: int | None = None
    """CPU threads. Null: as torch chooses, one per core."""
    seed: int = 0
    """Of everything that is made up."""
    run_dir: str | None = None
    """Folder for benchmark.json, benchmark.md and the plots. Null: the next free runs/<program>/<device>-<number>."""
    dry_run: bool = False
    """List what would be measured, and stop."""

    def __post_init__(self) -> None:
        numbers = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in ("seed", "dry_run")}
        for name, value in numbers.items():
            if isinstance(value, (int, float)) and not value > 0:
                raise InputError(f"{name} is {value}; it must be above 0")
        if not self.classes or min(self.classes) < 2:
            raise InputError(f"classes is {self.classes}; give at least one number, each 2 or more")

    def limits(self, device: torch.device) -> Limits:
        """What a measurement on the device may take."""
        memory = int(self.memory_limit * GIB) if self.memory_limit else (available_memory(device) or UNKNOWN_MEMORY) // 2
        return Limits(self.repeats, self.seconds, memory, CHILD_SECONDS)

    def resolved(self, device: torch.device, limits: Limits) -> dict[str, Any]:
        """Plain values, with what was taken where the program chose."""
        chosen = {"device": device.type, "threads": torch.get_num_threads(), "memory_limit": limits.memory / GIB}
        return to_dict(self) | chosen
