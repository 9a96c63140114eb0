"""The light of a scene: time of day, weather, haze. Colours are RGB factors or, for the sky, RGB 0..255."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Light:
    """One light for the whole scene.

    Attributes:
        sun: (3,) unit vector towards the sun.
        sun_colour, ambient: (3, 1) what a white surface gets from the sun when it faces it, and from the sky.
        sky_top, sky_horizon: (3, 1) colours of the sky.
        haze: loss of contrast per metre.
        clouds: share of the sky that is clouded, 0..1.
        lamps: how much windows and lamps shine, 0..1.
    """

    sun: np.ndarray
    sun_colour: np.ndarray
    ambient: np.ndarray
    sky_top: np.ndarray
    sky_horizon: np.ndarray
    haze: float
    clouds: float
    lamps: float

    @property
    def shadow(self) -> float:
        """By how much the ground darkens where the sun does not reach it, 0..1."""
        from_sun = float(self.sun_colour.mean() * self.sun[1])
        return from_sun / (from_sun + float(self.ambient.mean()))


# sun elevation in degrees, then the fields of `Light`
_SUNNY = (46.0, (0.86, 0.80, 0.68), (0.50, 0.54, 0.62), (86, 138, 206), (196, 216, 234), 0.0028, 0.35, 0.0)
_OVERCAST = (70.0, (0.16, 0.16, 0.16), (0.80, 0.82, 0.86), (168, 176, 186), (212, 216, 220), 0.0060, 0.95, 0.1)
_DUSK = (20.0, (0.86, 0.52, 0.28), (0.40, 0.38, 0.50), (82, 92, 150), (250, 188, 130), 0.0045, 0.45, 1.0)
_TIMES = (_SUNNY, _OVERCAST, _DUSK)
_CUMULATIVE = (0.5, 0.8, 1.0)


def draw_light(rng: np.random.Generator) -> Light:
    """Sunny (half of the scenes), overcast or dusk, each blended a little into another."""
    main, other = (_TIMES[sum(draw > limit for limit in _CUMULATIVE[:-1])] for draw in rng.random(2))
    blend = 0.3 * float(rng.random())
    elevation, *fields = (
        (1 - blend) * np.asarray(a, dtype=np.float32) + blend * np.asarray(b, dtype=np.float32) for a, b in zip(main, other)
    )
    height = math.radians(float(elevation) * (0.8 + 0.4 * float(rng.random())))
    azimuth = math.tau * float(rng.random())
    sun = (math.cos(height) * math.sin(azimuth), math.sin(height), math.cos(height) * math.cos(azimuth))
    sun_colour, ambient, sky_top, sky_horizon, haze, clouds, lamps = fields
    return Light(
        sun=np.array(sun, dtype=np.float32),
        sun_colour=sun_colour[:, None],
        ambient=ambient[:, None] * np.float32(0.92 + 0.16 * rng.random()),
        sky_top=sky_top[:, None],
        sky_horizon=sky_horizon[:, None],
        haze=float(haze) * (0.6 + float(rng.random())),
        clouds=float(clouds) * (0.6 + 0.4 * float(rng.random())),
        lamps=float(lamps),
    )
