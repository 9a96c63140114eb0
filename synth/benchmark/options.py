"""The contestants of a training step with each option of `synth.train` that changes time or memory and not what is computed."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch

from shared.benchmark.contest import Contestant
from synth.benchmark.cases import Case
from synth.benchmark.discriminators import OUR_PAIR, PAIRS, opponent_of
from synth.benchmark.networks import TrainingStep

PLAIN = "as by default"


def option_contestants(case: Case) -> list[Contestant]:
    """A step of the embedding generator and discriminator; the names are those of the settings."""
    plain = partial(_step, case)
    found: dict[str, Callable[[], TrainingStep]] = {
        PLAIN: plain,
        "recompute": partial(_changed, plain, _recompute),
        "channels_last": partial(_changed, plain, _channels_last),
        "compile": partial(_changed, plain, _compile),
        "precision bf16": partial(_step, case, "bf16"),
    }
    return [Contestant(name, prepare) for name, prepare in found.items()]


def _step(case: Case, precision: Literal["no", "bf16"] = "no") -> TrainingStep:
    semantics, _ = PAIRS[OUR_PAIR]
    return TrainingStep(case, semantics, partial(opponent_of, case, OUR_PAIR), precision)


def _changed(prepare: Callable[[], TrainingStep], change: Callable[[TrainingStep], None]) -> TrainingStep:
    training = prepare()
    change(training)
    return training


def _recompute(training: TrainingStep) -> None:
    training.generator.recompute = True


def _channels_last(training: TrainingStep) -> None:
    for network in (training.generator, training.discriminator):
        network.to(memory_format=torch.channels_last)


def _compile(training: TrainingStep) -> None:
    training.discriminator.compile()
    training()  # the first call compiles
