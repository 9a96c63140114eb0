"""The temperature of the embedding loss as a parameter that is trained with the network."""

import math

import torch
from torch import nn

START, LOWEST, HIGHEST = 0.5, 0.02, 2.0
"""Soft at first, as the losses of random vectors are; and never as sharp or as soft as to stop the training."""


class LearnedTemperature(nn.Module):
    """τ between `LOWEST` and `HIGHEST`: the logistic function of a number, on a logarithmic scale.

    The loss of unit class vectors μ at temperature τ is that of the vectors μ/τ at temperature 1, since among vectors of one length the
    softmax of −|x − μ|²/τ is that of 2x·μ/τ. So every implementation of the loss has its gradient.
    """

    def __init__(self, start: float = START) -> None:
        super().__init__()
        share = math.log(start / LOWEST) / math.log(HIGHEST / LOWEST)
        self.raw = nn.Parameter(torch.tensor(math.log(share / (1 - share))))

    def forward(self) -> torch.Tensor:
        """τ, a scalar with gradient."""
        return LOWEST * torch.exp(math.log(HIGHEST / LOWEST) * self.raw.sigmoid())

    def sharpen(self, class_embeddings: torch.Tensor) -> torch.Tensor:
        """(C, D) unit vectors → those whose loss at temperature 1 is that of these at τ."""
        return class_embeddings / self()
