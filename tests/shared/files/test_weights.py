"""Weights of others: what is found, downloaded, taken out of its wrapping, and refused in one line."""

import hashlib
import logging
import urllib.error
from pathlib import Path

import pytest
import torch
from pytorch_fid.inception import FID_WEIGHTS_URL
from torchvision import models

from shared import backbone
from shared.errors import InputError
from shared.fid.features import INCEPTION_WEIGHTS
from shared.files.weights import WeightsFile, WeightsUnavailable, read_state_dict
from synth.training.perceptual import VGG19_WEIGHTS

CONTENT = b"numbers"
DIGEST = hashlib.sha256(CONTENT).hexdigest()[:8]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))


def served(tmp_path: Path, content: bytes = CONTENT, **others: bool) -> WeightsFile:
    """A file that can be downloaded."""
    (tmp_path / f"net-{DIGEST}.pth").write_bytes(content)
    return WeightsFile("the weights of a net", (tmp_path / f"net-{DIGEST}.pth").as_uri(), "--weights FILE", **others)


def test_a_right_download_is_kept(tmp_path: Path) -> None:
    weights = served(tmp_path)
    assert weights.find() == weights.cached == tmp_path / f"hub/checkpoints/net-{DIGEST}.pth"
    assert weights.cached.read_bytes() == CONTENT
    (tmp_path / f"net-{DIGEST}.pth").unlink()
    assert weights.find() == weights.cached  # without the network


def test_a_wrong_download_is_not_kept(tmp_path: Path) -> None:
    weights = served(tmp_path, b"a proxy's login page")
    with pytest.raises(
        InputError, match=f"does not hold the weights of a net: its SHA-256 begins .*{DIGEST} was expected; replace it by file:"
    ):
        weights.find()
    assert not list(weights.cached.parent.iterdir())


def test_what_is_missing_says_which_file_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = served(tmp_path)
    for download in (True, False):
        monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: (_ for _ in ()).throw(urllib.error.URLError("no network here")))
        with pytest.raises(WeightsUnavailable) as caught:
            weights.find(download=download)
        said = str(caught.value)
        assert f"put {weights.url} there, or name the file with --weights FILE" in said and str(weights.cached) in said
        assert ("no network here" in said) == download
    with pytest.raises(InputError, match=r"no file .*gone.pth; the weights of a net were expected there: file:"):
        weights.find(tmp_path / "gone.pth")


def test_the_cached_file_is_checked_and_a_file_of_ones_own_only_where_it_must_be_this_one(tmp_path: Path) -> None:
    weights = served(tmp_path)
    weights.find().write_bytes(b"cut short")
    with pytest.raises(InputError, match=f"hub/checkpoints/net-{DIGEST}.pth is damaged"):
        weights.find()
    (tmp_path / "own.pth").write_bytes(b"trained at home")
    assert weights.find(tmp_path / "own.pth") == tmp_path / "own.pth"
    with pytest.raises(InputError, match=r"own\.pth is damaged or does not hold"):
        served(tmp_path, only_this=True).find(tmp_path / "own.pth")


def test_addresses_are_those_of_the_publishers() -> None:
    assert INCEPTION_WEIGHTS.url == FID_WEIGHTS_URL
    assert VGG19_WEIGHTS.url == models.VGG19_Weights.IMAGENET1K_V1.url
    for name, weights in backbone._IMAGENET_WEIGHTS.items():
        assert weights.url == models.get_model_weights(name).IMAGENET1K_V1.url


STATE = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)}


@pytest.mark.parametrize(
    ("content", "taken"),
    [
        (STATE, None),
        ({f"module.{key}": value for key, value in STATE.items()}, "without 'module.'"),
        ({"state_dict": STATE, "epoch": 3}, "state_dict"),
        (
            {"model_state_dict": {f"module.{key}": value for key, value in STATE.items()}, "optimizer": {"state": {}}},
            "model_state_dict, without 'module.'",
        ),
        ({"model": {"ema": {f"_orig_mod.{key}": value for key, value in STATE.items()}}}, "model, ema, without '_orig_mod.'"),
    ],
)
def test_state_dicts_are_taken_out_of_their_wrapping(
    content: object, taken: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with caplog.at_level(logging.WARNING):
        state = read_state_dict(tmp_path / "weights.pth")
    assert state.keys() == STATE.keys() and all(torch.equal(state[key], STATE[key]) for key in STATE)
    assert caplog.messages == ([] if taken is None else [f"{tmp_path / 'weights.pth'}: took the 2 tensors of {taken}"])


class Code:
    """Something that would run at unpickling."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], r"holds a list of 2 entries; tensors by name \(a state dict\) were expected"),
        (torch.zeros(3), r"holds one tensor of shape \(3,\)"),
        ({"epoch": 3, "lr": 0.1}, r"holds a mapping of 2 entries \(epoch, lr\)"),
        ({}, r"holds a mapping of 0 entries"),
        (7, "holds a int"),
        (Code(), r"it holds code \(.*print\), which is not run"),
    ],
)
def test_anything_else_is_one_line_that_says_what_it_is(
    content: object, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=rf"weights\.pth:? .*{said}|{said}") as caught:
        read_state_dict(tmp_path / "weights.pth")
    assert "\n" not in str(caught.value) and capsys.readouterr().out == ""


def test_files_that_are_no_weights_files(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("a page that says: not found")
    with pytest.raises(InputError, match=r"cannot read .*text\.pth: it is damaged or no \.pth file"):
        read_state_dict(tmp_path / "text.pth")
    with pytest.raises(InputError, match=r"no file .*gone\.pth"):
        read_state_dict(tmp_path / "gone.pth")
