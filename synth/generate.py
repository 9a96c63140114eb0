"""Images from label maps alone: `python -m synth.generate RUN LABELMAPS… -o DIR`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from shared.data.pairs import expand_paths
from shared.data.pictures import LABEL_SUFFIXES, LabelCodes, read_image, read_numbers
from shared.data.spec import Sample
from shared.errors import InputError
from shared.program import run_program
from shared.rundir import RunDirectory
from shared.training import choose_device, progress, seed_step
from shared.visualise import save_png
from synth.config import InputConfig
from synth.generation import generate, style_of
from synth.inputs import eval_transform
from synth.instance_edges import instance_edges
from synth.networks import TrainedGenerator, load_generator


@dataclass
class GenerateConfig:
    """Generate images from label maps: no real image is needed."""

    run: str
    """Run directory of synth.train."""
    label_maps: list[str]
    """Label PNGs with the numbers of the training data's label files, or folders of them."""
    output: str
    """Folder for the images; a label map a/b.png of a folder gives a/b.png."""
    instances: str | None = None
    """Folder of instance maps with the names of the label maps, for generators with instance edges."""
    style: str | None = None
    """Image whose style is used (generators with style). Null: the style is drawn from the prior."""
    samples: int = 1
    """Images per label map, each with a style of its own draw (generators with style)."""
    seed: int = 0
    """Seed of the drawn styles."""
    ignore_value: int | None = None
    """Value of ignored pixels in the label files. Null: that of the training data."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    dry_run: bool = False
    """Check what is given, say what would be done, and stop."""

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise InputError(f"samples is {self.samples}; it must be at least 1")
        if self.style is not None and self.samples > 1:
            raise InputError(f"style gives one image per label map, but samples is {self.samples}; leave one of the two out")


def label_codes(meta: dict[str, Any], ignore_value: int | None) -> LabelCodes:
    """How the label files of the training data name classes, with the ignored value replaced when one is given."""
    stored = meta["label_codes"]
    return LabelCodes(len(meta["class_names"]), stored["offset"], stored["ignore_value"] if ignore_value is None else ignore_value)


def read_layout(trained: TrainedGenerator, label_map: torch.Tensor, instances: Path | None) -> Sample:
    """A layout (1 of a batch) as in the evaluation of the training: same resizing, and edges where the generator has them."""
    instance_map = None if instances is None else torch.from_numpy(read_numbers(instances).astype("int64"))
    if instance_map is not None and instance_map.shape != label_map.shape:
        raise InputError(f"{instances} has size {tuple(instance_map.shape)}, its label map {tuple(label_map.shape)}; they must be equal")
    blank = torch.zeros(3, *label_map.shape, dtype=torch.uint8)
    return eval_transform(InputConfig(**trained.meta["config"]["input"]))(Sample(blank, label_map, instance_map, ""))


def read_style(trained: TrainedGenerator, path: str | None, device: torch.device) -> torch.Tensor | None:
    """The style (1, style_dim) of an image file, or None to draw one.

    Raises:
        InputError: the generator has no style.
    """
    if path is None:
        return None
    if trained.style_encoder is None:
        raise InputError(f"style {path} was given, but the run has no style encoder; train with --generator.style_dim 256")
    image = read_image(Path(path)).to(device)[None].float() / 127.5 - 1
    return style_of(trained.style_encoder, image)


def main(config: GenerateConfig) -> None:
    device = choose_device(config.device)
    trained = load_generator(RunDirectory.open(config.run), device)
    if trained.instance_edges and config.instances is None:
        raise InputError("this generator was trained with instance edges; give the folder of instance maps with --instances")
    if config.samples > 1 and trained.style_encoder is None:
        raise InputError(f"samples is {config.samples}, but this generator gives one image per label map; train with --generator.style_dim")
    files = expand_paths(config.label_maps, LABEL_SUFFIXES)
    codes = label_codes(trained.meta, config.ignore_value)
    style = read_style(trained, config.style, device)
    output = Path(config.output)
    if config.dry_run:
        print(f"would generate {len(files) * config.samples} images of {trained.generator.image_size} pixels and write to {output}")
        return
    for index, (name, file) in enumerate(progress(files.items(), "generate", total=len(files), unit="map")):
        instances = None if config.instances is None or not trained.instance_edges else Path(config.instances, f"{name}.png")
        layout = read_layout(trained, codes.read(file), instances)
        label_map = layout.label_map[None].to(device)
        edges = None if layout.instance_map is None else instance_edges(layout.instance_map[None].to(device), label_map)
        for sample in range(config.samples):
            seed_step(config.seed, index, sample)
            suffix = "" if config.samples == 1 else f"_{sample}"
            save_png(generate(trained.generator, label_map, edges=edges, style=style)[0], output / f"{name}{suffix}.png")
    print(f"wrote {len(files) * config.samples} images to {output}")


if __name__ == "__main__":
    run_program(main, GenerateConfig, "synth.generate", positional={"run": None, "label_maps": "+"}, short={"output": "-o"})
