"""The optimisers of a training, and learning rates that are functions of the step alone.

SGD is the paper's. AdamW, the default, leaves out of its decay what is no weight: norms, biases, class embeddings, the temperature.
"""

from collections.abc import Iterable
from typing import Any

import torch

from seg.config import SegTrainConfig
from seg.losses.temperature import LearnedTemperature
from seg.model import EmbeddingSegmenter, Segmenter
from seg.training.sphere import SphereAdam

LEARNING_RATE_FLOOR = 1e-6
MOMENTUM, CLASS_MOMENTUM = 0.9, 0.95
POWER, CLASS_POWER = 0.9, 0.95
"""Of the network and of the class embeddings: momentum of SGD, exponent of the decay; the released code's (ESSNet, section 4.1)."""
TEMPERATURE_FACTOR = {"adamw": 10.0, "sgd": 0.1}
"""Rate of a learned temperature over the head's. It is one number, which has a way to go: an update of AdamW is the rate, whatever the
gradient; one of SGD is as large as the gradient, which is far larger for one number in every logit than for a weight."""


def build_optimisers(
    model: Segmenter, settings: SegTrainConfig, temperature: LearnedTemperature | None = None
) -> dict[str, torch.optim.Optimizer]:
    """The optimisers by name: "optimizer", and "class_optimizer" where class embeddings are learned and turn by degrees.

    Their groups are called "backbone", "head", "class_embeddings" and "temperature". With AdamW, backbone and head are two groups each,
    with and without decay.

    Args:
        settings: its optimizer, learning_rate, backbone_factor, weight_decay and class_turn.
    """
    rate = settings.learning_rate
    parts = {
        "backbone": (settings.backbone_factor * rate, list(model.network.backbone.parameters())),
        "head": (rate, model.network.head_parameters()),
    }
    groups: list[dict[str, Any]] = []
    for name, (part_rate, parameters) in parts.items():
        if settings.optimizer == "sgd":
            groups.append({"name": name, "params": parameters, "lr": part_rate, "momentum": MOMENTUM, "power": POWER})
            continue
        for decay, some in ((settings.weight_decay, [p for p in parameters if p.ndim > 1]), (0.0, [p for p in parameters if p.ndim <= 1])):
            groups.append({"name": name, "params": some, "lr": part_rate, "weight_decay": decay, "power": POWER})
    tables = {"name": "class_embeddings", "power": CLASS_POWER}
    found: dict[str, torch.optim.Optimizer] = {}
    learned = [model.raw_class_embeddings] if isinstance(model, EmbeddingSegmenter) and model.raw_class_embeddings.requires_grad else []
    if learned and settings.class_turn is None:
        own = {"momentum": CLASS_MOMENTUM} if settings.optimizer == "sgd" else {"weight_decay": 0.0}
        groups.append(tables | own | {"params": learned, "lr": rate})
    if temperature is not None:
        own = {"lr": TEMPERATURE_FACTOR[settings.optimizer] * rate, "weight_decay": 0.0, "power": POWER}
        groups.append({"name": "temperature", "params": list(temperature.parameters())} | own)
    kind = torch.optim.SGD if settings.optimizer == "sgd" else torch.optim.AdamW
    found["optimizer"] = kind(groups, weight_decay=settings.weight_decay, fused=True)  # one kernel in place of some ten a parameter
    if learned and settings.class_turn is not None:
        found["class_optimizer"] = SphereAdam([tables | {"params": learned}], settings.class_turn)
    for optimizer in found.values():
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return found


def set_learning_rates(optimizers: Iterable[torch.optim.Optimizer], step: int, num_steps: int, warmup: float = 0.0) -> dict[str, float]:
    """Set the rate of every group for a step: initial · (1 − step / num_steps)^power (the "poly" policy), which rises in a straight line
    in the first steps; at least 10⁻⁶.

    Args:
        optimizers: from `build_optimisers`.
        step: in [0, num_steps].
        num_steps: length of the whole training, > 0.
        warmup: share of the steps in which the rates rise, in [0, 1].

    Returns:
        the rates set, as {"learning_rate/<group>": rate}; those of class embeddings that turn are in degrees.
    """
    remaining = 1 - step / num_steps
    risen = min(1.0, (step + 1) / max(warmup * num_steps, 1))
    rates = {}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = max(group["initial_lr"] * risen * remaining ** group["power"], LEARNING_RATE_FLOOR)
            rates[f"learning_rate/{group['name']}"] = group["lr"]
    return rates
