"""What is said of class embeddings: the tree, the crops, norms against frequency, and many classes."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seg.class_crops import class_crops
from seg.class_pictures import LEAVES, class_tree, draw_tree, leaf_labels, norm_correlation, to_newick
from shared.data.spec import DatasetSpec, Sample, SegmentationDataset
from shared.data.statistics import class_statistics
from shared.embedding_file import ClassEmbeddings


class Blocks(SegmentationDataset):
    """Two grey images with a block each: class 1 is larger in the second, and red there; class 2 nowhere."""

    spec = DatasetSpec("blocks", ("ground", "block", "nothing"), np.array([[0, 0, 0], [0, 0, 9], [0, 255, 0]], dtype=np.uint8))
    split = "train"

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        labels = torch.zeros(20, 30, dtype=torch.int64)
        labels[5 : 7 + 4 * index, 20 : 22 + 4 * index] = 1
        colour = torch.tensor([255, 0, 0] if index else [0, 0, 255], dtype=torch.uint8)
        image = torch.where(labels == 1, colour[:, None, None], torch.tensor(128, dtype=torch.uint8))
        return Sample(image, labels, None, str(index))


def made_embeddings(raw: torch.Tensor) -> ClassEmbeddings:
    return ClassEmbeddings(F.normalize(raw), raw, tuple(f"class {index}" for index in range(len(raw))), "made", {})


def test_tree_joins_the_nearest_first() -> None:
    angles = np.array([0.0, 0.1, 1.5, 1.7])
    tree = class_tree(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    text = to_newick(tree, ["car", "bus's", "sky", "tree"])
    chord = {gap: 2 * np.sin(gap / 2) for gap in (0.1, 0.2)}
    assert re.sub(r":[\d.]+", "", text) == "(('car','bus''s'),('sky','tree'));\n"
    assert f"'car':{chord[0.1] / 2:.6g}" in text and f"'sky':{chord[0.2] / 2:.6g}" in text
    assert leaf_labels(tree, ["car", "bus", "sky", "tree"])[4:] == ["2: car, bus", "2: sky, tree", "4: car, bus, sky, tree"]


@pytest.mark.parametrize("count", [1, 2, LEAVES + 20])
def test_tree_of_any_number_of_classes(count: int, tmp_path: Path) -> None:
    names = [f"class {index}" for index in range(count)]
    tree = class_tree(np.random.default_rng(0).normal(size=(count, 12)))
    draw_tree(tree, names, tmp_path / "tree.svg")
    assert to_newick(tree, names).count("'") == 2 * count
    labels = re.findall(r"<!-- (.*?) -->", (tmp_path / "tree.svg").read_text())
    assert sum("class" in label and "between" not in label for label in labels) == (0 if count == 1 else min(count, LEAVES))


def test_norms_that_follow_the_frequency_correlate() -> None:
    pixels = np.array([1000, 100, 10, 0])
    raw = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 0.0], [9.0, 0.0]])  # the last class does not occur
    assert norm_correlation(made_embeddings(raw), pixels) == pytest.approx(1.0)
    assert norm_correlation(made_embeddings(raw), pixels[[2, 1, 0, 3]]) == pytest.approx(-1.0)
    assert np.isnan(norm_correlation(made_embeddings(F.normalize(raw)), pixels))


def test_crops_hold_the_class() -> None:
    crops = class_crops(Blocks(), class_statistics(Blocks()), size=8)
    assert crops.shape == (3, 3, 8, 8)
    for class_id, colour in ((1, (1.0, 0.0, 0.0)), (2, (0.0, 1.0, 0.0))):  # all of the larger block; the palette
        torch.testing.assert_close(crops[class_id], torch.tensor(colour)[:, None, None].expand(3, 8, 8))
    assert 0.4 < crops[0].mean() < 0.6


def test_other_counts_are_refused(invoke: Callable, tmp_path: Path) -> None:
    made_embeddings(torch.eye(3)).save(tmp_path / "e.safetensors")
    class_statistics(Blocks()).save(tmp_path / "c.safetensors")
    outcome = invoke("seg.inspect", tmp_path / "e.safetensors", "--statistics", tmp_path / "c.safetensors", "-o", tmp_path / "out")
    assert outcome.status == 1 and not (tmp_path / "out").exists()
    assert "counts blocks" in outcome.errors and "is of made; names and order must be equal" in outcome.errors


def test_figures_as_json(invoke: Callable, tmp_path: Path) -> None:
    made_embeddings(torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])).save(tmp_path / "e.safetensors")
    outcome = invoke("seg.inspect", tmp_path / "e.safetensors", "--neighbours", 1, "-o", tmp_path / "out", "--json", tmp_path / "f.json")
    assert outcome.status == 0, outcome.errors
    figures = json.loads((tmp_path / "f.json").read_text())
    assert (figures["dataset"], figures["dimensions"], figures["norm_correlation"]) == ("made", 2, None)
    assert [entry["class"] for entry in figures["classes"]] == ["class 0", "class 1", "class 2"]
    (nearest,) = figures["classes"][0]["nearest"]
    assert nearest["class"] == "class 1" and nearest["distance"] == pytest.approx(0.4**0.5)
