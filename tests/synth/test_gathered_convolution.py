"""The gathered convolution against the dense one on the one-hot map, in value and in every gradient."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from synth.gathered_convolution import Geometry, distinct_patches
from synth.layout import DenseLayout, GatheredLayout
from synth.semantics import build_semantics


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
def test_two_convolutions(repeats):
    torch.manual_seed(0)
    label_map = torch.zeros(2, 12, 16, dtype=torch.long) if repeats else torch.randint(-1, 6, (2, 12, 16))
    label_map[:, 4:, 9:] = 3
    layouts = dense_and_gathered(label_map, 6)
    first = nn.Conv2d(7, 5, 3, padding=1)
    kernel, bias = torch.randn(8, 5, 3, 3, requires_grad=True), torch.randn(8, requires_grad=True)
    results = []
    for layout in layouts:
        scale, shift = layout.convolve_twice(first, kernel, bias)
        loss = (scale.sin() + shift.cos()).sum()
        results.append([scale, shift, *torch.autograd.grad(loss, [kernel, bias, *first.parameters()])])
    for expected, actual in zip(*results):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-4)


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
