"""Label folders of the data set itself given to a generator: the right ones of the files there, read as in the training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shared.backbone import build_backbone
from shared.data import DataConfig, build_dataset
from shared.data.config import CityscapesConfig
from shared.encoder_file import save_encoder
from shared.visualise import save_label_png
from tests.programs import invoke_program
from tests.shared.data.made_data import MAKERS
from tests.small import require_one_line

Invoke = Callable[..., Any]
SMALL = ["--data.num_workers", 0, "--input.size", "[32, 64]", "--generator.width", 2, "--generator.hidden", 4, "--discriminator.width", 4]
SMALL += ["--loss.vgg_weight", 0, "--train.steps", 1, "--train.batch_size", 2, "--semantics", "onehot", "--data.name", "cityscapes"]
KINDS = {
    "train": [],
    "converted": ["--data.cityscapes.labels", "labelTrainIds"],
    "all": ["--data.cityscapes.classes", "all", "--data.cityscapes.instances", "true", "--input.instance_edges", "true"],
}


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cityscapes' layout with labels unlike each other, and a run of each kind."""
    root = tmp_path_factory.mktemp("city")
    MAKERS["cityscapes"](root / "data")
    random = np.random.default_rng(0)
    for path in sorted(root.rglob("*_labelIds.png")):
        ids = random.integers(0, 34, (3, 5), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(ids).save(path)
        table = build_dataset(DataConfig("cityscapes", str(root / "data")), "train").codes  # type: ignore[attr-defined]
        train_ids = table.read(path).numpy()
        Image.fromarray(np.where(train_ids < 0, 255, train_ids).astype(np.uint8)).save(str(path).replace("labelIds", "labelTrainIds"))
    for kind, options in KINDS.items():
        outcome = invoke_program("synth.train", *SMALL, *options, "--data.root", root / "data", "--run_dir", root / kind)
        assert outcome.status == 0, outcome.errors
    return root


def images(folder: Path) -> list[np.ndarray]:
    return [np.array(Image.open(path)) for path in sorted(folder.rglob("*.png"))]


@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_of_the_data_set_gives_what_its_class_ids_give(kind: str, city: Path, invoke: Invoke) -> None:
    config = CityscapesConfig("all") if kind == "all" else CityscapesConfig()
    dataset = build_dataset(DataConfig("cityscapes", str(city / "data"), cityscapes=config), "val")
    for sample in dataset:
        save_label_png(sample.label_map, Path(f"ids/{sample.name}_gtFine.png"), num_classes=dataset.spec.num_classes)
    labels, instances = city / "data/gtFine/val", []
    if kind == "all":
        for path in labels.rglob("*_instanceIds.png"):
            copy = Path("instances", path.parent.name, path.name.replace("_instanceIds", ""))
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
        instances = ["--instances", labels]
    for maps, output, option in ((labels, "own", instances), ("ids", "plain", ["--instances", "instances"] if instances else [])):
        outcome = invoke("synth.generate", city / kind, maps, "-o", output, *option)
        assert outcome.status == 0 and "wrote 2 images" in outcome.output, outcome.errors
    own, plain = images(Path("own")), images(Path("plain"))
    assert len(own) == 2 and all(np.array_equal(one, other) for one, other in zip(own, plain))
    assert not np.array_equal(*own)


def test_a_score_reads_the_same_files(city: Path, tmp_path: Path, invoke: Invoke) -> None:
    torch.manual_seed(0)
    save_encoder(tmp_path / "e.safetensors", build_backbone("tiny"), {"backbone": "tiny", "output_stride": 16, "dataset": "park"})
    real, labels = city / "data/leftImg8bit/val", city / "data/gtFine/val"
    options = ["--encoder", "e.safetensors", "--cache", "null", "--subsets", 3]
    outcome = invoke("synth.score", city / "train", labels, "--real", real, *options)
    assert outcome.status == 0 and "N=2/2" in outcome.output, outcome.errors


def test_other_files_beside_them_are_no_label_maps(city: Path, tmp_path: Path, invoke: Invoke) -> None:
    stem = city / "data/gtFine/val/ulm/ulm_000000_000019_gtFine"
    for kind, ending in (("train", "color"), ("train", "instanceIds"), ("all", "labelTrainIds")):
        instances = ["--instances", city / "data/gtFine/val"] if kind == "all" else []
        outcome = invoke("synth.generate", city / kind, f"{stem}_{ending}.png", "-o", "out", *instances)
        require_one_line(outcome, f"ulm_000000_000019_gtFine_{ending}.png is no label map by its name; give the *_labelIds.png")
    require_one_line(invoke("synth.generate", city / "train", city / "data/leftImg8bit/val", "-o", "out"), "is a colour picture")
    assert not (tmp_path / "out").exists()


def test_numbers_that_are_given_hold_for_every_kind_of_file(city: Path, invoke: Invoke) -> None:
    maps = city / "data/gtFine/val"
    outcome = invoke("synth.generate", city / "train", maps, "-o", "out", "--label_offset", 0, "--ignore_value", 255)
    require_one_line(outcome, "_gtFine_labelIds.png holds value", "allowed are 0..18 and 255 (ignored)")
