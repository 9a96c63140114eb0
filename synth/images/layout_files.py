"""From label files to layouts of the size of an image to be made."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from shared.data.label_rules import LabelRules
from shared.data.pictures import MAX_PIXELS, read_numbers
from shared.data.spec import Sample
from shared.data.stored_rules import read_rules
from shared.data.transforms import JointTransform, SynthMode
from shared.errors import InputError
from shared.files.text_file import composed
from synth.config import InputConfig
from synth.generator import SpadeGenerator
from synth.trained import TrainedGenerator

PLAIN_FILES = {"ending": "", "suffixes": [".png"]}


def label_rules(meta: dict[str, Any], offset: int | None = None, ignore_value: int | None = None) -> LabelRules:
    """How the label files of the training data name classes, with what is given in place of what is stored."""
    # checkpoints from before there were rules have the codes of all files
    stored = meta.get("label_files") or {"rules": [meta["label_codes"] | PLAIN_FILES], "instances": "", "others": []}
    return read_rules(stored, len(meta["class_names"]), offset=offset, ignore_value=ignore_value)


def find_instances(trained: TrainedGenerator, rules: LabelRules, files: Collection[str], folder: str | None) -> dict[str, Path]:
    """The instance map of every label map, for generators with instance edges; nothing for others.

    Raises:
        InputError: they are needed and not given, given and of no use, or one is missing.
    """
    if folder is None and trained.instance_edges:
        raise InputError("this generator was trained with instance edges; give the folder of instance maps with --instances")
    if folder is None:
        return {}
    if not trained.instance_edges:
        raise InputError(f"instances {folder} was given, but this generator was trained without instance edges; leave it out")
    found = rules.find_instances(Path(folder))
    missing = [Path(folder, f"{name}.png") for name in files if composed(name) not in found]
    if missing:
        raise InputError(f"{len(missing)} of {len(files)} label maps have no instance map; the first is {missing[0]}: add it")
    return {name: found[composed(name)] for name in files}


def input_config(trained: TrainedGenerator, mode: SynthMode | None = None, size: tuple[int, int] | None = None) -> InputConfig:
    """How layouts come to their size: as in the evaluation of the training, except for what is given.

    Raises:
        InputError: a size that the generator cannot make.
    """
    stored = InputConfig(**trained.meta["config"]["input"])
    if size is not None:
        trained.generator.start_size(size)
    return replace(stored, mode=mode or stored.mode, size=size or stored.size, load_size=None)


def prepare_layout(label_map: torch.Tensor, instances: Path | None, transform: JointTransform, *, max_pixels: int = MAX_PIXELS) -> Sample:
    """A label map (H, W), with its instance map where there is one, brought to the size of its image.

    Raises:
        InputError: the two differ in size, or the instance map cannot be read.
    """
    instance_map = None if instances is None else torch.from_numpy(read_numbers(instances, max_pixels=max_pixels).astype("int64"))
    if instance_map is not None and instance_map.shape != label_map.shape:
        raise InputError(f"{instances} has size {tuple(instance_map.shape)}, its label map {tuple(label_map.shape)}; they must be equal")
    # an empty image, as transforms move image and labels together
    return transform(Sample(torch.zeros(3, *label_map.shape, dtype=torch.uint8), label_map, instance_map, ""))


def image_size(generator: SpadeGenerator, layout: Sample, file: Path) -> tuple[int, int]:
    """(height, width) of the layout of a file, and so of its image.

    Raises:
        InputError: the generator cannot make such an image.
    """
    height, width = layout.label_map.shape
    try:
        generator.start_size((height, width))
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    return height, width
