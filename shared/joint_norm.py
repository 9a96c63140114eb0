"""Batch normalisation over the images of all processes, on every device: a network of several processes computes what one process
computes of the joint batch. In one process it is BatchNorm2d.

torch's SyncBatchNorm does so on GPUs alone. Letters: C channels, W processes.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from shared.distributed import rank, sum_over_processes, world_size


class Moments(NamedTuple):
    """Mean and (biased) variance of each channel, (C,) each, and the number of values in each."""

    mean: Tensor
    variance: Tensor
    values: Tensor | int


def joint_moments(mine: Moments) -> Moments:
    """Those of all processes' values together, in one message of W·(2C + 1) numbers; differentiable.

    Moments are merged, not sums of squares, which would lose digits where the mean is far from 0.
    """
    if world_size() == 1:
        return mine
    message = torch.cat([mine.mean, mine.variance, mine.mean.new_tensor([float(mine.values)])])
    # gathered as a sum of rows, of which each process fills its own: that sum has a backward pass
    before, after = message.new_zeros(rank(), len(message)), message.new_zeros(world_size() - rank() - 1, len(message))
    rows = sum_over_processes(torch.cat([before, message[None], after]))
    means, variances = rows[:, :-1].chunk(2, dim=1)
    shares = rows[:, -1:] / rows[:, -1].sum()
    mean = (shares * means).sum(0)
    return Moments(mean, (shares * (variances + (means - mean).square())).sum(0), rows[:, -1].sum())


class JointBatchNorm(nn.SyncBatchNorm):
    """Batch normalisation of (N, C, H, W) whose training statistics are those of all processes; torch's kernels on CUDA.

    Names of parameters and buffers are those of BatchNorm2d.
    """

    def forward(self, input: Tensor) -> Tensor:
        # torch's kernels, where torch has them
        if not self.training or world_size() == 1 or input.device.type == "cuda":
            return super().forward(input)
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        variance, mean = torch.var_mean(values, (0, 2, 3), correction=0)
        moments = joint_moments(Moments(mean, variance, values[:, 0].numel()))
        self.follow(moments)
        scale = (moments.variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        shift = -moments.mean * scale
        if self.affine:
            shift = shift + self.bias
        return (values * scale[:, None, None] + shift[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def follow(self, moments: Moments) -> None:
        """Move the running statistics as BatchNorm2d does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        count = moments.values
        self.running_mean.lerp_(moments.mean.to(self.running_mean.dtype), momentum)
        # the unbiased variance, as BatchNorm2d keeps it
        self.running_var.lerp_((moments.variance * (count / (count - 1))).to(self.running_var.dtype), momentum)


@torch.no_grad()
def merge_running_statistics(*networks: nn.Module) -> None:
    """Where each process normalises its own images, give all of them the mean of their running statistics.

    Running statistics move linearly, so that it does not matter when, or how often, this is done on the way.
    """
    if world_size() == 1:
        return
    for network in networks:
        for module in network.modules():
            # JointBatchNorm is none of these: its statistics are equal in all processes already
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
                for statistics in (module.running_mean, module.running_var):
                    statistics.copy_(sum_over_processes(statistics) / world_size())
