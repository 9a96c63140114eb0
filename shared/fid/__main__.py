"""`python -m shared.fid REAL GENERATED`: how far two sets of images are apart."""

from dataclasses import dataclass
from pathlib import Path

from shared.distributed import is_first
from shared.fid.comparison import compare
from shared.fid.features import network_of
from shared.fid.remarks import remark
from shared.fid.sides import DistanceConfig, describe, open_side, require_network, statistics_of, tell
from shared.run.program import run_program
from shared.run.training import choose_device


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
    paths = (config.real, config.generated)
    sides = [open_side(path) for path in paths]
    remark({str(path): side for path, side in zip(paths, sides) if isinstance(side, list)})
    network = None
    if any(isinstance(side, list) for side in sides):
        network = network_of(config, choose_device(config.device), [side.extractor for side in sides if not isinstance(side, list)])
    if network is not None:
        if is_first():
            print(network.description)
        for path, side in zip(paths, sides):
            require_network(side, network, path)
    if config.dry_run:
        print(f"would compare {describe(sides[0])} of {config.real} with {describe(sides[1])} of {config.generated}")
        return
    real = statistics_of(sides[0], network, config.real, config, cache=True)
    generated = statistics_of(sides[1], network, config.generated, config)
    if config.save_real and is_first():
        real.save(config.save_real)
    tell(compare(real, generated, subsets=config.subsets, seed=config.seed), config, real=str(config.real), generated=str(config.generated))


def main() -> None:
    """The program."""
    run_program(score, FidConfig, "shared.fid", positional={"real": None, "generated": None})


if __name__ == "__main__":
    main()
