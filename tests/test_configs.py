"""Every file under configs/ is accepted by its program, with data in the published layout."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.shared.made_data import MAKERS

CONFIGS = Path(__file__).parent.parent / "configs"
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
