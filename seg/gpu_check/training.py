"""Trainings of both heads, what a step needs beside its prediction, and what is said where it does not fit."""

from functools import partial

import torch

from seg.benchmark.cases import Case
from seg.benchmark.whole_model import Network, TrainingStep, predicted_growth, variant_config
from shared.benchmark.isolation import MIB, peak_above
from shared.gpu_check.checks import Check, Found
from shared.gpu_check.training import Training, resumes, same_losses, tells_of_memory, waits

STEPS, REHEARSED = 20, 3
PRECISIONS = ("no", "bf16", "fp16")
MOST_WAITS = 5
"""Goal: so often at most the CPU waits for the GPU in a step."""
SAME = 0.1
"""Goal: predicted over measured peak is that near 1."""


def checks_of(device: torch.device, rehearsal: bool) -> list[Check]:
    """The rehearsal has one of each kind."""
    heads = ("embedding",) if rehearsal else ("embedding", "softmax")
    steps = REHEARSED if rehearsal else STEPS
    found = []
    for head in heads:
        for precision in PRECISIONS[: 2 if rehearsal else 3]:
            check = partial(same_losses, training_of(head, steps), device.type, precision)
            found.append(Check(f"{head}, {steps} steps, {precision}", check))
    found += [Check(f"{head}, resumed", partial(resumes, training_of(head, steps), device.type)) for head in heads]
    found += [Check(f"{head}, waits for the GPU", partial(waits, training_of(head, steps), device, MOST_WAITS)) for head in heads]
    found.append(Check("a step that does not fit", partial(does_not_fit, device)))
    networks: list[Network] = ["tiny"] if rehearsal else ["resnet50", "efficientnet_lite0"]
    for backbone in networks:
        for classes in (20,) if rehearsal else (150, 1284):
            for variant in ("exact",) if rehearsal else ("exact", "softmax"):
                peak = partial(check_peak, device, backbone, classes, variant, (2, 64, 64) if rehearsal else (4, 384, 384))
                found.append(Check(f"peak, {backbone}, {variant}, C {classes}", peak))
    return found


def scenes(classes: int, size: tuple[int, int], images: int) -> tuple[object, ...]:
    """Options of made scenes."""
    given = {"num_classes": classes, "height": size[0], "width": size[1], "train_length": images, "val_length": 1}
    return "--data.num_workers", 0, *(part for name, value in given.items() for part in (f"--data.scenes.{name}", value))


def training_of(head: str, steps: int) -> Training:
    """Of a tiny network; at this rate a step's rounding does not become the next one's direction. A GPU draws other dropout than a CPU."""
    rates = "--train.batch_size", 2, "--train.learning_rate", 1e-4, "--train.save_every", 1000
    return Training("seg.train", ("--head", head, *scenes(7, (32, 64), 8), "--model.width", 16, "--model.dropout", 0, *rates), steps)


def does_not_fit(device: torch.device) -> Found:
    """Class scores of 1284 classes in half of the memory that they need alone."""
    batch, size, classes = 8, (64, 128), 1284
    options = "--head", "softmax", *scenes(classes, size, batch), "--model.width", 16, "--train.batch_size", batch
    limit = 4 * batch * size[0] * size[1] * classes // 2
    return tells_of_memory(Training("seg.train", options, 1), device, limit, "memory has ended", "largest train.batch_size")


def check_peak(device: torch.device, backbone: Network, classes: int, variant: str, size: tuple[int, int, int]) -> Found:
    """Bytes of a step above weights, momentum and batch: predicted without computing, and measured."""
    images, height, width = size
    case = Case("training step", classes, images, height, width, 12, device.type, torch.get_num_threads(), 0, 8)
    config = variant_config(variant, backbone, case.dim)
    predicted = predicted_growth(case, config)
    step = TrainingStep(case, config)
    step()  # kernels are compiled, and algorithms chosen
    measured = peak_above(step, device)
    if not measured:
        return Found({"predicted MiB": predicted / MIB}, note="no peak is known here")
    ratio = predicted / measured
    figures = {"predicted MiB": predicted / MIB, "measured MiB": measured / MIB, "predicted over measured": ratio}
    return Found(figures, note=f"goal, within {SAME:.0%}: {'met' if abs(ratio - 1) <= SAME else 'missed'}")
