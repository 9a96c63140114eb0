"""SGD as the paper trains: three parameter groups, whose learning rates are functions of the step alone."""

import torch

from seg.model import EmbeddingSegmenter, Segmenter

LEARNING_RATE_FLOOR = 1e-6


def build_optimiser(
    model: Segmenter,
    *,
    lr: float,
    backbone_factor: float = 0.1,
    momentum: float = 0.9,
    embedding_momentum: float = 0.95,
    power: float = 0.9,
    embedding_power: float = 0.95,
    weight_decay: float = 1e-4,
) -> torch.optim.SGD:
    """SGD with the groups "backbone", "head" and, where the model has them, "class_embeddings".

    The class embeddings have a higher momentum and a learning rate that decays faster (ESSNet, section 4.1); the numbers are the
    released code's. Weight decay acts on everything, as there. It does not turn a class embedding: it shortens the raw vector, and
    the shorter that is, the more a step turns it.

    Args:
        model: a segmenter.
        lr: > 0, learning rate of head and class embeddings at step 0; the released code has 0.01 with pretrained backbones.
        backbone_factor: learning rate of the backbone relative to `lr`; 0.1 suits pretrained weights, 1 random ones.
        momentum, embedding_momentum: in [0, 1).
        power, embedding_power: exponents of the decay, see `set_learning_rates`.
        weight_decay: ≥ 0.
    """
    groups = [
        {
            "name": "backbone",
            "params": list(model.network.backbone.parameters()),
            "lr": backbone_factor * lr,
            "momentum": momentum,
            "power": power,
        },
        {"name": "head", "params": model.network.head_parameters(), "lr": lr, "momentum": momentum, "power": power},
    ]
    if isinstance(model, EmbeddingSegmenter):
        groups.append(
            {
                "name": "class_embeddings",
                "params": [model.raw_class_embeddings],
                "lr": lr,
                "momentum": embedding_momentum,
                "power": embedding_power,
            }
        )
    for group in groups:
        group["initial_lr"] = group["lr"]
    return torch.optim.SGD(groups, weight_decay=weight_decay)


def set_learning_rates(optimizer: torch.optim.Optimizer, step: int, num_steps: int) -> dict[str, float]:
    """Set the rate of every group for a step: initial · (1 − step / num_steps)^power, at least 10⁻⁶ (the "poly" policy).

    Args:
        optimizer: from `build_optimiser`.
        step: in [0, num_steps].
        num_steps: length of the whole training, > 0.

    Returns:
        the rates set, as {"learning_rate/<group>": rate}.
    """
    remaining = 1 - step / num_steps
    for group in optimizer.param_groups:
        group["lr"] = max(group["initial_lr"] * remaining ** group["power"], LEARNING_RATE_FLOOR)
    return {f"learning_rate/{group['name']}": group["lr"] for group in optimizer.param_groups}
