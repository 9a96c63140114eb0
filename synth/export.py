"""Write a trained generator as a file for other programs: `python -m synth.export RUN --onnx FILE`."""

from dataclasses import dataclass

import torch

from shared.errors import InputError
from shared.files.graph_file import write_files
from shared.run.directory import RunDirectory
from shared.run.program import run_program
from synth.networks import load_generator
from synth.portable import portable_generator


@dataclass
class ExportConfig:
    """Write the generator of a run as ONNX, or as a program of torch.export; the class table is an input of it."""

    run: str
    """Run directory of synth.train or synth.convert."""
    onnx: str | None = None
    """File to write, .onnx; needs the extra export."""
    program: str | None = None
    """File to write, .pt2, for torch.export.load."""
    dry_run: bool = False
    """Check what is given, say what would be done, and stop."""


def main(config: ExportConfig) -> None:
    if config.onnx is None and config.program is None:
        raise InputError("nothing to write was named; give --onnx FILE, --program FILE or both")
    trained = load_generator(RunDirectory.open(config.run), torch.device("cpu"))
    write_files(portable_generator(trained), config.onnx, config.program, dry_run=config.dry_run)


if __name__ == "__main__":
    run_program(main, ExportConfig, "synth.export", positional={"run": None})
