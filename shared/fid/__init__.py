"""Distances between sets of images in the features of a network. The networks are in `shared.fid.features`."""

from shared.fid.folders import compare_folders
from shared.fid.frechet import Extractor, FeatureStatistics, frechet_distance
from shared.fid.kernel import kernel_distance

__all__ = ["Extractor", "FeatureStatistics", "compare_folders", "frechet_distance", "kernel_distance"]
