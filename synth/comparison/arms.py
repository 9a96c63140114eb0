"""The arms of a comparison: from its settings (semantics, discriminators, variants) to trainings, and from those to images.

Each arm is one `python -m synth.train` in a process of its own, then images of every validation layout.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shared.data.loader import BatchLoader
from shared.run.directory import RunDirectory
from shared.run.monitor import parameter_count
from shared.run.training import seed_step
from shared.visualise import save_png
from synth.comparison.config import CompareConfig
from synth.images.generation import generate, generate_batch
from synth.semantics import semantics_title
from synth.semantics.edges import batch_edges
from synth.trained import load_generator

PROTOCOL, SEGMENTATION = "protocol.yaml", "segmentation.yaml"
"""Settings files in the folder of a comparison: what all generators share, and what all variants' embeddings share."""


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
    for index, batch in enumerate(loader.with_progress(f"generate {arm.title}, seed {arm.seed}")):
        paths = [arm.images / f"{name}.png" for name in batch.names]
        if all(path.is_file() for path in paths):
            continue
        seed_step(arm.seed, index)
        for path, image in zip(paths, generate_batch(trained.generator, trained.style_encoder, batch.to(device))):
            save_png(image, path)


def layout_samples(arm: Arm, loader: BatchLoader, device: torch.device, samples: int) -> Iterator[torch.Tensor]:
    """`samples` images of every validation layout, (samples, 3, H, W) uint8, with style or noise of their own draws."""
    trained = load_generator(arm.run, device)
    for index, batch in enumerate(loader.with_progress(f"samples of {arm.title}, seed {arm.seed}")):
        seed_step(arm.seed, index)
        edges = batch_edges(batch.to(device)) if trained.instance_edges else None
        for place, label_map in enumerate(batch.label_maps.to(device)):
            own = None if edges is None else edges[place].expand(samples, -1, -1)
            images = generate(trained.generator, label_map.expand(samples, -1, -1), edges=own)
            yield torch.from_numpy(images).permute(0, 3, 1, 2)


def arms_of(config: CompareConfig, folder: Path) -> list[Arm]:
    """Every arm at every seed, seed by seed."""
    kinds: Sequence[str | None] = config.discriminators or [None]
    variants: Sequence[str | None] = list(config.variants) or [None]
    return [
        Arm(semantics, kind, variant, seed, folder)
        for seed in config.seeds
        for kind in kinds
        for variant in variants
        for semantics in (None if variant is None else config.variants[variant].semantics) or config.semantics
    ]


def embedding_trainings(config: CompareConfig, folder: Path) -> dict[str, list[str]]:
    """Variant -> the arguments after `python -m` that learn its class embeddings, for those that have their own."""
    return {
        name: [
            "seg.train",
            "--config",
            str(folder / SEGMENTATION),
            *options_of(variant.seg),
            "--run_dir",
            str(embeddings_run(name, folder)),
        ]
        for name, variant in config.variants.items()
        if variant.seg
    }


def embeddings_run(variant: str, folder: Path) -> Path:
    """The run directory of a variant's segmentation training."""
    return folder / f"embeddings-{variant.replace(' ', '-')}"


def options_of(settings: Mapping[str, Any]) -> list[str]:
    """Settings as a command line."""
    return [part for key, value in settings.items() for part in (f"--{key}", value if isinstance(value, str) else json.dumps(value))]
