"""What is painted: a label map with mixed classes, style and noise; how it comes over the wire, checked; and what synth.generate calls it.

On the wire, both ways: four bytes with the length of a JSON text (little endian), the text, and the rest. The rest of a painting are its
class ids, uint16 little endian, row by row, 65535 for ignored pixels.
"""

import json
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shared.constants import IGNORE_INDEX
from shared.errors import InputError
from shared.files.json_file import to_json
from synth.images.class_changes import Mixture, parse_mixtures
from synth.images.layout_images import MOST_DIGITS, LayoutImagesConfig

IGNORED = 2**16 - 1
LONGEST_TEXT, LONGEST_NAME, LONGEST_TAB = 2**16, 80, 64
MOST_MIXES, MOST_PARTS, MOST_REDRAWN, MOST_STEPS = 64, 3, 64, 64
LARGEST_SEED, LARGEST_WEIGHT = 10**MOST_DIGITS - 1, 9.0
SIGNS = set(";=\n\r")
"""Which text of mixed classes has a use of its own for."""

Style = int | str
"""A seed, or the key of an image that was brought."""


@dataclass(frozen=True)
class Way:
    """From one style to another: image `step` of `steps` on it. end None: the first alone."""

    start: Style
    end: Style | None = None
    steps: int = 2
    step: int = 0


@dataclass(frozen=True)
class Painting:
    """labels: (H, W) int64, −1 = ignored; ids from C on are the mixes, in their order.

    mixes: (name, ((weight, id), …)) each, of ids below its own. noise: seed. redrawn: class id -> seed in place of it.
    """

    labels: np.ndarray
    mixes: tuple[tuple[str, tuple[tuple[float, int], ...]], ...] = ()
    style: Way = Way(0)
    noise: int = 0
    redrawn: dict[int, int] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        return self.labels.shape[0], self.labels.shape[1]

    def about(self) -> dict[str, Any]:
        """All but the labels, as JSON values that `read_painting` takes."""
        return {
            "height": self.size[0],
            "width": self.size[1],
            "mixes": [{"name": name, "parts": [list(part) for part in parts]} for name, parts in self.mixes],
            "style": {"start": self.style.start, "end": self.style.end, "steps": self.style.steps, "step": self.style.step},
            "noise": self.noise,
            "redrawn": {str(class_id): seed for class_id, seed in self.redrawn.items()},
        }


def pack(about: dict[str, Any], rest: bytes = b"") -> bytes:
    text = to_json(about).encode()
    return struct.pack("<I", len(text)) + text + rest


