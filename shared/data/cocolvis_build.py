"""Making the label files of COCO+LVIS: `python -m shared.data build-coco-lvis`.

H, W: height and width of an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from shared.config import read_yaml, require_same_settings, to_yaml
from shared.data.cocolvis import COCO_LVIS, STUFF_IDS, STUFF_VALUES, merge_labels
from shared.data.cocolvis_files import (
    Annotation,
    LeftOut,
    LvisImage,
    StuffAnnotations,
    StuffMaps,
    StuffSource,
    draw,
    drawing_library,
    read_lvis,
)
from shared.data.pictures import read_numbers
from shared.data.statistics import ClassStatistics, SampleCounts, count_classes
from shared.data.workers import parallel_map
from shared.errors import InputError
from shared.files.atomic import write_text
from shared.visualise import save_png

DROPPED_AS_PUBLISHED = 429995
"""Training image that the published generator leaves out."""


def build_coco_lvis(
    coco: Path,
    lvis: Path,
    output: Path,
    *,
    stuff: StuffSource = "maps",
    as_published: bool = False,
    skip_bad: bool = False,
    num_workers: int = 2,
) -> "Built":
    """Write `output`/{train,val}/*.png, the lists {train,val}.txt, the counts statistics_{train,val}.safetensors and report.md.

    Label files that are there already and whole are kept, so the same command continues a build that was stopped. A list is written
    when all label files of its split are there.

    Args:
        coco: folder with stuffthingmaps/{train,val}2017 (stuff maps) or annotations/stuff_{train,val}2017.json (stuff json).
        lvis: folder with lvis_v1_train.json and lvis_v1_val.json.
        as_published: with the errors of the generator that the paper's labels were made with; see `published_stuff_values`.
        skip_bad: leave out annotations that cannot be used, and list them in report.md; else the first is an error.
        num_workers: processes; 0: this one.

    Raises:
        InputError: files that are missing or wrong, before anything is written; or an output folder with files of other settings.
    """
    if as_published and stuff != "json":
        raise InputError("--as-published needs --stuff json: the errors of the published generator depend on the number of annotations")
    drawing_library()  # asked before files are read for minutes
    left_out = LeftOut(skip_bad)
    images = {split: read_lvis(lvis / f"lvis_v1_{split}.json", left_out) for split in ("train", "val")}
    if as_published:
        images["train"] = [image for image in images["train"] if image.number != DROPPED_AS_PUBLISHED]
    source = StuffMaps(coco / "stuffthingmaps") if stuff == "maps" else StuffAnnotations(coco / "annotations", left_out)
    # both splits before anything is written
    source.require([*images["train"], *images["val"]])
    stuff_of = source.read if isinstance(source, StuffAnnotations) else lambda image: source
    tasks = {split: [Task(image, stuff_of(image)) for image in its_images] for split, its_images in images.items()}
    _require_settings(output, {"stuff": stuff, "as_published": as_published})
    found = {}
    for split, its_images in images.items():
        builder = Builder(output / split, as_published)
        samples = parallel_map(_build, builder, tasks[split], num_workers=num_workers, title=f"COCO+LVIS {split}", unit="image")
        found[split] = ClassStatistics.collect(COCO_LVIS, split, samples)
        found[split].save(output / f"statistics_{split}.safetensors")
        # last of a split: CocoLvis takes the list for the sign that its files are all there
        write_text(output / f"{split}.txt", "".join(f"{image.name}\n" for image in its_images))
    write_text(output / "report.md", report(found, stuff, as_published, left_out.messages))
    return Built(found, left_out.messages)


@dataclass(frozen=True)
class Built:
    """What came out: counts by split, and a line for each annotation that was left out."""

    statistics: dict[str, ClassStatistics]
    left_out: list[str]


@dataclass(frozen=True)
class Task:
    """An image and its stuff: maps to read in the worker, or annotations to draw."""

    image: LvisImage
    stuff: StuffMaps | list[Annotation]


@dataclass(frozen=True)
class Builder:
    """Makes the label files of a split in `folder`."""

    folder: Path
    as_published: bool

    def build(self, task: Task) -> SampleCounts:
        """Write the label file of an image unless it is there, and count its classes."""
        image = task.image
        path = self.folder / f"{image.name}.png"
        labels = _finished(path, image)
        if labels is None:
            labels = self.label_values(task)
            save_png(labels, path)
        return count_classes(image.name, labels.astype(np.int64) - 1)  # 0 becomes IGNORE_INDEX

    def label_values(self, task: Task) -> np.ndarray:
        """(H, W) uint16: 0 for no class, or class + 1."""
        image = task.image
        masks = [draw(annotation, image) for annotation in image.annotations]
        categories = [annotation.category for annotation in image.annotations]
        if isinstance(task.stuff, StuffMaps):
            return merge_labels(masks, categories, task.stuff.read(image))
        values = published_stuff_values(len(task.stuff)) if self.as_published else STUFF_VALUES
        return merge_labels(masks, categories, _draw_stuff(image, task.stuff), values)


def _build(builder: Builder, task: Task) -> SampleCounts:
    return builder.build(task)


def _draw_stuff(image: LvisImage, annotations: list[Annotation]) -> np.ndarray:
    """(H, W) stuff ids; the first annotation that covers a pixel counts."""
    ids = np.zeros((image.height, image.width), np.int64)
    for annotation in reversed(annotations):
        ids[draw(annotation, image)] = annotation.category
    return ids


def published_stuff_values(num_annotations: int) -> np.ndarray:
    """The label value of every stuff id as the published generator assigns it to an image with so many stuff annotations.

    It replaces id after id in place, so that an id that is also a new value is replaced twice: cabinet (98 → 181) becomes window-other
    (1283), blanket (93 → 110) desk-stuff (1217). With a single annotation the map has 8 bits, and values wrap: table (1050) becomes 26.
    The order of its table is taken to be that of the ids, with "other" (183) and 255 behind.
    """
    values = np.arange(256).astype(np.uint8 if num_annotations == 1 else np.uint16)
    for stuff_id in (*STUFF_IDS, 183, 255):
        values[values == stuff_id] = STUFF_VALUES[stuff_id].astype(values.dtype)
    return values.astype(np.uint16)


def _finished(path: Path, image: LvisImage) -> np.ndarray | None:
    """The content of a label file that is there and whole, else None."""
    if not path.is_file():
        return None
    try:
        labels = read_numbers(path)
    except InputError:
        return None
    # 8 bits are of another program: these have 16 even where the values are small
    whole = labels.dtype != np.uint8 and labels.shape == (image.height, image.width) and labels.max() <= COCO_LVIS.num_classes
    return labels if whole else None


def _require_settings(output: Path, settings: dict[str, object]) -> None:
    path = output / "settings.yaml"
    if path.is_file():
        require_same_settings(read_yaml(path), settings, free=set(), where=str(output))
    else:
        write_text(path, to_yaml(settings))


def report(found: dict[str, ClassStatistics], stuff: StuffSource, as_published: bool, left_out: Sequence[str] = ()) -> str:
    """What was built, how long the tail of rare classes is, and a line per class; Markdown."""
    made = f"Stuff from {stuff}" + (", with the errors of the published generator" if as_published else "")
    lines = ["# COCO+LVIS label files", "", f"{COCO_LVIS.num_classes} classes. {made}.", ""]
    splits = list(found.values())
    lines += ["| | " + " | ".join(found) + " |", "|---|" + "---|" * len(found)]
    for title, figure in (
        ("images", lambda counts: len(counts.names)),
        ("pixels without a class", _share_ignored),
        ("classes in no image", partial(_classes_in, low=0, high=0)),
        ("classes in 1 to 9 images", partial(_classes_in, low=1, high=9)),
        ("classes in 10 to 99 images", partial(_classes_in, low=10, high=99)),
        ("classes in 100 images or more", partial(_classes_in, low=100, high=10**9)),
    ):
        lines.append(f"| {title} | " + " | ".join(str(figure(counts)) for counts in splits) + " |")
    if left_out:
        lines += ["", f"{len(left_out)} annotations that cannot be used were left out:", "", *(f"- {line}" for line in left_out)]
    lines += ["", "Images and pixels of each class, in the order of the images of the first split:", ""]
    head = " | ".join(f"images {split} | pixels {split}" for split in found)
    lines += [f"| value | class | {head} |", "|---|---|" + "---|" * (2 * len(found))]
    for index in np.argsort(-splits[0].images, kind="stable"):
        figures = " | ".join(f"{counts.images[index]} | {counts.pixels[index]}" for counts in splits)
        lines.append(f"| {index + 1} | {COCO_LVIS.class_names[index]} | {figures} |")
    return "\n".join(lines) + "\n"


def _share_ignored(counts: ClassStatistics) -> str:
    return f"{counts.ignored_pixels / max(1, counts.ignored_pixels + int(counts.pixels.sum())):.1%}"


def _classes_in(counts: ClassStatistics, *, low: int, high: int) -> int:
    return int(((counts.images >= low) & (counts.images <= high)).sum())
