"""Passes and updates of a training: mixed precision, and gradients that are summed up over passes and processes for one update."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from shared.distributed import average_gradients
from shared.run.guards import require_finite_gradients

PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Within, networks compute in mixed precision.

    precision: "no", "bf16" or "fp16".
    """
    return torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "no")


def in_precision(network: Callable[..., Any], device: torch.device, precision: str) -> Callable[..., Any]:
    """The network computed in mixed precision, with results in float32 where they are tensors or lists of them: losses stay exact."""
    return network if precision == "no" else partial(_forward, network, device, precision)


def _forward(network: Callable[..., Any], device: torch.device, precision: str, *inputs: Any, **options: Any) -> Any:
    with autocast(device, precision):
        return _in_float32(network(*inputs, **options))


def _in_float32(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float()
    return [_in_float32(item) for item in value] if isinstance(value, list) else value


def add_terms(totals: dict[str, Tensor], losses: dict[str, Tensor]) -> None:
    """Add the losses of a pass to those of the update so far, by name and without their history."""
    for name, value in losses.items():
        totals[name] = totals[name] + value.detach() if name in totals else value.detach()


class Updater:
    """Optimisers that move together, and what belongs to their updates.

    Args:
        optimizers: one or several.
        precision: with "fp16" losses are scaled, so that small gradients are not lost; an update whose gradients overflow is left out.
        clip_norm: largest norm of an update's gradient; None: no limit.

    Attributes:
        scaler: the scale of the losses, a part of the training's state.
        watchers: called in every update with the norm of its gradient, before it is clipped, just before weights move; with None where
            the update is left out.
    """

    def __init__(
        self,
        optimizers: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
        device: torch.device,
        precision: str = "no",
        clip_norm: float | None = None,
    ) -> None:
        self.optimizers = [optimizers] if isinstance(optimizers, torch.optim.Optimizer) else list(optimizers)
        self.clip_norm = clip_norm
        self.watchers: list[Callable[[Tensor | None], None]] = []
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def backward(self, losses: dict[str, Tensor]) -> None:
        """Add the gradients of the sum of the losses to those that are there."""
        self.scaler.scale(torch.stack(list(losses.values())).sum()).backward()

    def update(self) -> None:
        """One step along the mean of all processes' gradients, which are then gone.

        Raises:
            NotFinite: a gradient, before weights move; in half precision such updates are left out, to find the scale of the losses.
        """
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        learners: list[nn.Parameter] = [parameter for group in groups for parameter in group["params"]]
        average_gradients(learners)
        gradients = [parameter.grad for parameter in learners if parameter.grad is not None]
        if self.scaler.is_enabled() and len(self.optimizers) > 1 and not nn.utils.get_total_norm(gradients).isfinite():
            for gradient in gradients:
                gradient.fill_(torch.inf)  # so that all of them leave this update out
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)  # also where nothing is clipped, so that gradients are logged as they are
        norm = nn.utils.get_total_norm(gradients)
        if not self.scaler.is_enabled():
            require_finite_gradients(norm)
        left_out = self.scaler.is_enabled() and not norm.isfinite()
        for watch in self.watchers:
            watch(None if left_out else norm)
        if self.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(learners, self.clip_norm, norm)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        for optimizer in self.optimizers:
            optimizer.zero_grad()
