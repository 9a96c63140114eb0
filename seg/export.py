"""Write the embedding file and the encoder file of a run: `python -m seg.export RUN`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from seg.checkpoints import export, load_segmenter
from shared.program import run_program
from shared.rundir import RunDirectory


@dataclass
class ExportConfig:
    """Write the class embeddings and the encoder of a trained segmentation network."""

    run: str
    """Run directory of seg.train."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint."""
    output: str | None = None
    """Folder for the files. Null: the run directory."""
    dry_run: bool = False
    """Check what is given, say what would be done, and stop."""


def main(config: ExportConfig) -> None:
    run = RunDirectory.open(config.run)
    trained = load_segmenter(run, config.checkpoint, torch.device("cpu"))
    if config.dry_run:
        print(f"would write the exports of step {trained.meta['step']} to {config.output or config.run}")
        return
    about = {"run": str(run.path), "step": trained.meta["step"]}
    for path in export(trained, Path(config.output or config.run), about):
        print(f"wrote {path}")


if __name__ == "__main__":
    run_program(main, ExportConfig, "seg.export", positional={"run": None}, short={"output": "-o"})
