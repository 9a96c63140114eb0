"""Diversity: a mean over pairs and layouts, and a distance between images that sees where things are."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision import models

from shared.backbone import build_backbone
from shared.encoder_file import save_encoder
from shared.fid.diversity import Lpips, PairDistance, build_pair_distance, diversity

CPU = torch.device("cpu")


class RedDifference(PairDistance):
    """|mean red of a − mean red of b|, whose means are known."""

    title = "red"

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a[:, 0] - b[:, 0]).mean((1, 2)).abs()


def shades(*reds: int) -> Tensor:
    return torch.tensor(reds, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 6)


def test_every_two_images_of_a_layout_count_once() -> None:
    found = diversity([shades(0, 51, 255), shades(51, 51, 51)], RedDifference())
    first = (0.2 + 1.0 + 0.8) / 3
    assert (found.title, found.layouts, found.samples) == ("red", 2, 3)
    assert found.value == pytest.approx(first / 2)
    assert found.deviation == pytest.approx(first / 2)


def test_the_encoder_takes_the_place_of_lpips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    assert build_pair_distance(None, CPU) is None
    torch.manual_seed(0)
    save_encoder(tmp_path / "e.safetensors", build_backbone("tiny"), {"backbone": "tiny", "output_stride": 16, "dataset": "park"})
    distance = build_pair_distance(tmp_path / "e.safetensors", CPU)
    assert distance is not None and distance.title == "PD-seg"
    image = torch.rand(1, 3, 32, 48)
    same, mirrored, near = (distance(image, other).item() for other in (image, image.flip(3), (image + 0.02).clamp(max=1)))
    assert same == 0
    assert 0 < near < mirrored  # the same colours in other places are another image


@pytest.mark.slow
def test_lpips_where_alexnet_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights in the cache, which torchmetrics takes from there; 0 for equal images, more for what differs more."""
    pytest.importorskip("torchmetrics", reason="the extra lpips is not installed")
    torch.manual_seed(0)
    state = models.alexnet().state_dict()
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_, **__: state)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: state)
    monkeypatch.setattr("shared.files.weights.WeightsFile.find", lambda *_, **__: tmp_path)
    distance = build_pair_distance(None, CPU)
    assert isinstance(distance, Lpips)
    image, other = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    assert torch.allclose(distance(image, image), torch.zeros(2), atol=1e-6)
    assert (distance(image, 0.9 * image + 0.1 * other) < distance(image, other)).all()
