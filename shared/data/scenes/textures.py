"""Textures: what makes asphalt, windows, bricks and leaves out of flat paint, for all pixels of a kind at once.

A texture takes the p pixels that show it and returns (factor, mix): the colour of a pixel is its lit paint times `factor`, and a
share `mix` of it is replaced by the second paint of the object. Patterns finer than a pixel fade to their mean instead of
flickering. p is the number of pixels throughout.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from shared.data.scenes.light import Light
from shared.data.scenes.mesh import Texture

Shade = tuple[np.ndarray, np.ndarray | float]
_NOISE_SIZE = 256


@dataclass(frozen=True)
class Surface:
    """Where the pixels lie on their polygons.

    Attributes:
        light: the light of the scene.
        styles: (6, F) style per polygon, 0..1.
        u, v: (p,) metres from the left and from the lower (on the ground: near) end of the polygon.
        width, height: (p,) extent of the polygon in metres.
        pixel_u, pixel_v: (p,) size of the pixel on the surface in metres.
        depth: (p,) metres before the camera.
        faces: (p,) the polygons.
    """

    light: Light
    styles: np.ndarray
    u: np.ndarray
    v: np.ndarray
    width: np.ndarray
    height: np.ndarray
    pixel_u: np.ndarray
    pixel_v: np.ndarray
    depth: np.ndarray
    faces: np.ndarray

    def part(self, pixels: slice) -> "Surface":
        """The surface of some of the pixels."""
        per_pixel = (self.u, self.v, self.width, self.height, self.pixel_u, self.pixel_v, self.depth, self.faces)
        return Surface(self.light, self.styles, *(values[pixels] for values in per_pixel))

    def style(self, axis: int) -> np.ndarray:
        """(p,) one coordinate of the style of the object, 0..1."""
        return self.styles[axis].take(self.faces)

    def noise(self, scale: float, along: float | None = None) -> np.ndarray:
        """(p,) smooth random field of mean 0 and about ±1, with `scale` texels per metre in u and `along` in v."""
        return noise_at(self.u * scale + self.style(0) * 97, self.v * (along or scale) + self.style(1) * 89)

    def fading(self, period: np.ndarray | float, pixel: np.ndarray) -> np.ndarray:
        """(p,) contrast left of a pattern of `period` metres: 1 when pixels are small, 0 when they are as large as the period."""
        return np.clip(1.5 - 2 * pixel / period, 0, 1)


@cache
def _noise_table() -> np.ndarray:
    """(256, 256) float32 noise that tiles, with a 1/f spectrum."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(_NOISE_SIZE)[:, None], np.fft.fftfreq(_NOISE_SIZE)[None])
    # bounded below: the longest waves would drown all others, and frequency 0 would divide by 0
    spectrum = np.fft.fft2(rng.standard_normal((_NOISE_SIZE, _NOISE_SIZE))) / np.maximum(frequency, 2 / _NOISE_SIZE) ** 1.1
    spectrum[0, 0] = 0
    field = np.fft.ifft2(spectrum).real
    return (field / (2 * field.std())).astype(np.float32)


