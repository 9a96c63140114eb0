"""The embedding file: the only link from segmentation to synthesis.

C classes, D embedding size.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from shared.data.spec import DatasetSpec
from shared.errors import InputError
from shared.files.tensor_file import read_tensors, write_tensors

FORMAT = "class embeddings/1"
EMBEDDINGS_FILE = "class_embeddings.safetensors"
"""Name of the file in a run directory of segmentation."""
UNIT_NORM_TOLERANCE = 1e-3  # far above the rounding of float32, far below a vector that nobody has normalised


@dataclass(eq=False)
class ClassEmbeddings:
    """Learned vectors of the classes of a data set, and where they come from.

    Attributes:
        vectors: (C, D) float32 of unit norm: what synthesis conditions on.
        raw: (C, D) float32, the trained parameters before they were normalised.
        class_names: C different names; position = class id.
        dataset: name of the data set.
        meta: provenance, such as the run, the step and its mIoU.

    Raises:
        InputError: the parts contradict each other, a value is not finite, or a vector is not of unit norm.
    """

    vectors: torch.Tensor
    raw: torch.Tensor
    class_names: tuple[str, ...]
    dataset: str
    meta: dict[str, str | int | float]

    def __post_init__(self) -> None:
        self.class_names = tuple(self.class_names)
        _check_tensor(self.raw, "raw", self.raw.shape)
        _check_tensor(self.vectors, "vectors", self.raw.shape)
        _check_names(self.class_names, len(self.vectors))
        norms = self.vectors.norm(dim=1)
        worst = int((norms - 1).abs().argmax())
        if abs(norms[worst].item() - 1) > UNIT_NORM_TOLERANCE:
            raise InputError(f"the vector of class {worst} ({self.class_names[worst]}) has norm {norms[worst]:.4g}; unit norm was expected")

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all."""
        about = {"class_names": self.class_names, "dataset": self.dataset, "meta": self.meta}
        write_tensors(path, {"vectors": self.vectors, "raw": self.raw}, FORMAT, about)

    @classmethod
    def load(cls, path: str | Path) -> "ClassEmbeddings":
        """Read and check a file.

        Raises:
            InputError: missing, damaged, of another kind, or with contents that contradict each other; names the file.
        """
        tensors, about = read_tensors(path, FORMAT)
        lost = [key for key in ("vectors", "raw") if key not in tensors] + [
            key for key in ("class_names", "dataset", "meta") if key not in about
        ]
        if lost:
            raise InputError(f"{path} lacks {', '.join(lost)}; export the embeddings again")
        try:
            return cls(tensors["vectors"], tensors["raw"], **{key: about[key] for key in ("class_names", "dataset", "meta")})
        except InputError as error:
            raise InputError(f"{path}: {error}; export the embeddings again") from error

    def require_match(self, spec: DatasetSpec, path: str | Path) -> None:
        """Refuse embeddings of other classes than those of `spec`.

        Args:
            path: the file these embeddings come from, for the message.

        Raises:
            InputError: other data set, other number of classes, or other order; names the first class that differs.
        """
        advice = f"use embeddings that were exported from a run on {spec.name}"
        if self.dataset != spec.name:
            raise InputError(f"{path} holds embeddings of data set {self.dataset}, but the data is {spec.name}; {advice}")
        if len(self.class_names) != spec.num_classes:
            raise InputError(f"{path} holds {len(self.class_names)} classes, but {spec.name} has {spec.num_classes}; {advice} as it is now")
        for index, (mine, theirs) in enumerate(zip(self.class_names, spec.class_names)):
            if mine != theirs:
                raise InputError(f"class {index} is {mine} in {path}, but {theirs} in {spec.name}; {advice} with this class order")


def _check_tensor(tensor: torch.Tensor, name: str, shape: torch.Size) -> None:
    if tensor.ndim != 2 or tensor.shape != shape or tensor.dtype != torch.float32:
        raise InputError(f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}; float32 (classes, size), alike for both, was expected")
    if not tensor.isfinite().all():
        raise InputError(f"{name} holds values that are not finite, first in class {int((~tensor.isfinite()).any(1).nonzero()[0])}")


def _check_names(names: tuple[str, ...], num_vectors: int) -> None:
    if not names or len(names) != num_vectors:
        raise InputError(f"there are {len(names)} class names for {num_vectors} vectors; one name per vector was expected")
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise InputError(f"class name {name} occurs {times} times; different names were expected")
