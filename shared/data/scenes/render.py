"""From placed meshes to an image and an object map.

Polygons are drawn far to near as their numbers into an integer picture (Pillow); then every pixel is coloured from the table of its
polygon. A cast shadow is the polygon moved along the sun's rays to the ground and drawn the same way. F polygons, P pixels.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from shared.data.scenes.geometry import Camera, Placement, Polygons
from shared.data.scenes.light import Light
from shared.data.scenes.mesh import Texture
from shared.data.scenes.textures import TEXTURES, Surface, sky

_MAX_MATERIALS = 8  # the seven of vehicles, and the second paint in the last place
_SMALLEST = (0.18, 0.8)  # pixels across and in area; what is thinner would be drawn too wide
_SMALLEST_SHADOW = (0.3, 1.5)
_GROUND = (Texture.ROAD, Texture.PAVING, Texture.TURF, Texture.ZEBRA)
_SOFTEN = ImageFilter.Kernel((3, 3), (1, 2, 1, 2, 4, 2, 1, 2, 1))
_SKY = -1  # before all textures
_BLUR = 0.14  # what each neighbour adds to a pixel


def render(
    placements: list[Placement], camera: Camera, light: Light, sky_style: tuple[float, ...], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the objects in the order given, later ones over earlier ones.

    Returns:
        (3, H, W) uint8 image, and (H, W) int64 position in `placements` of what each pixel shows, -1 for the sky.
    """
    polygons = Polygons(placements, light.sun)
    numbers = _draw_numbers(polygons, camera)
    shadows = _draw_shadows(polygons, camera)
    colours = _colour(polygons, placements, numbers.ravel(), shadows.ravel(), camera, light, sky_style)
    image = _expose(colours.reshape(3, camera.height, camera.width), rng)
    return image, np.append(polygons.owners, -1)[numbers - 1]


def _draw_numbers(polygons: Polygons, camera: Camera) -> np.ndarray:
    """(H, W) int32: 1 + number of the polygon that a pixel shows, 0 for the sky."""
    corners = camera.project(polygons.points)
    visible = polygons.visible(corners, polygons.points[2], camera, *_SMALLEST)
    turned_away = polygons.one_sided & (polygons.planes(camera.eye) >= 0)
    canvas = Image.new("I", (camera.width, camera.height))
    _draw(canvas, polygons, corners, visible & ~turned_away, np.arange(1, len(visible) + 1))
    return np.asarray(canvas)


def _draw_shadows(polygons: Polygons, camera: Camera) -> np.ndarray:
    """(H, W) float32 in 0..1: how far the ground at a pixel is in shadow."""
    corners = camera.project(polygons.shadow_points)
    visible = polygons.visible(corners, polygons.shadow_points[2], camera, *_SMALLEST_SHADOW)
    canvas = Image.new("L", (camera.width, camera.height))
    _draw(canvas, polygons, corners, visible & polygons.casts_shadow, np.full(len(visible), 255))
    return np.asarray(canvas.filter(_SOFTEN), dtype=np.float32) / 255


def _draw(canvas: Image.Image, polygons: Polygons, corners: np.ndarray, chosen: np.ndarray, inks: np.ndarray) -> None:
    """Fill the polygons where `chosen` (F,) is true with their `inks` (F,)."""
    draw = ImageDraw.Draw(canvas)
    coordinates = corners[:, np.repeat(chosen, polygons.sizes)].T.ravel().tolist()
    start = 0
    for size, ink in zip((2 * polygons.sizes[chosen]).tolist(), inks[chosen].tolist()):
        draw.polygon(coordinates[start : start + size], fill=ink)
        start += size


