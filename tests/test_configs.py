"""Every file under configs/ runs from end to end with data in the published layout, in pictures of several sizes: small networks, few
steps, and all that follows a training."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from shared.files.tensor_file import read_tensors
from shared.visualise import label_storage
from synth.comparison.arms import options_of
from synth.comparison.commands import CommandLog
from tests.programs import invoke_program
from tests.shared.data.made_data import MAKERS

CONFIGS = Path(__file__).parent.parent / "configs"
SYNTH = sorted((CONFIGS / "synth").rglob("*.yaml"))
SEG = sorted((CONFIGS / "seg").rglob("*.yaml"))
SIZES = ((24, 40), (40, 24), (33, 30))
Options = list[object]
Invoke = Callable[..., Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Where a data set lies, by its name."""
    folders: dict[str, Path] = {}

    def root(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            MAKERS[name](folders[name], SIZES)
        return folders[name]

    return root


@pytest.fixture(scope="module")
def small_data(made: Callable[[str], Path]) -> Callable[[dict[str, Any]], Options]:
    """Options that put made data in the place of a config's `data`: of scenes fewer and smaller ones."""

    def options(data: dict[str, Any]) -> Options:
        if data["name"] != "scenes":
            return ["--data.root", made(data["name"])]
        scenes = {"height": 32, "width": 64, "train_length": 4, "val_length": 3}
        return [part for key, value in scenes.items() for part in (f"--data.scenes.{key}", value)]

    return options


def run(invoke: Invoke, program: str, *arguments: object) -> str:
    """The output of a program that must succeed."""
    outcome = invoke(program, *arguments)
    assert outcome.status == 0, outcome.errors
    return str(outcome.output)


# --- Segmentation: train, stop, continue, evaluate, predict, export ---------------------------------------------------------

SMALL_SEG: Options = ["--model.pretrained", "false", "--model.backbone", "tiny", "--model.width", 16, "--data.num_workers", 0]
SMALL_SEG += ["--train.batch_size", 2, "--train.steps", 3, "--train.eval_every", 2, "--train.log_every", 1, "--train.threads", 1]


def small_input(config: dict[str, Any]) -> Options:
    """Sizes of the same kind as those that the config gives."""
    given = config.get("input", {})
    return [part for key, size in (("crop", [32, 32]), ("resize", [28, 36])) if key in given for part in (f"--input.{key}", size)]


def first_of(kind: Callable[[dict[str, Any]], Any], paths: Sequence[Path]) -> list[Path]:
    """Of the configs of one kind the first: what follows from the settings that they share is tested with it."""
    kinds: dict[Any, Path] = {}
    for path in paths:
        kinds.setdefault(kind(yaml.safe_load(path.read_text())), path)
    return list(kinds.values())


OWN_DATA = CONFIGS / "data/own_16bit.yaml"
WHOLE_SEG = [OWN_DATA, *first_of(lambda config: (config["data"]["name"], config.get("head")), SEG)]


def training_of(path: Path, small_data: Callable[..., Options]) -> Options:
    config = yaml.safe_load(path.read_text())
    base: Options = ["--config", path] if "data" in config else ["--data", path]
    data = small_data(config.get("data", config))
    return ["seg.train", *base, *data, *SMALL_SEG, *small_input(config), "--run_dir", "run"]


def require_evaluations() -> None:
    steps = [line["step"] for line in map(json.loads, Path("run/metrics.jsonl").read_text().splitlines()) if "val/miou" in line]
    assert steps == [2, 3]


@pytest.mark.parametrize("path", [path for path in SEG if path not in WHOLE_SEG], ids=lambda path: path.stem)
def test_segmentation_trains(path: Path, small_data: Callable[..., Options], invoke: Invoke) -> None:
    run(invoke, *training_of(path, small_data))
    require_evaluations()


@pytest.mark.parametrize("path", WHOLE_SEG, ids=lambda path: path.stem)
def test_segmentation_runs_from_end_to_end(path: Path, small_data: Callable[..., Options], invoke: Invoke) -> None:
    config, command = yaml.safe_load(path.read_text()), training_of(path, small_data)
    scenes = config.get("data", config)["name"] == "scenes"
    assert "checked labels and sizes" in run(invoke, *command, "--train.stop_after", 2) or scenes
    assert "run: continuing after step 2" in run(invoke, *command)
    require_evaluations()

    run(invoke, "seg.evaluate", "run", "--batch_size", 2, "-o", "figures.json")
    at_the_end, again = (json.loads(Path(file).read_text()) for file in ("run/evaluation.json", "figures.json"))
    assert all(again[key] == at_the_end[key] for key in ("miou", "class_pixels", "labelled_pixels"))

    pictures = Path("pictures")
    pictures.mkdir()
    for number, size in enumerate(SIZES):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)).save(pictures / f"{number}.png")
    run(invoke, "seg.predict", "run", pictures, "-o", "predicted")
    for number, (height, width) in enumerate(SIZES):
        with Image.open(f"predicted/labels/{number}.png") as ids:
            assert ids.size == (width, height)

    run(invoke, "seg.export", "run", "-o", "exports")
    kinds = {"encoder.safetensors": "encoder/1"}
    if config.get("head") != "softmax":
        kinds["class_embeddings.safetensors"] = "class embeddings/1"
    assert {file.name for file in Path("exports").iterdir()} == kinds.keys()
    for name, kind in kinds.items():
        first, second = (read_tensors(Path(folder, name), kind)[0] for folder in ("run", "exports"))
        assert all(torch.equal(first[key], second[key]) for key in first | second)


