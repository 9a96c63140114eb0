"""The discriminator: shapes, sharing of the semantic half, gathered against dense."""

import pytest
import torch
import torch.nn.functional as F

from synth.discriminator import MultiscaleDiscriminator
from synth.semantics import build_semantics


@pytest.fixture
def label_map():
    return torch.randint(-1, 4, (2, 32, 48), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("num_scales", "num_layers"), [(1, 3), (2, 4), (3, 4)])
def test_shapes(label_map, num_scales, num_layers):
    semantics = build_semantics("onehot", 4)
    network = MultiscaleDiscriminator(semantics, width=4, num_scales=num_scales, num_layers=num_layers)
    features = network(semantics.pyramid(label_map), torch.randn(4, 3, 32, 48))
    assert [len(scale) for scale in features] == [num_layers + 1] * num_scales
    assert [scale[0].shape for scale in features] == [(4, 4, 16 // 2**i + 1, 24 // 2**i + 1) for i in range(num_scales)]
    assert all(scale[-1].shape[:2] == (4, 1) for scale in features)


def test_published_keys_and_number_of_parameters():
    network = MultiscaleDiscriminator(build_semantics("onehot", 35))
    keys = list(network.state_dict())
    assert [key for key in keys if key.startswith("discriminator_1.")] == [
        "discriminator_1.model0.0.weight",
        "discriminator_1.model0.0.bias",
        *(f"discriminator_1.model{layer}.0.0.weight_{part}" for layer in (1, 2, 3) for part in ("orig", "u", "v")),
        "discriminator_1.model4.0.weight",
        "discriminator_1.model4.0.bias",
    ]
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(5.6e6, rel=0.01)


@pytest.mark.parametrize("with_edges", [False, True])
def test_gathered_equals_dense_in_value_and_gradient(label_map, with_edges):
    torch.manual_seed(0)
    images = torch.randn(4, 3, 32, 48)
    edges = label_map > 1 if with_edges else None
    dense, gathered = (build_semantics(name, 4, instance_edges=with_edges) for name in ("onehot_dense", "onehot"))
    network = MultiscaleDiscriminator(dense, width=4).eval()
    results = []
    for semantics in (dense, gathered):
        features = network(semantics.pyramid(label_map, edges), images)
        kernels = [network.get_parameter(f"discriminator_{scale}.model0.0.weight") for scale in (0, 1)]
        loss = sum(scale[-1].square().mean() + scale[0].square().mean() for scale in features)
        results.append([*features[0], *features[1], *torch.autograd.grad(loss, kernels)])
    for expected, actual in zip(*results):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_first_layer_is_the_joint_convolution(label_map):
    semantics = build_semantics("onehot", 4)
    network = MultiscaleDiscriminator(semantics, width=4)
    convolution = network.get_submodule("discriminator_0.model0.0")
    images = torch.randn(4, 3, 32, 48)
    semantic_map = F.one_hot(label_map % 5, 5).permute(0, 3, 1, 2).float()
    expected = F.leaky_relu(convolution(torch.cat([semantic_map.repeat(2, 1, 1, 1), images], 1)), 0.2)
    torch.testing.assert_close(network(semantics.pyramid(label_map), images)[0][0], expected)


def test_images_must_fit_the_label_maps(label_map):
    semantics = build_semantics("onehot", 4)
    network = MultiscaleDiscriminator(semantics, width=4)
    pyramid = semantics.pyramid(label_map)
    with pytest.raises(ValueError, match="3 images of 32×48 do not fit 2 label maps of 32×48"):
        network(pyramid, torch.randn(3, 3, 32, 48))
    with pytest.raises(ValueError, match="2 images of 16×48 do not fit"):
        network(pyramid, torch.randn(2, 3, 16, 48))
