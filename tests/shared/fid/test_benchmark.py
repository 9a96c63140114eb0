"""The same files, weights and features in our code and in pytorch-fid's: the benchmark's measurements, on small work."""

import json
from pathlib import Path

import pytest
import torch

from shared.backbone import build_backbone
from shared.encoder_file import save_encoder
from shared.fid.benchmark import BenchmarkConfig, benchmark, measure_distance, measure_extraction, result_table
from shared.fid.made_weights import write_made_weights


@pytest.mark.long
@pytest.mark.slow
def test_features_of_files_are_those_of_pytorch_fid(tmp_path: Path) -> None:
    """Batches of 2 and 1; the means are equal but for the rounding of float32 in another order of the sums."""
    write_made_weights(tmp_path / "weights.pth")
    config = BenchmarkConfig(images=3, size=(20, 30), batch_size=2, workers=0)
    measured = measure_extraction(config, tmp_path / "weights.pth", tmp_path / "images", torch.device("cpu"))
    assert measured.difference is not None and measured.difference < 1e-5
    assert len(list((tmp_path / "images").iterdir())) == 3


@pytest.mark.filterwarnings("ignore:The `disp` argument")
def test_the_distance_is_that_of_pytorch_fid() -> None:
    measured = measure_distance(400, seed=3, dim=64)
    if measured.failure:
        pytest.skip(measured.failure)
    assert measured.difference is not None and measured.difference < 1e-6
    assert result_table([measured]).rows[0][0] == "distance of 400 and 400 features"


def test_other_features_have_no_rival(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_encoder(tmp_path / "e.safetensors", build_backbone("tiny"), {"backbone": "tiny", "output_stride": 16, "dataset": "park"})
    given = {"features": str(tmp_path / "e.safetensors"), "images": 2, "size": (32, 32), "counts": [], "device": "cpu"}
    benchmark(BenchmarkConfig(json=tmp_path / "figures.json", **given))  # type: ignore[arg-type]
    assert "pytorch-fid does not have the features of tiny encoder" in capsys.readouterr().out
    (result,) = json.loads((tmp_path / "figures.json").read_text())["results"]
    assert result["ours"] > 0 and result["theirs"] is None
    assert not (tmp_path / "benchmark.md").exists()
    benchmark(BenchmarkConfig(output=tmp_path / "out", **given))  # type: ignore[arg-type]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"benchmark.json", "benchmark.md"}
