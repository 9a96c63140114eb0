"""Trainings as a user runs them, in this process: their losses against the CPU's, a resumed one, and one that does not fit."""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file

from shared.benchmark.isolation import limit_memory
from shared.config import TrainConfig
from shared.gpu_check.checks import Absent, Found
from shared.run.directory import RunDirectory
from shared.run.in_process import Outcome, run_program_here

LOSSES = ("loss/", "generator/", "discriminator/")
"""How the metrics begin that are terms of a loss."""
GROWTH = {"no": (3e-4, 2.0), "bf16": (2e-2, 4.0), "fp16": (5e-2, 2.0)}
"""Relative tolerance of a loss before the first update, and its growth per step: rounding moves weights, as Adam's first updates are as
long for small gradients as for large ones, and weights move losses; float16 also leaves updates out until it has found its scale."""
MOST = 0.3
"""Where the growth ends."""


@dataclass(frozen=True)
class Training:
    """Of one program and its options, for a number of steps."""

    program: str
    options: tuple[object, ...]
    steps: int

    def run(self, folder: Path, *more: object) -> Outcome:
        """Train, or go on with what is in the folder."""
        given = [*self.options, "--train.steps", self.steps, "--train.log_every", 1, "--run_dir", folder, *more]
        return run_program_here(self.program, given)

    def losses(self, device: str, precision: str) -> list[dict[str, float]]:
        """Sum of the terms by network, for every step.

        Raises:
            RuntimeError: the program did not succeed.
        """
        with tempfile.TemporaryDirectory() as folder:
            # a GPU's float32 is to have the digits of a CPU's
            more = ["--train.device", device, "--train.precision", precision, "--train.threads", 1, "--train.tf32", "false"]
            require_success(self.run(Path(folder) / "run", *more))
            return losses_of(Path(folder) / "run")


def require_success(outcome: Outcome) -> None:
    """Raises RuntimeError with what the program said last."""
    if outcome.status:
        raise RuntimeError(f"status {outcome.status}: {(outcome.errors.strip().splitlines() or ['no message'])[-1]}")


def losses_of(folder: Path) -> list[dict[str, float]]:
    """Sum of the terms of each network's loss, for every step of a run."""
    found = []
    for entry in RunDirectory(folder).metrics():
        sums: dict[str, float] = {}
        for name, value in entry.items():
            if name.startswith(LOSSES):
                network = name.partition("/")[0]
                sums[network] = sums.get(network, 0.0) + (float("nan") if value is None else value)
        if sums:
            found.append(sums)
    return found


@cache
def losses_on_cpu(training: Training) -> list[dict[str, float]]:
    """In float32."""
    return training.losses("cpu", "no")


def distance(ours: dict[str, float], theirs: dict[str, float]) -> float:
    """Relative, the largest over the networks; infinite where a loss is no number."""
    assert ours.keys() == theirs.keys(), f"losses {sorted(ours)} came, {sorted(theirs)} were expected"
    found = max(abs(ours[name] - theirs[name]) / max(abs(theirs[name]), 0.1) for name in ours)
    return found if found == found else float("inf")


def same_losses(training: Training, device: str, precision: str) -> Found:
    """Whether every step's losses are the CPU's in float32, within a tolerance that grows with the step."""
    expected, found = losses_on_cpu(training), training.losses(device, precision)
    first, growth = GROWTH[precision]
    limits = [min(first * growth**step, MOST) for step in range(len(expected))]
    off = [distance(ours, theirs) for ours, theirs in zip(found, expected, strict=True)]
    wrong = [f"step {step + 1}: {error:.1e} > {limit:.0e}" for step, (error, limit) in enumerate(zip(off, limits)) if not error <= limit]
    figures = {"first step": off[0], "last step": off[-1], "allowed then": limits[-1], "worst": max(off)}
    if wrong:
        curve = " ".join(f"{error:.0e}" for error in off)
        return Found(figures, False, f"{wrong[0]}; by step {curve}")
    return Found(figures, True)


def resumes(training: Training, device: str) -> Found:
    """Whether a training that stops half-way and goes on has the weights and losses of one that did not, bit by bit."""
    flag = ["--train.deterministic"] if any(item.name == "deterministic" for item in fields(TrainConfig)) else []
    options = ["--train.device", device, "--train.threads", 1, *flag]
    with tempfile.TemporaryDirectory() as folder, deterministic():
        whole, halves = Path(folder) / "whole", Path(folder) / "halves"
        require_success(training.run(whole, *options))
        require_success(training.run(halves, *options, "--train.stop_after", training.steps // 2))
        require_success(training.run(halves, *options))
        same_curve = losses_of(whole) == losses_of(halves)
        ours, theirs = (load_file(RunDirectory(path).checkpoint("last")) for path in (halves, whole))
    different = [name for name in theirs if not torch.equal(ours[name], theirs[name])]
    note = "" if same_curve else "losses differ; "
    note += f"{len(different)} of {len(theirs)} tensors differ, such as {different[0]}" if different else ""
    return Found({"tensors": float(len(theirs)), "different": float(len(different))}, same_curve and not different, note)


def waits(training: Training, device: torch.device, most: int) -> Found:
    """How often the CPU waits for the GPU in a step of training: the goal is at most `most` times.

    Raises:
        Absent: on a CPU.
    """
    if device.type != "cuda":
        raise Absent("a CPU is not waited for")
    counts = []
    for steps in (training.steps, 2 * training.steps):
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                longer = replace(training, steps=steps)
                require_success(longer.run(Path(folder) / "run", "--train.device", device.type, "--train.log_every", 1000))
            finally:
                torch.cuda.set_sync_debug_mode("default")
        counts.append(sum("synchronizing CUDA operation" in str(one.message) for one in warned))
    found = (counts[1] - counts[0]) / training.steps
    return Found({"a step": found, "in all": float(counts[1])}, note=f"goal, at most {most}: {'met' if found <= most else 'missed'}")


@contextmanager
def deterministic() -> Iterator[None]:
    """What has no deterministic form is warned of, and the comparison tells whether it matters."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def tells_of_memory(training: Training, device: torch.device, limit: int, *words: str) -> Found:
    """Whether a training with less memory than it needs ends with status 1 and one line that holds the words."""
    with tempfile.TemporaryDirectory() as folder, limited(device, limit):
        outcome = training.run(Path(folder) / "run", "--train.device", device.type)
    lines = [line for line in outcome.errors.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    told = outcome.status == 1 and len(lines) == 1 and all(word in lines[0] for word in words) and "Traceback" not in outcome.errors
    last = (outcome.errors.strip().splitlines() or ["it said nothing"])[-1]
    return Found({"status": float(outcome.status)}, told, lines[0][:400] if lines else last[:400])


@contextmanager
def limited(device: torch.device, limit: int) -> Iterator[None]:
    """This process may take so many bytes beyond what it holds now."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        limit_memory(torch.cuda.memory_reserved(device) + limit, device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device.index)
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit_memory(limit, device)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
