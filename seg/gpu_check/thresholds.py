"""How large the tiles of plain torch's losses and search should be: `seg.chunks` has a number of scores that was chosen without a GPU."""

import time
from functools import partial
from unittest import mock

import torch

from seg import chunks
from seg.gpu_check.equality import Size, problem
from seg.losses import exact_cross_entropy
from seg.neighbours import nearest_classes
from shared.gpu_check.checks import Check, Found

POWERS = (21, 22, 23, 24, 25, 26, 27, 28)
"""Of two: scores of a tile."""


def checks_of(device: torch.device, rehearsal: bool) -> list[Check]:
    """The loss and the search, with few and many classes."""
    counts, shape = ((20,), (1, 9, 10)) if rehearsal else ((150, 1284), (4, 450, 450))
    sizes = [Size(count, shape) for count in counts]
    powers = POWERS[:2] if rehearsal else POWERS
    return [
        *(Check(f"tile of the chunked loss, {size}", partial(best_tile, device, size, powers, "loss")) for size in sizes),
        *(Check(f"tile of the search, {size}", partial(best_tile, device, size, powers, "search")) for size in sizes),
    ]


def best_tile(device: torch.device, size: Size, powers: tuple[int, ...], work: str) -> Found:
    """Milliseconds by the size of a tile, the best one, and what the default costs beside it."""
    pixels, classes, labels = problem(size, 12, device)
    by = pixels.requires_grad_(), classes.requires_grad_()
    points = pixels.detach().movedim(1, -1).flatten(0, 2).contiguous()

    def call() -> object:
        if work == "search":
            return nearest_classes(points, classes, min(8, size.classes), backend="torch")
        return torch.autograd.grad(exact_cross_entropy(*by, labels, impl="chunked"), by)

    default = round(torch.tensor(chunks._TILE_ELEMENTS[device.type]).log2().item())
    taken = {}
    for power in powers:
        with mock.patch.dict(chunks._TILE_ELEMENTS, {device.type: 2.0**power}):
            taken[power] = seconds_of(call, device)
    best = min(taken, key=lambda power: taken[power])
    figures: dict[str, float | str] = {"best, power of two": float(best), "default": float(default), "best ms": 1e3 * taken[best]}
    if default in taken:
        figures["default over best"] = taken[default] / taken[best]
    return Found(figures, note="ms by power: " + ", ".join(f"{power}: {1e3 * seconds:.1f}" for power, seconds in taken.items()))


def seconds_of(call: partial[object] | object, device: torch.device) -> float:
    """The faster of two calls, after one to warm up."""
    found = []
    for _ in range(3):
        started = time.perf_counter()
        call()  # type: ignore[operator]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - started)
    return min(found[1:])
