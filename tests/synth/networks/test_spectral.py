"""Our spectral normalisation against the hook form of torch."""

import copy

import pytest
import torch
from torch import nn

from synth.networks.spectral import SpectralConv2d, initialise


@pytest.fixture
def pair():
    """The same weights in both forms, as a state dict carries them over."""
    torch.manual_seed(0)
    hook = nn.utils.spectral_norm(nn.Conv2d(3, 5, 3, padding=1))
    ours = SpectralConv2d(3, 5, 3, padding=1)
    ours.load_state_dict(hook.state_dict())
    return hook, ours


def test_training_steps_equal_the_hook_form(pair):
    for _ in range(3):
        images = torch.randn(2, 3, 6, 6)
        outputs = [network(images) for network in pair]
        for output in outputs:
            output.square().sum().backward()
        torch.testing.assert_close(outputs[1], outputs[0])
        torch.testing.assert_close(pair[1].weight_orig.grad, pair[0].weight_orig.grad)
        for name in ("weight_u", "weight_v"):
            torch.testing.assert_close(getattr(pair[1], name), getattr(pair[0], name))


def test_evaluation_uses_the_stored_vectors(pair):
    hook, ours = pair[0].eval(), pair[1].eval()
    before = ours.weight_u.clone()
    images = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(ours(images), hook(images))
    assert torch.equal(ours.weight_u, before)


def test_keys():
    assert list(SpectralConv2d(3, 5, 3).state_dict()) == ["bias", "weight_orig", "weight_u", "weight_v"]
    assert list(SpectralConv2d(3, 5, 3, bias=False).state_dict()) == ["weight_orig", "weight_u", "weight_v"]


def test_converges_to_the_largest_singular_value():
    layer = SpectralConv2d(4, 6, 3)
    for _ in range(200):
        layer.normalised_kernel()
    assert torch.linalg.matrix_norm(layer.normalised_kernel().flatten(1), 2).item() == pytest.approx(1, abs=1e-4)


def test_two_forwards_before_the_backward():
    layer = SpectralConv2d(2, 2, 3)
    images = torch.randn(1, 2, 5, 5)
    (layer(images).sum() + layer(images).sum()).backward()
    assert torch.isfinite(layer.weight_orig.grad).all()


def test_deep_copy_after_a_forward_with_gradient():
    layer = SpectralConv2d(2, 2, 3)
    images = torch.randn(1, 2, 5, 5)
    layer(images).sum().backward()
    assert torch.equal(copy.deepcopy(layer).eval()(images), layer.eval()(images))


def test_initialisation():
    torch.manual_seed(0)
    network = nn.Sequential(SpectralConv2d(64, 64, 3), nn.Conv2d(64, 32, 3), nn.Linear(512, 256))
    initialise(network)
    for kernel, fans in [(network[0].weight_orig, 64 * 9 * 2), (network[1].weight, 96 * 9), (network[2].weight, 768)]:
        assert kernel.std().item() == pytest.approx(0.02 * (2 / fans) ** 0.5, rel=0.05)
    assert all(not layer.bias.any() for layer in network)
