"""The encoders: shapes and strides, dilation, and where their weights come from."""

from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision import models

from shared.backbone import _IMAGENET_WEIGHTS, PRETRAINED_BATCH_NORM_MOMENTUM, build_backbone, normalisation
from shared.errors import InputError
from shared.files.atomic import sha256
from shared.files.weights import WeightsFile

NAMES = ["tiny", "mobilenet_v2", "resnet50", "resnet101"]


@pytest.fixture
def offline_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty torch hub cache, and no network."""

    def refuse(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    previous = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path))
    yield tmp_path / "checkpoints"
    torch.hub.set_dir(previous)


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", NAMES)
def test_features_have_the_stated_channels_and_strides(name: str, output_stride: int) -> None:
    backbone = build_backbone(name, output_stride=output_stride).eval()
    with torch.no_grad():
        features = backbone(torch.randn(1, 3, 50, 70))
    assert backbone.strides[-1] == output_stride and backbone.strides[backbone.low_level_index] == 4
    assert [tuple(feature.shape) for feature in features] == [
        (1, channels, -(-50 // stride), -(-70 // stride)) for channels, stride in zip(backbone.channels, backbone.strides)
    ]


@pytest.mark.parametrize(("name", "network"), [("mobilenet_v2", models.mobilenet_v2), ("resnet50", models.resnet50)])
def test_dilation_samples_the_undilated_features_more_densely(name: str, network: type[nn.Module], tmp_path: Path) -> None:
    """Every second position of the first dilated convolution's stage input is what torchvision's strided network computes there."""
    original = network()
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    dense = build_backbone(name, output_stride=8, weights=tmp_path / "weights.pth").eval()
    coarse = build_backbone(name, output_stride=16, weights=tmp_path / "weights.pth").eval()
    with torch.no_grad():
        images = torch.randn(1, 3, 64, 64)
        torch.testing.assert_close(dense(images)[3][:, :, ::2, ::2], coarse(images)[3], rtol=1e-4, atol=1e-4)


def test_tiny_is_tiny() -> None:
    assert 0.3e6 < sum(parameter.numel() for parameter in build_backbone("tiny").parameters()) < 0.5e6


def test_group_norm_has_groups_of_sixteen_channels_where_they_divide() -> None:
    make = normalisation("group")
    assert [make(channels).num_groups for channels in (48, 256, 24, 12)] == [3, 16, 1, 1]
    norms = [module for module in build_backbone("mobilenet_v2", norm="group").modules() if isinstance(module, nn.BatchNorm2d)]
    assert not norms


def test_weights_from_a_file_without_classifier(tmp_path: Path) -> None:
    state = {key: value for key, value in models.mobilenet_v2().state_dict().items() if not key.startswith("classifier")}
    torch.save(state, tmp_path / "weights.pth")
    for norm in ("batch", "group"):
        backbone = build_backbone("mobilenet_v2", weights=tmp_path / "weights.pth", norm=norm)
        torch.testing.assert_close(backbone.stages[0][0][0].weight, state["features.0.0.weight"])
    momenta = {
        module.momentum
        for module in build_backbone("mobilenet_v2", weights=tmp_path / "weights.pth").modules()
        if isinstance(module, nn.BatchNorm2d)
    }
    assert momenta == {PRETRAINED_BATCH_NORM_MOMENTUM}


def test_tiny_weights_from_its_own_state(tmp_path: Path) -> None:
    trained = build_backbone("tiny")
    torch.save(trained.state_dict(), tmp_path / "tiny.pth")
    loaded = build_backbone("tiny", weights=tmp_path / "tiny.pth")
    for key, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, trained.state_dict()[key])


def test_cached_weights_need_no_network(offline_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = models.mobilenet_v2().state_dict()
    offline_hub.mkdir(parents=True)
    torch.save(state, offline_hub / "made.pth")
    published = WeightsFile("made weights", "https://example.org/made.pth", "--none", sha256_start=sha256(offline_hub / "made.pth"))
    monkeypatch.setitem(_IMAGENET_WEIGHTS, "mobilenet_v2", published)
    backbone = build_backbone("mobilenet_v2", pretrained=True)
    assert torch.equal(backbone.stages[0][0][0].weight, state["features.0.0.weight"])


def test_missing_weights_say_what_to_put_where(offline_hub: Path) -> None:
    with pytest.raises(InputError) as caught:
        build_backbone("resnet50", pretrained=True)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("https://download.pytorch.org/models/resnet50-0676ba61.pth", str(offline_hub / "resnet50-0676ba61.pth"), "weights"):
        assert part in message


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown backbone 'vgg'; choose one of tiny, mobilenet_v2, resnet50, resnet101"):
        build_backbone("vgg")
    with pytest.raises(InputError, match="output stride 32 is not supported; choose 8 or 16"):
        build_backbone("tiny", output_stride=32)
    with pytest.raises(InputError, match="unknown norm 'layer'; choose one of batch, sync, group"):
        build_backbone("tiny", norm="layer")
    with pytest.raises(InputError, match="no ImageNet weights for the backbone 'tiny'"):
        build_backbone("tiny", pretrained=True)
    with pytest.raises(InputError, match=r"no file .*absent\.pth"):
        build_backbone("tiny", weights=tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(InputError, match=r"cannot read .*text\.pth: it is damaged or no"):
        build_backbone("tiny", weights=tmp_path / "text.pth")
    torch.save(build_backbone("tiny").state_dict(), tmp_path / "tiny.pth")
    with pytest.raises(InputError, match=r"tiny\.pth does not fit the backbone 'mobilenet_v2': .* tensors are missing"):
        build_backbone("mobilenet_v2", weights=tmp_path / "tiny.pth")
