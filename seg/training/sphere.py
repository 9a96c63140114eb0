"""Class embeddings as points of the unit sphere: a step turns each by an angle that the settings say.

A raw vector under another optimiser turns by about the learning rate over its norm, so that the angle follows from how the vector started,
from its size D and from the scale of the losses. Here the gradient of a class is projected on the tangent of the sphere, averaged over the
steps, and divided by the root of its mean square, as Adam does with a number (Bécigneul and Ganea, arXiv 1810.00760); the class then moves
along the great circle in that direction, by at most the rate.

Shapes: C classes, D embedding size.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

TINIEST = 1e-30


class SphereAdam(torch.optim.Optimizer):
    """Turns the rows of tables (C, D), whose loss sees their directions alone. After a step they are unit vectors.

    Args:
        tables: of any norm but zero.
        degrees: most that a row turns in a step, as `lr` of the group: it turns that far while its gradient keeps its direction and size.
        momentum: of the gradient, in [0, 1).
        memory: of its square, in [0, 1).
    """

    def __init__(self, tables: Iterable[Any], degrees: float, momentum: float = 0.9, memory: float = 0.999) -> None:
        super().__init__(tables, {"lr": degrees, "momentum": momentum, "memory": memory})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        assert closure is None, "the gradients are there already"
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._turn(table, group)

    def _turn(self, table: Tensor, group: dict[str, Any]) -> None:
        state = self.state[table]
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["mean_square"] = torch.zeros_like(table), torch.zeros_like(table[:, :1])
        state["step"] += 1
        steps, momentum, memory = state["step"], group["momentum"], group["memory"]
        norms = table.norm(dim=1, keepdim=True).clamp_min(TINIEST)
        places = table / norms
        gradients = _tangent(table.grad * norms, places)  # those of unit vectors, whatever the norms were
        state["mean"].copy_(_tangent(state["mean"].lerp(gradients, 1 - momentum), places))
        state["mean_square"].lerp_(gradients.square().sum(1, keepdim=True), 1 - memory)
        size = (state["mean_square"] / (1 - memory**steps)).sqrt().clamp_min(TINIEST)
        push = state["mean"] / (1 - momentum**steps) / size
        length = push.norm(dim=1, keepdim=True)
        angle = math.radians(group["lr"]) * length.clamp_max(1)
        turned = places * angle.cos() - push / length.clamp_min(TINIEST) * angle.sin()
        table.copy_(turned / turned.norm(dim=1, keepdim=True))


def _tangent(vectors: Tensor, places: Tensor) -> Tensor:
    """The part of each row that is at a right angle to the unit vector of the row's place."""
    return vectors - (vectors * places).sum(1, keepdim=True) * places


def degrees_between(before: Tensor, after: Tensor) -> Tensor:
    """(C,) angles between the rows of two tables (C, D) of unit vectors; exact for small ones too."""
    half = (before - after).norm(dim=1) / 2
    return torch.rad2deg(2 * half.clamp_max(1).asin())
