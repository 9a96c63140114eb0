"""The gathered convolution against the dense one on the one-hot map, in value and in every gradient."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from synth.generator import SpadeGenerator
from synth.kernels import modulation
from synth.kernels.rows import Rows
from synth.semantics import build_semantics
from synth.semantics.edges import instance_edges
from synth.semantics.layout import DenseLayout, GatheredLayout, SemanticPyramid
from synth.semantics.patches import Geometry, distinct_patches


def dense_and_gathered(label_map: Tensor, num_classes: int, edges: Tensor | None = None) -> tuple[DenseLayout, GatheredLayout]:
    layouts = [
        build_semantics(name, num_classes, instance_edges=edges is not None).pyramid(label_map, edges).pooled(0)
        for name in ("onehot_dense", "onehot")
    ]
    assert isinstance(layouts[0], DenseLayout) and isinstance(layouts[1], GatheredLayout)
    return layouts[0], layouts[1]


def value_and_gradients(layout, conv: nn.Conv2d) -> tuple[Tensor, ...]:
    output = layout.convolve(conv)
    upstream = torch.sin(torch.arange(output.numel(), dtype=output.dtype)).view(output.shape)
    return output, *torch.autograd.grad(output, list(conv.parameters()), upstream)


def assert_equal_convolutions(dense, gathered, conv: nn.Conv2d) -> None:
    for expected, actual in zip(value_and_gradients(dense, conv), value_and_gradients(gathered, conv)):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5 * max(1.0, float(expected.detach().abs().max())))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(2, 9),
    st.integers(2, 9),
    st.integers(1, 12),
    st.sampled_from([(3, 1, 1), (4, 2, 2), (1, 1, 0), (5, 1, 2), (2, 2, 0), (3, 2, 0)]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
)
def test_equals_the_dense_convolution(images, height, width, num_classes, geometry, bias, with_edges, seed):
    kernel, stride, padding = geometry
    if min(height, width) + 2 * padding < kernel:
        return
    torch.manual_seed(seed)
    label_map = torch.randint(-1, num_classes, (images, height, width))
    edges = torch.rand(label_map.shape) < 0.3 if with_edges else None
    dense, gathered = dense_and_gathered(label_map, num_classes, edges)
    conv = nn.Conv2d(dense.width, 4, kernel, stride=stride, padding=padding, bias=bias)
    assert_equal_convolutions(dense, gathered, conv)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("with_edges", [False, True])
def test_pooled_semantics(times, with_edges):
    torch.manual_seed(times)
    label_map = torch.randint(-1, 5, (2, 13, 18))
    edges = torch.rand(label_map.shape) < 0.2 if with_edges else None
    dense, gathered = dense_and_gathered(label_map, 5, edges)
    for _ in range(times):
        dense, gathered = dense.pooled(), gathered.pooled()
    assert gathered.size == dense.size
    assert_equal_convolutions(dense, gathered, nn.Conv2d(dense.width, 3, 4, stride=2, padding=2))


def test_uneven_geometry():
    dense, gathered = dense_and_gathered(torch.randint(0, 4, (2, 7, 11)), 4)
    assert_equal_convolutions(dense, gathered, nn.Conv2d(5, 3, (1, 4), stride=(2, 3), padding=(0, 2)))


@pytest.mark.parametrize("repeats", [True, False], ids=["patches repeat", "noise"])
@pytest.mark.parametrize("with_edges", [False, True])
@pytest.mark.parametrize("semantics", ["onehot", "random"])
def test_scale_and_shift(repeats, with_edges, semantics):
    """Two maps with ignored pixels, through both branches: once per patch, and by a convolution where patches hardly repeat."""
    torch.manual_seed(0)
    label_map = torch.zeros(2, 24, 32, dtype=torch.long) if repeats else torch.randint(-1, 6, (2, 24, 32))
    label_map[:, 8:, 18:], label_map[1, :4] = 3, -1
    edges = instance_edges(label_map) if with_edges else None
    gathered = build_semantics(semantics, 6, embedding_dim=3, instance_edges=with_edges).pyramid(label_map, edges).pooled(0)
    dense = dense_of(semantics, label_map, edges)
    first = nn.Conv2d(dense.width, 5, 3, padding=1)
    kernel, bias = torch.randn(8, 5, 3, 3, requires_grad=True), torch.randn(8, requires_grad=True)
    results = []
    for layout in (dense, gathered):
        maps = layout.modulation(first, kernel, bias)
        if isinstance(maps, Rows):
            assert (len(maps.rows) < label_map.numel()) == repeats
            maps = maps.maps(2, (24, 32))
        loss = (maps.scale.sin() + maps.shift.cos()).sum()
        results.append([*maps, *torch.autograd.grad(loss, [kernel, bias, *first.parameters()])])
    for expected, actual in zip(*results):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=2e-5 * max(1.0, float(expected.detach().abs().max())))


def dense_of(semantics: str, label_map: Tensor, edges: Tensor | None) -> DenseLayout:
    """The semantic map as a tensor, looked up with ordinary indexing."""
    table = build_semantics(semantics, 6, embedding_dim=3).table
    vectors = torch.eye(7) if table is None else table
    semantic_map = vectors[torch.where(label_map < 0, 6, label_map)].permute(0, 3, 1, 2)
    return DenseLayout(semantic_map if edges is None else torch.cat([semantic_map, edges[:, None]], 1))


@pytest.mark.parametrize("fused", [True, False], ids=["compiled", "torch"])
def test_whole_generator(fused, monkeypatch):
    """Images and gradients of all weights: several maps, edges, unknown ids; beside the same weights over the one-hot tensor in float64."""
    if not fused:
        monkeypatch.setattr(modulation, "numba_obstacle", lambda: "not in this test")
    torch.manual_seed(1)
    label_map = torch.randint(-1, 5, (2, 8, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    edges = instance_edges(label_map)
    results = []
    for name, dtype in (("onehot_dense", torch.float64), ("onehot_dense", torch.float32), ("onehot", torch.float32)):
        torch.manual_seed(0)
        generator = SpadeGenerator(build_semantics(name, 5, instance_edges=True), image_size=(64, 64), width=4, hidden=6)
        for parameter in generator.parameters():
            nn.init.normal_(parameter, std=0.2)
        with torch.no_grad():
            pyramid = generator.semantics.pyramid(label_map, edges)
        if dtype == torch.float64:
            layout = pyramid.pooled(0)
            assert isinstance(layout, DenseLayout)
            pyramid = SemanticPyramid(DenseLayout(layout.semantic_map.double()))
        images = generator.to(dtype)(pyramid)
        gradients = torch.autograd.grad(images.square().sum(), list(generator.parameters()))
        results.append([images.detach(), *gradients, *(buffer.to(dtype) for buffer in generator.buffers())])
    for truth, plain, gathered in zip(*results):
        allowed = 4 * (plain.double() - truth).norm() + 1e-5 * truth.norm() + 1e-4  # biases before a normalisation have gradients of 0
        assert (gathered.double() - truth).norm() <= allowed


def test_long_bags_are_summed_exactly():
    """One class everywhere: every row of the kernel gets the gradient of nearly all pixels."""
    _, gathered = dense_and_gathered(torch.zeros(1, 60, 70, dtype=torch.long), 1)
    conv = nn.Conv2d(2, 3, 3, padding=1)
    gradient = torch.autograd.grad(gathered.convolve(conv).sum(), conv.weight)[0]
    assert torch.equal(gradient[:, 0, 1, 1], torch.full((3,), 60.0 * 70))
    assert torch.equal(gradient[:, 0, 0, 0], torch.full((3,), 59.0 * 69))


def test_patches_are_distinct_and_complete():
    ids = torch.randint(0, 3, (2, 6, 7))
    patches = distinct_patches(ids, 3, Geometry((3, 3), (1, 1), (1, 1)))
    assert len(patches.members.unique(dim=0)) == len(patches.members)
    columns = F.unfold(F.pad(ids[:, None].float(), (1, 1, 1, 1), value=3), 3)  # (N, 9, 42)
    assert torch.equal(patches.members[patches.ids.flatten()], columns.transpose(1, 2).flatten(0, 1).long())


def test_patches_of_several_sizes_are_the_same_together_and_one_by_one():
    label_map, conv = torch.randint(-1, 5, (2, 16, 24)), nn.Conv2d(6, 3, 3, padding=1)
    together, one_by_one = (build_semantics("onehot", 5).pyramid(label_map) for _ in range(2))
    sizes = [(2, 3), (4, 6), (16, 24)]
    together.prepare(sizes, conv)
    for size in sizes:
        known = together.at(*size).known_patches
        assert len(known) == 1
        ((geometry, patches),) = known.items()
        others = distinct_patches(one_by_one.at(*size).ids, one_by_one.at(*size).num_ids, geometry)
        for ours, theirs in ((patches, others), (vars(patches)["wider"], others.wider)):
            assert torch.equal(ours.members, theirs.members) and torch.equal(ours.ids, theirs.ids)
            assert ours.num_inside == theirs.num_inside == int((ours.members < ours.num_ids).sum())


def test_many_classes_do_not_overflow_the_patch_codes():
    num_ids = 2**40  # nine digits to this base need 360 bits
    ids = torch.randint(0, num_ids, (1, 5, 6))
    patches = distinct_patches(ids, num_ids, Geometry((3, 3), (1, 1), (1, 1)))
    assert len(patches.members) == 30
    assert torch.equal(patches.members[patches.ids[0, 2, 3], :].view(3, 3), ids[0, 1:4, 2:5])


def test_float64():
    dense, gathered = dense_and_gathered(torch.randint(-1, 4, (1, 6, 6)), 4)
    conv = nn.Conv2d(5, 2, 3, padding=1).double()
    expected = F.conv2d(dense.semantic_map.double(), conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(gathered.convolve(conv), expected, rtol=0, atol=1e-14)


def test_refuses_other_convolutions():
    _, gathered = dense_and_gathered(torch.zeros(1, 8, 8, dtype=torch.long), 3)
    with pytest.raises(ValueError, match="plain convolution"):
        gathered.convolve(nn.Conv2d(4, 4, 3, padding=1, dilation=2))