# --- Segmentation: the networks in their own sizes --------------------------------------------------------------------------


NETWORKS = ["paper/coco_lvis_resnet50_embedding_gn", "paper/coco_lvis_resnet50_embedding_4gpu"]
NETWORKS += ["paper/ade20k_mobilenet_v2_embedding", "camvid_cpu"]
"""ResNet-101 is ResNet-50 with more blocks, and left out."""


def test_every_encoder_and_normalisation_is_among_the_networks() -> None:
    def kinds(paths: Sequence[Path]) -> set[tuple[str, Any]]:
        models = [yaml.safe_load(path.read_text()).get("model", {}) for path in paths]
        return {(name, model.get(name)) for model in models for name in ("backbone", "norm")} - {("norm", None)}

    assert kinds([CONFIGS / f"seg/{name}.yaml" for name in NETWORKS]) == kinds(SEG) - {("backbone", "resnet101")}


@pytest.mark.long
@pytest.mark.parametrize("name", NETWORKS)
def test_whole_network_and_its_memory(name: str, made: Callable[[str], Path], invoke: Invoke) -> None:
    path = CONFIGS / f"seg/{name}.yaml"
    data = yaml.safe_load(path.read_text())["data"]["name"]
    root = [] if data == "scenes" else ["--data.root", made(data)]
    output = run(invoke, "seg.train", "--config", path, *root, "--model.pretrained", "false", "--data.num_workers", 0, "--dry-run")
    assert "largest batch" in output


# --- Synthesis: compare (train, generate, score, report), then generate and score one of its generators -----------------------

SMALL_SYNTH: Options = ["--generator.width", 2, "--generator.hidden", 4, "--discriminator.width", 4, "--loss.vgg_weight", 0]
SMALL_SYNTH += ["--train.batch_size", 2, "--train.steps", 1, "--train.log_every", 1, "--train.threads", 1, "--data.num_workers", 0]
SMALL_SYNTH += ["--seeds", "[0]", "--jobs", 1, "--samples", 2, "--pictures", 2, "--features", "encoder"]


@pytest.fixture(scope="module")
def segmenters(tmp_path_factory: pytest.TempPathFactory, invoke: Invoke) -> Callable[[Options], Path]:
    """A folder with the runs embedding and softmax on a data set, trained for a step."""
    folders: dict[str, Path] = {}

    def runs(data: Options) -> Path:
        key = " ".join(map(str, data))
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp("segmenters")
            for head in ("embedding", "softmax"):
                options: Options = ["--head", head, "--input.crop", "[32, 32]", *SMALL_SEG, "--train.steps", 1]
                run(invoke, "seg.train", *data, *options, "--run_dir", folders[key] / head)
        return folders[key]

    return runs


