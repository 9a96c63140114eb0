"""What stands for a class when images are synthesised: one-hot, random or learned vectors.

They differ in data, not in code: each is a table with a row per class and a last row for ignored pixels. The names occur in
`build_semantics` only; generator, discriminator and losses see a `SemanticPyramid`.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.class_tables import READERS
from shared.constants import IGNORE_INDEX
from shared.embedding_file import ClassEmbeddings
from shared.errors import InputError, choose
from shared.kernels import places_of
from synth.kernels.columns import columns_of
from synth.semantics.layout import DenseLayout, GatheredLayout, SemanticPyramid

SEMANTICS = ("onehot", "onehot_dense", "random", "random_raw", "random_orthonormal", "learned")
READS_EMBEDDINGS = {"random": False, "random_raw": False, "random_orthonormal": False, "learned": True}
"""Semantics that take an embedding file, and whether they need one: random ones only take its width."""


def is_table(semantics: str) -> bool:
    """Whether these semantics are a class table, and not a name."""
    return semantics not in SEMANTICS


def semantics_title(semantics: str) -> str:
    """What these semantics are called in reports and file names: their name, or that of the table's file."""
    return Path(semantics).stem if is_table(semantics) else semantics


def require_semantics(semantics: str) -> None:
    """Raise InputError unless this is a name, or ends like a class table."""
    if Path(semantics).suffix not in READERS:
        choose("semantics", semantics, SEMANTICS, other=f"a class table ({', '.join(READERS)})")


def build_semantics(
    name: str,
    num_classes: int,
    embeddings: ClassEmbeddings | None = None,
    *,
    table: Tensor | None = None,
    embedding_dim: int | None = None,
    seed: int = 0,
    instance_edges: bool = False,
    trainable: bool = False,
) -> Semantics:
    """The one place that knows the names.

    name: `onehot`; `onehot_dense`, the same map as a tensor (reference, memory grows with pixels × classes);
        `random`, unit vectors drawn from `seed`, as wide as `embeddings` or else `embedding_dim`;
        `random_raw`, the same before they are made unit; `random_orthonormal`, the same made orthogonal, which needs a width of C or more;
        `learned`, the unit vectors of `embeddings`; any other name is that of `table`.
    table: (num_classes, S) class vectors of another origin, see `shared.class_tables`.
    instance_edges: the semantics end with a channel that is 1 on the borders of instances.
    trainable: the class vectors are learned along with the generator.
    Raises InputError for an unknown name, missing embeddings, embeddings of another number of classes, and one-hot with `trainable`.
    """
    if table is None:
        choose("semantics", name, SEMANTICS, other="a class table")
    if trainable and name in ("onehot", "onehot_dense"):
        raise InputError(f"semantics {name} have no class vectors to train; leave out trainable, or use vectors")
    if embeddings is not None and len(embeddings.vectors) != num_classes:
        raise InputError(
            f"the embedding file has {len(embeddings.vectors)} classes, the data set has {num_classes}; export from the same data"
        )
    if name == "onehot":
        return Semantics(name, num_classes, None, instance_edges=instance_edges)
    if name == "onehot_dense":
        return DenseOneHot(name, num_classes, None, instance_edges=instance_edges)
    if table is not None:
        return Semantics(name, num_classes, table, instance_edges=instance_edges, trainable=trainable)
    if name in RANDOM_TABLES:
        dim = embedding_dim if embeddings is None else embeddings.vectors.shape[1]
        if dim is None:
            raise InputError(f"semantics {name} need a width: give an embedding file or embedding_dim")
        vectors = RANDOM_TABLES[name](num_classes, dim, seed)
        return Semantics(name, num_classes, vectors, instance_edges=instance_edges, trainable=trainable)
    if embeddings is None:
        raise InputError("semantics learned need an embedding file; export one with python -m seg.export")
    return Semantics(name, num_classes, embeddings.vectors, instance_edges=instance_edges, trainable=trainable)


def random_vectors(num_classes: int, dim: int, seed: int) -> Tensor:
    """(num_classes, dim) normal numbers; a function of its arguments alone."""
    # on the CPU, as a GPU draws other numbers from the same seed
    return torch.randn(num_classes, dim, generator=torch.Generator().manual_seed(seed))


def random_unit_vectors(num_classes: int, dim: int, seed: int) -> Tensor:
    """(num_classes, dim) directions drawn uniformly on the unit sphere."""
    return F.normalize(random_vectors(num_classes, dim, seed))


def random_orthonormal_vectors(num_classes: int, dim: int, seed: int) -> Tensor:
    """(num_classes, dim) unit vectors at right angles to each other.

    Raises:
        InputError: there is no room for so many.
    """
    if dim < num_classes:
        raise InputError(f"{num_classes} orthonormal vectors need a width of {num_classes} or more, not {dim}; take semantics random")
    return torch.linalg.qr(random_vectors(num_classes, dim, seed).T).Q.T.contiguous()


RANDOM_TABLES = {"random": random_unit_vectors, "random_raw": random_vectors, "random_orthonormal": random_orthonormal_vectors}


