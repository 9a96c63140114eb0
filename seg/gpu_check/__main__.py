"""The checks of segmentation; started by `python -m shared.gpu_check`, not by hand."""

from seg.gpu_check import equality, speed, thresholds, training
from shared.gpu_check.checks import serve
from shared.gpu_check.config import PartConfig
from shared.run.program import run_program

SECTIONS = {
    "equality": equality.checks_of,
    "training": training.checks_of,
    "speed": speed.checks_of,
    "thresholds": thresholds.checks_of,
}


def main(config: PartConfig) -> None:
    """Do those of the sections."""
    serve(SECTIONS, config, "seg.gpu_check")


if __name__ == "__main__":
    run_program(main, PartConfig, "seg.gpu_check")
