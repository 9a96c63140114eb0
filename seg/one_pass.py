"""A loss whose gradients are made in the forward pass, as a function that autograd knows.

Each piece of a streamed loss exists for a moment only; making its gradients in that moment saves computing it a second time in the
backward pass, and saves storing anything but the gradients.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from seg.objective import LossAndGradients

Compute = Callable[[tuple[torch.Tensor, ...], bool], LossAndGradients]


@torch.compiler.disable
def one_pass_loss(compute: Compute, *inputs: torch.Tensor) -> torch.Tensor:
    """The loss of `compute` with its gradients attached.

    Args:
        compute: (inputs without autograd, whether gradients are wanted) → loss and one gradient per input. It is called once in the forward
            pass, and once more for every further backward pass through a retained graph.
        *inputs: what to differentiate by.

    Returns:
        scalar loss.
    """
    if not torch.is_grad_enabled():  # within, parameters would ask for gradients all the same
        return compute(inputs, False).loss
    loss: torch.Tensor = _OnePass.apply(compute, *inputs)
    return loss


class _OnePass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, compute: Compute, *inputs: torch.Tensor) -> torch.Tensor:
        wanted = any(ctx.needs_input_grad)
        result = compute(inputs, wanted)
        ctx.compute, ctx.gradients = compute, result.gradients
        ctx.save_for_backward(*inputs if wanted else ())  # no copies: for a second backward pass
        return result.loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs = ctx.saved_tensors
        gradients = ctx.gradients or ctx.compute(inputs, True).gradients
        ctx.gradients = ()  # given away, and scaled in place: there is never a second copy of them
        return None, *(
            gradient.mul_(grad_output).to(like.dtype) if needed else None
            for gradient, like, needed in zip(gradients, inputs, ctx.needs_input_grad[1:])
        )
