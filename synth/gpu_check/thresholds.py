"""From which share of distinct patches on a SPADE layer should be computed over the whole map: `synth.semantics.layout` has a share that
was measured on a CPU."""

import time
from functools import partial
from unittest import mock

import torch
from torch import nn

from shared.gpu_check.checks import Check, Found
from synth.networks.spade import Spade
from synth.semantics import build_semantics, layout
from synth.semantics.patches import Geometry, distinct_patches

WINDOW = Geometry((3, 3), (1, 1), (1, 1))
SPRINKLED = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.3)
"""Shares of the pixels whose class is drawn for itself."""


def checks_of(device: torch.device, rehearsal: bool) -> list[Check]:
    """Two sizes of the published generator."""
    sizes = [(16, 16, 4)] if rehearsal else [(64, 128, 256), (128, 256, 128), (256, 512, 64)]
    shares = SPRINKLED[::4] if rehearsal else SPRINKLED
    return [Check(f"patches or map, {h}×{w}, {c} channels", partial(crossing, device, (h, w), c, shares)) for h, w, c in sizes]


def crossing(device: torch.device, size: tuple[int, int], channels: int, sprinkled: tuple[float, ...]) -> Found:
    """The share of distinct patches at which both ways take as long, forward and backward."""
    torch.manual_seed(0)
    semantics = build_semantics("onehot", 151).to(device)
    layer = Spade(channels, semantics.width, hidden=128 if channels > 8 else 4).to(device)
    x = torch.randn(1, channels, *size, device=device).contiguous(memory_format=torch.channels_last).requires_grad_()
    told, ratios = [], []
    for share in sprinkled:
        generator = torch.Generator().manual_seed(0)
        labels = torch.randint(0, 151, (1, 1, size[0] // 16, size[1] // 16), generator=generator).float()
        labels = nn.functional.interpolate(labels, size, mode="nearest")[:, 0].long()
        labels = torch.where(
            torch.rand(labels.shape, generator=generator) < share, torch.randint(0, 151, labels.shape, generator=generator), labels
        )
        labels = labels.to(device)
        distinct = len(distinct_patches(labels, 152, WINDOW).wider.members) / labels.numel()
        seconds = {}
        for way, most in (("patches", 2.0), ("map", -1.0)):
            with mock.patch.object(layout, "MOSTLY_DISTINCT", most):
                seconds[way] = seconds_of(layer, x, semantics, labels)
        ratios.append((distinct, seconds["patches"] / seconds["map"]))
        told.append(f"{distinct:.2f}: {1e3 * seconds['patches']:.2f} against {1e3 * seconds['map']:.2f}")
    slower = [distinct for distinct, ratio in sorted(ratios) if ratio > 1]
    figures = {"map is faster from": min(slower, default=1.0), "default": layout.MOSTLY_DISTINCT}
    return Found(figures, note="ms by share, patches against map: " + ", ".join(told))


def seconds_of(layer: Spade, x: torch.Tensor, semantics: nn.Module, labels: torch.Tensor) -> float:
    """The fastest of some passes over one pyramid, which all layers of a size share; the first one is to warm up."""
    pyramid = semantics.pyramid(labels)  # type: ignore[operator]
    found = []
    for _ in range(5):
        if x.is_cuda:
            torch.cuda.synchronize()
        started = time.perf_counter()
        result = layer(x, pyramid, slope=0.2)
        torch.autograd.grad(result, [x, *layer.parameters()], result.detach())
        if x.is_cuda:
            torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return min(found[1:])
