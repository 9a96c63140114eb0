"""The perceptual losses: VGG-19's on weights made here, EfficientNet-Lite0's on those of its package."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.vgg import cfgs, make_layers

from shared.backbone import frozen_lite0
from shared.errors import InputError
from shared.files.atomic import sha256
from shared.run.updates import in_precision
from synth.config import LossConfig
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


# EfficientNet-Lite0


@pytest.fixture(scope="module")
def lite0():
    return vgg.Lite0PerceptualLoss()


def test_lite0_is_the_mean_share_of_four_stages_and_of_their_moments_in_cells(lite0):
    fake, real = torch.rand(2, 2, 3, 64, 128) * 2 - 1
    ours, theirs = (frozen_lite0()(images / 2 + 0.5) for images in (fake, real))
    sizes = (4.7, 6.7, 6.1, 5.6)
    places = 0.2 * sum((a - b).abs().mean() / size for a, b, size in zip(ours, theirs, sizes))
    torch.testing.assert_close(vgg.Lite0PerceptualLoss(texture=0)(fake, real), places)
    assert places > 0
    cells = 0.2 * sum(cell_difference(a, b) / size for a, b, size in zip(ours, theirs, sizes))
    torch.testing.assert_close(lite0(fake, real), places + cells)
    torch.testing.assert_close(vgg.Lite0PerceptualLoss(texture=3)(fake, real), places + 3 * cells)


def cell_difference(ours, theirs):
    """By the definition, for sides that four divides evenly or that are not larger than it."""
    total = 0
    for moment in (lambda cell: cell.mean((2, 3)), lambda cell: cell.var((2, 3), unbiased=False).clamp(min=1e-4).sqrt()):
        sides = []
        for features in (ours, theirs):
            rows = features.tensor_split(min(4, features.shape[2]), 2)
            sides.append(torch.stack([moment(cell) for row in rows for cell in row.tensor_split(min(4, features.shape[3]), 3)]))
        total = total + (sides[0] - sides[1]).abs().mean()
    return total


def test_texture_may_lie_anywhere_in_its_cell_but_must_be_as_rough(lite0):
    """Noise drawn again costs little more than a blur place by place, and much less in the moments."""
    torch.manual_seed(0)
    grain, other = torch.rand(2, 1, 3, 64, 128) * 2 - 1
    flat = F.avg_pool2d(grain, 9, 1, 4, count_include_pad=False)
    places = vgg.Lite0PerceptualLoss(texture=0)
    in_places, in_cells = ([loss(image, grain).item() for image in (other, flat)] for loss in (places, lite0))
    assert in_cells[0] - in_places[0] < 0.5 * (in_cells[1] - in_places[1])


def test_lite0_is_frozen_and_in_evaluation_mode(lite0):
    fake, real = (torch.rand(1, 3, 32, 64, requires_grad=True) for _ in range(2))
    before = {name: value.clone() for name, value in lite0.state_dict().items()}
    lite0.train()(fake, real).backward()
    assert fake.grad is not None and fake.grad.abs().sum() > 0
    assert real.grad is None
    assert not any(parameter.requires_grad for parameter in lite0.parameters())
    assert not any(module.training for module in lite0.encoder.modules())
    assert all(torch.equal(value, before[name]) for name, value in lite0.state_dict().items())
    assert lite0(fake, fake).item() == 0


def test_lite0_sees_blur_and_colour_and_structure(lite0):
    """Each moves the loss by a part of what another picture does."""
    torch.manual_seed(0)
    real, other = (F.interpolate(torch.rand(1, 3, 8, 12), scale_factor=8) * 2 - 1 for _ in range(2))
    blurred = F.avg_pool2d(real, 9, 1, 4, count_include_pad=False)
    for damaged in (blurred, real * 0.7, real.flip(3)):
        assert 0.1 * lite0(other, real) < lite0(damaged, real) < 1.5 * lite0(other, real)


# which of them


@pytest.fixture
def no_way_out(tmp_path, monkeypatch):
    """An empty torch cache; an attempt to download is a failure of the test."""
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("a download was tried"))


def test_auto_takes_what_is_at_hand(no_way_out, weights_file, tmp_path, monkeypatch):
    assert vgg.choose_perceptual(LossConfig()) == "efficientnet_lite0"
    assert vgg.choose_perceptual(LossConfig(vgg_weights=str(weights_file))) == "vgg19"
    with pytest.raises(InputError, match=r"no file .*gone\.pth; the VGG-19 weights were expected there"):
        vgg.choose_perceptual(LossConfig(vgg_weights=str(tmp_path / "gone.pth")))
    monkeypatch.setattr(vgg, "VGG19_WEIGHTS", replace(vgg.VGG19_WEIGHTS, sha256_start=sha256(weights_file)))
    cached = vgg.VGG19_WEIGHTS.cached
    cached.parent.mkdir(parents=True)
    cached.write_bytes(weights_file.read_bytes())
    assert vgg.choose_perceptual(LossConfig()) == "vgg19"
    assert vgg.choose_perceptual(LossConfig(), begun_with="efficientnet_lite0") == "efficientnet_lite0"


def test_a_choice_is_a_choice(no_way_out):
    for name in ("vgg19", "efficientnet_lite0", "none"):
        assert vgg.choose_perceptual(LossConfig(perceptual=name), begun_with="none") == name
        assert vgg.choose_perceptual(LossConfig(perceptual=name, vgg_weight=0)) == "none"


def test_what_is_built(weights_file, no_way_out):
    assert vgg.build_perceptual(LossConfig(perceptual="none")) is None
    lite0 = vgg.build_perceptual(LossConfig(perceptual="efficientnet_lite0", texture_weight=0.5))
    assert isinstance(lite0, vgg.Lite0PerceptualLoss) and lite0.texture == 0.5
    published = vgg.build_perceptual(LossConfig(perceptual="vgg19", vgg_weights=str(weights_file)))
    assert isinstance(published, vgg.PerceptualLoss)


@pytest.mark.parametrize("kind", ["vgg19", "efficientnet_lite0"])
def test_in_mixed_precision_the_network_is_and_the_differences_are_not(kind, weights_file):
    loss = vgg.Lite0PerceptualLoss() if kind == "efficientnet_lite0" else vgg.PerceptualLoss(weights_file)
    fake, real = torch.rand(2, 1, 3, 32, 32) * 2 - 1
    expected, seen = loss(fake, real), []
    first = next(module for module in loss.modules() if isinstance(module, torch.nn.Conv2d))
    first.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    loss.features_of = in_precision(loss.features_of, torch.device("cpu"), "bf16")
    assert all(feature.dtype == torch.float32 for feature in loss.features_of(fake))
    result = loss(fake, real)
    assert {*seen} == {torch.bfloat16} and result.dtype == torch.float32
    torch.testing.assert_close(result, expected, rtol=0.03, atol=0)
