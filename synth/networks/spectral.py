"""Convolution with spectral normalisation (Miyato et al., 2018), and the initialisation of all synthesis networks."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class SpectralConv2d(nn.Conv2d):
    """Conv2d whose kernel is divided by its largest singular value, estimated by one power iteration per training forward.

    Keys and order are those of the published checkpoints: parameter `weight_orig` (and `bias`), buffers `weight_u` (O,) and
    `weight_v` (I·kh·kw,); v is updated from u, then u from the new v. Evaluation uses the stored vectors. No tensor with history stays
    on the module, so it can be deep-copied at any time.
    """

    weight_u: Tensor
    weight_v: Tensor
    advancing = True
    """Whether a forward pass in training mode takes a step of the iteration."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, padding: int = 0, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=bias)
        kernel = self.weight
        # as a parameter it would stand in the state dict beside `weight_orig`
        del self.weight
        self.weight_orig = nn.Parameter(kernel.detach())
        self.register_buffer("weight_u", _unit(torch.randn(out_channels)))
        self.register_buffer("weight_v", _unit(torch.randn(kernel[0].numel())))

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type == "cpu" and input.numel() < self.weight_orig.numel():
            input = input.contiguous()  # the kernel would be brought into the memory format of the input; the smaller one is rearranged
        return self._conv_forward(input, self.normalised_kernel(), self.bias)

    def normalised_kernel(self) -> Tensor:
        """(O, I, kh, kw): weight_orig / σ. In training mode the stored vectors advance by one iteration."""
        kernel = self.weight_orig
        # reduced precision would spoil the iteration; tensors without data have none
        with nullcontext() if kernel.is_meta else torch.autocast(kernel.device.type, enabled=False):
            return _DivideByNorm.apply(kernel, *self._singular_vectors())

    @torch.no_grad()
    def _singular_vectors(self) -> tuple[Tensor, Tensor, Tensor]:
        """u, v and σ = uᵀ·W·v."""
        matrix = self.weight_orig.flatten(1)
        if not (self.training and self.advancing):
            return self.weight_u, self.weight_v, torch.dot(self.weight_u, torch.mv(matrix, self.weight_v))
        v = _unit(torch.mv(matrix.t(), self.weight_u))
        # also serves σ = uᵀ·W·v, which saves a sweep over the kernel
        product = torch.mv(matrix, v)
        u = _unit(product)
        # The graph keeps u and v; the buffers get copies, which a second forward may overwrite before the first one's backward.
        self.weight_u.copy_(u)
        self.weight_v.copy_(v)
        return u, v, torch.dot(u, product)


@contextmanager
def spectra_kept(*networks: nn.Module) -> Iterator[None]:
    """Within, training forwards of spectral convolutions take no step of the iteration: they divide by what the last one did."""
    convolutions = [part for network in networks for part in network.modules() if isinstance(part, SpectralConv2d)]
    before = [convolution.advancing for convolution in convolutions]
    for convolution in convolutions:
        convolution.advancing = False
    try:
        yield
    finally:
        for convolution, advancing in zip(convolutions, before):
            convolution.advancing = advancing


class _DivideByNorm(torch.autograd.Function):
    """W / σ with σ = uᵀ·W·v and constant u, v. With G = ∂loss/∂(W/σ): ∂W = (G − ⟨G, W/σ⟩·u·vᵀ) / σ, in two sweeps over the kernel.

    Large kernels at small sizes cost more to sweep over than to convolve with.
    """

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, u: Tensor, v: Tensor, norm: Tensor) -> Tensor:
        normalised = kernel / norm
        ctx.save_for_backward(normalised, u, v, norm)
        return normalised

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        normalised, u, v, norm = ctx.saved_tensors
        along = torch.dot(gradient.reshape(-1), normalised.reshape(-1))
        rows = gradient.reshape(len(u), -1)
        return torch.addr(rows / norm, u * (-along / norm), v).view(normalised.shape), None, None, None


def _unit(vector: Tensor) -> Tensor:
    return F.normalize(vector, dim=0, eps=1e-12)


def initialise(network: nn.Module, gain: float = 0.02) -> None:
    """Xavier normal kernels with a small gain and zero biases, so that γ and β start near 0: a plain normalised ResNet.

    Spectral convolutions start from `weight_orig` on every device. (The published code loses that initialisation on GPUs.)
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_normal_(module.weight_orig if isinstance(module, SpectralConv2d) else module.weight, gain)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
