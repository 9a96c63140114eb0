"""`python -m shared.fid` from its arguments to its lines, its files and its errors."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shared.backbone import build_backbone
from shared.encoder_file import save_encoder
from shared.errors import InputError
from shared.fid import Extractor, FeatureStatistics
from shared.fid.__main__ import FidConfig, main, score
from shared.fid.features import build_feature_network
from shared.fid.folder import find_images, image_statistics, read_ahead
from shared.files.atomic import sha256
from shared.visualise import save_png


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `real/`, `generated/` and `encoder.safetensors`."""
    folder, random = tmp_path_factory.mktemp("inputs"), np.random.default_rng(0)
    for side, top in (("real", 256), ("generated", 128)):
        for index in range(6):
            save_png(random.integers(0, top, (32, 48, 3), np.uint8), folder / side / f"{index}.png")
    torch.manual_seed(0)
    save_encoder(folder / "encoder.safetensors", build_backbone("tiny"), {"backbone": "tiny", "output_stride": 16, "dataset": "park"})
    return folder


@pytest.fixture(autouse=True)
def no_inception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))


def config(inputs: Path, **changes: object) -> FidConfig:
    given = {"real": inputs / "real", "generated": inputs / "generated", "encoder": inputs / "encoder.safetensors", "device": "cpu"}
    return FidConfig(**(given | {"subsets": 5} | changes))  # type: ignore[arg-type]


def test_folders_to_lines_and_json(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score(config(inputs, json=tmp_path / "result.json"))
    description, distance, kernel, infinite, manifold, floor, note = capsys.readouterr().out.splitlines()
    assert "not FID" in description
    assert distance.startswith("FD-seg (tiny encoder ")
    assert "park, D=208, N=6/6): " in distance
    assert kernel.startswith("KD-seg (tiny encoder ")
    assert " ± " in kernel
    assert infinite == "FD-seg∞ (at infinitely many generated images): needs 416 generated images, twice the number of features"
    assert manifold.startswith("precision 0.")
    assert floor.startswith("floor, real half against real half (N=3/3): FD-seg ")
    assert "only at equal N" in note
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["title"], result["dim"], result["count_real"], result["count_generated"]) == ("FD-seg", 208, 6, 6)
    assert result["distance"] > 0
    assert result["weights"] == sha256(inputs / "encoder.safetensors")
    assert (result["resize"], result["infinite_distance"], result["floor"]["count"]) == ("none", None, 3)
    assert 0 < result["floor"]["distance"] < result["distance"]
    assert result["manifold"].keys() == {"precision", "recall", "density", "coverage"}
    assert f"{result['distance']:.4f}" in distance


