"""The benchmark of the embedding loss, its search and its heads: `python -m seg.benchmark`."""
