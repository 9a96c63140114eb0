"""Write the embedding file and the encoder file of a run, or its network for other programs: `python -m seg.export RUN`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from seg.checkpoints import export, load_segmenter
from seg.portable import portable_segmenter
from shared.files.graph_file import write_files
from shared.run.directory import RunDirectory
from shared.run.program import run_program


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


if __name__ == "__main__":
    run_program(main, ExportConfig, "seg.export", positional={"run": None}, short={"output": "-o"})