class Semantics(nn.Module):
    """Turns label maps into semantic pyramids.

    class_vectors: (num_classes, S), or None for one-hot. With a last row for ignored pixels they are the buffer `table`
        (num_classes + 1, S), which travels with the generator's weights. One-hot has no table: ignored pixels are channel num_classes.
    ignored_vector: (S,), the last row of the table. None: the zero vector, the centre of the sphere the classes live on.
    trainable: the table is a parameter in place of a buffer, and its last row learns too.
    width: channels that a convolution over the semantics has.
    """

    table: Tensor | None

    def __init__(
        self,
        name: str,
        num_classes: int,
        class_vectors: Tensor | None,
        *,
        instance_edges: bool = False,
        ignored_vector: Tensor | None = None,
        trainable: bool = False,
    ) -> None:
        super().__init__()
        self.name, self.num_classes, self.instance_edges = name, num_classes, instance_edges
        table = None if class_vectors is None else F.pad(class_vectors.detach().float(), (0, 0, 0, 1))
        if table is not None and ignored_vector is not None:
            table[-1] = ignored_vector.detach()
        self.trainable = trainable and table is not None
        if table is not None and self.trainable:
            self.table = nn.Parameter(table)
        else:
            self.register_buffer("table", table)
        self.width = (num_classes + 1 if table is None else table.shape[1]) + instance_edges

    @property
    def class_vectors(self) -> Tensor:
        """(num_classes, S): the rows of the table without that of ignored pixels.

        Raises InputError: one-hot has none.
        """
        if self.table is None:
            raise InputError(f"semantics {self.name} have no class vectors; use random, learned or a table of your own")
        return self.table[:-1]

    def pyramid(self, label_map: Tensor, edges: Tensor | None = None, *, trained: bool = True) -> SemanticPyramid:
        """The semantics of a batch.

        label_map: (N, H, W) integers in [−1, num_classes). edges: (N, H, W) bool, given exactly when `instance_edges` is set.
        trained: whether gradients flow to the class vectors, where they are trainable.
        Raises InputError for ids out of range, ValueError for wrong shapes and for edges that are missing or unexpected.
        """
        if label_map.dim() != 3 or label_map.is_floating_point():
            raise ValueError(f"a label map is (N, H, W) of integers, got {tuple(label_map.shape)} of {label_map.dtype}")
        if (edges is not None) != self.instance_edges:
            raise ValueError(f"these semantics were built with instance_edges={self.instance_edges}, but edges is {type(edges).__name__}")
        if edges is not None and edges.shape != label_map.shape:
            raise ValueError(f"edges have shape {tuple(edges.shape)}, the label map {tuple(label_map.shape)}")
        classes = label_map.long()
        classes = torch.where(classes == IGNORE_INDEX, self.num_classes, classes)
        return self._pyramid(classes, None if edges is None else edges.bool(), trained, torch.stack(label_map.aminmax()))

    def _pyramid(self, classes: Tensor, edges: Tensor | None, trained: bool, ends: Tensor) -> SemanticPyramid:
        """ends: (2,), the lowest and the highest label, which are not known to be classes yet."""
        # Only what occurs takes part, so that neither work nor memory of a step depends on how many classes exist.
        kinds = classes if edges is None else classes + edges * (self.num_classes + 1)
        most = 2 * (self.num_classes + 1)
        occurs = torch.zeros(most, dtype=torch.bool, device=kinds.device).scatter_(0, kinds.flatten().clamp(0, most - 1), True)
        # one list: each look at a number lets a GPU wait
        lowest, highest, count = torch.cat([ends.long(), occurs.sum()[None]]).tolist()
        check_labels(lowest, highest, self.num_classes)
        present = places_of(occurs, count)
        ids = (occurs.cumsum(0) - 1)[kinds]

        def kernel_rows(kernel: Tensor) -> Tensor:
            return self._kernel_rows(kernel, present, trained)

        return SemanticPyramid(GatheredLayout(ids, len(present), self.width, kernel_rows), classes)

    def _kernel_rows(self, kernel: Tensor, kinds: Tensor, trained: bool) -> Tensor:
        """What the taps of a kernel (O, width, kh, kw) answer to class c (kind c) and to c on an edge (kind c + num_classes + 1).

        kinds: (K,). Returns (K, kh·kw·O). Convolution is linear: that of looked-up vectors is a look-up of convolved vectors.
        """
        classes = kinds % (self.num_classes + 1)
        if self.table is None:
            # not kernel[:, classes], whose gradient would write a zero for every class that does not occur
            rows = columns_of(kernel, classes).permute(1, 2, 3, 0).flatten(1)
        else:
            # vectors learn through the generator alone: they must not move to make the discriminator's work harder
            table = self.table if trained else self.table.detach()
            rows = table[classes] @ kernel[:, : self.table.shape[1]].permute(1, 2, 3, 0).flatten(1)
        if self.instance_edges:
            on_edge = (kinds > self.num_classes)[:, None]
            rows = rows + on_edge * kernel[:, -1].permute(1, 2, 0).flatten()
        return rows


class DenseOneHot(Semantics):
    """One-hot as a tensor (N, C+1, H, W): the reference for the gathered form, and what other implementations do."""

    def _pyramid(self, classes: Tensor, edges: Tensor | None, trained: bool, ends: Tensor) -> SemanticPyramid:
        lowest, highest = ends.tolist()
        check_labels(lowest, highest, self.num_classes)
        semantic_map = F.one_hot(classes, self.num_classes + 1).permute(0, 3, 1, 2).float()
        return SemanticPyramid(DenseLayout(semantic_map if edges is None else torch.cat([semantic_map, edges[:, None]], 1)), classes)


def check_labels(lowest: int, highest: int, num_classes: int) -> None:
    """Raise InputError unless both are in [−1, num_classes)."""
    for label in (lowest, highest):
        if not IGNORE_INDEX <= label < num_classes:
            raise InputError(f"label {label} is outside [-1, {num_classes}): there are {num_classes} classes, and -1 is ignored")
