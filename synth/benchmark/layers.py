"""The contestants of a layer: the first convolution over the semantics, and the branch that makes scale and shift of them.

Letters: N images, P pixels, C classes, S width of the semantics, K ids that occur, T taps, O output channels, U distinct patches.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial

import torch
from torch import Tensor, nn

from shared.benchmark.ceilings import Work
from shared.benchmark.contest import Contestant
from synth.benchmark.cases import Case, label_maps
from synth.kernels.rows import Maps
from synth.networks.spade import Spade
from synth.semantics import Semantics, build_semantics
from synth.semantics.layout import DenseLayout, GatheredLayout, Layout
from synth.semantics.patches import Geometry, convolve_ids, distinct_patches, to_pixels

DENSE, GATHERED, EMBEDDING = "dense one-hot", "gathered one-hot", "embedding"
SEMANTICS = {DENSE: "onehot_dense", GATHERED: "onehot", EMBEDDING: "random"}
"""Names that `build_semantics` knows, by what the tables say."""
GIVEN, ROWS_ONLY, SPADE_LAYER = ", map given", ", rows that occur", "SPADE layer, "
WINDOW = Geometry((3, 3), (1, 1), (1, 1))


def semantics_of(case: Case, name: str) -> Semantics:
    """One of `SEMANTICS` for the classes of the case."""
    return build_semantics(SEMANTICS[name], case.classes, embedding_dim=case.dim, seed=case.seed)


def convolution_contestants(case: Case) -> list[Contestant]:
    """The first convolution of a SPADE layer and the gradient of its kernel, over semantics made anew and given."""

    def from_labels(name: str) -> Callable[[], list[Tensor]]:
        semantics, labels, conv = semantics_of(case, name), label_maps(case), convolution_of(case, name)
        return lambda: with_gradients(semantics.pyramid(labels).pooled(0).convolve(conv), list(conv.parameters()))

    def from_layout(name: str) -> Callable[[], list[Tensor]]:
        layout, conv = layout_of(case, name), convolution_of(case, name)
        return lambda: with_gradients(layout.convolve(conv), list(conv.parameters()))

    def from_rows() -> Callable[[], list[Tensor]]:
        layout, conv = gathered_layout(case), convolution_of(case, GATHERED)
        patches = distinct_patches(layout.ids, layout.num_ids, WINDOW)
        rows = layout.kernel_rows(conv.weight).detach().view(-1, case.hidden).requires_grad_()
        return lambda: with_gradients(to_pixels(convolve_ids(rows, conv.bias, patches), patches), [rows])

    work = Work(2 * 4 * case.pixels * case.hidden + 8 * case.pixels, 0)
    found = []
    for name in SEMANTICS:
        errors = partial(convolution_errors, case.small(), name)
        found.append(Contestant(name, partial(from_labels, name), work, errors))
        found.append(Contestant(name + GIVEN, partial(from_layout, name), work))
    return [*found, Contestant(GATHERED + ROWS_ONLY, from_rows, work)]


def modulation_contestants(case: Case) -> list[Contestant]:
    """Scale and shift as maps, and a whole SPADE layer, forward and backward; the semantics are made anew every time."""

    def branch(name: str) -> Callable[[], list[Tensor]]:
        semantics, labels, spade = semantics_of(case, name), label_maps(case), spade_of(case, name)
        learned = list(spade.parameters())
        return lambda: with_gradients(torch.cat(maps_of(spade, semantics.pyramid(labels).pooled(0)), 1), learned)

    def layer(name: str) -> Callable[[], list[Tensor]]:
        semantics, labels, spade = semantics_of(case, name), label_maps(case), spade_of(case, name)
        x = torch.randn(case.images, case.channels, case.height, case.width, generator=torch.Generator().manual_seed(case.seed))
        x = x.to(case.device).contiguous(memory_format=torch.channels_last).requires_grad_()
        learned = [x, *spade.parameters()]
        return lambda: with_gradients(spade(x, semantics.pyramid(labels), slope=0.2), learned)

    @cache
    def distinct() -> int:
        layout = gathered_layout(case)
        return len(distinct_patches(layout.ids, layout.num_ids, WINDOW).wider.members)

    work = Work(2 * 4 * case.pixels * 2 * case.channels, 3 * 2 * distinct() * 9 * case.hidden * 2 * case.channels)
    layer_work = Work(4 * 4 * case.pixels * case.channels, work.flops)
    found = [Contestant(name, partial(branch, name), work, partial(modulation_errors, case.small(), name)) for name in SEMANTICS]
    return found + [Contestant(SPADE_LAYER + name, partial(layer, name), layer_work) for name in SEMANTICS]


def with_gradients(output: Tensor, by: Sequence[Tensor]) -> list[Tensor]:
    """A backward pass whose incoming gradient is the output itself."""
    return [output.detach(), *torch.autograd.grad(output, by, output.detach())]


def layout_of(case: Case, name: str) -> Layout:
    """Semantics of the case at full size, with their patches found."""
    layout = semantics_of(case, name).to(case.device).pyramid(label_maps(case)).pooled(0)
    layout.convolve(nn.Conv2d(layout.width, 1, 3, padding=1, device=case.device))
    return layout


def gathered_layout(case: Case) -> GatheredLayout:
    """That of one-hot semantics."""
    layout = layout_of(case, GATHERED)
    assert isinstance(layout, GatheredLayout)
    return layout


def convolution_of(case: Case, name: str) -> nn.Conv2d:
    """SPADE's first convolution with the weights of the seed."""
    torch.manual_seed(case.seed)
    return nn.Conv2d(semantics_of(case, name).width, case.hidden, 3, padding=1, device=case.device)


