"""The generator, its modulation and a training step of `synth.benchmark` at the published size, each with its share of the floor."""

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from shared.benchmark.suite import contestants_of
from shared.data.config import DataConfig, ScenesConfig
from shared.gpu_check.checks import Check, Found
from shared.gpu_check.speed import Stopwatch
from synth.benchmark.cases import MAP_SIZE, Case, save_label_maps
from synth.benchmark.config import MODULATIONS
from synth.benchmark.layers import DENSE, EMBEDDING, GATHERED, SPADE_LAYER
from synth.benchmark.networks import PUBLISHED

CLASSES = (36, 1284, 151)
FULL, TINY = (*MAP_SIZE, 64, 128), (64, 128, 2, 4)
"""Height, width, base width (ngf) and hidden channels."""
STEP_CLASSES = 151
MODULATION_CLASSES = 184


def checks_of(device: torch.device, rehearsal: bool) -> list[Check]:
    """All contestants of one number of classes after another, and how they compare."""
    watch = Stopwatch(device, repeats=1 if rehearsal else 7, seconds=0.01 if rehearsal else 1.0)
    height, width, channels, hidden = TINY if rehearsal else FULL
    folder = tempfile.TemporaryDirectory()
    file = Path(folder.name) / "label_maps.npy"
    base = Case("generator", 0, 1, height, width, 12, device.type, torch.get_num_threads(), 0, channels, hidden, str(file))

    def measure(case: Case, name: str) -> Found:
        if not file.is_file():
            save_label_maps(DataConfig(scenes=ScenesConfig(height=MAP_SIZE[0], width=MAP_SIZE[1])), 1, file)
        assert folder.name  # lasts as long as the checks
        return watch.measure(contestants_of(case)[name], case.group, case.classes)

    found = []
    for classes in (20,) if rehearsal else CLASSES:
        names = (PUBLISHED, GATHERED) if rehearsal else (PUBLISHED, DENSE, GATHERED, EMBEDDING)
        case = replace(base, classes=classes)
        found += [Check(f"{name}, generator, C {classes}", partial(measure, case, name)) for name in names]
        ours, rivals = {"gathered": GATHERED, "embedding": EMBEDDING}, {"published": PUBLISHED, "dense": DENSE}
        found.append(Check(f"ratios, C {classes}", partial(watch.compare, "generator", classes, ours, rivals, {})))
    if not rehearsal:
        step = replace(base, group="step", classes=STEP_CLASSES)
        found += [Check(f"{name}, training step, C {STEP_CLASSES}", partial(measure, step, name)) for name in (PUBLISHED, EMBEDDING)]
        for (rows, columns), wide in MODULATIONS.items():
            case = replace(base, group="modulation", classes=MODULATION_CLASSES, height=rows, width=columns, channels=wide)
            for name in (DENSE, GATHERED, EMBEDDING):
                title = f"{SPADE_LAYER}{name}, {rows}×{columns}, {wide} channels"
                found.append(Check(title, partial(measure, case, SPADE_LAYER + name)))
    return found