@pytest.fixture
def quick_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of a comparison are run here: the same programs without the time to import torch. Of its report the page is left out."""

    def run_here(log: CommandLog, command: Sequence[str], output: Path | None) -> tuple[int, float]:
        began = time.perf_counter()
        outcome = invoke_program(command[0], *command[1:])
        assert outcome.status == 0, outcome.errors
        return outcome.status, time.perf_counter() - began

    monkeypatch.setattr(CommandLog, "_run", run_here)
    monkeypatch.setattr("shared.report.render.to_html", lambda report: "")


WHOLE_SYNTH = first_of(lambda config: tuple(sorted(config["semantics"])), [CONFIGS / "synth/demo.yaml", *SYNTH])
"""These are trained with all their semantics, and others with the last of the same ones."""


def small_images(config: dict[str, Any]) -> Options:
    """The smallest size that the generator can make twice as wide as high, and what the mode and the discriminator need with it."""
    side = {"normal": 32, "more": 64, "most": 128}[config["generator"].get("upsampling", "normal")]
    options: Options = ["--input.size", f"[{side}, {2 * side}]"]
    if "load_size" in config["input"]:
        options += ["--input.load_size", f"[{side + 8}, {2 * side + 8}]"]
    return [*options, *(["--discriminator.depth", 3] if config.get("discriminator", {}).get("depth", 4) > 5 else [])]


def fewer_variants(config: dict[str, Any]) -> Options:
    """Of many variants one of each kind: unchanged, with embeddings of its own, trained otherwise, and with (two) semantics of its own."""
    kinds = {
        tuple(sorted(variant)): (name, variant | {"semantics": variant["semantics"][::3]} if "semantics" in variant else variant)
        for name, variant in reversed(config.get("variants", {}).items())
    }
    if not kinds:
        return []
    base = "segmentation.json"
    small = {"data": {"num_workers": 0}, "model": {"width": 16}, "input": {"crop": [32, 32]}, "train": {"steps": 1, "batch_size": 2}}
    Path(base).write_text(json.dumps(small))
    return ["--variants", json.dumps(dict(kinds.values())), "--segmentation", base]


LONG = {"ablation_camvid", "camvid_discriminators", "coco_lvis", "scenes_many"}
"""Comparisons of many arms or with many classes; continuous integration runs them."""


@pytest.mark.usefixtures("quick_comparison")
@pytest.mark.parametrize("path", [pytest.param(path, marks=[pytest.mark.long] * (path.stem in LONG), id=path.stem) for path in SYNTH])
def test_synthesis_runs_from_end_to_end(
    path: Path, small_data: Callable[..., Options], segmenters: Callable[[Options], Path], invoke: Invoke, tmp_path: Path
) -> None:
    config = yaml.safe_load(path.read_text())
    data = config["data"]
    kept = {key: value for key, value in data.items() if key != "num_workers"}
    runs = segmenters(
        [*options_of({f"data.{key}": value for key, value in kept.items() if key != "scenes"}), *_classes(data), *small_data(data)]
    )
    given = ["--embeddings", runs / "embedding/class_embeddings.safetensors", "--segmenter", runs / "softmax"]
    command = ["synth.compare", "--config", path, *small_data(data), *SMALL_SYNTH, *small_images(config), *fewer_variants(config), *given]
    fewer: Options = [] if path in WHOLE_SYNTH else ["--semantics", json.dumps(config["semantics"][-1:])]
    run(invoke, *command, *fewer, "--run_dir", "comparison")
    report = json.loads(Path("comparison/report/report.json").read_text())
    assert report["runs"] and all({"FD-seg", "KD-seg", "mIoU"} <= arm["scores"].keys() for arm in report["runs"])

    arm, labels = Path(report["runs"][0]["run_dir"]), Path("comparison/real/labels")
    ignored = label_storage(len(json.loads(Path("comparison/real/classes.json").read_text())))[1]
    codes: Options = ["--label_offset", 0, "--ignore_value", ignored]
    if config["input"].get("instance_edges"):
        codes += ["--instances", labels]
    run(invoke, "synth.generate", arm, labels, *codes, "-o", "made")
    run(invoke, "synth.score", arm, labels, *codes, "--real", "comparison/real/images", "--encoder", runs / "softmax/encoder.safetensors")
    size = Image.open(next(Path("comparison/real/images").rglob("*.png"))).size
    made = {file.relative_to("made") for file in Path("made").rglob("*.png")}
    assert made == {file.relative_to(labels) for file in labels.rglob("*.png")}
    assert {Image.open(Path("made", file)).size for file in made} == {size}


@pytest.mark.parametrize("path", [path for path in SYNTH if path.parent.name == "published"], ids=lambda path: path.stem)
def test_a_published_training_has_the_published_perceptual_loss_or_none(path: Path) -> None:
    """Whatever weights are at hand."""
    assert yaml.safe_load(path.read_text())["loss"] in ({"perceptual": "vgg19"}, {"vgg_weight": 0})


def _classes(data: dict[str, Any]) -> Options:
    """How many classes built-in scenes have."""
    return ["--data.scenes.num_classes", data["scenes"]["num_classes"]] if data["name"] == "scenes" else []


VARIANTS = [
    (path, name, program)
    for path in SYNTH
    for name, variant in yaml.safe_load(path.read_text()).get("variants", {}).items()
    for program in ("seg", "synth")
    if program in variant
]


@pytest.mark.parametrize(("path", "name", "program"), VARIANTS, ids=lambda part: getattr(part, "stem", part))
def test_settings_of_a_variant(path: Path, name: str, program: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a change of what the comparison's settings files say."""
    monkeypatch.chdir(CONFIGS.parent)
    config = yaml.safe_load(path.read_text())
    changes = config["variants"][name][program]
    base = ["--config", config["segmentation"]] if program == "seg" else ["--semantics", "learned"]
    plain, changed = (invoke(f"{program}.train", *base, *more, "--print_config") for more in ([], options_of(changes)))
    assert changed.status == 0, changed.errors
    assert changed.output != plain.output
