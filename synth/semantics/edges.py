"""Borders between objects, which a label map alone does not show."""

import torch
from torch import Tensor

from shared.data.batch import Batch
from shared.errors import InputError

NO_INSTANCES = "input.instance_edges is set, but the data set has no instance maps; give them or leave the edges out"


def batch_edges(batch: Batch) -> torch.Tensor:
    """(N, H, W) bool, borders of instances and of labels.

    Raises:
        InputError: the data set has no instances.
    """
    if batch.instance_maps is None:
        raise InputError(NO_INSTANCES)
    return instance_edges(batch.instance_maps, batch.label_maps)


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
