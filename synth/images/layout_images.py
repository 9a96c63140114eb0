"""Images from label maps alone, one after the other: what `synth.generate` writes and `synth.score` measures."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from shared.data.pictures import MAX_PIXELS
from shared.data.transforms import SIZED_MODES, SynthMode
from shared.errors import InputError, choose
from shared.run.directory import RunDirectory
from shared.run.training import choose_device, seed_of
from synth.images.class_changes import add_table, mix, parse_mixtures
from synth.images.generation import generate
from synth.images.layout_files import find_instances, image_size, input_config, label_rules, prepare_layout
from synth.images.styles import drawn_style, image_style, interpolated_styles, layout_number
from synth.inputs import layout_transform
from synth.semantics.edges import instance_edges
from synth.semantics.layout import SemanticPyramid
from synth.semantics.noise import Noise, draw_noise, resample, seeded_noise
from synth.trained import TrainedGenerator, load_generator

MOST_DIGITS = 18
"""Of a seed: all such numbers fit in 63 bits."""


@dataclass(kw_only=True)
class LayoutImagesConfig:
    """Which images of which label maps a generator makes."""

    run: str
    """Run directory of synth.train."""
    label_maps: list[str]
    """Label PNGs with the numbers of the training data's label files, or folders of them, be it those of the data set itself: where its
    files lie beside others, the right ones are taken by their endings. Numbers of files without such an ending are class ids."""
    instances: str | None = None
    """Folder of instance maps with the names of the label maps, for generators with instance edges."""
    label_offset: int | None = None
    """Value of the first class in the label files. Null: that of the training data."""
    ignore_value: int | None = None
    """Value of ignored pixels in the label files. Null: that of the training data."""
    mode: SynthMode | None = None
    """How a layout comes to its size, as input.mode of synth.train; none: it keeps its own, rounded to the nearest that the generator
    can make. Null: the training's."""
    size: tuple[int, int] | None = None
    """(height, width) in pixels of the images, or of what the mode makes of it; free for generators without style. Null: the training's."""
    style: int | str | None = None
    """The style of all images (generators with style): an image file that has it, or a whole number, the seed of a style drawn from the
    prior. Null: every image has a style of its own, drawn from the prior by seed, layout and sample."""
    style_to: int | str | None = None
    """Another style: every label map gives images on the way from style to this one."""
    steps: int | None = None
    """Images per label map from style to style_to, both included."""
    samples: int = 1
    """Images per label map, each with style or noise of its own draw (generators with style or noise)."""
    resample: str | None = None
    """Classes, with commas between them, whose noise differs between the samples, while all else keeps the first sample's (generators with
    noise)."""
    seed: int = 0
    """Seed of the drawn styles and noise."""
    noise: int | None = None
    """Seed of the noise of all images (generators with noise), which stays in place when a layout changes. Null: every image has noise of
    its own, drawn by seed, layout and sample."""
    redraw: str | None = None
    """Classes whose noise has another seed than noise says: "sky=3; tree=8"."""
    table: str | None = None
    """Class table with names (.safetensors, .npz, .csv), for generators on class vectors: classes that the generator has get its vectors,
    others are new classes, whose ids follow on the last one's."""
    mix: str | None = None
    """Class arithmetic, for generators on class vectors: "car=0.5*car+0.5*bus" changes what cars look like; a name that is no class yet is
    a new one, whose id follows on the last one's. Several with ; between them."""
    max_pixels: int = MAX_PIXELS
    """Pixels of the largest picture that is read; a larger one is refused, as a small file may unfold to any size."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes CUDA when there is a device."""

    def __post_init__(self) -> None:
        leasts = {"samples": 1, "seed": 0, "style": 0, "style_to": 0, "noise": 0, "steps": 2, "label_offset": 0, "max_pixels": 1}
        for name, least in leasts.items():
            value = getattr(self, name)
            if isinstance(value, int) and value < least:
                raise InputError(f"{name} is {value}; it must be at least {least}")
        if self.style is not None and self.samples > 1:
            raise InputError(f"style gives one image per label map, but samples is {self.samples}; leave one of the two out")
        if self.noise is not None and (self.samples > 1 or self.resample is not None):
            raise InputError("noise gives all images one noise, but samples and resample ask for several; leave noise out, or these two")
        if self.redraw is not None and self.noise is None:
            raise InputError(f"redraw is {self.redraw}, but no seed for the other classes is given; give --noise as well")
        if self.style_to is not None and (self.style is None or self.steps is None):
            raise InputError("style_to is the end of a way; give --style, where it begins, and --steps, the number of images on it")
        if self.steps is not None and self.style_to is None:
            raise InputError(f"steps is {self.steps}, but there is no way to go; give --style and --style_to, or leave it out")
        if self.mode == "none" and self.size is not None:
            raise InputError("mode none keeps the layouts' own sizes, so size has no use; leave one of the two out")


