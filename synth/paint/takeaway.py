"""What is taken home: the image, its label map, and the command that makes the same image of it with synth.generate, bit for bit."""

import io
import shlex
import zipfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from shared.constants import IGNORE_INDEX
from shared.files.json_file import to_json
from shared.visualise import label_storage
from synth.images.layout_images import LayoutImagesConfig
from synth.paint.painter import Painter
from synth.paint.painting import Painting

Device = Literal["auto", "cpu", "cuda"]
TEXT_KEY = "synth.paint"
"""Under which a label file tells the rest of its painting."""
INSTANCES = "instances"


def name_of(painting: Painting, painter: Painter) -> str:
    """What its files are called, seeds included."""
    parts = ["painting"]
    if painter.generator.z_dim is not None:
        ends = [end for end in (painting.style.start, painting.style.end) if end is not None]
        parts += ["style", *(str(end) for end in ends)]
    if painter.generator.noise_channels:
        parts += ["noise", str(painting.noise)]
    return "-".join(parts)


def image_name(painting: Painting, painter: Painter) -> str:
    """What synth.generate calls the image of the label file `name_of`."""
    way = painter.settings(painting)
    number = f"_{painting.style.step:0{len(str(way.steps - 1))}}" if way.steps else ""
    return f"{name_of(painting, painter)}{number}.png"


def image_file(painting: Painting, painter: Painter) -> bytes:
    """The PNG that synth.generate writes."""
    buffer = io.BytesIO()
    Image.fromarray(painter.image(painting)).save(buffer, format="PNG")
    return buffer.getvalue()


def label_file(painting: Painting, painter: Painter) -> bytes:
    """A grey PNG of 8 or 16 bit with plain class ids, in which the rest of the painting stands as text."""
    storage, ignored = label_storage(painter.spec.num_classes + len(painting.mixes))
    ids = np.where(painting.labels == IGNORE_INDEX, ignored, painting.labels).astype(storage)
    text = PngInfo()
    text.add_text(TEXT_KEY, to_json(painting.about()))
    buffer = io.BytesIO()
    Image.fromarray(ids).save(buffer, format="PNG", pnginfo=text)
    return buffer.getvalue()


def command(painting: Painting, painter: Painter, device: Device = "auto") -> str:
    """The command line, to be given where the files of `everything` lie."""
    settings = painter.settings(painting, run=str(Path(painter.run).resolve()), table=_resolved(painter.table))
    settings = replace(
        settings,
        label_maps=[f"{name_of(painting, painter)}.png"],
        instances=INSTANCES if painter.trained.instance_edges else None,
        label_offset=0,
        ignore_value=label_storage(painter.spec.num_classes + len(painting.mixes))[1],
        style=_file_name(settings.style),
        style_to=_file_name(settings.style_to),
        device=device,
    )
    return shlex.join(["python", "-m", "synth.generate", settings.run, *settings.label_maps, "-o", "images", *options_of(settings)])


def options_of(settings: LayoutImagesConfig) -> list[str]:
    """`--name=value` of what differs from the defaults; so written, as a value may begin with a dash."""
    given = [(field.name, getattr(settings, field.name), field.default) for field in fields(settings)]
    return [f"--{name}={value}" for name, value, default in given if name not in ("run", "label_maps") and value != default]


def everything(painting: Painting, painter: Painter, device: Device = "auto") -> bytes:
    """A ZIP file: label map, image, command, and the images that style is taken from."""
    name, buffer = name_of(painting, painter), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{name}.png", label_file(painting, painter))
        archive.writestr(f"images/{image_name(painting, painter)}", image_file(painting, painter))
        archive.writestr("command.txt", command(painting, painter, device) + "\n")
        for key in (painting.style.start, painting.style.end):
            if isinstance(key, str) and painter.generator.z_dim is not None:
                archive.write(painter.style_file(key), painter.style_file(key).name)
        if painter.trained.instance_edges:
            blank = io.BytesIO()
            Image.fromarray(np.zeros(painting.size, np.uint8)).save(blank, format="PNG")
            archive.writestr(f"{INSTANCES}/{name}.png", blank.getvalue())
    return buffer.getvalue()


def _file_name(style: int | str | None) -> int | str | None:
    return Path(style).name if isinstance(style, str) else style


def _resolved(path: str | None) -> str | None:
    return None if path is None else str(Path(path).resolve())
