"""The classes of the built-in street scenes: 19 groups, each split into as many look-alike subclasses as asked for.

A group has a style space, the unit cube [0, 1)^6 (hue, tone, pattern, proportion, rhythm, accent). Every subclass owns a
cell of it, and an object of that subclass is a random point of the cell. The centres are a Kronecker sequence, so the style of a class
costs the same whether there are 20 classes or 100 000.
"""

import math
from typing import NamedTuple

import numpy as np

from shared.data.spec import DatasetSpec
from shared.errors import InputError

Colour = tuple[float, float, float]

MIN_CLASSES = 4
STYLE_DIMENSIONS = 6


class Group(NamedTuple):
    """A group of related classes.

    Attributes:
        colour: RGB in label pictures, 0..255.
        weight: share of the subclasses when there are more classes than groups.
        paints: RGB colours, 0..255, between which the hue of a subclass lies.
    """

    colour: tuple[int, int, int]
    weight: float
    paints: tuple[Colour, ...]


GROUPS = {
    "road": Group((128, 64, 128), 3, ((88, 88, 93), (104, 103, 104), (110, 104, 98), (92, 95, 104))),
    "sidewalk": Group((244, 35, 232), 3, ((158, 152, 146), (172, 160, 148), (150, 150, 154), (168, 146, 134))),
    "building": Group(
        (70, 70, 70), 16, ((158, 92, 72), (190, 134, 98), (212, 190, 148), (216, 208, 196), (170, 166, 162), (196, 160, 110))
    ),
    "wall": Group((102, 102, 156), 4, ((142, 130, 118), (164, 148, 128), (130, 128, 130), (152, 112, 96))),
    "fence": Group((190, 153, 153), 4, ((138, 96, 62), (176, 136, 94), (196, 190, 178), (104, 92, 84))),
    "pole": Group((153, 153, 153), 3, ((94, 98, 102), (124, 128, 130), (72, 84, 80), (142, 138, 130))),
    "traffic light": Group((250, 170, 30), 2, ((38, 40, 38), (52, 58, 50), (70, 66, 34), (34, 44, 52))),
    "traffic sign": Group((220, 220, 0), 10, ((214, 36, 40), (232, 110, 28), (232, 180, 24), (36, 140, 84), (40, 96, 196))),
    "vegetation": Group((107, 142, 35), 14, ((42, 82, 40), (64, 104, 44), (92, 124, 46), (122, 136, 52), (58, 96, 66))),
    "terrain": Group((152, 251, 152), 5, ((118, 148, 74), (140, 156, 84), (158, 150, 96), (104, 140, 84))),
    "sky": Group((70, 130, 180), 3, ((255, 255, 255), (236, 246, 255), (255, 246, 236), (244, 240, 255))),
    "person": Group((220, 20, 60), 14, ((176, 56, 60), (60, 88, 148), (206, 176, 90), (70, 74, 84), (88, 130, 100), (210, 204, 200))),
    "rider": Group((255, 0, 0), 4, ((226, 92, 40), (210, 200, 60), (70, 150, 190), (190, 60, 110))),
    "car": Group(
        (0, 0, 142), 16, ((168, 34, 38), (34, 36, 42), (196, 200, 204), (44, 72, 138), (120, 126, 134), (58, 104, 92), (226, 224, 218))
    ),
    "truck": Group((0, 0, 70), 5, ((222, 218, 208), (206, 150, 60), (74, 116, 164), (150, 60, 54))),
    "bus": Group((0, 60, 100), 4, ((214, 60, 48), (226, 178, 48), (232, 226, 210), (66, 138, 120))),
    "train": Group((0, 80, 100), 2, ((220, 206, 150), (196, 64, 56), (92, 140, 180), (214, 216, 220))),
    "motorcycle": Group((0, 0, 230), 4, ((172, 30, 36), (36, 40, 46), (40, 84, 160), (190, 150, 40))),
    "bicycle": Group((119, 11, 32), 4, ((40, 44, 50), (170, 40, 44), (50, 110, 130), (190, 190, 190))),
}

BY_IMPORTANCE = (
    "road", "building", "vegetation", "sky", "car", "sidewalk", "person", "pole", "terrain", "traffic sign",
    "bicycle", "rider", "bus", "fence", "truck", "wall", "traffic light", "motorcycle", "train",
)  # fmt: skip
"""With C < 19 classes the scenes have the first C of these groups."""

STAND_INS = {"sidewalk": "road", "terrain": "vegetation"}
"""What the ground is where a group is missing; missing objects are left out."""

ACCENTS: tuple[Colour, ...] = ((236, 232, 224), (230, 196, 60), (52, 60, 72), (190, 62, 50), (62, 110, 168), (96, 152, 104))


class Look(NamedTuple):
    """How one object looks: its class, its point in the style space of its group, and the paints mixed there (RGB, 0..255)."""

    class_id: int
    style: tuple[float, ...]
    paint: Colour
    accent: Colour


