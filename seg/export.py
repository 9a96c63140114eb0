"""Write the embedding file and the encoder file of a run, or its network for other programs: `python -m seg.export RUN`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from seg.model import EmbeddingSegmenter, Segmenter
from seg.networks.upsampling import resize
from seg.trained import TrainedSegmenter, export, load_segmenter
from seg.unit_vectors import unit_norm
from shared.files.graph_file import Portable, write_files
from shared.run.directory import RunDirectory
from shared.run.program import run_program

# two images, as torch.export takes an axis of length 1 for fixed
EXAMPLE = (2, 3, 96, 128)
SMALLEST = 33
"""Fewest pixels of a side: the last features then have more than one position per side."""


@dataclass
class ExportConfig:
    """Write the class embeddings and the encoder of a trained segmentation network; or, with onnx or program, the whole network."""

    run: str
    """Run directory of seg.train."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint."""
    output: str | None = None
    """Folder for embeddings and encoder. Null: the run directory."""
    onnx: str | None = None
    """File to write in their place, .onnx; needs the extra export."""
    program: str | None = None
    """File to write in their place, .pt2, for torch.export.load."""
    form: Literal["labels", "scores"] = "labels"
    """What the graph of onnx and program gives: the class of every pixel, where class embeddings are an input; or a score per class, where
    they are the kernel of a 1x1 convolution."""
    dry_run: bool = False
    """Check what is given, say what would be done, and stop."""


def main(config: ExportConfig) -> None:
    run = RunDirectory.open(config.run)
    trained = load_segmenter(run, config.checkpoint, torch.device("cpu"))
    if config.onnx is not None or config.program is not None:
        write_files(portable_segmenter(trained, config.form), config.onnx, config.program, dry_run=config.dry_run)
        return
    if config.dry_run:
        print(f"would write the exports of step {trained.meta['step']} to {config.output or config.run}")
        return
    about = {"run": str(run.path), "step": trained.meta["step"]}
    for path in export(trained, Path(config.output or config.run), about):
        print(f"wrote {path}")


class ScoreGraph(nn.Module):
    """Images → a score per class and pixel; the largest names the class. The class embeddings are the kernel of a 1×1 convolution.

    The nearest of unit vectors is the one with the largest product, whatever the length of the pixel's vector, and products may be
    interpolated in place of vectors. So this is an ordinary network of C output channels.
    """

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] → (N, C, H, W)."""
        features = self.features(images)
        if isinstance(self.model, EmbeddingSegmenter):
            features = F.conv2d(features, self.model.kernels[:, :, None, None])
        return resize(features, images.shape[2:])

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] → (N, D or C, ⌈H/4⌉, ⌈W/4⌉)."""
        features: Tensor = self.model(images, upsample=False)
        return features


class LabelGraph(ScoreGraph):
    """Images and class embeddings → the nearest class of every pixel. For a softmax there are no class embeddings."""

    def forward(self, images: Tensor, class_embeddings: Tensor | None = None) -> Tensor:
        """(N, 3, H, W) in [0, 1], (C, D) of any norm but zero → (N, H, W) int64."""
        scores = resize(self.features(images), images.shape[2:])
        if class_embeddings is not None:
            scores = F.conv2d(scores, unit_norm(class_embeddings, dim=1)[:, :, None, None])
        return scores.argmax(1)


def portable_segmenter(trained: TrainedSegmenter, form: str) -> Portable:
    """The graph of a trained network, on the CPU.

    form: "labels" or "scores".
    """
    model, (batch, height, width) = trained.model, (Dim("batch"), Dim("height", min=SMALLEST), Dim("width", min=SMALLEST))
    inputs, axes = {"images": torch.rand(EXAMPLE, generator=torch.Generator().manual_seed(0))}, {"images": {0: batch, 2: height, 3: width}}
    tables: tuple[str, ...] = ()
    if form == "labels" and isinstance(model, EmbeddingSegmenter):
        inputs["class_embeddings"], axes["class_embeddings"], tables = (
            model.kernels.detach(),
            {0: Dim("classes")},
            ("class_embeddings",),
        )
    spec = trained.spec
    about = {"class_names": list(spec.class_names), "palette": spec.palette.tolist(), "dataset": spec.name, "step": trained.meta["step"]}
    network = (LabelGraph if form == "labels" else ScoreGraph)(model).eval()
    return Portable(network, inputs, axes, form, tables, about)


if __name__ == "__main__":
    run_program(main, ExportConfig, "seg.export", positional={"run": None}, short={"output": "-o"})