class LayoutMaker:
    """Makes the images of one label map after another, with a generator that is loaded.

    Args:
        config: its style, style_to, steps, samples, resample, seed, mode, size and max_pixels count.

    Raises:
        InputError: something of these does not fit the generator.
    """

    def __init__(self, trained: TrainedGenerator, config: LayoutImagesConfig, device: torch.device) -> None:
        self.generator, self.device, self.max_pixels = trained.generator, device, config.max_pixels
        self.preparation = input_config(trained, config.mode, config.size)
        self.styles_of, self.noise_of = choose_styles(trained, config), choose_noise(trained, config)
        self.per_layout, self.one_noise = config.steps or config.samples, config.steps is not None
        self.transform = layout_transform(self.preparation, multiple=self.generator.size_multiple)

    def images(self, label_map: torch.Tensor, instances: Path | None, name: Path) -> Iterator[np.ndarray]:
        """The images (height, width, 3) uint8 RGB of a label map (H, W) int64, each made when its turn comes.

        Args:
            instances: the instance map, for generators with instance edges.
            name: of the label map, for messages.
        """
        layout = prepare_layout(label_map, instances, self.transform, max_pixels=self.max_pixels)
        size = image_size(self.generator, layout, name)
        labels = layout.label_map[None].to(self.device)
        edges = None if layout.instance_map is None else instance_edges(layout.instance_map[None].to(self.device), labels)
        pyramid = self.generator.semantics.pyramid(labels, edges)  # shared by all images of the layout
        for index, style in enumerate(self.styles_of(label_map)):
            z = None if style is None else style.to(self.device)
            # on the way from style to style all else stays the same
            noise = self.noise_of(label_map, pyramid, 0 if self.one_noise else index)
            yield generate(self.generator, pyramid, style=z, noise=noise, size=size)[0]


def load_changed(run: str, device: torch.device, table: str | None, mixtures: str | None) -> TrainedGenerator:
    """The generator of a run, with the classes of a table and of class arithmetic where they are given.

    Raises:
        InputError: no such run, or classes that do not fit it.
    """
    trained = load_generator(RunDirectory.open(run), device)
    if table is not None:
        trained = add_table(trained, table)
    return trained if mixtures is None else mix(trained, parse_mixtures(mixtures))


class LayoutImages:
    """The images that the settings ask for: (name, (height, width, 3) uint8 RGB), each made when its turn comes.

    Raises:
        InputError: something that was given does not fit, before any image is made.
    """

    def __init__(self, config: LayoutImagesConfig) -> None:
        self.device = choose_device(config.device)
        trained = load_changed(config.run, self.device, config.table, config.mix)
        self.generator, self.max_pixels = trained.generator, config.max_pixels
        rules = label_rules(trained.meta, config.label_offset, config.ignore_value)
        self.files = rules.find(config.label_maps)
        self.instances = find_instances(trained, rules, self.files, config.instances)
        self.maker = LayoutMaker(trained, config, self.device)
        self.preparation, self.per_layout = self.maker.preparation, self.maker.per_layout

    def __len__(self) -> int:
        return len(self.files) * self.per_layout

    @property
    def _digits(self) -> int:
        return len(str(self.per_layout - 1))

    @property
    def longest_name(self) -> str:
        """Of the names that the images get."""
        number = "" if self.per_layout == 1 else "_" + "0" * self._digits
        return max((f"{name}{number}" for name in self.files), key=lambda name: len(os.fsencode(Path(name).name)))

    @property
    def sizes(self) -> str:
        """Such as "(64, 128) pixels"."""
        mode, size = self.preparation.mode, self.preparation.size
        return f"{tuple(size)} pixels" if mode in SIZED_MODES else f"the sizes of mode {mode}"

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        for name in sorted(self.files, key=Path):  # the order in which the files would be read again
            file, reader = self.files[name]
            label_map = reader.read(file, max_pixels=self.max_pixels)
            for index, image in enumerate(self.maker.images(label_map, self.instances.get(name), file)):
                suffix = "" if self.per_layout == 1 else f"_{index:0{self._digits}}"
                yield f"{name}{suffix}", image


