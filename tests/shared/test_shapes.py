"""What a network cannot compute is known from shapes alone, agrees with what really happens, and leaves the network as it was."""

import pytest
import torch
from torch import Tensor, nn

import shared.shapes
from seg.model import build_segmenter
from shared.joint_norm import JointBatchNorm
from shared.shapes import shape_obstacle

ONE_VALUE, VANISH = "sees one value per channel", "features vanish"


@pytest.mark.parametrize(
    ("backbone", "options", "shape", "expected"),
    [
        ("tiny", {}, (1, 16, 16), ONE_VALUE),
        ("tiny", {}, (2, 16, 16), None),
        ("tiny", {}, (1, 17, 16), None),
        ("tiny", {"norm": "group"}, (1, 16, 16), None),
        ("tiny", {"output_stride": 8}, (1, 8, 8), ONE_VALUE),
        ("mobilenet_v2", {}, (1, 9, 9), ONE_VALUE),
        ("resnet50", {"output_stride": 8}, (1, 16, 16), None),
        ("smp/deeplabv3plus/resnet18", {}, (1, 64, 64), ONE_VALUE),
        ("smp/upernet/resnet18", {}, (1, 64, 96), ONE_VALUE),
        ("smp/upernet/resnet18", {}, (2, 64, 96), None),
        ("smp/unet/resnet18", {}, (1, 20, 31), ONE_VALUE),
        ("smp/pan/resnet18", {}, (2, 64, 64), VANISH),
        ("smp/pan/resnet18", {}, (2, 128, 128), None),
    ],
)
def test_it_agrees_with_a_real_pass(backbone: str, options: dict[str, object], shape: tuple[int, int, int], expected: str | None) -> None:
    model = build_segmenter(head="softmax", backbone=backbone, num_classes=3, **options)  # type: ignore[arg-type]
    count, *size = shape
    images = torch.rand(count, 3, *size)
    found = shape_obstacle(model, images.shape, training=True, upsample=False)
    if expected is None:
        assert found is None
        model.train()(images)
    else:
        assert found is not None and expected in found and "would do" in found
        with pytest.raises((ValueError, RuntimeError)):
            model.train()(images)


def test_the_network_stays_as_it_was() -> None:
    model = build_segmenter(head="embedding", backbone="tiny", num_classes=3)
    model.network.pyramid.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    torch.manual_seed(0)
    assert shape_obstacle(model, (1, 3, 8, 8), training=True, upsample=False) is not None
    drawn = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(3), drawn)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_evaluation_takes_no_statistics_of_the_batch() -> None:
    model = build_segmenter(head="softmax", backbone="tiny", num_classes=3)
    assert shape_obstacle(model, (1, 3, 1, 1), training=False, upsample=False) is None


def test_instance_normalisation_needs_more_than_a_pixel() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.InstanceNorm2d(4))
    assert "instance normalisation 1 sees one value per channel" in str(shape_obstacle(layers, (8, 3, 2, 2), training=False))
    assert "images of 4x4 would do" in str(shape_obstacle(layers, (8, 3, 2, 2), training=True))
    assert shape_obstacle(layers, (1, 3, 2, 4), training=True) is None


def test_joint_statistics_are_those_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = nn.Sequential(nn.AdaptiveAvgPool2d(1), JointBatchNorm(3))
    assert "2 images would do" in str(shape_obstacle(layers, (1, 3, 8, 8), training=True))
    monkeypatch.setattr(shared.shapes, "world_size", lambda: 2)
    assert shape_obstacle(layers, (1, 3, 8, 8), training=True) is None
    alone = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3))
    assert shape_obstacle(alone, (1, 3, 8, 8), training=True) is not None


def test_nothing_is_said_of_what_shapes_do_not_tell() -> None:
    class LooksAtValues(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.max() > 0 else x[:0]

    assert shape_obstacle(LooksAtValues(), (1, 3, 8, 8), training=True) is None
