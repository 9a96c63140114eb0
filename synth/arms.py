"""The arms of a comparison: each is one `python -m synth.train` in a process of its own, then images of every validation layout."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from shared.data.loader import BatchLoader
from shared.run.directory import RunDirectory
from shared.run.training import progress, seed_step
from shared.visualise import save_png
from synth.generation import generate, generate_batch
from synth.networks import load_generator, parameter_count
from synth.semantics import semantics_title
from synth.step import batch_edges


@dataclass(frozen=True)
class Arm:
    """One semantics, with one kind of discriminator and one variant where several are compared, at one seed.

    Attributes:
        discriminator: None: that of the protocol.
        variant: name of the change of the protocol; None: no change.
        folder: where the comparison's runs lie.
    """

    semantics: str
    discriminator: str | None
    variant: str | None
    seed: int
    folder: Path

    @property
    def title(self) -> str:
        """What the arm is called in the report."""
        return " ".join([semantics_title(self.semantics), *(part for part in (self.discriminator, self.variant) if part is not None)])

    @property
    def run(self) -> RunDirectory:
        """The directory of the training."""
        return RunDirectory(self.folder / f"{self.title.replace(' ', '-')}-seed{self.seed}")

    @property
    def images(self) -> Path:
        """The folder of the generated PNGs."""
        return self.run.path / "generated"

    def loss_curves(self) -> dict[str, tuple[list[int], list[float]]]:
        """Loss name -> (steps, values), as logged."""
        curves: dict[str, tuple[list[int], list[float]]] = {}
        for entry in self.run.metrics():
            for name, value in entry.items():
                if name.startswith(("generator/", "discriminator/")) and value is not None:
                    steps, values = curves.setdefault(name, ([], []))
                    steps.append(entry["step"])
                    values.append(value)
        return curves

    def parameters(self) -> int:
        """Trained values of the generator."""
        return parameter_count(load_generator(self.run, torch.device("cpu")).generator)

    def steps_logged(self) -> int:
        """The last step in the metrics, 0 before there are any."""
        return max((entry["step"] for entry in self.run.metrics()), default=0)


def generate_images(arm: Arm, loader: BatchLoader, device: torch.device) -> None:
    """Write one PNG per validation layout into `arm.images`; images that are there already stay."""
    trained = load_generator(arm.run, device)
    for index, batch in enumerate(progress(loader, f"generate {arm.title}, seed {arm.seed}", total=len(loader), unit="batch")):
        paths = [arm.images / f"{name}.png" for name in batch.names]
        if all(path.is_file() for path in paths):
            continue
        seed_step(arm.seed, index)
        for path, image in zip(paths, generate_batch(trained.generator, trained.style_encoder, batch.to(device))):
            save_png(image, path)


def layout_samples(arm: Arm, loader: BatchLoader, device: torch.device, samples: int) -> Iterator[torch.Tensor]:
    """`samples` images of every validation layout, (samples, 3, H, W) uint8, with style or noise of their own draws."""
    trained = load_generator(arm.run, device)
    for index, batch in enumerate(progress(loader, f"samples of {arm.title}, seed {arm.seed}", total=len(loader), unit="batch")):
        seed_step(arm.seed, index)
        edges = batch_edges(batch.to(device)) if trained.instance_edges else None
        for place, label_map in enumerate(batch.label_maps.to(device)):
            own = None if edges is None else edges[place].expand(samples, -1, -1)
            images = generate(trained.generator, label_map.expand(samples, -1, -1), edges=own)
            yield torch.from_numpy(images).permute(0, 3, 1, 2)


def read_png(path: Path) -> np.ndarray:
    """(H, W, 3) uint8."""
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))
