"""Weights of others in whatever a training program saves them: every reader of .pth files takes them, or says in one line what came."""

import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from seg.networks.smp import SmpNetwork
from shared.backbone import build_backbone
from shared.errors import InputError
from shared.fid.features import load_headless
from synth.checkpoints import load_official_discriminator, load_official_encoder, load_official_generator, official_state
from synth.discriminator import MultiscaleDiscriminator
from synth.encoder import StyleEncoder
from synth.generator import SpadeGenerator
from synth.semantics import build_semantics
from synth.training.perceptual import PerceptualLoss

State = dict[str, Tensor]


def backbone() -> tuple[State, Callable[[Path], nn.Module]]:
    return models.mobilenet_v2().state_dict(), lambda path: build_backbone("mobilenet_v2", weights=path)


def smp_encoder() -> tuple[State, Callable[[Path], nn.Module]]:
    state = SmpNetwork("smp/unet/timm-mobilenetv3_small_minimal_100", 5).backbone.state_dict()
    return state, lambda path: SmpNetwork("smp/fpn/timm-mobilenetv3_small_minimal_100", 3, weights=path).backbone


def vgg() -> tuple[State, Callable[[Path], nn.Module]]:
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in models.vgg19().state_dict().items() if key.startswith("features")}
    # all values of a tensor are one number in the file, which stays small
    return {key: torch.rand(1).expand(shape) for key, shape in shapes.items()}, PerceptualLoss


def classifier() -> tuple[State, Callable[[Path], nn.Module]]:
    return models.shufflenet_v2_x0_5().state_dict(), lambda path: load_headless("shufflenet_v2_x0_5", path)[0]


def generator() -> tuple[State, Callable[[Path], nn.Module]]:
    network = SpadeGenerator(build_semantics("onehot", 3), image_size=(32, 64), width=2, hidden=4)
    return official_state(network), lambda path: load_official_generator(path, crop_size=64, aspect_ratio=2, upsampling="normal")


def discriminator() -> tuple[State, Callable[[Path], nn.Module]]:
    return official_state(MultiscaleDiscriminator(build_semantics("onehot", 3), width=2)), load_official_discriminator


def style_encoder() -> tuple[State, Callable[[Path], nn.Module]]:
    return StyleEncoder(image_size=128, width=2, z_dim=4).state_dict(), load_official_encoder


READERS = tuple(cache(reader) for reader in (backbone, smp_encoder, vgg, classifier, generator, discriminator, style_encoder))
WRAPPED: dict[str, Callable[[State], object]] = {
    "module.": lambda state: {f"module.{key}": value for key, value in state.items()},
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model, 'net.'": lambda state: {"model": {f"net.{key}": value for key, value in state.items()}, "optimizer": {}},
    "ema, beside another network": lambda state: {
        "ema": {f"module.backbone.{key}": value for key, value in state.items()} | {"module.head.weight": torch.zeros(3)}
    },
    "model_state, compiled": lambda state: {"model_state": {f"_orig_mod.encoder.{key}": value for key, value in state.items()}},
}
NONE: dict[str, tuple[object, str]] = {
    "a list": ([1, 2], "holds a list of 2 entries"),
    "a tensor": (torch.zeros(3), r"holds one tensor of shape \(3,\)"),
    "settings": ({"lr": 0.1, "epoch": 3}, r"holds a mapping of 2 entries \(lr, epoch\)"),
    "nothing": ({}, "holds a mapping of 0 entries"),
    "another network": ({"a.weight": torch.zeros(2, 3)}, "weights.pth"),
}


@pytest.mark.parametrize("reader", READERS)
def test_what_training_programs_save_is_taken(
    reader: Callable[[], tuple[State, Callable[[Path], nn.Module]]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state, load = reader()
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    expected = load(path).state_dict()
    for name, wrap in WRAPPED.items():
        torch.save(wrap(state), path)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = load(path).state_dict()
        assert all(torch.equal(found[key], expected[key]) for key in expected), name
        assert len(caplog.messages) == 1 and "weights.pth: took the" in caplog.messages[0], name


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", NONE)
def test_anything_else_is_one_line(reader: Callable[[], tuple[State, Callable[[Path], nn.Module]]], kind: str, tmp_path: Path) -> None:
    _, load = reader()
    content, told = NONE[kind]
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=told) as caught:
        load(tmp_path / "weights.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", READERS)
def test_two_of_them_are_not_chosen_from(reader: Callable[[], tuple[State, Callable[[Path], nn.Module]]], tmp_path: Path) -> None:
    state, load = reader()
    torch.save({f"{name}.{key}": value for key, value in state.items() for name in ("student", "teacher")}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"weights\.pth holds the tensors that are wanted 2 times, under student\., teacher\.; keep one"):
        load(tmp_path / "weights.pth")
