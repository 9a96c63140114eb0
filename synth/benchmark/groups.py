"""The kinds of work that are compared, by name, and one of their cases measured in a process of its own or beside its rivals."""

from dataclasses import asdict
from importlib import import_module

import torch

from shared.benchmark.contest import Contestant, Footprint, measure_footprint
from shared.benchmark.isolation import run_in_child
from synth.benchmark.cases import Case

GROUPS = {
    "convolution": "synth.benchmark.layers:convolution_contestants",
    "modulation": "synth.benchmark.layers:modulation_contestants",
    "generator": "synth.benchmark.networks:generator_contestants",
    "step": "synth.benchmark.networks:step_contestants",
    "discriminators": "synth.benchmark.discriminators:discriminator_contestants",
    "options": "synth.benchmark.discriminators:option_contestants",
}
"""Functions from a case to its contestants, by name: a child process imports the one that it needs."""

TITLES = {
    "convolution": "First convolution, forward and backward",
    "modulation": "Scale and shift, forward and backward",
    "generator": "Generator, forward and backward",
    "step": "Training step of both networks",
    "discriminators": "Training step with each discriminator",
    "options": "Training step with each option, embedding OASIS",
}

BASELINES = {
    "convolution": ("dense one-hot",),
    "modulation": ("dense one-hot",),
    "generator": ("published form", "dense one-hot"),
    "step": ("published form", "dense one-hot"),
    "discriminators": ("published one-hot", "one-hot, OASIS"),
    "options": ("as by default",),
}
"""What the other contestants are compared with; the beginning of the name suffices."""


def contestants_of(case: Case) -> dict[str, Contestant]:
    """Who takes part, by name."""
    module, function = GROUPS[case.group].split(":")
    contestants: list[Contestant] = getattr(import_module(module), function)(case)
    return {contestant.name: contestant for contestant in contestants}


def footprint_in_child(case: Case, name: str, *, memory: int, timeout: float) -> Footprint:
    """Peak memory and seconds of one call, from a child process.

    Raises:
        Failed: with the reason, of the contestant or of the child.
    """
    task = {"case": asdict(case), "contestant": name, "memory": memory}
    return Footprint(**run_in_child("synth.benchmark.child", task, timeout=timeout))


def footprint_here(case: Case, name: str) -> Footprint:
    """The same in this process, which should do nothing else."""
    return measure_footprint(contestants_of(case)[name], contestants_of(case.small())[name], torch.device(case.device))
