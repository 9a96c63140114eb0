"""What a comparison needs at its end is looked at before it trains anything."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Invoke = Callable[..., Any]
DATA = ["--data.num_workers", 0, "--data.scenes.height", 32, "--data.scenes.width", 64, "--data.scenes.train_length", 4]
SCENES = [*DATA, "--data.scenes.num_classes", 7, "--data.scenes.val_length", 2]
SMALL = ["--input.size", "[32, 64]", "--generator.width", 2, "--generator.hidden", 4, "--discriminator.width", 4, "--train.steps", 1]
SMALL += ["--loss.vgg_weight", 0, "--features", "encoder", "--semantics", "[random]"]


@pytest.fixture(scope="module")
def segmenters(tmp_path_factory: pytest.TempPathFactory, invoke: Invoke) -> Path:
    """A folder with softmax runs on 7 and on 5 classes, trained for a step."""
    folder = tmp_path_factory.mktemp("segmenters")
    for classes in (7, 5):
        options = [*SCENES, "--data.scenes.num_classes", classes, "--train.steps", 1, "--train.batch_size", 2, "--model.width", 16]
        outcome = invoke("seg.train", *options, "--head", "softmax", "--run_dir", folder / str(classes))
        assert outcome.status == 0, outcome.errors
    return folder


def refusal(invoke: Invoke, *arguments: object) -> str:
    """The one line of a comparison that must not start, with --dry-run and without."""
    messages = []
    for dry in (["--dry-run"], []):
        outcome = invoke("synth.compare", *SCENES, *SMALL, *arguments, "--run_dir", "comparison", *dry)
        assert outcome.status == 1, outcome.output
        assert not Path("comparison").exists()
        messages += [line for line in outcome.errors.splitlines() if line.startswith("error: ")]
    assert len(messages) == 2 and messages[0] == messages[1]
    return messages[0]


@pytest.mark.parametrize(("split", "count"), [("train", 1), ("val", 1)])
def test_distances_need_two_images_on_each_side(split: str, count: int, segmenters: Path, invoke: Invoke) -> None:
    message = refusal(invoke, "--segmenter", segmenters / "7", f"--data.scenes.{split}_length", count)
    assert f"the {split} split of scenes-7 holds 1 image; a comparison takes distances between sets of images" in message


def test_a_segmenter_of_other_classes(segmenters: Path, invoke: Invoke) -> None:
    message = refusal(invoke, "--segmenter", segmenters / "5")
    assert "was trained on the 5 classes of scenes-5, but the data is scenes-7 with 7 classes" in message


def test_a_segmenter_of_other_classes_is_not_chosen(segmenters: Path, invoke: Invoke, tmp_path: Path) -> None:
    """Though its data has the same name."""
    run = tmp_path / "runs/seg.train/other"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("{}")
    about = json.loads((segmenters / "7/evaluation.json").read_text())
    about["iou"] = dict(reversed(about["iou"].items()))
    (run / "evaluation.json").write_text(json.dumps(about))
    assert "no finished softmax segmenter of scenes-7 under runs/seg.train" in refusal(invoke)


def test_a_segmenter_without_its_best_checkpoint(segmenters: Path, invoke: Invoke, tmp_path: Path) -> None:
    run = tmp_path / "segmenter"
    run.mkdir()
    for name in ("config.yaml", "encoder.safetensors"):
        (run / name).symlink_to(segmenters / "7" / name)
    assert f"the segmenter {run} has no {run / 'checkpoints/best.safetensors'}" in refusal(invoke, "--segmenter", run)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--discriminators", "[multiscale, oasis]", "--discriminator.depth", 6],
            "random oasis cannot be trained: images of 32x64 cannot be",
        ),
        (
            ["--semantics", "[random, onehot]", "--discriminator.name", "oasis_embedding"],
            "onehot cannot be trained: semantics onehot have no",
        ),
        (["--variants", '{"a": {}, "b": {"synth": {"generator.widht": 4}}}'], "random b cannot be trained: "),
        (
            ["--variants", '{"flat": {"synth": {"input.size": [32, 32], "train.batch_size": 1}}}'],
            "random flat cannot be trained: the generator",
        ),
        (
            ["--variants", '{"tables": {"semantics": ["learned"]}}'],
            "learned tables cannot be trained: semantics learned need an embedding file",
        ),
        (["--variants", '{"small": {"seg": {"model.width": 8}}}', "--segmentation", "none.yaml"], "none.yaml"),
        (["--loss.vgg_weight", 1, "--loss.vgg_weights", "none.pth"], "none.pth"),
        (
            ["--loss.vgg_weight", 1, "--discriminators", "[multiscale, oasis]"],
            "discriminators are compared, but discriminator.begin is 1, and none takes part",
        ),
    ],
)
def test_arms_that_could_not_be_trained(options: list[object], message: str, segmenters: Path, invoke: Invoke) -> None:
    assert message in refusal(invoke, "--segmenter", segmenters / "7", *options)
