"""What stands for a class, the pyramid, and edges."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shared.errors import InputError
from synth.semantics import SEMANTICS, build_semantics
from synth.semantics.build import random_unit_vectors
from synth.semantics.edges import instance_edges
from synth.semantics.layout import DenseLayout

C, D = 5, 6


@pytest.fixture
def embeddings():
    return SimpleNamespace(vectors=F.normalize(torch.randn(C, D, generator=torch.Generator().manual_seed(1))))


@pytest.fixture
def label_map():
    return torch.randint(-1, C, (2, 12, 20), generator=torch.Generator().manual_seed(2))


def dense_map(semantics, label_map, edges=None):
    """The semantic map (N, S, H, W) by its definition."""
    table = torch.eye(C + 1) if semantics.table is None else semantics.table
    vectors = table[label_map % (C + 1)].permute(0, 3, 1, 2)  # −1 becomes the last row
    return vectors if edges is None else torch.cat([vectors, edges[:, None].float()], 1)


@pytest.mark.parametrize("with_edges", [False, True])
@pytest.mark.parametrize("name", SEMANTICS)
def test_every_size_equals_the_resized_semantic_map(name, with_edges, embeddings, label_map):
    semantics = build_semantics(name, C, embeddings, instance_edges=with_edges)
    edges = label_map > 2 if with_edges else None
    reference = dense_map(semantics, label_map, edges)
    pyramid = semantics.pyramid(label_map, edges)
    assert semantics.width == reference.shape[1]
    conv = nn.Conv2d(semantics.width, 4, 3, padding=1)
    for size in [(12, 20), (6, 10), (5, 7), (3, 4), (1, 1), (24, 40)]:
        expected = conv(F.interpolate(reference, size, mode="nearest"))
        torch.testing.assert_close(pyramid.at(*size).convolve(conv), expected)
    strided = nn.Conv2d(semantics.width + 3, 4, 4, stride=2, padding=2)
    pooled = reference
    for times in range(3):
        expected = DenseLayout(pooled).convolve(strided)
        torch.testing.assert_close(pyramid.pooled(times).convolve(strided), expected)
        pooled = F.avg_pool2d(pooled, 3, stride=2, padding=1, count_include_pad=False)


def test_identity_table_equals_onehot(label_map):
    known = label_map.clamp_min(0)
    onehot = build_semantics("onehot", C)
    table = build_semantics("learned", C, SimpleNamespace(vectors=torch.eye(C)))
    conv = nn.Conv2d(C, 4, 3, padding=1)
    wide = nn.Conv2d(C + 1, 4, 3, padding=1)
    wide.weight.data[:, :C], wide.bias.data = conv.weight.data, conv.bias.data
    results = []
    for semantics, layer in [(onehot, wide), (table, conv)]:
        output = semantics.pyramid(known).at(6, 10).convolve(layer)
        results.append((output, torch.autograd.grad(output.square().sum(), layer.weight)[0][:, :C]))
    torch.testing.assert_close(results[0], results[1])


def test_layouts_are_shared(label_map):
    pyramid = build_semantics("onehot", C).pyramid(label_map)
    assert pyramid.at(6, 10) is pyramid.at(6, 10)
    assert pyramid.pooled(0) is pyramid.at(12, 20)
    assert pyramid.pooled(2) is pyramid.pooled(2)


def test_tables(embeddings):
    learned = build_semantics("learned", C, embeddings)
    assert torch.equal(learned.table[:C], embeddings.vectors)
    assert torch.equal(learned.table[C], torch.zeros(D))
    random = build_semantics("random", C, embeddings, seed=3)
    assert random.table.shape == learned.table.shape
    torch.testing.assert_close(random.table.norm(dim=1), torch.tensor([1.0] * C + [0.0]))
    assert torch.equal(random.table, build_semantics("random", C, embedding_dim=D, seed=3).table)
    assert not torch.equal(random_unit_vectors(C, D, 3), random_unit_vectors(C, D, 4))
    assert not build_semantics("onehot", C).state_dict()


def test_other_random_tables(embeddings):
    unit, raw, orthonormal = (
        build_semantics(name, C, embeddings, seed=3).table[:C] for name in ("random", "random_raw", "random_orthonormal")
    )
    torch.testing.assert_close(F.normalize(raw), unit)
    assert raw.norm(dim=1).std() > 0.1
    torch.testing.assert_close(orthonormal @ orthonormal.T, torch.eye(C))
    with pytest.raises(InputError, match="5 orthonormal vectors need a width of 5 or more, not 4"):
        build_semantics("random_orthonormal", C, embedding_dim=4)


def test_labels_out_of_range_are_named():
    semantics = build_semantics("onehot", C)
    with pytest.raises(InputError, match=r"label 5 is outside \[-1, 5\)"):
        semantics.pyramid(torch.full((1, 4, 4), 5))
    with pytest.raises(InputError, match=r"label -2 is outside"):
        semantics.pyramid(torch.full((1, 4, 4), -2))
    with pytest.raises(ValueError, match="of integers"):
        semantics.pyramid(torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="of integers"):
        semantics.pyramid(torch.zeros(1, 1, 4, 4, dtype=torch.long))


def test_small_integer_types_are_label_maps_too():
    label_map = torch.tensor([[[0, 1], [-1, 4]]], dtype=torch.int16)
    conv = nn.Conv2d(C + 1, 2, 1)
    pyramids = [build_semantics("onehot", C).pyramid(ids) for ids in (label_map, label_map.long())]
    assert torch.equal(*(pyramid.at(2, 2).convolve(conv) for pyramid in pyramids))


def test_refusals(embeddings, label_map):
    with pytest.raises(InputError, match="choose one of onehot, onehot_dense, random, random_raw, random_orthonormal, learned"):
        build_semantics("one-hot", C)
    with pytest.raises(InputError, match="need an embedding file"):
        build_semantics("learned", C)
    with pytest.raises(InputError, match="has 5 classes, the data set has 6"):
        build_semantics("learned", 6, embeddings)
    with pytest.raises(InputError, match="need a width"):
        build_semantics("random", C)
    with pytest.raises(ValueError, match="instance_edges=True, but edges is NoneType"):
        build_semantics("onehot", C, instance_edges=True).pyramid(label_map)
    with pytest.raises(ValueError, match="instance_edges=False"):
        build_semantics("onehot", C).pyramid(label_map, label_map > 0)
    with pytest.raises(ValueError, match="edges have shape"):
        build_semantics("onehot", C, instance_edges=True).pyramid(label_map, label_map[:1] > 0)


def test_instance_edges():
    instances = torch.tensor([[[1, 1, 2, 2], [1, 1, 2, 2], [1, 1, 1, 1]]])
    expected = torch.tensor([[[0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]], dtype=torch.bool)
    assert torch.equal(instance_edges(instances), expected)
    labels = torch.tensor([[[0, 0, 0, 0], [0, 0, 0, 0], [7, 0, 0, 0]]])
    with_labels = instance_edges(instances, labels)
    assert with_labels[0, 2, 0] and with_labels[0, 1, 0] and with_labels[0, 2, 1]
    assert with_labels.sum() == expected.sum() + 3
