"""Exported segmenters answer in onnxruntime and in torch.export's programs what the network answers, for other sizes and classes too."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seg.config import ModelConfig
from seg.export import portable_segmenter
from seg.model import Segmenter
from seg.trained import TrainedSegmenter, segmenter_from
from shared.data.spec import DatasetSpec
from shared.errors import InputError
from shared.files.graph_file import Portable, write_onnx, write_program

onnxruntime = pytest.importorskip("onnxruntime", reason="extra export is not installed")
CLASSES = 7
IMAGES = torch.rand(1, 3, 65, 50, generator=torch.Generator().manual_seed(1))


def made(head: str, form: str, backbone: str = "tiny") -> tuple[Segmenter, Portable]:
    torch.manual_seed(0)
    model = segmenter_from(head, CLASSES, ModelConfig(backbone=backbone, width=16)).eval()
    names, palette = tuple("abcdefg"), np.zeros((CLASSES, 3), np.uint8)
    return model, portable_segmenter(TrainedSegmenter(model, DatasetSpec("made", names, palette), {"step": 5}), form)


def in_onnxruntime(path: Path, **inputs: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})[0])


@pytest.mark.long
@pytest.mark.slow
def test_labels_with_the_trained_and_with_other_classes(tmp_path: Path) -> None:
    model, portable = made("embedding", "labels")
    assert write_onnx(portable, tmp_path / "a.onnx") == 0
    write_program(portable, tmp_path / "a.pt2")
    program = torch.export.load(tmp_path / "a.pt2").module()
    expected = model.predict(IMAGES)
    assert torch.equal(in_onnxruntime(tmp_path / "a.onnx", images=IMAGES), expected) and len(expected.unique()) > 1
    assert torch.equal(program(images=IMAGES, class_embeddings=model.class_embeddings), expected)
    with torch.no_grad():
        pixels = model(IMAGES).flatten(2)[0].T
    others = 3 * pixels[::900]  # four of the pixels stand for classes, whose vectors are longer than 1
    nearest = torch.cdist(pixels, others / 3).argmin(1).view(1, 65, 50)
    for labels in (
        in_onnxruntime(tmp_path / "a.onnx", images=IMAGES, class_embeddings=others),
        program(images=IMAGES, class_embeddings=others),
    ):
        assert (labels == nearest).float().mean() > 0.999 and len(labels.unique()) > 1
    about = onnxruntime.InferenceSession(tmp_path / "a.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(about["class_names"]) == list("abcdefg") and json.loads(about["step"]) == 5


@torch.no_grad()
@pytest.mark.parametrize("head", ["embedding", "softmax"])
def test_scores_are_those_of_an_ordinary_network(head: str) -> None:
    model, portable = made(head, "scores")
    scores = portable.network(IMAGES)
    assert scores.shape == (1, CLASSES, 65, 50)
    assert (scores.argmax(1) == model.predict(IMAGES)).float().mean() > 0.999


@pytest.mark.long
@pytest.mark.slow
@torch.no_grad()
def test_the_lite0_encoder_in_onnxruntime_at_any_size(tmp_path: Path) -> None:
    """Its convolutions pad as TensorFlow does, by a number that follows from the size of the image. Of every stage here one block."""
    model, portable = made("embedding", "scores", "efficientnet_lite0")
    for stage in model.network.backbone.network.network.blocks:
        del stage[1:]
    assert write_onnx(portable, tmp_path / "a.onnx") < 1e-4
    for images in (IMAGES, IMAGES[:, :, :48, :47]):
        expected = portable.network(images)
        torch.testing.assert_close(in_onnxruntime(tmp_path / "a.onnx", images=images), expected, rtol=1e-3, atol=1e-4)
        assert (expected.argmax(1) == model.predict(images)).float().mean() > 0.999


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"an ONNX file needs onnxscript: pip install 'essnet-spade\[export\]'"):
        write_onnx(made("softmax", "labels")[1], tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_programs_say_what_they_would_write(tmp_path: Path, invoke: Callable[..., Any]) -> None:
    refused = invoke("synth.export", tmp_path)
    assert refused.status == 1 and "give --onnx FILE, --program FILE or both" in refused.errors