def _colour(
    polygons: Polygons,
    placements: list[Placement],
    numbers: np.ndarray,
    shadows: np.ndarray,
    camera: Camera,
    light: Light,
    sky_style: tuple[float, ...],
) -> np.ndarray:
    """(3, P) float32 colours, about 0..255, from the (P,) polygon numbers and shadows."""
    # pixels are sorted by texture, the sky first, so that every texture works on one slice
    # 8 bits, which NumPy sorts by radix
    kinds = np.append(_SKY, polygons.textures).astype(np.int8)[numbers]
    order = np.argsort(kinds, kind="stable")
    sky_end, plain_end, *ends = np.searchsorted(kinds[order], range(_SKY, len(Texture) - 1), side="right").tolist()
    right, up = (ray[order] for ray in camera.rays())
    faces = numbers[order] - 1  # -1 for the sky, whose colours are replaced
    paint, second = (np.take(paints, faces, axis=1) for paints in _light_paints(polygons, placements, light))
    distances = np.array([placement.position[2] for placement in placements], dtype=np.float32)
    depths = np.take(distances[polygons.owners], faces)
    styles = np.array([placement.style for placement in placements], dtype=np.float32).T[:, polygons.owners]

    textured = slice(plain_end, None)
    surface = _surface(_frames(polygons, camera.eye), faces[textured], right[textured], up[textured], camera, styles, light)
    depths[textured] = surface.depth
    for texture, start, end in zip(TEXTURES, [plain_end, *ends], ends):
        if start < end:
            factor, mix = TEXTURES[texture](surface.part(slice(start - plain_end, end - plain_end)))
            part = slice(start, end)
            if texture in _GROUND:
                factor = factor * (1 - light.shadow * shadows[order[part]] * (polygons.normals[1, faces[part]] > 0.9))
            paint[:, part] *= factor * (1 - mix)
            if np.ndim(mix):
                paint[:, part] += second[:, part] * mix
    paint = light.sky_horizon + (paint - light.sky_horizon) * np.exp(-light.haze * depths)
    paint[:, :sky_end] = sky(light, right[:sky_end], up[:sky_end], sky_style)
    colours = np.empty_like(paint)
    colours[:, order] = paint
    return colours


def _light_paints(polygons: Polygons, placements: list[Placement], light: Light) -> tuple[np.ndarray, np.ndarray]:
    """(3, F) first and second paint of the polygons in the light of the scene."""
    paints = np.array([p.colours + (p.second,) * (_MAX_MATERIALS - len(p.colours)) for p in placements], dtype=np.float32)
    facing = np.where(polygons.one_sided, np.maximum((light.sun[:, None] * polygons.normals).sum(axis=0), 0), np.float32(0.5))
    incoming = light.ambient * (0.8 + 0.2 * polygons.normals[1]) + light.sun_colour * facing
    return paints[polygons.owners, polygons.materials].T * incoming, paints[polygons.owners, -1].T * incoming


def _frames(polygons: Polygons, eye: float) -> np.ndarray:
    """(11, F) float32: normal (3), distance of the plane from the camera, horizontal axis of the surface (x, z), whether it is
    ground, and left end, lower end, width and height of the polygon along its axes."""
    nx, ny, nz = polygons.normals
    ground = ny > 0.9
    level = np.maximum(np.hypot(nx, nz), np.float32(1e-9))
    axis_x = np.where(ground, 1, -nz / level)
    axis_z = np.where(ground, 0, nx / level)
    x, y, z = polygons.points
    u = x * np.repeat(axis_x, polygons.sizes) + z * np.repeat(axis_z, polygons.sizes)
    v = np.where(np.repeat(ground, polygons.sizes), z, y)
    (left, end), (low, high) = polygons.range(u), polygons.range(v)
    return np.stack([nx, ny, nz, polygons.planes(eye), axis_x, axis_z, ground, left, low, end - left, high - low])


def _surface(
    frames: np.ndarray, faces: np.ndarray, right: np.ndarray, up: np.ndarray, camera: Camera, styles: np.ndarray, light: Light
) -> Surface:
    """Where the rays of p pixels meet the planes of their polygons."""
    nx, ny, nz, plane, axis_x, axis_z, ground, left, low, width, height = np.take(frames, faces, axis=1)
    slope = nx * right + ny * up + nz
    # a ray along the plane meets it nowhere
    depth = np.clip(plane / np.where(np.abs(slope) < 1e-4, 1e-4, slope), 0.3, 900)
    across = depth / np.float32(camera.focal)
    oblique = across / np.maximum(np.abs(slope), 0.02)
    is_ground = ground > 0
    return Surface(
        u=depth * (right * axis_x + axis_z) - left,
        v=np.where(is_ground, depth, camera.eye + depth * up) - low,
        width=width,
        height=height,
        depth=depth,
        pixel_u=np.where(is_ground, across, oblique),
        pixel_v=np.where(is_ground, oblique, across),
        faces=faces,
        styles=styles,
        light=light,
    )


def _expose(colours: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(3, H, W) uint8: what a camera makes of the colours: a soft lens, and sensor noise that is the same in all channels."""
    # before the lens: lamps reach 430, and would bleed into what is around them
    colours = np.minimum(colours, 255)
    for low, middle, high in (
        (colours[:, :-2], colours[:, 1:-1], colours[:, 2:]),
        (colours[:, :, :-2], colours[:, :, 1:-1], colours[:, :, 2:]),
    ):
        middle += _BLUR * (low + high - 2 * middle)
    colours += 3.0 * rng.standard_normal(colours.shape[1:], dtype=np.float32)
    return np.clip(colours, 0, 255).astype(np.uint8)