def spade_of(case: Case, name: str) -> Spade:
    """A SPADE layer with the weights of the seed."""
    torch.manual_seed(case.seed)
    return Spade(case.channels, semantics_of(case, name).width, hidden=case.hidden).to(case.device)


def maps_of(spade: Spade, layout: Layout) -> Maps:
    """Scale and shift of every pixel, whatever the layout gives."""
    first = spade.mlp_shared[0]
    assert isinstance(first, nn.Conv2d)
    modulation = layout.modulation(first, *spade._modulation())
    return modulation if isinstance(modulation, Maps) else modulation.maps(layout.batch_size, layout.size)


def convolution_errors(case: Case, name: str) -> dict[str, float]:
    """Relative errors against the dense map in float64."""
    plain, precise = convolution_of(case, name), convolution_of(case, name).double()
    found = with_gradients(layout_of(case, name).convolve(plain), list(plain.parameters()))
    expected = with_gradients(precise_layout(case, name).convolve(precise), list(precise.parameters()))
    return _relative(found, expected)


def modulation_errors(case: Case, name: str) -> dict[str, float]:
    """Relative errors against the dense map in float64."""
    plain, precise = spade_of(case, name), spade_of(case, name).double()
    found = with_gradients(torch.cat(maps_of(plain, layout_of(case, name)), 1), list(plain.parameters()))
    expected = with_gradients(torch.cat(maps_of(precise, precise_layout(case, name)), 1), list(precise.parameters()))
    return _relative(found, expected)


def precise_layout(case: Case, name: str) -> Layout:
    """The semantic map of any semantics as a tensor, float64."""
    semantics, labels = semantics_of(case, name), label_maps(case)
    classes = torch.where(labels < 0, case.classes, labels)
    table = torch.eye(case.classes + 1) if semantics.table is None else semantics.table
    return DenseLayout(table.to(labels.device, torch.float64)[classes].permute(0, 3, 1, 2))


def _relative(found: list[Tensor], expected: list[Tensor]) -> dict[str, float]:
    value, *gradients = (float((a.double() - b).norm() / b.norm()) for a, b in zip(found, expected))
    return {"value": value, "gradient": max(gradients)}