def unpack(body: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON object and the rest.

    Raises:
        InputError: not of this form.
    """
    length = struct.unpack("<I", body[:4])[0] if len(body) >= 4 else 0
    if not 2 <= length <= min(LONGEST_TEXT, len(body) - 4):
        raise InputError(f"the request is damaged: {len(body)} bytes came, which do not begin with a text and its length")
    return read_object(body[4 : 4 + length]), body[4 + length :]


def read_object(text: bytes | str) -> dict[str, Any]:
    """Raises InputError: no JSON object."""
    try:
        about = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError("the request is damaged: its text is no JSON") from error
    return _of_type(about, dict, "the request")


def read_painting(about: dict[str, Any], ids: bytes, *, num_classes: int, max_pixels: int) -> Painting:
    """Check what came, as files are.

    Raises:
        InputError: something is missing, unknown, out of range or too large.
    """
    _only(about, {"height", "width", "mixes", "style", "noise", "redrawn"}, "the painting")
    height, width = (_whole(about.get(side), side, 1, max_pixels) for side in ("height", "width"))
    if height * width > max_pixels:
        raise InputError(f"a canvas of {height}x{width} (height x width) has more than {max_pixels} pixels; allow more with --max_pixels")
    if len(ids) != 2 * height * width:
        raise InputError(f"{len(ids)} bytes of ids came for {height}x{width} pixels (height x width); expected {2 * height * width}")
    mixes = _mixes(about.get("mixes", []), num_classes)
    labels = np.frombuffer(ids, "<u2").reshape(height, width).astype(np.int64)
    labels[labels == IGNORED] = IGNORE_INDEX
    if labels.max() >= num_classes + len(mixes):
        raise InputError(f"the painting holds class id {labels.max()}; there are {num_classes + len(mixes)} classes")
    redrawn = _of_type(about.get("redrawn", {}), dict, "redrawn")
    if len(redrawn) > MOST_REDRAWN:
        raise InputError(f"{len(redrawn)} classes have noise of their own; at most {MOST_REDRAWN} may")
    return Painting(
        labels,
        mixes,
        _way(about.get("style", {})),
        _whole(about.get("noise", 0), "noise", 0, LARGEST_SEED),
        {
            _whole(int(key) if key.isdecimal() and len(key) < 7 else None, "redrawn", 0, num_classes + len(mixes) - 1): _whole(
                seed, "redrawn", 0, LARGEST_SEED
            )
            for key, seed in redrawn.items()
        },
    )


def settings_of(
    painting: Painting, names: Sequence[str], run: str, file_of: Callable[[str], str], *, styled: bool, noisy: bool, **given: Any
) -> LayoutImagesConfig:
    """The settings with which synth.generate makes the image of a painting, whose label file is to be given.

    names: of the classes without the mixes. file_of: key of a style image -> its file. styled, noisy: what the generator has.

    Raises:
        InputError: the name of a class cannot stand in a mix.
    """
    text = mix_text(painting.mixes, names)
    every = [*names, *(name for name, _ in painting.mixes)]
    redrawn = "; ".join(f"{every[class_id]}={seed}" for class_id, seed in sorted(painting.redrawn.items()))
    style = painting.style

    def style_value(value: Style) -> int | str:
        return value if isinstance(value, int) else file_of(value)

    with_way = styled and style.end is not None
    return LayoutImagesConfig(
        run=run,
        label_maps=[],
        mode="none",
        style=style_value(style.start) if styled else None,
        style_to=style_value(style.end) if with_way and style.end is not None else None,
        steps=style.steps if with_way else None,
        noise=painting.noise if noisy else None,
        redraw=redrawn or None if noisy else None,
        mix=text or None,
        **given,
    )


def mix_text(mixes: Sequence[tuple[str, tuple[tuple[float, int], ...]]], names: Sequence[str]) -> str:
    """Mixed classes as `synth.generate --mix` takes them.

    Raises:
        InputError: a name that this text would take for something else.
    """
    every = [*names]
    lines, meant = [], []
    for name, parts in mixes:
        named = [(weight, every[class_id]) for weight, class_id in parts]
        lines.append(f"{name}=" + "".join(f"{weight:+.2f}*{part}" for weight, part in named).removeprefix("+"))
        meant.append(Mixture(name, named))
        every.append(name)
    text = "; ".join(lines)
    if text and parse_mixtures(text) != meant:
        raise InputError(f"{'; '.join(name for name, _ in mixes)}: a name there holds signs that mean something else in a mix; take others")
    return text


def _mixes(given: Any, num_classes: int) -> tuple[tuple[str, tuple[tuple[float, int], ...]], ...]:
    found: list[tuple[str, tuple[tuple[float, int], ...]]] = []
    if len(_of_type(given, list, "mixes")) > MOST_MIXES:
        raise InputError(f"{len(given)} mixed classes came; there may be {MOST_MIXES}")
    for item in given:
        _only(_of_type(item, dict, "a mix"), {"name", "parts"}, "a mix")
        name, parts = item.get("name"), _of_type(item.get("parts"), list, "the parts of a mix")
        if not isinstance(name, str) or name != name.strip() or not 0 < len(name) <= LONGEST_NAME or SIGNS & set(name):
            raise InputError(f"the name of a mixed class needs 1 to {LONGEST_NAME} characters, none of them ; or =")
        if not 1 <= len(parts) <= MOST_PARTS or not all(isinstance(part, list) and len(part) == 2 for part in parts):
            raise InputError(f"a mixed class has 1 to {MOST_PARTS} parts, each a weight and a class")
        limit = num_classes + len(found) - 1
        found.append((name, tuple((_weight(weight), _whole(class_id, "part", 0, limit)) for weight, class_id in parts)))
    return tuple(found)


def _weight(value: Any) -> float:
    """Rounded to the digits that the text has."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or abs(value) > LARGEST_WEIGHT:
        raise InputError(f"the weight of a class in a mix must be a number from {-LARGEST_WEIGHT:g} to {LARGEST_WEIGHT:g}")
    return float(f"{value:.2f}")


def _way(given: Any) -> Way:
    _only(_of_type(given, dict, "style"), {"start", "end", "steps", "step"}, "style")
    start, end = _style(given.get("start", 0)), given.get("end")
    steps = _whole(given.get("steps", 2), "steps", 2, MOST_STEPS)
    return Way(start, None if end is None else _style(end), steps, _whole(given.get("step", 0), "step", 0, steps - 1))


def _style(value: Any) -> Style:
    return value if isinstance(value, str) and len(value) <= LONGEST_TAB else _whole(value, "style", 0, LARGEST_SEED)


def _whole(value: Any, what: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{what} must be a whole number from {least} to {most}")
    return value


def _of_type(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind):
        raise InputError(f"{what} is {type(value).__name__}; {kind.__name__} was expected")
    return value


def _only(given: dict[str, Any], known: set[str], what: str) -> None:
    if unknown := sorted(given.keys() - known):
        raise InputError(f"{what} has no {unknown[0][:LONGEST_NAME]!r}; it has {', '.join(sorted(known))}")
