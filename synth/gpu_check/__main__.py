"""The checks of synthesis; started by `python -m shared.gpu_check`, not by hand."""

from shared.gpu_check.checks import serve
from shared.gpu_check.config import PartConfig
from shared.run.program import run_program
from synth.gpu_check import equality, speed, thresholds, training

SECTIONS = {
    "equality": equality.checks_of,
    "training": training.checks_of,
    "speed": speed.checks_of,
    "thresholds": thresholds.checks_of,
}


def main(config: PartConfig) -> None:
    """Do those of the sections."""
    serve(SECTIONS, config, "synth.gpu_check")


if __name__ == "__main__":
    run_program(main, PartConfig, "synth.gpu_check")
