"""The search for the class embeddings nearest to each pixel embedding. One file per backend."""

from seg.neighbours.search import best_classes, nearest_classes

__all__ = ["best_classes", "nearest_classes"]
