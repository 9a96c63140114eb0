"""The kinds of work that are compared, by name, and one of their cases measured in a process of its own or beside its rivals."""

from dataclasses import asdict
from importlib import import_module

import torch

from seg.benchmark.cases import Case
from shared.benchmark.contest import Contestant, Footprint, measure_footprint
from shared.benchmark.isolation import run_in_child

GROUPS = {
    "losses": "seg.benchmark.losses:loss_contestants",
    "search": "seg.benchmark.searches:search_contestants",
    "head training": "seg.benchmark.heads:training_contestants",
    "head inference": "seg.benchmark.heads:inference_contestants",
    "paper": "seg.benchmark.losses:paper_contestants",
    "training step": "seg.benchmark.whole_model:step_contestants",
}
"""Functions from a case to its contestants, by name: a child process imports the one that it needs."""

TITLES = {
    "losses": "Loss, forward and backward",
    "search": "Search for the nearest classes",
    "head training": "Head and loss, forward and backward",
    "head inference": "Head, inference",
    "paper": "Loss at the paper's size, forward and backward",
    "training step": "Training step of the whole network",
}

BASELINES = {
    "losses": ("released way", "dense softmax"),
    "search": ("FAISS",),
    "head training": ("softmax",),
    "head inference": ("softmax",),
    "paper": ("released way", "dense softmax"),
    "training step": ("softmax",),
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
    return Footprint(**run_in_child("seg.benchmark.child", task, timeout=timeout))


def footprint_here(case: Case, name: str) -> Footprint:
    """The same in this process, which should do nothing else."""
    return measure_footprint(contestants_of(case)[name], contestants_of(case.small())[name], torch.device(case.device))


def set_threads(threads: int) -> None:
    """CPU threads of torch and FAISS in this process."""
    torch.set_num_threads(threads)
    try:
        import faiss
    except ImportError:
        return
    faiss.omp_set_num_threads(threads)
