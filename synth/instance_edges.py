"""Borders between objects, which a label map alone does not show."""

import torch
from torch import Tensor


def instance_edges(instance_map: Tensor, label_map: Tensor | None = None) -> Tensor:
    """Pixels with a 4-neighbour of another instance, on both sides of the border.

    instance_map: (N, H, W) integers. label_map: (N, H, W), or None. Given, class borders are edges too: instance files exist whose
    ids are equal across some of them. None is the published rule.
    Returns (N, H, W) bool.
    """
    edges = _changes(instance_map)
    return edges if label_map is None else edges | _changes(label_map)


def _changes(ids: Tensor) -> Tensor:
    edges = torch.zeros_like(ids, dtype=torch.bool)
    across = ids[:, :, 1:] != ids[:, :, :-1]
    down = ids[:, 1:] != ids[:, :-1]
    edges[:, :, 1:] |= across
    edges[:, :, :-1] |= across
    edges[:, 1:] |= down
    edges[:, :-1] |= down
    return edges
