"""Learning rates of the two networks."""

from typing import NamedTuple


class AdamSettings(NamedTuple):
    """What the two Adam optimisers start with."""

    generator_lr: float
    discriminator_lr: float
    betas: tuple[float, float]


def ttur_learning_rates(lr: float, *, ttur: bool = True) -> AdamSettings:
    """Two time-scale update rule (Heusel et al., 2017), as published: the discriminator learns four times faster than the generator.

    Without it both have `lr` and the usual GAN betas.
    """
    if ttur:
        return AdamSettings(lr / 2, lr * 2, (0.0, 0.9))
    return AdamSettings(lr, lr, (0.5, 0.999))


def learning_rate_factor(step: int, total_steps: int, constant_part: float = 0.5) -> float:
    """1 for the first `constant_part` of the steps, then linear, reaching 0 at `total_steps`.

    A pure function of the step, so a resumed run continues the same line.
    """
    constant_steps = constant_part * total_steps
    if step < constant_steps:
        return 1.0
    return max(0.0, (total_steps - step) / max(total_steps - constant_steps, 1))
