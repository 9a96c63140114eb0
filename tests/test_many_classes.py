"""3000 classes from 16-bit label files to predicted label files and images: ids come back unchanged, and nothing has an axis of classes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from shared.data.config import FolderConfig
from shared.data.folder import FolderDataset, write_folder
from shared.data.scenes import SceneDataset
from shared.errors import InputError
from shared.files.tensor_file import read_tensors

CLASSES = 3000
HEIGHT, WIDTH = 32, 64
MOST_PER_CLASS = 192
"""Numbers that a tensor may hold for each class: a vector, or an 8 × 8 icon for TensorBoard's projector, but not a value per pixel."""
ALLOWED = {(CLASSES, CLASSES), (CLASSES**2,)}
"""The confusion matrix."""


class _NoClassAxis(TorchDispatchMode):
    """Fails at the operation that makes a tensor of pixels × classes."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        self.operations += 1
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, torch.Tensor) and tuple(value.shape) not in ALLOWED:
                assert value.numel() <= CLASSES * MOST_PER_CLASS or not {CLASSES, CLASSES + 1} & set(value.shape), (operation, value.shape)
                assert value.numel() < CLASSES * HEIGHT * WIDTH, (operation, value.shape)
        return result


@contextmanager
def no_class_axis() -> Iterator[None]:
    with _NoClassAxis() as watched:
        yield
    assert watched.operations > 100


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, invoke: Callable[..., Any]) -> list[object]:
    """The settings of a folder with the layout of `data.name folder`."""
    root = tmp_path_factory.mktemp("many")
    scenes = ["--data.scenes.num_classes", CLASSES, "--data.scenes.height", HEIGHT, "--data.scenes.width", WIDTH]
    scenes += ["--data.scenes.train_length", 4, "--data.scenes.val_length", 3]
    outcome = invoke("shared.data", "write", "-o", root, *scenes, "--data.num_workers", 0)
    assert outcome.status == 0, outcome.errors
    settings = outcome.output.split("read them with ")[1].split()
    assert settings[-2:] == ["--data.folder.val_instances", "instances/val"]
    return [*settings, "--data.num_workers", 0]


def test_the_watch_sees_pixels_times_classes() -> None:
    with _NoClassAxis(), pytest.raises(AssertionError):
        torch.zeros(CLASSES, HEIGHT, WIDTH)
    with _NoClassAxis(), pytest.raises(AssertionError):
        torch.nn.functional.one_hot(torch.zeros(HEIGHT * WIDTH, dtype=torch.int64), CLASSES)


def test_3000_classes_from_file_to_file(data: list[object], invoke: Callable[..., Any], tmp_path: Path) -> None:
    train = ["--train.steps", 2, "--train.batch_size", 2, "--train.threads", 1]
    root = Path(str(data[3]))

    def run(program: str, *arguments: object) -> str:
        outcome = invoke(program, *arguments)
        assert outcome.status == 0, outcome.errors
        return str(outcome.output)

    assert "3 samples, 0 with problems" in run("shared.data", "check", *data)
    with no_class_axis():
        run("seg.train", *data, *train, "--model.backbone", "tiny", "--model.width", 16, "--run_dir", tmp_path / "seg")
    with no_class_axis():
        assert "mIoU" in run("seg.evaluate", tmp_path / "seg", "--views.window", "[32, 32]", "--views.flip", "true")
    with no_class_axis():
        run("seg.predict", tmp_path / "seg", root / "images/val", "-o", tmp_path / "predicted")
    synth = ["--input.size", f"[{HEIGHT}, {WIDTH}]", "--generator.width", 2, "--generator.hidden", 4, "--discriminator.width", 4]
    synth += ["--loss.vgg_weight", 0, "--embeddings", tmp_path / "seg/class_embeddings.safetensors"]
    with no_class_axis():
        run("synth.train", "--semantics", "learned", *data, *train, *synth, "--run_dir", tmp_path / "synth")
    with no_class_axis():
        run("synth.generate", tmp_path / "synth", root / "labels/val", "-o", tmp_path / "generated")

    labels = sorted((root / "labels/val").iterdir())
    for file in labels:
        predicted = np.array(Image.open(tmp_path / "predicted/labels" / file.name))
        assert predicted.dtype == np.uint16 and predicted.shape == (HEIGHT, WIDTH) and predicted.max() < CLASSES
        assert Image.open(tmp_path / "predicted/colour" / file.name).mode == "RGB"
    made = [path for path in (tmp_path / "generated").rglob("*.png") if Image.open(path).size == (WIDTH, HEIGHT)]
    assert len(made) >= len(labels)

    tensors = read_tensors(tmp_path / "seg/checkpoints/last.safetensors", "checkpoint tensors/1")[0]
    assert {tuple(tensor.shape) for tensor in tensors.values() if CLASSES in tensor.shape} <= {(CLASSES, 12), (CLASSES, 1)}


def test_written_ids_are_read_unchanged(data: list[object]) -> None:
    scenes = SceneDataset("val", num_classes=CLASSES, height=HEIGHT, width=WIDTH, length=3)
    read = FolderDataset(str(data[3]), "val", FolderConfig(ignore_value=65535, val_instances="instances/val"))
    assert read.spec.class_names == scenes.spec.class_names
    for index in range(3):
        ours, theirs = read[index], scenes[index]
        assert torch.equal(ours.label_map, theirs.label_map) and torch.equal(ours.image, theirs.image)
        assert torch.equal(ours.instance_map, theirs.instance_map)  # type: ignore[arg-type]
    assert max(int(scenes[index].label_map.max()) for index in range(3)) > 255


def test_a_folder_of_other_classes_is_refused(tmp_path: Path) -> None:
    few, many = (SceneDataset("val", num_classes=count, height=HEIGHT, width=WIDTH, length=1) for count in (19, 300))
    assert write_folder([few], tmp_path)[-1].startswith("--data.folder.val_instances")
    with pytest.raises(InputError, match=r"classes\.txt lists other classes"):
        write_folder([many], tmp_path)
    assert (tmp_path / "classes.txt").read_text().count("\n") == 19
