"""The losses and the search of `seg.benchmark` at the size of the paper's largest setting, each with its share of the floor."""

from dataclasses import replace
from functools import cache, partial

import torch

from seg.benchmark.cases import Case
from seg.benchmark.losses import CHUNKED, DENSE, EXACT, NEIGHBOURS, RELEASED
from shared.benchmark.contest import Contestant
from shared.benchmark.suite import contestants_of
from shared.gpu_check.checks import Check, Found
from shared.gpu_check.speed import Stopwatch

CLASSES = (1284, 19, 150, 10_000)
FULL, TINY = (10, 450, 450), (1, 12, 16)
LEFT_OUT = ("(reference)", "(numba)", "cdist")
"""Parts of the names of contestants that are for other devices or sizes."""
GOALS = {f"exact × {RELEASED}": 5.0, f"exact × {DENSE}": 3.0, "exact of floor": 0.4}
"""Of the exact loss at 1284 classes, from the first performance document."""


def checks_of(device: torch.device, rehearsal: bool) -> list[Check]:
    """All contestants of one number of classes after another, and how they compare."""
    watch = Stopwatch(device, repeats=1 if rehearsal else 7, seconds=0.01 if rehearsal else 1.0)
    images, height, width = TINY if rehearsal else FULL
    base = Case("losses", 0, images, height, width, 12, device.type, torch.get_num_threads(), 0, 8)
    found = []
    for classes in (20,) if rehearsal else CLASSES:
        found += _of_case(replace(base, classes=classes), watch)
        compare = partial(watch.compare, "losses", classes, {"exact": EXACT, "neighbours": NEIGHBOURS})
        rivals = {name: name for name in (RELEASED, DENSE, CHUNKED)}
        found.append(Check(f"ratios, C {classes}", partial(compare, rivals, GOALS if classes == 1284 else {})))
    for classes in (20,) if rehearsal else (19, 1284):
        found += _of_case(replace(base, classes=classes, group="search"), watch)
    return found


def _of_case(case: Case, watch: Stopwatch) -> list[Check]:
    made = cache(partial(contestants_of, case))  # with one set of inputs for all of them

    def measure(name: str) -> Found:
        contestant: Contestant = made()[name]
        try:
            return watch.measure(contestant, case.group, case.classes)
        finally:
            if name == names[-1]:
                made.cache_clear()  # and of their inputs

    names = [name for name in contestants_of(case) if not any(part in name for part in LEFT_OUT)]
    return [Check(f"{name}, {case.group}, C {case.classes}", partial(measure, name)) for name in names]
