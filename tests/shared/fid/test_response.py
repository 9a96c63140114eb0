"""`python -m shared.fid.response`: its files, and that the distance answers to damage."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.backbone import build_backbone
from shared.encoder_file import save_encoder
from shared.errors import InputError
from shared.fid import FeatureStatistics
from shared.fid.distortions import DISTORTIONS
from shared.fid.response import ResponseConfig, growth

SCENES = ["--data.scenes.height", 32, "--data.scenes.width", 64, "--data.num_workers", 0, "--data.scenes.val_length"]


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_encoder(tmp_path / "encoder.safetensors", build_backbone("tiny"), {"backbone": "tiny", "output_stride": 16, "dataset": "town"})
    return tmp_path / "encoder.safetensors"


@pytest.mark.long
def test_fd_lite0_rises_with_every_damage(tmp_path: Path, invoke: Callable[..., Any]) -> None:
    outcome = invoke("shared.fid.response", *SCENES, 16, "--images", 16, "--features", "efficientnet_lite0", "-o", tmp_path / "out")
    assert outcome.status == 0, outcome.errors
    record = json.loads((tmp_path / "out/response.json").read_text())
    floor, *results = record["results"]
    assert (record["dataset"], record["network"]["network"]) == ("scenes-19", "EfficientNet-Lite0")
    assert (floor["damage"], floor["count"]) == ("none", 8)
    assert len(results) == sum(len(strengths) for _, _, strengths in DISTORTIONS.values())
    for damage in DISTORTIONS:
        found = [result for result in results if result["damage"] == damage]
        assert all(result["count"] == 8 for result in found)
        assert found[-1]["distance"] > found[0]["distance"] > floor["distance"], damage
        assert found[-1]["kernel_distance"] > found[0]["kernel_distance"] > floor["kernel_distance"], damage
    page = (tmp_path / "out/response.md").read_text()
    assert "| wrong layout | 0.25 (share of tiles that move) | 8 |" in page
    assert "scenes-19 (val), seed 0" in page and "weights 57934424" in page


def test_growth_with_the_number_of_images() -> None:
    """Of equal distributions: the Fréchet distance falls with it, the kernel distance is about 0 at any."""
    sides = []
    for seed in range(2):
        sides.append(FeatureStatistics(20))
        sides[-1].update(torch.randn(120, 20, generator=torch.Generator().manual_seed(seed)))
    found = growth(*sides, seed=0)
    assert [result.count for result in found] == [25, 50, 100]
    assert found[0].distance > 1.5 * found[1].distance > 2 * found[2].distance > 0
    assert all(abs(result.kernel_distance) < 0.1 * found[0].distance for result in found)


def test_the_same_seed_gives_the_same_figures(encoder: Path, tmp_path: Path, invoke: Callable[..., Any]) -> None:
    found = []
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        command = ["shared.fid.response", *SCENES, 8, "--images", 8, "--features", encoder, "-o", tmp_path / name, "--seed", seed]
        assert invoke(*command).status == 0
        found.append(json.loads((tmp_path / name / "response.json").read_text())["results"])
    assert found[0] == found[1] != found[2]


def test_refusals(encoder: Path, tmp_path: Path, invoke: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="images is 7; it must be at least 8"):
        ResponseConfig(output=tmp_path, images=7)
    refused = invoke("shared.fid.response", *SCENES, 7, "--features", encoder, "-o", tmp_path / "out")
    assert refused.status == 1 and "the val split has 7 images; at least 8 are needed" in refused.errors
    dry = invoke("shared.fid.response", *SCENES, 9, "--features", encoder, "-o", tmp_path / "out", "--dry-run")
    assert dry.status == 0 and "would spoil 4 of 8 images of scenes-19 (val) in 5 ways; FD-seg" in dry.output
    other = invoke(
        "shared.fid.response",
        *SCENES,
        9,
        "--data.scenes.train_length",
        12,
        "--split",
        "train",
        "--features",
        encoder,
        "-o",
        "out",
        "--dry-run",
    )
    assert "would spoil 6 of 12 images of scenes-19 (train)" in other.output
    assert not (tmp_path / "out").exists()
