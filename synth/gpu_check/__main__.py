"""The checks of synthesis; started by `python -m shared.gpu_check`, not by hand."""

from shared.gpu_check.checks import serve
from shared.gpu_check.config import PartConfig
from shared.run.program import run_program
from synth.gpu_check import equality, speed, thresholds, training

SECTIONS = {"equality": equality, "training": training, "speed": speed, "thresholds": thresholds}


def main(config: PartConfig) -> None:
    """Do those of the section."""
    serve(SECTIONS[config.section].checks_of(config.device, config.rehearsal), config, "synth.gpu_check")


if __name__ == "__main__":
    run_program(main, PartConfig, "synth.gpu_check")
