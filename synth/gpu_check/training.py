"""Trainings against each discriminator, one that is resumed, and one that does not fit."""

from functools import partial

import torch

from shared.benchmark.isolation import MIB
from shared.gpu_check.checks import Absent, Check, Found
from shared.gpu_check.training import Training, resumes, same_losses, tells_of_memory, waits

STEPS, REHEARSED = 20, 2
PRECISIONS = ("no", "bf16", "fp16")
MOST_WAITS = 20
"""Goal: so often at most the CPU waits for the GPU in a step."""
DISCRIMINATORS: dict[str, tuple[object, ...]] = {
    "multiscale": (),
    "oasis": ("--discriminator.depth", 3),
    "oasis_embedding": ("--discriminator.depth", 3),
}


def checks_of(device: torch.device, rehearsal: bool) -> list[Check]:
    """The rehearsal has one of each kind."""
    names = ["multiscale"] if rehearsal else list(DISCRIMINATORS)
    steps = REHEARSED if rehearsal else STEPS
    found = []
    for name in names:
        for precision in PRECISIONS[: 1 if rehearsal else 3]:
            found.append(
                Check(f"{name}, {steps} steps, {precision}", partial(same_losses, training_of(name, steps), device.type, precision))
            )
    found += [Check(f"{name}, resumed", partial(resumes, training_of(name, steps), device.type)) for name in names]
    found += [Check(f"{name}, waits for the GPU", partial(waits, training_of(name, steps), device, MOST_WAITS)) for name in names]
    return [*found, Check("a step that does not fit", partial(does_not_fit, device))]


def scenes(size: tuple[int, int], images: int) -> tuple[object, ...]:
    """Options of made scenes."""
    given = {"num_classes": 7, "height": size[0], "width": size[1], "train_length": images, "val_length": 1}
    sized = "--input.size", f"[{size[0]}, {size[1]}]", "--data.num_workers", 0
    return *sized, *(part for name, value in given.items() for part in (f"--data.scenes.{name}", value))


def training_of(discriminator: str, steps: int) -> Training:
    """Of tiny networks; at this rate a step's rounding does not become the next one's direction."""
    networks = "--generator.width", 2, "--generator.hidden", 4, "--discriminator.width", 4, "--loss.vgg_weight", 0
    rates = "--train.batch_size", 2, "--train.learning_rate", 1e-4, "--train.save_every", 1000, "--train.ema_decay", "null"
    options = "--semantics", "random", *scenes((32, 64), 8), *networks, "--discriminator.name", discriminator
    return Training("synth.train", (*options, *DISCRIMINATORS[discriminator], *rates), steps)


def does_not_fit(device: torch.device) -> Found:
    """Room for small networks and their batch, but not for the features of its images."""
    if device.type == "cpu":
        raise Absent("so small a limit of a process on a CPU may hit its libraries before its tensors")
    batch, size = 4, (256, 512)
    networks = "--generator.width", 4, "--generator.hidden", 4, "--discriminator.width", 4, "--loss.vgg_weight", 0
    options = "--semantics", "random", *scenes(size, batch), *networks, "--train.batch_size", batch
    return tells_of_memory(Training("synth.train", options, 1), device, 96 * MIB, "memory has ended", "Lower train.batch_size")
