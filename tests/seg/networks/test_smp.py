"""Networks of segmentation_models_pytorch with our heads: any size, trained, stored and read again; names and weights that do not fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seg.model import build_segmenter
from seg.networks.smp import SmpNetwork
from shared.errors import InputError
from tests.small import scenes

pytest.importorskip("segmentation_models_pytorch", reason="needs the extra `models`")
SMALL = [*scenes(classes=300, train=4, val=2), "--train.steps", 2, "--train.batch_size", 2]


@pytest.mark.parametrize("name", ["smp/segformer/mit_b0", "smp/UPerNet/resnet18", "smp/unet/mobilenet_v2"])
def test_any_size(name: str) -> None:
    """The network's own head, on padded images, has the same features in front of it."""
    network = SmpNetwork(name, 5).eval()
    images = torch.randn(1, 3, 50, 71)
    with torch.no_grad():
        features = network(images)
        stride = 1 if "unet" in name else 4
        assert features.shape == (1, 5, -(-50 // stride), -(-71 // stride))
        padded = torch.zeros(1, 3, 64, 96)
        padded[:, :, :50, :71] = network.normalise(images)
        whole = network.project(network.decoder(network.backbone(padded)))
    torch.testing.assert_close(features, whole[:, :, : features.shape[2], : features.shape[3]])


def test_both_heads_and_every_parameter_is_optimised() -> None:
    for head, channels in (("embedding", 12), ("softmax", 7)):
        model = build_segmenter(head=head, backbone="smp/fpn/resnet18", num_classes=7).eval()
        with torch.no_grad():
            assert model(torch.randn(1, 3, 40, 33)).shape == (1, channels, 40, 33)
            assert model.predict(torch.randn(1, 3, 40, 33)).shape == (1, 40, 33)
        counted = len(model.network.head_parameters()) + len(list(model.network.backbone.parameters())) + (head == "embedding")
        assert counted == len(list(model.parameters()))


def test_trained_stored_and_used(tmp_path: Path, invoke: Callable[..., Any]) -> None:
    trained = invoke("seg.train", *SMALL, "--model.backbone", "smp/segformer/mit_b0", "--run_dir", tmp_path / "run")
    assert trained.status == 0, trained.errors
    assert (tmp_path / "run/class_embeddings.safetensors").is_file() and not (tmp_path / "run/encoder.safetensors").exists()
    evaluated = invoke("seg.evaluate", tmp_path / "run")
    assert evaluated.status == 0 and "mIoU" in evaluated.output


def test_the_plan_knows_its_memory(invoke: Callable[..., Any]) -> None:
    plan = invoke("seg.train", *SMALL, "--model.backbone", "smp/upernet/tu-test_efficientnet", "--dry-run")
    assert plan.status == 0, plan.errors
    assert "MiB" in plan.output or "GiB" in plan.output


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smp/segformers/mit_b0", r"unknown architecture 'segformers' \(did you mean segformer\?\); choose one of deeplabv3"),
        ("smp/segformer", "expected smp/<architecture>/<encoder>"),
        ("smp/segformer/resnet19", "refused by segmentation_models_pytorch"),
        ("smp/dpt/resnet18", "refused by segmentation_models_pytorch.*tu-"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SmpNetwork(name, 5)


def test_weights_from_a_file(tmp_path: Path) -> None:
    source = SmpNetwork("smp/unet/resnet18", 5)
    torch.save(source.backbone.state_dict(), tmp_path / "encoder.pth")
    loaded = SmpNetwork("smp/fpn/resnet18", 3, weights=tmp_path / "encoder.pth")
    assert all(torch.equal(one, other) for one, other in zip(source.backbone.parameters(), loaded.backbone.parameters()))
    with pytest.raises(InputError, match=r"encoder\.pth does not hold the encoder of smp/fpn/resnet34"):
        SmpNetwork("smp/fpn/resnet34", 3, weights=tmp_path / "encoder.pth")
    with pytest.raises(InputError, match=r"no file .*none\.pth"):
        SmpNetwork("smp/fpn/resnet34", 3, weights=tmp_path / "none.pth")


def test_settings_that_it_does_not_have() -> None:
    with pytest.raises(InputError, match=r"leave model\.norm batch and model.width null"):
        build_segmenter(head="softmax", backbone="smp/fpn/resnet18", num_classes=3, norm="group")
