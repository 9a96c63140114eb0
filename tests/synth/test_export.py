"""Exported generators make in onnxruntime, and in torch.export's programs, the images that the generator makes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared.data.spec import DatasetSpec
from shared.errors import InputError
from shared.files.graph_file import write_onnx, write_program
from synth.build import generator_from
from synth.config import GeneratorConfig
from synth.export import portable_generator
from synth.generator import SpadeGenerator
from synth.semantics import build_semantics
from synth.semantics.noise import Noise
from synth.trained import TrainedGenerator

CLASSES = 5


def made(kind: str, config: GeneratorConfig, *, edges: bool = False) -> SpadeGenerator:
    """A generator whose biases and statistics are not those of its start."""
    torch.manual_seed(0)
    generator = generator_from(config, (64, 128), build_semantics(kind, CLASSES, embedding_dim=3, instance_edges=edges))
    for parameter in generator.parameters():
        if parameter.ndim == 1:
            parameter.data.uniform_(-0.5, 0.5)
    generator(torch.randint(-1, CLASSES, (2, 64, 128)), edges=torch.rand(2, 64, 128) > 0.5 if edges else None)
    return generator.eval()


def trained(generator: SpadeGenerator) -> TrainedGenerator:
    return TrainedGenerator(generator, None, DatasetSpec("made", tuple("abcde"), np.zeros((CLASSES, 3), np.uint8)), {"step": 1})


@pytest.mark.minutes
@torch.no_grad()
def test_every_form_of_a_generator_with_noise_and_edges(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="extra export is not installed")
    generator = made("random", GeneratorConfig(width=1, hidden=2, noise_channels=3), edges=True)
    portable = portable_generator(trained(generator))
    assert write_onnx(portable, tmp_path / "a.onnx") < 1e-5
    write_program(portable, tmp_path / "a.pt2")
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    program = torch.export.load(tmp_path / "a.pt2").module()

    labels, edges, noise = torch.randint(-1, CLASSES, (3, 96, 64)), torch.rand(3, 96, 64) > 0.5, torch.randn(3, 3)
    owner = torch.arange(3).view(-1, 1, 1).expand_as(labels)
    expected = generator(labels, edges=edges, noise=Noise(noise, owner), size=(96, 64)) / 2 + 0.5
    inputs = {"label_map": labels, "noise": noise, "edges": edges.float()}
    torch.testing.assert_close(torch.from_numpy(session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]), expected)
    table = generator.semantics.table
    assert table is not None
    torch.testing.assert_close(program(class_table=table, **inputs), expected)

    # another table, in which two of the classes have changed places, and a label map in which they change back
    swapped = table[[1, 0, 2, 3, 4, 5]]
    inputs["label_map"] = torch.where(labels == 0, 1, torch.where(labels == 1, 0, labels))
    other = session.run(None, {name: value.numpy() for name, value in (inputs | {"class_table": swapped}).items()})[0]
    torch.testing.assert_close(torch.from_numpy(other), expected)


@torch.no_grad()
@pytest.mark.parametrize("kind, style_dim", [("onehot", None), ("random", 6)])
def test_the_graph_is_the_generator(kind: str, style_dim: int | None) -> None:
    """One-hot is the identity as table; a style is an input."""
    generator = made(kind, GeneratorConfig(width=2, hidden=4, style_dim=style_dim))
    portable, labels = portable_generator(trained(generator)), torch.randint(-1, CLASSES, (2, 64, 128))
    style = {} if style_dim is None else {"style": torch.randn(2, style_dim)}
    images = portable.network(labels, portable.inputs["class_table"], **style)
    torch.testing.assert_close(images, generator(labels, z=style.get("style")) / 2 + 0.5)


@pytest.mark.long
def test_the_program_exports_a_run_of_the_smallest_size(tmp_path: Path, invoke: Callable[..., Any]) -> None:
    options = ["--input.size", "[32, 32]", "--generator.width", 1, "--generator.hidden", 2, "--discriminator.width", 2, "--train.steps", 1]
    options += ["--data.scenes.train_length", 4, "--data.scenes.val_length", 2, "--data.num_workers", 0, "--loss.vgg_weight", 0]
    outcome = invoke("synth.train", *options, "--train.ema_decay", "null", "--train.batch_size", 2, "--run_dir", tmp_path / "run")
    assert outcome.status == 0, outcome.errors
    outcome = invoke("synth.export", tmp_path / "run", "--program", tmp_path / "a.pt2")
    assert outcome.status == 0, outcome.errors
    assert outcome.output == f"wrote {tmp_path / 'a.pt2'}: label_map (any, any, any), class_table (any, 20) -> images\n"
    program = torch.export.load(tmp_path / "a.pt2").module()
    assert program(label_map=torch.randint(-1, 19, (1, 96, 64)), class_table=torch.eye(20)).shape == (1, 3, 96, 64)


def test_noise_per_pixel_is_no_input() -> None:
    generator = made("random", GeneratorConfig(width=1, hidden=2, noise_channels=3, noise="pixel"))
    with pytest.raises(InputError, match="only noise per image can be an input"):
        portable_generator(trained(generator))
