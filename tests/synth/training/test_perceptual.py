"""The perceptual loss on weights made here."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.vgg import cfgs, make_layers

from shared.errors import InputError
from synth.training import perceptual as vgg


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """Random weights under torchvision's names. Each tensor repeats one output channel, so that the file stays small."""
    torch.manual_seed(0)
    state = {}
    for key, value in make_layers(cfgs["E"], batch_norm=False).state_dict().items():
        state[f"features.{key}"] = (torch.randn(1, *value.shape[1:]) * 0.05).expand_as(value)
    path = tmp_path_factory.mktemp("weights") / "vgg19.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def loss(weights_file):
    return vgg.PerceptualLoss(weights_file)


def test_the_layers_are_torchvisions(loss):
    assert str(loss.features) == str(make_layers(cfgs["E"], batch_norm=False)[:30])


def test_equals_the_sum_over_the_five_layers(loss):
    fake, real = torch.rand(2, 1, 3, 32, 32) * 2 - 1
    expected = torch.zeros(())
    features: list[Tensor] = [fake, real]
    for place, layer in enumerate(loss.features):
        features = [layer(feature.clone()) for feature in features]
        weight = {1: 1 / 32, 6: 1 / 16, 11: 1 / 8, 20: 1 / 4, 29: 1.0}.get(place, 0)
        expected = expected + weight * F.l1_loss(*features)
    torch.testing.assert_close(loss(fake, real), expected)
    assert expected > 0


def test_gradient_flows_into_the_fake_only(loss):
    fake, real = (torch.rand(1, 3, 32, 32, requires_grad=True) for _ in range(2))
    loss(fake, real).backward()
    assert fake.grad is not None and fake.grad.abs().sum() > 0
    assert real.grad is None
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    assert loss(fake, fake).item() == 0


def test_normalisation(weights_file, loss):
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    fake, real = torch.rand(2, 1, 3, 32, 32)  # in [0, 1]
    normalising = vgg.PerceptualLoss(weights_file, normalise=True)
    torch.testing.assert_close(normalising(2 * fake - 1, 2 * real - 1), loss((fake - mean) / std, (real - mean) / std))


def test_other_files_are_refused(tmp_path):
    torch.save({"classifier.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other.pth does not hold the weights of torchvision's VGG-19"):
        vgg.PerceptualLoss(tmp_path / "other.pth")
