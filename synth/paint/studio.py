"""What the page asks of its server, without anything of HTTP: every answer is bytes."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from shared.data.pictures import IMAGE_SUFFIXES
from shared.errors import InputError
from shared.files.json_file import to_json
from synth.paint import takeaway
from synth.paint.classes import MAP_SIDE, ClassVectors, hex_colours
from synth.paint.config import PaintConfig
from synth.paint.files import brought, read_labels, wire_ids
from synth.paint.layouts import Layouts, open_layouts
from synth.paint.painter import Painter
from synth.paint.painting import LONGEST_TAB, MOST_MIXES, Painting, pack, read_painting, unpack
from synth.paint.photos import Photos
from synth.paint.turns import Turns

LAYOUTS_AT_ONCE = 24


@dataclass(frozen=True)
class Answer:
    """body, its media type, and further headers."""

    body: bytes
    kind: str = "application/octet-stream"
    headers: dict[str, str] = field(default_factory=dict)


class Studio:
    """A painter with everything that the page needs beside it.

    Raises InputError: the run, the table or the segmenter cannot be used.
    """

    def __init__(self, config: PaintConfig, painter: Painter) -> None:
        self.config, self.painter, self.turns = config, painter, Turns()
        self.layouts, self.no_layouts = open_layouts(painter, config.data_root)
        self.photos = None if config.segmenter is None else Photos(painter, config.segmenter, config.device)

    @cached_property
    def vectors(self) -> ClassVectors:
        return ClassVectors(self.painter.vectors())

    def warm_up(self) -> None:
        """The first image and the first layout take longer than others, as libraries are loaded for them."""
        if self.layouts is not None:
            self.layouts.thumbnail(0)
        self.painter.image(Painting(np.zeros(self.painter.generator.image_size, np.int64)))

    # --- What is shown ------------------------------------------------------------------------------------------------------

    def about(self) -> Answer:
        painter, generator = self.painter, self.painter.generator
        return as_json(
            {
                "run": Path(painter.run).name,
                "dataset": painter.spec.name,
                "names": list(painter.spec.class_names),
                "colours": hex_colours(painter.spec.palette),
                "size": list(generator.image_size),
                "multiple": generator.size_multiple,
                "one_size": generator.z_dim is not None,
                "max_pixels": self.config.max_pixels,
                "semantics": generator.semantics.name,
                "vectors": painter.has_vectors,
                "style": generator.z_dim is not None,
                "noise": generator.noise if generator.noise_channels else None,
                "layouts": len(self.layouts or ()),
                "no_layouts": self.no_layouts,
                "photos": self.photos is not None,
                "most_mixes": MOST_MIXES,
                "map_side": MAP_SIDE,
                "device": str(painter.device),
            }
        )

    async def near(self, class_id: str) -> Answer:
        index = number(class_id, self.painter.spec.num_classes)
        return as_json({"near": await asyncio.to_thread(lambda: self.vectors.nearest(index))})

    async def map(self) -> Answer:
        return as_json({"places": await asyncio.to_thread(lambda: self.vectors.places)})

    async def layout_names(self, first: str) -> Answer:
        layouts = self._layouts()
        start = number(first, len(layouts))
        chosen = range(start, min(start + LAYOUTS_AT_ONCE, len(layouts)))
        names = await asyncio.to_thread(lambda: [layouts.dataset.sample_name(index) for index in chosen])
        return as_json({"names": names, "total": len(layouts)})

    async def layout(self, index: str) -> Answer:
        layouts = self._layouts()
        chosen = number(index, len(layouts))
        return self._as_painting(Painting(await asyncio.to_thread(lambda: layouts[chosen])))

    async def layout_picture(self, index: str) -> Answer:
        layouts = self._layouts()
        chosen = number(index, len(layouts))
        return Answer(await asyncio.to_thread(layouts.thumbnail, chosen), "image/png")

    def _layouts(self) -> Layouts:
        if self.layouts is None:
            raise InputError(f"there are no layouts: {self.no_layouts}")
        return self.layouts

    # --- What is painted ----------------------------------------------------------------------------------------------------

    def _read(self, body: bytes) -> tuple[str, Painting]:
        """The tab that asks, and its painting."""
        about, ids = unpack(body)
        tab = about.pop("tab", "")
        if not isinstance(tab, str) or len(tab) > LONGEST_TAB:
            raise InputError(f"the tab needs a name of at most {LONGEST_TAB} characters")
        painter = self.painter
        return tab, read_painting(about, ids, num_classes=painter.spec.num_classes, max_pixels=self.config.max_pixels)

    async def image(self, body: bytes) -> Answer:
        """RGB bytes of the image, and the milliseconds that the generator took, and all of it here."""
        began = time.perf_counter()
        tab, painting = self._read(body)
        self.painter.generator.start_size(painting.size)  # before it waits

        def work() -> tuple[np.ndarray, float]:
            start = time.perf_counter()
            return self.painter.image(painting), time.perf_counter() - start

        made, seconds = await self.turns.run(tab, work)
        about = {"height": painting.size[0], "width": painting.size[1], "ms": round(1000 * seconds, 1)}
        body = pack(about | {"total_ms": round(1000 * (time.perf_counter() - began), 1)}, made.tobytes())
        return Answer(body)

    async def take(self, body: bytes, what: str) -> Answer:
        """The image, the labels, all of it as a ZIP, or the command."""
        tab, painting = self._read(body)
        painter, device = self.painter, self.config.device
        labels, image = f"{takeaway.name_of(painting, painter)}.png", takeaway.image_name
        makers: dict[str, tuple[str, Callable[[], tuple[str, bytes]]]] = {
            "image": ("image/png", lambda: (image(painting, painter), takeaway.image_file(painting, painter))),
            "labels": ("image/png", lambda: (labels, takeaway.label_file(painting, painter))),
            "all": ("application/zip", lambda: (labels.replace(".png", ".zip"), takeaway.everything(painting, painter, device))),
            "command": ("text/plain; charset=utf-8", lambda: ("command.txt", takeaway.command(painting, painter, device).encode())),
        }
        if what not in makers:
            raise InputError(f"there is no {what[:LONGEST_TAB]!r} to take; take one of {', '.join(makers)}")
        kind, make = makers[what]
        # not in the tab's own place in the line, where the next stroke would replace it
        name, made = await self.turns.run(f"{tab} {what}", make)
        return Answer(made, kind, {"Content-Disposition": f'attachment; filename="{name}"'})

    # --- What is brought ----------------------------------------------------------------------------------------------------

    async def labels(self, body: bytes, name: str) -> Answer:
        return self._as_painting(await asyncio.to_thread(read_labels, self.painter, name, body, self.config.max_pixels))

    async def photo(self, body: bytes, name: str) -> Answer:
        if self.photos is None:
            raise InputError("a photo needs a segmentation run; start the page with --segmenter RUN")
        return self._as_painting(Painting(await self.photos.labels_of(name, body, self.config.max_pixels)))

    async def style(self, body: bytes, name: str) -> Answer:
        with brought(name, body, IMAGE_SUFFIXES) as file:
            return as_json({"key": await self.turns.run(f"style {name[:LONGEST_TAB]}", lambda: self.painter.add_style(file))})

    def _as_painting(self, painting: Painting) -> Answer:
        """A painting for the page to go on with."""
        if painting.labels.size > self.config.max_pixels:
            height, width = painting.size
            raise InputError(f"{height}x{width} (height x width) exceed {self.config.max_pixels} pixels; allow more with --max_pixels")
        return Answer(pack(painting.about(), wire_ids(painting.labels)))


def number(text: str, below: int) -> int:
    """Raises InputError: no whole number from 0 to `below` − 1."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and int(text) < below):
        raise InputError(f"{text[:LONGEST_TAB]!r} came; a whole number below {below} was expected")
    return int(text)


def as_json(content: dict[str, Any]) -> Answer:
    return Answer(to_json(content).encode(), "application/json")
