"""The perceptual loss on weights made here, and what is said when the real ones are missing."""

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
    mean, std = torch.tensor(vgg.IMAGENET_MEAN)[:, None, None], torch.tensor(vgg.IMAGENET_STD)[:, None, None]
    fake, real = torch.rand(2, 1, 3, 32, 32)  # in [0, 1]
    normalising = vgg.PerceptualLoss(weights_file, normalise=True)
    torch.testing.assert_close(normalising(2 * fake - 1, 2 * real - 1), loss((fake - mean) / std, (real - mean) / std))


def test_missing_weights_are_told_in_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"nowhere.pth does not exist; put the file from https://.*vgg19-dcbb9e9d.pth there"):
        vgg.find_vgg_weights(tmp_path / "nowhere.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(InputError, match=r"checkpoints/vgg19-dcbb9e9d.pth does not exist; put"):
        vgg.find_vgg_weights(download=False)

    def offline(*_args, **_options):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(InputError, match=r"downloading failed \(no network\)") as error:
        vgg.find_vgg_weights()
    assert "\n" not in str(error.value)


def test_cache_and_path_are_found(tmp_path, monkeypatch, weights_file):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    cached = vgg.cached_vgg_weights()
    cached.parent.mkdir()
    cached.write_bytes(b"")
    assert vgg.find_vgg_weights() == cached
    assert vgg.find_vgg_weights(weights_file) == weights_file


def test_other_files_are_refused(tmp_path):
    torch.save({"classifier.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other.pth does not hold the weights of torchvision's VGG-19"):
        vgg.PerceptualLoss(tmp_path / "other.pth")
