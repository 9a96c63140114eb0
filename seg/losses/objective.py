"""What every implementation of the embedding loss is given and gives back, and how its gradients become autograd's.

Each piece of a streamed loss exists for a moment only; making its gradients in that moment saves computing it a second time in the
backward pass, and saves storing anything but the gradients.

Shapes: N images, S pixels of an image, C classes, D embedding size, K neighbours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from seg.chunks import computation_dtype
from shared.errors import InputError
from shared.kernels import outside_graphs


@dataclass(frozen=True)
class Objective:
    """Weighted mean over the valid pixels of −log softmax(logits)[target]; logit = −sharpness · distance.

    Attributes:
        num_neighbours: K, the softmax runs over the K classes nearest to the pixel and its target (ESSNet, Eq. 6). None: over all classes.
        distance: "squared" or "plain" Euclidean.
        sharpness: > 0.
        ignore_index: label of the pixels that are left out.
        total_weight: of the pixels that are not left out, > 0; without class weights their number.
        search: backend of `seg.neighbours.nearest_classes`, where an implementation uses it.
        class_weights: (C,) ≥ 0, a pixel counts with the weight of its target; in the dtype and on the device that is computed in. None: 1.
    """

    num_neighbours: int | None
    distance: str
    sharpness: float
    ignore_index: int
    total_weight: float
    search: str = "auto"
    class_weights: torch.Tensor | None = None

    def weights_of(self, targets: torch.Tensor) -> torch.Tensor | float:
        """Weights of pixels with these targets (…,), valid ones."""
        return 1.0 if self.class_weights is None else self.class_weights[targets]


class LossAndGradients(NamedTuple):
    """A scalar loss and its gradients, in the order of the inputs; empty when they were not asked for."""

    loss: torch.Tensor
    gradients: tuple[torch.Tensor, ...] = ()


Compute = Callable[[tuple[torch.Tensor, ...], bool], LossAndGradients]
"""(inputs without autograd, whether gradients are wanted) → loss and one gradient per input."""

Implementation = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Objective, bool], LossAndGradients]
"""(pixels (N, D, S), class embeddings (C, D), labels (N, S), objective, whether gradients are wanted) → loss and gradients.

What an implementation may rely on: pixels have any strides and any floating dtype (a (P, D) input arrives as the (1, D, P) view of it);
labels are integers on the same device, in [0, C) or `ignore_index`, and at least one is not ignored; K, when given, is in [1, C).

What it gives: loss and gradients in `computation_dtype(pixels, class_embeddings)`. The pixel gradient has the shape and the memory order
of the pixels, and zeros where they are ignored, whatever those pixels hold (infinities and nan too). The inputs stay as they
are. Beyond that it keeps memory for a constant number of pixel chunks, whatever N, S, C and K are.
"""


def weight_of_labels(labels: torch.Tensor, class_weights: torch.Tensor | None, ignore_index: int) -> torch.Tensor:
    """Scalar: the sum of `class_weights` (C,) over the labels (…) that are not ignored, in float64; or their number."""
    valid = labels != ignore_index
    if class_weights is None:
        return valid.sum()
    # the ignored ones get a weight of their own, 0: to take them out would let a GPU wait for their number
    places = torch.where(valid, labels, len(class_weights)).clamp(0, len(class_weights))  # others are refused, where their range is read
    return F.pad(class_weights, (0, 1))[places].sum(dtype=torch.float64)


def label_range(labels: torch.Tensor, ignore_index: int) -> torch.Tensor:
    """(2,): the lowest and the highest of the labels that are not ignored; 0, a class, stands for the others."""
    return torch.stack(labels.mul(labels != ignore_index).aminmax()) if labels.numel() else labels.new_zeros(2)


def require_classes(lowest: float, highest: float, num_classes: int, ignore_index: int) -> None:
    """Raise InputError unless labels in this range are classes."""
    if lowest < 0 or highest >= num_classes:
        raise InputError(
            f"label {int(lowest if lowest < 0 else highest)} is outside the {num_classes} classes; "
            f"expected 0 to {num_classes - 1}, or {ignore_index} for ignored pixels"
        )


def connected_zero(*tensors: torch.Tensor) -> torch.Tensor:
    """Zero that depends on the tensors, so that backward() gives them gradients of zero. Empty slices ignore infinities."""
    total = sum(tensor[:0].sum(dtype=computation_dtype(*tensors)) for tensor in tensors)
    assert isinstance(total, torch.Tensor), "sum of at least one tensor"
    return total


@outside_graphs
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
    # the gradients have no graph: a second derivative is refused instead of being wrong
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs = ctx.saved_tensors
        gradients = ctx.gradients or ctx.compute(inputs, True).gradients
        ctx.gradients = ()  # given away, and scaled in place: there is never a second copy of them
        return None, *(
            gradient.mul_(grad_output).to(like.dtype) if needed else None
            for gradient, like, needed in zip(gradients, inputs, ctx.needs_input_grad[1:])
        )
