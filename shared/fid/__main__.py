"""`python -m shared.fid REAL GENERATED`: how far two sets of images are apart."""

from dataclasses import dataclass
from pathlib import Path

from shared.distributed import is_first
from shared.fid.folders import compare_sides, open_sides
from shared.fid.sides import DistanceConfig, describe, tell
from shared.run.program import run_program


@dataclass(kw_only=True)
class FidConfig(DistanceConfig):
    """Distance between two sets of images: FID and KID (in other features FD-… and KD-…), and how far they cover each other."""

    real: Path
    """Folder of images, searched with its subfolders as a data set's is, or an .npz file of feature statistics (ours or pytorch-fid's)."""
    generated: Path
    """The same for the images to be judged."""
    save_real: Path | None = None
    """Write mean, covariance and features of REAL to this .npz file, which can be given as REAL the next time."""


def score(config: FidConfig) -> None:
    """Compare the two sets, print the result and write what was asked for."""
    sides = open_sides(config.real, config.generated, config)
    if sides.network is not None and is_first():
        print(sides.network.description)
    if config.dry_run:
        print(f"would compare {describe(sides.real)} of {config.real} with {describe(sides.generated)} of {config.generated}")
        return
    comparison, real = compare_sides(sides, config.real, config.generated, config)
    if config.save_real and is_first():
        real.save(config.save_real)
    tell(comparison, config, real=str(config.real), generated=str(config.generated))


def main() -> None:
    """The program."""
    run_program(score, FidConfig, "shared.fid", positional={"real": None, "generated": None})


if __name__ == "__main__":
    main()
