"""The losses of the segmentation network: the four that programs use. One file per implementation, named as `impl` names it."""

from seg.losses.cross_entropy import class_cross_entropy, exact_cross_entropy, neighbour_cross_entropy
from seg.losses.separation import class_separation

__all__ = ["class_cross_entropy", "class_separation", "exact_cross_entropy", "neighbour_cross_entropy"]
