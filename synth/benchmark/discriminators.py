"""The contestants of a training step: every kind of discriminator, and every option that changes time or memory and not the result.

For the former also the largest batch that each of them can train with.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch

from shared.benchmark.contest import Contestant, Result
from shared.benchmark.report import Grid
from shared.run.monitor import parameter_count
from synth.benchmark.cases import Case
from synth.benchmark.layers import EMBEDDING, GATHERED
from synth.benchmark.networks import PUBLISHED, TrainingStep, generator_of
from synth.build import Opponent, opponent_from
from synth.config import DiscriminatorConfig, LossConfig
from synth.semantics import Semantics

GRADIENT_BYTES, ADAM_BYTES = 4, 16
"""Of a float32 parameter: its gradient; weight, gradient and Adam's two moments."""
STATED_MEMORY = 8 * 2**30
DEPTH = 4
NEIGHBOURS = 8
DENSE_PAIR, OUR_PAIR = "one-hot, OASIS", "embedding, embedding OASIS near"
PAIRS = {
    "published one-hot, multi-scale": (PUBLISHED, "multiscale"),
    "one-hot, multi-scale": (GATHERED, "multiscale"),
    DENSE_PAIR: (GATHERED, "oasis"),
    "embedding, embedding OASIS all": (EMBEDDING, "oasis_embedding"),
    OUR_PAIR: (EMBEDDING, "oasis_embedding"),
}
"""Semantics of the generator and kind of discriminator, by what the tables say. near: the softmax runs over near classes, not over all."""


def discriminator_contestants(case: Case) -> list[Contestant]:
    """A training step of both networks."""
    return [Contestant(name, partial(_step, case, name)) for name in PAIRS]


def _step(case: Case, name: str) -> TrainingStep:
    semantics, _ = PAIRS[name]
    return TrainingStep(case, semantics, None if semantics == PUBLISHED else partial(opponent_of, case, name))


def opponent_of(case: Case, name: str, semantics: Semantics) -> Opponent:
    """The discriminator of a pair as `synth.train` constructs it, of the case's width."""
    kind: Any = PAIRS[name][1]
    neighbours = NEIGHBOURS if name == OUR_PAIR else None
    config = DiscriminatorConfig(kind, width=case.channels, depth=DEPTH, num_neighbours=neighbours)
    return opponent_from(config, LossConfig(), semantics)


def discriminator_parameters(case: Case, name: str) -> tuple[int, int]:
    """Parameters of the generator and of the discriminator, by the name of the pair."""
    semantics, _ = PAIRS[name]
    generator = generator_of(case, GATHERED if semantics == PUBLISHED else semantics)
    return parameter_count(generator), parameter_count(opponent_of(case, name, generator.semantics).network)


def batch_table(results: Sequence[Result], parameters: Mapping[tuple[str, int], int], memory: int = STATED_MEMORY) -> Grid:
    """Images of a batch whose step fits into so many bytes, weights and optimiser included.

    parameters: of both networks, by contestant and C. All that a step adds but their gradients grows with the images.
    """
    counts = sorted({result.setting["classes"] for result in results})
    rows = []
    for name in PAIRS:
        of = {result.setting["classes"]: result for result in results if result.contestant == name and result.peak}
        if of:
            cells = [str(_largest_batch(of[count], parameters[name, count], memory)) if count in of else "" for count in counts]
            rows.append([name, *cells, ""])
    return Grid([f"images in {memory / 2**30:g} GiB", *(f"C {count}" for count in counts), ""], rows)


def _largest_batch(result: Result, parameters: int, memory: int) -> int:
    assert result.peak is not None
    per_image = max(result.peak - GRADIENT_BYTES * parameters, 1) / result.setting["images"]
    return max(int((memory - ADAM_BYTES * parameters) / per_image), 0)


PLAIN = "as by default"


def option_contestants(case: Case) -> list[Contestant]:
    """A step of the embedding generator and discriminator; the names are those of the settings."""
    plain = partial(_option_step, case)
    found: dict[str, Callable[[], TrainingStep]] = {
        PLAIN: plain,
        "recompute": partial(_changed, plain, _recompute),
        "channels_last": partial(_changed, plain, _channels_last),
        "compile": partial(_changed, plain, _compile),
        "precision bf16": partial(_option_step, case, "bf16"),
    }
    return [Contestant(name, prepare) for name, prepare in found.items()]


def _option_step(case: Case, precision: Literal["no", "bf16"] = "no") -> TrainingStep:
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
