"""What a data set is: its classes, and samples whose labels are final."""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from shared.constants import IGNORE_INDEX
from shared.errors import InputError


@dataclass(frozen=True)
class DatasetSpec:
    """The classes of a data set.

    Attributes:
        name: name of the data set, stored in embedding files and checkpoints.
        class_names: C names; position = class id.
        palette: (C, 3) uint8 RGB colour per class.
    """

    name: str
    class_names: tuple[str, ...]
    palette: np.ndarray

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


@dataclass
class Sample:
    """One image with its labels.

    Attributes:
        image: (3, H, W) uint8 RGB from a data set; float32 after a transform.
        label_map: (H, W) int64, ids in [0, C) or `IGNORE_INDEX`.
        instance_map: (H, W) int64, a different id per object, or None where the data set has no instances.
        name: unique within the split; used as file stem of what is made from this sample.
    """

    image: torch.Tensor
    label_map: torch.Tensor
    instance_map: torch.Tensor | None
    name: str


@dataclass(frozen=True)
class Findings:
    """What a check says of a sample.

    Attributes:
        problems: what is wrong, a line for each of its files.
        notes: what is right and may surprise, a line each.
        label_map: (H, W), or None where it cannot be read.
    """

    problems: list[str]
    notes: list[str]
    label_map: torch.Tensor | None


class SegmentationDataset(Dataset[Sample]):
    """A split of a data set. `dataset[index]` is the same `Sample` every time it is asked for."""

    spec: DatasetSpec
    split: str
    ignored: tuple[int, ...] = ()
    """Ids of classes whose pixels are read as ignored; see `DataConfig.ignore_classes`."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample: ...

    def leave_out(self, label_map: torch.Tensor) -> torch.Tensor:
        """The label map with the pixels of the `ignored` classes ignored."""
        if not self.ignored:
            return label_map
        return label_map.masked_fill(torch.isin(label_map, torch.tensor(self.ignored)), IGNORE_INDEX)

    def sample_name(self, index: int) -> str:
        """The name of a sample; where there are files, without reading them."""
        return self[index].name

    def inspect(self, index: int) -> Findings:
        """What is to be said of a sample without ending at its first mistake."""
        try:
            return Findings([], [], self[index].label_map)
        except InputError as error:
            return Findings([str(error)], [], None)