def choose_styles(trained: TrainedGenerator, config: LayoutImagesConfig) -> Callable[[torch.Tensor], Sequence[torch.Tensor | None]]:
    """The styles, (1, style_dim) each, of the images of a label map, as a function of it; None each for generators without style.

    Raises:
        InputError: styles are asked for, and the generator has none.
    """
    dim = trained.generator.z_dim
    if dim is None:
        if config.style is not None or (config.samples > 1 and not trained.generator.noise_channels):
            asked = f"samples is {config.samples}" if config.style is None else f"style {config.style} was given"
            raise InputError(f"{asked}, but this generator gives one image per label map; train with --generator.style_dim 256")
        return lambda label_map: [None] * config.samples
    if config.style is None:
        return lambda label_map: [drawn_style(dim, config.seed, layout_number(label_map), sample) for sample in range(config.samples)]
    styles = fixed_style(trained, config.style)
    if config.style_to is not None and config.steps is not None:
        styles = interpolated_styles(styles, fixed_style(trained, config.style_to), config.steps)
    return lambda label_map: styles.split(1)


def choose_noise(trained: TrainedGenerator, config: LayoutImagesConfig) -> Callable[[torch.Tensor, SemanticPyramid, int], Noise | None]:
    """The noise of a sample of a label map, as a function of the map, its pyramid and the sample's number; None for generators without.

    Raises:
        InputError: some is to be resampled, and the generator has none, or there is no such class.
    """
    generator, names = trained.generator, trained.spec.class_names
    if config.noise is not None:
        return _seeded_noise(trained, config.noise, config.redraw)
    chosen = [name.strip() for name in (config.resample or "").split(",") if name.strip()]
    if chosen and not generator.noise_channels:
        raise InputError(f"resample is {config.resample}, but this generator has no noise; train with --generator.noise_channels 64")
    for name in chosen:
        choose(f"class of {trained.spec.name}", name, names, where="resample")
    classes = [names.index(name) for name in chosen]

    def draw(label_map: torch.Tensor, pyramid: SemanticPyramid, sample: int) -> Noise | None:
        if not generator.noise_channels:
            return None
        assert pyramid.classes is not None
        first, own = (
            draw_noise(generator.noise, generator.noise_channels, pyramid.classes, seed_of(config.seed, layout_number(label_map), number))
            for number in (0, sample)
        )
        return resample(first, own, pyramid.classes, classes) if classes else own

    return draw


def _seeded_noise(trained: TrainedGenerator, seed: int, redraw: str | None) -> Callable[[torch.Tensor, SemanticPyramid, int], Noise | None]:
    generator, names = trained.generator, trained.spec.class_names
    if not generator.noise_channels:
        raise InputError(f"noise {seed} was given, but this generator has no noise; train with --generator.noise_channels 64")
    own = {}
    for part in filter(str.strip, (redraw or "").split(";")):
        name, _, number = (word.strip() for word in part.rpartition("="))
        if not number.isdecimal() or len(number) > MOST_DIGITS:
            raise InputError(f"redraw {part.strip()!r} is not understood; write it like sky=3, several with ; between them")
        choose(f"class of {trained.spec.name}", name, names, where="redraw")
        own[names.index(name)] = int(number)

    def draw(label_map: torch.Tensor, pyramid: SemanticPyramid, sample: int) -> Noise:
        assert pyramid.classes is not None
        return seeded_noise(generator.noise, generator.noise_channels, pyramid.classes, seed, own)

    return draw


def fixed_style(trained: TrainedGenerator, style: int | str) -> torch.Tensor:
    """(1, style_dim): drawn by a seed, or that of an image file, brought to size as in training."""
    assert trained.style_encoder is not None and trained.generator.z_dim is not None
    if isinstance(style, int):
        return drawn_style(trained.generator.z_dim, style)
    return image_style(trained.style_encoder, Path(style), layout_transform(input_config(trained)))