def noise_at(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The noise table at (x, y), in texels."""
    mask = _NOISE_SIZE - 1
    # `&` wraps negative numbers as well, where int32 is in two's complement
    return _noise_table().ravel().take((y.astype(np.int32) & mask) * _NOISE_SIZE + (x.astype(np.int32) & mask))


def smooth_noise_at(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The same without steps between texels."""
    fx, fy = x - np.floor(x), y - np.floor(y)
    low = noise_at(x, y) * (1 - fx) + noise_at(x + 1, y) * fx
    high = noise_at(x, y + 1) * (1 - fx) + noise_at(x + 1, y + 1) * fx
    return low * (1 - fy) + high * fy


def _hash(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(p,) evenly spread in [0, 1), a function of the integer parts of a and b."""
    # primes, so that few pairs (a, b) share a number; int32 may wrap
    mixed = a.astype(np.int32) * 7919 + b.astype(np.int32) * 104729
    return ((mixed * 40503) & 1023).astype(np.float32) / 1024


def _line(distance: np.ndarray, width: float, pixel: np.ndarray) -> np.ndarray:
    """(p,) how much of a pixel a line covers whose middle is `distance` metres away."""
    return np.clip((width / 2 - np.abs(distance)) / pixel + 0.5, 0, 1) * np.minimum(1, width / pixel)


def _round(surface: Surface) -> Shade:
    """A cylinder, brighter on the side of the sun."""
    across = np.clip(2 * surface.u / surface.width - 1, -1, 1)
    return 1.06 - 0.34 * across * across + 0.22 * surface.light.sun[0] * across, 0.0


def _road(surface: Surface) -> Shade:
    """Asphalt with worn tracks, patches, edge lines and a dashed line between the lanes of 3.3 m."""
    u, v, style = surface.u, surface.v, surface.style
    factor = 1 + 0.10 * surface.noise(3, 0.6) + 0.05 * surface.noise(24)
    factor *= 1 - 0.07 * np.cos(u * (2 * np.pi / 1.65))
    period = 5 + 5 * style(2)
    dashed = np.where(surface.pixel_v < period / 2, v % period < 0.45 * period, 0.45)
    # 3.3 m is `stage.LANE`, and 1.65 half of it
    lane = np.abs((u - 0.25 + 1.65) % 3.3 - 1.65)
    inner = (u > 1.5) & (u < surface.width - 1.5)
    marking = _line(lane, 0.16, surface.pixel_u) * dashed * inner
    edge = np.minimum(np.abs(u - 0.25), np.abs(surface.width - 0.25 - u))
    marking = np.maximum(marking, _line(edge, 0.14, surface.pixel_u))
    marking = marking * (surface.width < 50)  # a road that crosses has none
    return factor, 0.85 * marking * (1 + 0.4 * surface.noise(6))


def _paving(surface: Surface) -> Shade:
    """Slabs with dark joints and slightly different tones."""
    slab = 0.6 + 0.8 * surface.style(4)
    across, along = surface.u / slab, surface.v / slab + 0.5 * (surface.style(2) > 0.5) * np.floor(surface.u / slab)
    visible = surface.fading(slab, np.maximum(surface.pixel_u, surface.pixel_v))
    joints = np.maximum(_line((across % 1 - 0.5) * slab, 0.05, surface.pixel_u), _line((along % 1 - 0.5) * slab, 0.05, surface.pixel_v))
    tone = 0.14 * (_hash(across + 0.5, along + 0.5) - 0.5)
    kerb = _line(np.minimum(surface.u, surface.width - surface.u) - 0.1, 0.24, surface.pixel_u)
    return 1 + 0.06 * surface.noise(5) + visible * (tone - 0.3 * joints) + 0.16 * kerb, 0.0


def _turf(surface: Surface) -> Shade:
    """Grass, hedges and wooded hills: tufts at two scales and dry patches."""
    size = np.maximum(surface.pixel_v, 0.06)
    fine = noise_at(surface.u * 9 / (1 + size), surface.v * 9 / (1 + size))
    coarse = surface.noise(1.2)
    return 1 + 0.20 * fine + 0.16 * coarse, np.clip(0.5 * surface.noise(0.5) - 0.1, 0, 0.45)


def _facade(surface: Surface) -> Shade:
    """Storeys of windows, whole numbers of them on every wall, over a ground floor of doors and shop windows."""
    style, light = surface.style, surface.light
    bay = 1.7 + 1.8 * style(4)
    columns = np.maximum(1, np.rint(surface.width / bay))
    storeys = np.maximum(1, np.rint(surface.height / 3.2))
    x, y = surface.u * columns / surface.width, surface.v * storeys / surface.height
    fx, fy = x % 1, y % 1
    cell = _hash(x + 40 * style(0), y + 40 * style(1))
    ribbon, shop = style(2) > 0.72, (y < 1) & (style(3) > 0.25)
    door = shop & (cell < 0.3)
    half_width = np.where(door, 0.16, np.where(shop, 0.42, np.where(ribbon, 0.5, 0.17 + 0.13 * style(5))))
    middle, half_height = np.where(shop, 0.36, 0.54), np.where(shop, 0.34, 0.22 + 0.1 * style(3))
    ax, ay = np.abs(fx - 0.5) - half_width, np.abs(fy - middle) - half_height
    window = (ax < 0) & (ay < 0)
    frame = (ax < 0.06) & (ay < 0.05) & ~window
    seen = surface.fading(bay, surface.pixel_u) * surface.fading(3.2, surface.pixel_v)
    coverage = np.minimum(4 * half_width * half_height, 0.6)
    glass = seen * window + (1 - seen) * coverage

    upper_glass = np.clip((ay + half_height + fy - middle) / (2 * half_height), 0, 1)  # brighter towards the top, where the sky is mirrored
    lit = light.lamps * (cell < 0.45)
    mix = glass * np.clip(0.22 + 0.3 * cell + 0.25 * upper_glass - 0.3 * light.lamps + 0.9 * lit, 0, 1)

    courses = surface.fading(0.35, surface.pixel_v) * (surface.v % 0.35 < 0.06)
    ledge = _line((fy - 0.02) * 3.2, 0.22, surface.pixel_v)
    factor = 1 + 0.05 * surface.noise(4) + 0.06 * surface.noise(0.7) + 0.14 * seen * frame - 0.08 * courses - 0.14 * ledge
    factor *= 0.82 + 0.18 * np.minimum(surface.v / 2.5, 1)  # less sky is seen from near the ground
    return factor * (1 - 0.66 * glass), mix


def _masonry(surface: Surface) -> Shade:
    """Courses of stones of different tones with pale joints."""
    course = 0.22 + 0.3 * surface.style(4)
    row = surface.v / course
    column = surface.u / (2.2 * course) + 0.5 * (np.floor(row) % 2)
    seen = surface.fading(course, surface.pixel_v) * surface.fading(2 * course, surface.pixel_u)
    joint = (row % 1 < 0.16) | (column % 1 < 0.08)
    coping = surface.v > surface.height - 0.16
    tone = 0.34 * (_hash(column, row) - 0.5)
    return 1 + 0.07 * surface.noise(6) + seen * (np.where(joint, 0.16, tone)) + 0.2 * coping, 0.0


def _fence(surface: Surface) -> Shade:
    """Pickets or boards on two rails; the second paint is what shows between them."""
    pitch = 0.16 + 0.2 * surface.style(4)
    gap_share = 0.25 + 0.35 * surface.style(2)
    position = surface.u / pitch
    seen = surface.fading(pitch, surface.pixel_u)
    gap = seen * (position % 1 < gap_share) + (1 - seen) * gap_share
    relative = surface.v / surface.height
    rail = _line((relative - 0.25) * surface.height, 0.1, surface.pixel_v) + _line((relative - 0.8) * surface.height, 0.1, surface.pixel_v)
    post = _line((surface.u + 1) % 2 - 1, 0.16, surface.pixel_u)
    solid = np.minimum(1, rail + post)
    return 1 + 0.1 * seen * (_hash(position, position * 0) - 0.5) + 0.12 * solid, gap * (1 - solid)


def _foliage(surface: Surface) -> Shade:
    """A ball of leaves: lit from the sun's side, dark below and inside, ragged with leaves of the size of its species."""
    x, y = 2 * surface.u / surface.width - 1, 2 * surface.v / surface.height - 1
    towards = np.sqrt(np.maximum(0, 1 - x * x - y * y))
    sun = surface.light.sun
    strength = 2.2 * surface.light.shadow
    lit = np.clip(x * sun[0] + y * sun[1] - towards * sun[2], -0.4, 1)
    leaf = 8 + 14 * surface.style(4)
    leaves = noise_at(surface.u * leaf + surface.width * 61, surface.v * leaf + surface.width * 43)
    return 0.80 + 0.22 * y + 0.30 * strength * lit + 0.26 * leaves, np.clip(0.9 * leaves - 0.55, 0, 0.5)


def _roof(surface: Surface) -> Shade:
    """Rows of tiles."""
    seen = surface.fading(0.3, surface.pixel_v)
    return 1 + 0.08 * surface.noise(3) - 0.2 * seen * (surface.v % 0.3 < 0.08), 0.0


def _zebra(surface: Surface) -> Shade:
    """Asphalt with worn stripes along the street, half a metre wide."""
    wear = surface.noise(6)
    return 1 + 0.05 * surface.noise(24), _line(surface.u % 1 - 0.5, 0.5, surface.pixel_u) * (0.8 + 0.3 * wear)


# in the order of `Texture`, without PLAIN
TEXTURES: dict[Texture, Callable[[Surface], Shade]] = {
    Texture.ROUND: _round,
    Texture.ROAD: _road,
    Texture.PAVING: _paving,
    Texture.TURF: _turf,
    Texture.FACADE: _facade,
    Texture.MASONRY: _masonry,
    Texture.FENCE: _fence,
    Texture.FOLIAGE: _foliage,
    Texture.ROOF: _roof,
    Texture.ZEBRA: _zebra,
}


def sky(light: Light, right: np.ndarray, up: np.ndarray, style: tuple[float, ...]) -> np.ndarray:
    """(3, p) colours of the sky in the directions (right, up, 1): gradient, glow of the sun, clouds that shrink towards the horizon."""
    height = np.maximum(up, 0)
    colour = light.sky_horizon + (light.sky_top - light.sky_horizon) * np.minimum(1, 1.5 * height) ** np.float32(0.7)
    cosine = (right * light.sun[0] + up * light.sun[1] + light.sun[2]) / np.sqrt(1 + right * right + up * up)
    colour += np.maximum(cosine, 0) ** 24 * (90 * light.sun_colour)
    distance = 1 / (0.14 + height)
    scale = np.float32(5 + 5 * style[4])
    x, y = right * distance * scale + np.float32(256 * style[2]), distance * scale * np.float32(1.5) + np.float32(256 * style[3])
    billow = smooth_noise_at(x, y) + 0.25 * smooth_noise_at(4 * x, 4 * y)
    cover = np.clip(2.2 * (billow + 1.5 * light.clouds - 0.75), 0, 1) * np.minimum(1, 0.3 + 4 * height)
    white = 0.5 * light.sky_horizon + 120 + 26 * np.clip(billow, -1, 1)
    return colour + 0.8 * cover * (white - colour)
