"""Street scenes made on the fly: a data set of any size, with any number of classes, that needs no files."""

from shared.data.scenes.dataset import SceneDataset

__all__ = ["SceneDataset"]
