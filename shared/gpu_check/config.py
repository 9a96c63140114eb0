"""Settings of the command, and of the programs that it starts."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import torch

from shared.errors import InputError

Section = Literal["machine", "equality", "training", "speed", "thresholds"]
SECTIONS: tuple[Section, ...] = get_args(Section)


@dataclass
class GpuCheckConfig:
    """Prove the GPU of this machine: every loss, kernel and training against float64 and the CPU, and what they cost on it."""

    output: Path
    """Folder for gpu_check.md, gpu_check.json and the plots; written anew after every check."""
    sections: list[Section] = field(default_factory=lambda: list(SECTIONS))
    """What to do. machine: card, driver and rates; equality: kernels, losses and networks against float64; training: steps, resume and
    memory; speed: the benchmarks at full size; thresholds: choices tuned on a CPU, measured anew."""
    seconds: float = 420.0
    """Time for everything. What no longer fits is left out, and the table says so."""
    rehearsal: bool = False
    """The whole command on the CPU, at tiny sizes, with Triton's interpreter: all but the card itself."""
    dry_run: bool = False
    """List the programs that would be started, and stop."""

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise InputError(f"seconds is {self.seconds}; it must be above 0")
        if not self.sections:
            raise InputError(f"sections is empty; give one or more of {', '.join(SECTIONS)}")


@dataclass
class PartConfig:
    """The checks of some sections; started by `python -m shared.gpu_check`."""

    sections: list[Section] = field(default_factory=lambda: list(SECTIONS))
    """Which, of those that the program has."""
    rehearsal: bool = False
    """On the CPU, at tiny sizes."""
    seconds: float = 600.0
    """No check begins later than this."""
    share: tuple[int, int] = (0, 1)
    """(i, n): the i-th of n parts of the checks."""
    skip: int = 0
    """Checks of the share that are done already."""

    @property
    def device(self) -> torch.device:
        """Where the checks compute."""
        return torch.device("cpu" if self.rehearsal else "cuda")
