"""Every file of examples/ runs, from random weights, and its loss falls or at least exists; none is left out here."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.embedding_file import ClassEmbeddings

EXAMPLES = Path(__file__).parent.parent / "examples"
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "with_smp": ("segmentation_models_pytorch", {"num_classes": 300}),
    "with_torchvision": ("torchvision", {"num_classes": 300, "steps": 1}),
    "with_transformers": ("transformers", {"num_classes": 300}),
    "with_accelerate": ("accelerate", {}),
}
"""What an example needs, and what its `main` is called with here."""


def test_every_example_is_run_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == CALLS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_an_example_trains_and_predicts(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    library, arguments = CALLS[name]
    pytest.importorskip(library, reason=f"{library} is not installed")
    example = runpy.run_path(str(EXAMPLES / f"{name}.py"))
    example["main"](**arguments)
    output = capsys.readouterr().out
    losses = [float(loss) for loss in re.findall(r"loss (\d+\.\d+)", output)]
    assert len(losses) == arguments.get("steps", len(losses)) and losses
    assert len(losses) == 1 or losses[-1] < losses[0]
    if name == "with_accelerate":
        embeddings = ClassEmbeddings.load(tmp_path / "class_embeddings.safetensors")
        assert embeddings.vectors.shape == (19, 12) and embeddings.dataset == "scenes-19"
    else:
        ids = [int(number) for number in re.findall(r"\d+", output.splitlines()[-1])]
        assert len(ids) == 8 and max(ids) < arguments["num_classes"]


@pytest.mark.slow
def test_the_swap_leaves_a_prediction_of_every_pixel() -> None:
    """Odd sizes too, which the decoders of others round up."""
    pytest.importorskip("transformers", reason="transformers is not installed")
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    example = runpy.run_path(str(EXAMPLES / "with_transformers.py"))
    config = SegformerConfig(depths=[1] * 4, hidden_sizes=[16, 32, 64, 96], decoder_hidden_size=32)
    model = example["SegformerWithEmbeddings"](SegformerForSemanticSegmentation(config), 700).eval()
    ids = model(torch.rand(1, 3, 45, 67))["labels"]
    assert ids.shape == (1, 45, 67) and ids.dtype == torch.int64 and ids.min() >= 0 and ids.max() < 700
