"""Every file under configs/ is accepted by its program, with data in the published layout."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from seg.config import SegConfig
from shared.config import parse_config
from synth.comparison.arms import options_of
from tests.shared.data.made_data import MAKERS

CONFIGS = Path(__file__).parent.parent / "configs"
SYNTH = sorted((CONFIGS / "synth").rglob("*.yaml"))
SEG = sorted((CONFIGS / "seg").rglob("*.yaml"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folders: dict[str, Path] = {}

    def root(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            MAKERS[name](folders[name])
        return folders[name]

    return root


@pytest.mark.parametrize("path", SEG, ids=lambda path: path.stem)
def test_segmentation_config(path: Path, made: Callable[[str], Path], invoke: Callable[..., Any]) -> None:
    data = yaml.safe_load(path.read_text())["data"]["name"]
    root = [] if data == "scenes" else ["--data.root", made(data)]
    outcome = invoke("seg.train", "--config", path, *root, "--model.pretrained", "false", "--dry-run")
    assert outcome.status == 0, outcome.errors
    assert "largest batch" in outcome.output


@pytest.mark.parametrize("path", [path for path in SEG if path.parent.name == "paper"], ids=lambda path: path.stem)
def test_paper_configs_train_as_the_paper(path: Path) -> None:
    """SGD from the first step at the full rate, decay on everything, no limit of gradients, raw class vectors, a fixed temperature."""
    config = parse_config(SegConfig, ["--config", str(path)], program="seg.train")
    train, loss = config.train, config.loss
    settings = (train.optimizer, train.learning_rate, train.backbone_factor, train.weight_decay, train.warmup, train.clip_norm)
    assert settings == ("sgd", 0.01, 0.1, 1e-4, 0.0, None)
    assert config.model.pretrained and config.model.output_stride == 16 and config.model.normalise == "after_upsampling"
    if config.head == "embedding":
        assert (train.class_turn, loss.temperature, loss.distance, loss.candidates) == (None, 0.05, "squared", "neighbours")
        assert (loss.margin, loss.margin_weight, loss.hardest, loss.class_weights) == (0.2, 1.0, None, None)


@pytest.fixture(scope="module")
def segmenters(
    tmp_path_factory: pytest.TempPathFactory, made: Callable[[str], Path], invoke: Callable[..., Any]
) -> Callable[[list[str]], Path]:
    """A folder with the runs embedding and softmax on a data set, trained for a step."""
    folders: dict[str, Path] = {}

    def runs(data: list[object]) -> Path:
        key = " ".join(map(str, data))
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp("segmenters")
            for head in ("embedding", "softmax"):
                settings = ["--head", head, "--train.steps", 1, "--train.batch_size", 2, "--model.width", 16, "--data.num_workers", 0]
                outcome = invoke("seg.train", *data, *settings, "--run_dir", folders[key] / head)
                assert outcome.status == 0, outcome.errors
        return folders[key]

    return runs


@pytest.mark.parametrize("path", SYNTH, ids=lambda path: path.stem)
def test_synthesis_config(
    path: Path,
    made: Callable[[str], Path],
    segmenters: Callable[..., Path],
    invoke: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(CONFIGS.parent)  # a comparison may name the settings file of its segmentation
    data = yaml.safe_load(path.read_text())["data"]
    name = data["name"]
    where: list[object] = ["--data.name", name]
    if name == "scenes":
        scenes = data.get("scenes", {}) | {"height": 32, "width": 64, "train_length": 4, "val_length": 2}
        where += [part for key, value in scenes.items() for part in (f"--data.scenes.{key}", value)]
    else:
        where += ["--data.root", made(name), *(["--data.cityscapes.classes", "all"] if name == "cityscapes" else [])]
    runs = segmenters(where)
    root = [] if name == "scenes" else ["--data.root", made(name)]
    given = ["--embeddings", runs / "embedding/class_embeddings.safetensors", "--segmenter", runs / "softmax", "--features", "encoder"]
    outcome = invoke("synth.compare", "--config", path, *root, *given, "--loss.vgg_weight", 0, "--dry-run")
    assert outcome.status == 0, outcome.errors
    assert "trainings; embeddings" in outcome.output


VARIANTS = [
    (path, name, program)
    for path in SYNTH
    for name, variant in yaml.safe_load(path.read_text()).get("variants", {}).items()
    for program in ("seg", "synth")
    if program in variant
]


@pytest.mark.parametrize(("path", "name", "program"), VARIANTS, ids=lambda part: getattr(part, "stem", part))
def test_settings_of_a_variant(path: Path, name: str, program: str, invoke: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a change of what the comparison's settings files say."""
    monkeypatch.chdir(CONFIGS.parent)
    config = yaml.safe_load(path.read_text())
    changes = config["variants"][name][program]
    base = ["--config", config["segmentation"]] if program == "seg" else ["--semantics", "learned"]
    plain, changed = (invoke(f"{program}.train", *base, *more, "--print_config") for more in ([], options_of(changes)))
    assert changed.status == 0, changed.errors
    assert changed.output != plain.output
