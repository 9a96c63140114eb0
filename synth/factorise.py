"""From one-hot to embedding conditioning: the kernels that read the semantics, factorised over the class axis.

Let A_l be the kernel of layer l as a matrix with a row per class and one for ignored pixels, (C + 1) × (O·kh·kw). All layers read one
map, so they share one table T of class vectors, and the best of rank r is that of [A_1 A_2 …] (Eckart and Young, 1936):
A_l ≈ T · B_l with T the scaled first r left singular vectors and B_l the kernel over the vectors. r = C + 1 is exact.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared.errors import InputError
from synth.generator import SpadeGenerator
from synth.networks.spade import Spade
from synth.published import onehot_kernel
from synth.semantics import Semantics


@dataclass(frozen=True)
class FactorisationReport:
    """What a factorisation has lost.

    Attributes:
        rank: width of the class vectors.
        layer_errors: per layer ‖A − T·B‖ / ‖A‖ (Frobenius) of its kernel.
        error: the same of all layers together.
    """

    rank: int
    layer_errors: Mapping[str, float]
    error: float

    def __str__(self) -> str:
        worst = max(self.layer_errors, key=lambda name: self.layer_errors[name])
        return f"rank {self.rank}: relative error of the class kernels {self.error:.3g}, largest {self.layer_errors[worst]:.3g} ({worst})"


@torch.no_grad()
def factorise(generator: SpadeGenerator, rank: int) -> tuple[SpadeGenerator, FactorisationReport]:
    """A copy of `generator` on a table of class vectors of length `rank`, and what that has cost.

    The vectors have a mean square norm of 1, and their distances are those of the kernels' answers to the classes. The last row of the
    table, of ignored pixels, is not zero. A channel of instance edges stays as it is.

    Args:
        generator: on one-hot semantics, or on vectors that are to become shorter.
        rank: from 1 to the number of classes + 1.

    Raises:
        InputError: a rank out of this range, or a generator with noise, which is no class.
    """
    if generator.noise_channels:
        raise InputError("this generator has noise beside its semantics; factorise one without")
    semantics, layers = generator.semantics, _layers_on_semantics(generator)
    num_rows = semantics.num_classes + 1
    if not 1 <= rank <= num_rows:
        raise InputError(f"rank is {rank}; with {semantics.num_classes} classes and the ignored one it must lie in 1..{num_rows}")
    # float64, as the Gram matrix below has the squares of the singular values
    kernels = {name: onehot_kernel(layer.weight, semantics.table).double() for name, layer in layers.items()}
    matrices = {name: kernel[:, :num_rows].transpose(0, 1).flatten(1) for name, kernel in kernels.items()}

    table, to_short = _shared_table(list(matrices.values()), rank)

    twin = copy.deepcopy(generator)
    twin.semantics = Semantics(
        "learned", semantics.num_classes, table[:-1], instance_edges=semantics.instance_edges, ignored_vector=table[-1]
    )
    twins, lost = _layers_on_semantics(twin), {}
    for name, matrix in matrices.items():
        short = (to_short @ matrix).float()
        # with `short` rounded to float32, as the twin will have it
        lost[name] = (matrix - table.double() @ short.double()).square().sum()
        out_channels, _, *window = kernels[name].shape
        short_kernel = short.view(rank, out_channels, *window).transpose(0, 1)
        twins[name].weight = nn.Parameter(torch.cat([short_kernel, kernels[name][:, num_rows:].float()], 1))
        twins[name].in_channels = twin.semantics.width
    whole = {name: matrix.square().sum() for name, matrix in matrices.items()}
    errors = {name: _relative(lost[name], whole[name]) for name in matrices}
    return twin, FactorisationReport(rank, errors, _relative(_sum(lost), _sum(whole)))


def _shared_table(matrices: list[Tensor], rank: int) -> tuple[Tensor, Tensor]:
    """The table T (C + 1, rank), float32, and B (rank, C + 1), float64, so that T · (B · A) is the best of this rank for all A at once.

    The left singular vectors come from the small matrix Σ A·Aᵀ: they are orthonormal to rounding, which is all that full rank needs.
    """
    gram = torch.stack([matrix @ matrix.T for matrix in matrices]).sum(0)
    values, vectors = torch.linalg.eigh(gram)
    # eigh has the largest last
    values, basis = values[-rank:].flip(0), vectors[:, -rank:].flip(1)
    # rounding makes the values of empty directions 0 or negative, and B divides by the scale
    scale = values.clamp_min(1e-12 * values[0] + torch.finfo(values.dtype).tiny).sqrt()
    # a mean square norm of 1, as unit vectors have
    scale = scale * (len(gram) / scale.square().sum()).sqrt()
    table = (basis * scale).float()
    table[gram.diagonal() == 0] = 0  # what shows nothing goes on showing nothing
    return table, (basis / scale).T


def _layers_on_semantics(generator: SpadeGenerator) -> dict[str, nn.Conv2d]:
    """The convolutions of the semantic map, by name."""
    layers: dict[str, nn.Conv2d] = {} if isinstance(generator.fc, nn.Linear) else {"fc": generator.fc}
    for name, module in generator.named_modules():
        if isinstance(module, Spade):
            first = module.mlp_shared[0]
            assert isinstance(first, nn.Conv2d)
            layers[f"{name}.mlp_shared.0"] = first
    return layers


def _sum(parts: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(parts.values())).sum()


def _relative(lost: Tensor, whole: Tensor) -> float:
    return float((lost / whole.clamp_min(torch.finfo(whole.dtype).tiny)).sqrt())