class SceneClasses:
    """Names, palette and looks of C classes.

    Args:
        num_classes: C, at least 4. Up to 19 gives the C most important groups, one class each; above 19 the groups are split.

    Attributes:
        spec: names and palette; ids run through the groups in Cityscapes order.
        groups: C group names, one per class.
        counts: number of subclasses per group that the scenes have.

    Raises:
        InputError: fewer than 4 classes.
    """

    def __init__(self, num_classes: int) -> None:
        if num_classes < MIN_CLASSES:
            raise InputError(f"scenes cannot have {num_classes} classes; num_classes must be {MIN_CLASSES} or more")
        present = [name for name in GROUPS if name in BY_IMPORTANCE[:num_classes]]
        self.counts = dict(zip(present, _allot(num_classes, [GROUPS[name].weight for name in present])))
        self._first = dict(zip(present, np.cumsum([0, *self.counts.values()]).tolist()))
        self.groups = [name for name, count in self.counts.items() for _ in range(count)]
        names = tuple(title for name, count in self.counts.items() for title in _titles(name, count))
        self.spec = DatasetSpec(name=f"scenes-{num_classes}", class_names=names, palette=_palette(self.counts))

    def __contains__(self, group: str) -> bool:
        return group in self.counts

    def draw(self, group: str, rng: np.random.Generator) -> Look:
        """The look of a new object of a group, or of the group that stands in for it. Subclass k is drawn with Zipf's law, ∝ 1/(k+1)."""
        group = group if group in self.counts else STAND_INS[group]
        count = self.counts[group]
        # nearly the inverse of Zipf's distribution function, without a table of C numbers
        member = min(int((count + 1) ** rng.random()) - 1, count - 1)
        width = count**-0.5
        jitter = (rng.random(STYLE_DIMENSIONS) - 0.5) * (0.98 * width)
        style = tuple(_reflect((0.5 + member * step) % 1.0 + shift) for step, shift in zip(_STEPS, jitter.tolist()))
        tone = 0.86 + 0.28 * style[1]
        paint = mix_paints(GROUPS[group].paints, style[0])
        return Look(
            class_id=self._first[group] + member,
            style=style,
            paint=(paint[0] * tone, paint[1] * tone, paint[2] * tone),
            accent=mix_paints(ACCENTS, style[5]),
        )


def mix_paints(paints: tuple[Colour, ...], position: float) -> Colour:
    """The colour at `position` in [0, 1] on the line through `paints`, which are evenly spaced on it."""
    index, share = divmod(position * (len(paints) - 1), 1)
    low, high = paints[int(index)], paints[min(int(index) + 1, len(paints) - 1)]
    return (low[0] + share * (high[0] - low[0]), low[1] + share * (high[1] - low[1]), low[2] + share * (high[2] - low[2]))


def _reflect(value: float) -> float:
    """A value in (-1, 2) folded into [0, 1): what leaves the style space comes back nearby."""
    return min(abs(value), 1.999 - abs(value))


def _kronecker_steps(dimensions: int) -> tuple[float, ...]:
    """Steps of the R_d sequence: powers of the inverse of the root of x^(d+1) = x + 1, which spread points evenly in d dimensions."""
    root = 2.0
    for _ in range(64):  # far more than the fixed point needs
        root = (1 + root) ** (1 / (dimensions + 1))
    return tuple(math.pow(root, -(axis + 1)) for axis in range(dimensions))


_STEPS = _kronecker_steps(STYLE_DIMENSIONS)


def _allot(total: int, weights: list[float]) -> list[int]:
    """Integers >= 1 that sum to `total`, the surplus over one each in proportion to `weights` (largest remainders)."""
    quotas = (total - len(weights)) * np.array(weights) / sum(weights)
    counts = np.floor(quotas).astype(int)
    missing = total - len(weights) - int(counts.sum())
    counts[np.argsort(counts - quotas, kind="stable")[:missing]] += 1
    return (counts + 1).tolist()


def _titles(group: str, count: int) -> list[str]:
    digits = max(3, len(str(count - 1)))
    return [group] if count == 1 else [f"{group} {member:0{digits}d}" for member in range(count)]


def _palette(counts: dict[str, int]) -> np.ndarray:
    """(C, 3) uint8: shades of the colour of the group, the first of them that colour itself, all different."""
    shades = []
    for name, count in counts.items():
        points = (0.5 + np.outer(np.arange(count), _STEPS[:3])) % 1.0 - 0.5
        shades.append(255 - np.abs(255 - np.abs(GROUPS[name].colour + 128 * points)))  # reflected at 0 and 255
    packed = np.concatenate(shades).astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    # a small step in each channel, until all differ
    while (repeated := _repeats(packed)).any():
        packed[repeated] = (packed[repeated] + 0x030201) % (1 << 24)
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1).astype(np.uint8)


def _repeats(values: np.ndarray) -> np.ndarray:
    """(n,) bool: the value has occurred before."""
    repeated = np.ones(len(values), dtype=bool)
    repeated[np.unique(values, return_index=True)[1]] = False
    return repeated