def test_saved_statistics_give_the_same_result(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score(config(inputs, save_statistics=tmp_path / "real.npz"))
    first = capsys.readouterr().out
    score(config(inputs, real=tmp_path / "real.npz"))
    assert capsys.readouterr().out == first


def test_statistics_of_other_weights_or_sizes_are_refused(inputs: Path, tmp_path: Path) -> None:
    score(config(inputs, save_statistics=tmp_path / "real.npz"))
    for name, message in (("weights", "features: weights 0123 and "), ("resize", "features: resize 0123 and none")):
        with np.load(tmp_path / "real.npz") as stored:
            np.savez(tmp_path / f"{name}.npz", **(dict(stored) | {name: np.array("0123")}))
        with pytest.raises(InputError, match=message):
            score(config(inputs, real=tmp_path / f"{name}.npz"))


def test_real_images_are_read_once(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The cache follows the content: it answers for a copy, and not for a changed picture or another encoder."""
    real, cache = tmp_path / "copy", tmp_path / "cache"
    shutil.copytree(inputs / "real", real)
    score(config(inputs, cache=cache))
    first = capsys.readouterr()
    score(config(inputs, real=real, cache=cache))
    again = capsys.readouterr()
    assert again.out == first.out
    assert "real: 100%" in first.err and "copy: " not in again.err
    assert len(list(cache.iterdir())) == 1
    save_png(np.zeros((32, 48, 3), np.uint8), real / "0.png")
    score(config(inputs, real=real, cache=cache))
    changed = capsys.readouterr()
    assert "copy: 100%" in changed.err and changed.out != first.out
    save_encoder(tmp_path / "e.safetensors", build_backbone("tiny"), {"backbone": "tiny", "output_stride": 16, "dataset": "park"})
    score(config(inputs, encoder=tmp_path / "e.safetensors", cache=cache))
    assert len(list(cache.iterdir())) == 3


def test_a_damaged_cache_is_made_again(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score(config(inputs, cache=tmp_path / "cache"))
    first = capsys.readouterr().out
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    score(config(inputs, cache=tmp_path / "cache"))
    assert capsys.readouterr().out == first
    assert FeatureStatistics.load(file).count == 6


def test_without_features_only_the_frechet_distance(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score(config(inputs, json=tmp_path / "with.json"))
    capsys.readouterr()
    score(config(inputs, statistics_only=True, json=tmp_path / "without.json"))
    _, _, kernel, _ = capsys.readouterr().out.splitlines()
    assert kernel == "KD-seg: needs the features of both sides, which are not there"
    given, alone = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("with", "without"))
    assert alone["distance"] == pytest.approx(given["distance"], rel=1e-4)
    assert alone["manifold"] is alone["floor"] is None


def test_a_set_has_distance_zero_to_itself(inputs: Path, tmp_path: Path) -> None:
    score(config(inputs, generated=inputs / "real", json=tmp_path / "result.json"))
    assert json.loads((tmp_path / "result.json").read_text())["distance"] == pytest.approx(0, abs=1e-9)


def test_dry_run_says_what_it_would_do(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score(config(inputs, dry_run=True, json=tmp_path / "result.json"))
    assert f"would compare 6 images of {inputs / 'real'} with 6 images of" in capsys.readouterr().out
    assert not (tmp_path / "result.json").exists()


def test_two_files_of_pytorch_fid_need_no_network(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shared.fid.sides.INCEPTION_DIM", 16)  # 2048 take seconds
    for name, shift in (("a", 0.0), ("b", 0.5)):
        np.savez(tmp_path / f"{name}.npz", mu=np.full(16, shift), sigma=np.eye(16))
    score(config(inputs, real=tmp_path / "a.npz", generated=tmp_path / "b.npz", encoder=None))
    distance, kernel = capsys.readouterr().out.splitlines()
    assert distance == "FID (Inception-2015, D=16, N=not recorded/not recorded): 4.0000"
    assert kernel == "KID: needs the features of both sides, which are not there"


def test_statistics_of_another_network_are_refused(inputs: Path, tmp_path: Path) -> None:
    for name, network, dim in (("other", "resnet50 encoder", 208), ("unnamed", "", 208), ("inception", "Inception-2015", 2048)):
        statistics = FeatureStatistics(dim, extractor=Extractor(network))
        statistics.update(torch.randn(3, dim))
        statistics.save(tmp_path / f"{name}.npz")
    for name, message in {
        "other": "other.npz and the images .* differ in their features: network resnet50 encoder and tiny encoder",
        "unnamed": "unnamed.npz does not tell its network and has 208 features; 2048 were expected",
        "inception": "network Inception-2015 and tiny encoder",
    }.items():
        with pytest.raises(InputError, match=message):
            score(config(inputs, real=tmp_path / f"{name}.npz"))


def test_sets_of_different_size_are_remarked(inputs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for index in range(2):
        save_png(np.zeros((16, 24, 3), np.uint8), tmp_path / "small" / f"{index}.png")
    score(config(inputs, generated=tmp_path / "small"))
    assert "real: 32 × 48; " in caplog.text and "small: 16 × 24)" in caplog.text


def test_mistakes_are_told_before_any_work(inputs: Path, tmp_path: Path) -> None:
    save_png(np.zeros((16, 24, 3), np.uint8), tmp_path / "single" / "0.png")
    with pytest.raises(InputError, match="single holds 1 image"):
        score(config(inputs, generated=tmp_path / "single"))
    with pytest.raises(InputError, match="weights and encoder are both given"):
        config(inputs, weights=tmp_path / "weights.pth")
    with pytest.raises(InputError, match="batch_size is 0"):
        config(inputs, batch_size=0)
    with pytest.raises(InputError, match=r"cannot be downloaded \(no network in tests\).* --weights, or give an encoder with --encoder"):
        score(config(inputs, encoder=None))


def test_the_program(inputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [inputs / "real", inputs / "generated", "--encoder", inputs / "encoder.safetensors", "--device", "cpu"]
    monkeypatch.setattr("sys.argv", ["shared.fid", *map(str, arguments)])
    main()
    assert "FD-seg (tiny encoder" in capsys.readouterr().out


def damaged(folder: Path, kind: str) -> Path:
    """A folder with what `kind` says, after two images that are right."""
    for index in range(2):
        save_png(np.full((32, 48, 3), 40 * index, np.uint8), folder / f"{index}.png")
    if kind == "nothing":
        for file in folder.iterdir():
            file.unlink()
    if kind == "one image":
        (folder / "1.png").unlink()
    if kind == "cut short":
        (folder / "2.png").write_bytes((folder / "1.png").read_bytes()[:60])
    if kind == "no image":
        (folder / "2.png").write_text("a text")
    if kind == "16 bits":
        Image.fromarray(np.full((32, 48), 3000, np.uint16)).save(folder / "2.png")
    return folder


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nothing", "no image (.png/.jpg/"),
        ("one image", "holds 1 image; a distance between distributions needs at least 2"),
        ("cut short", "2.png: "),
        ("no image", "2.png: "),
        ("16 bits", "2.png has pixels of mode I;16; images need 8 bits per channel: convert it to 8-bit RGB"),
    ],
)
def test_folders_that_cannot_be_compared(inputs: Path, tmp_path: Path, kind: str, message: str, invoke: Callable[..., Any]) -> None:
    """On either side: one line that names the file, status 1, and no result."""
    wrong, output = damaged(tmp_path / "wrong", kind), ["--encoder", inputs / "encoder.safetensors", "--json", "result.json"]
    for sides in ((wrong, inputs / "generated"), (inputs / "real", wrong)):
        outcome = invoke("shared.fid", *sides, *output, "--cache", "cache")
        errors = [line for line in outcome.errors.replace("\r", "\n").splitlines() if line.startswith("error: ")]
        assert outcome.status == 1 and len(errors) == 1 and "Traceback" not in outcome.errors
        assert str(wrong) in errors[0] and message in errors[0]
        assert not Path("result.json").exists()
        assert not Path("cache").exists() or len(list(Path("cache").iterdir())) == 1  # of the side that is right


def test_palettes_grey_and_mixed_sizes_are_images_too(inputs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    colours = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8))
    folder.mkdir()
    colours.quantize(16).save(folder / "a.png")
    colours.quantize(16).convert("RGB").save(folder / "b.png")
    colours.convert("L").resize((40, 20)).save(folder / "c.png")
    score(config(inputs, generated=folder, save_statistics=None, json=tmp_path / "result.json", statistics_only=True))
    assert json.loads((tmp_path / "result.json").read_text())["count_generated"] == 3
    network = build_feature_network(str(inputs / "encoder.safetensors"))
    palette, plain, _ = image_statistics(network, read_ahead(find_images(folder), 2), total=3).features  # type: ignore[misc]
    torch.testing.assert_close(palette, plain)


@pytest.mark.parametrize("arguments", [["nowhere", "generated"], ["real"], ["real", "generated", "--speed", "3"]])
def test_the_program_gives_one_line_for_a_mistake(
    inputs: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(inputs)
    monkeypatch.setattr("sys.argv", ["shared.fid", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    printed = capsys.readouterr()
    assert (stopped.value.code, printed.out) == (1, "")
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
