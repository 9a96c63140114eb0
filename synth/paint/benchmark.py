"""How long the page's server takes beside the generator's own forward pass: `python -m synth.paint.benchmark`."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

from shared.config import to_dict
from shared.constants import IGNORE_INDEX
from shared.data import build_dataset
from shared.data.config import DataConfig, ScenesConfig
from shared.errors import InputError
from shared.files.json_file import write_json
from shared.run.checkpoint import TrainingState
from shared.run.directory import RunDirectory, environment
from shared.run.program import run_program
from shared.run.training import choose_device
from synth.build import generator_from, semantics_from
from synth.config import GeneratorConfig, InputConfig, SynthConfig
from synth.generator import in_pixels
from synth.paint.config import PaintConfig
from synth.paint.files import wire_ids
from synth.paint.painter import Painter
from synth.paint.painting import Painting, pack
from synth.paint.studio import Studio
from synth.semantics.layout import SemanticPyramid
from synth.trained import describe

SIZES: dict[str, tuple[tuple[int, int], GeneratorConfig]] = {
    "demo": ((64, 128), GeneratorConfig(width=16, hidden=32)),
    "published": ((256, 512), GeneratorConfig(width=64, hidden=128, upsampling="more")),
}
ALLOWED = 1.2


@dataclass(kw_only=True)
class PaintBenchmarkConfig:
    """Measure the time from the end of a stroke to the new picture, on scenes, with random weights."""

    sizes: list[Literal["demo", "published"]] = field(default_factory=lambda: ["demo", "published"])
    """demo: 64x128 pixels, ngf 16; published: 256x512 pixels, ngf 64."""
    repeats: int = 9
    """Strokes that are measured; the medians are told."""
    classes: int = 19
    """Classes of the scenes."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    json: str | None = None
    """File for the figures. Null: none."""
    dry_run: bool = False
    """Say what would be measured, and stop."""

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise InputError(f"repeats is {self.repeats}; it must be at least 1")


def made_run(folder: Path, size: tuple[int, int], generator: GeneratorConfig, classes: int) -> Path:
    """A run directory of a generator with random weights on random vectors."""
    scenes = ScenesConfig(num_classes=classes, height=size[0], width=size[1], val_length=2)
    config = SynthConfig(
        data=DataConfig(scenes=scenes), input=InputConfig(size=size), generator=generator, semantics="random", embedding_dim=12
    )
    torch.manual_seed(0)
    network = generator_from(generator, size, semantics_from(config, classes, None))
    run = RunDirectory(folder)
    about = describe(config, build_dataset(config.data, "val"))
    TrainingState({"generator": network}, {}, about).save(run.checkpoint("last"))
    run.start(to_dict(config))
    run.close()
    return folder


def strokes(labels: np.ndarray, count: int, classes: int) -> list[np.ndarray]:
    """The label map (H, W) after each of `count` strokes: a disc of another class somewhere, a tenth of the height wide."""
    draw, found, now = np.random.default_rng(0), [], labels.copy()
    rows, columns = np.indices(labels.shape)
    for _ in range(count):
        y, x = draw.integers(0, labels.shape[0]), draw.integers(0, labels.shape[1])
        now = np.where((rows - y) ** 2 + (columns - x) ** 2 <= (labels.shape[0] / 20) ** 2, draw.integers(0, classes), now)
        found.append(now)
    return found


def measure(painter: Painter, studio: Studio, maps: list[np.ndarray], device: torch.device) -> dict[str, list[float]]:
    """Seconds of every way, for each label map in turn: interleaved, so that other work on the machine meets all alike."""
    generator, found = painter.generator, dict[str, list[float]]()

    def clock(name: str, act: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = act()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.setdefault(name, []).append(time.perf_counter() - start)
        return result

    def forward(layout: SemanticPyramid | torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        with torch.inference_mode():
            made: torch.Tensor = generator(layout, size=size)
            return made

    async def one_stroke(labels: np.ndarray) -> None:
        """The forward pass on the thread that also serves: another one would start with cold threads of torch."""
        painting, ids = Painting(labels), torch.from_numpy(labels)[None].to(device)
        body, pyramid = pack(painting.about() | {"tab": "stroke"}, wire_ids(labels)), generator.semantics.pyramid(ids)
        began = time.perf_counter()
        await studio.image(body)
        found.setdefault("server", []).append(time.perf_counter() - began)
        await studio.turns.run("forward", lambda: clock("forward", lambda: forward(ids, painting.size)))
        await studio.turns.run("prepare", lambda: forward(pyramid, painting.size))
        await studio.turns.run("again", lambda: clock("forward of prepared ids", lambda: forward(pyramid, painting.size)))

    async def serve() -> None:
        await one_stroke(maps[0])
        found.clear()  # that warmed up
        for labels in maps[1:]:
            await one_stroke(labels)

    asyncio.run(serve())
    return found


def unchanged_sizes(painter: Painter, maps: list[np.ndarray]) -> tuple[float, float, int]:
    """Sizes of a generator whose ids a stroke leaves as they are, the share of their pixels in those of all sizes, both on average, and how
    many sizes there are."""
    height, width = painter.generator.image_size
    factors = [2**power for power in range(int(np.log2(painter.generator.size_multiple)) + 1)]
    areas = np.array([height * width // factor**2 for factor in factors])

    def resized(labels: np.ndarray) -> list[torch.Tensor]:
        ids = torch.from_numpy(labels)[None, None].float()
        return [F.interpolate(ids, (height // factor, width // factor)) for factor in factors]

    same = np.array([[torch.equal(*pair) for pair in zip(resized(before), resized(after))] for before, after in pairwise(maps)])
    return float(same.sum(1).mean()), float((same @ areas / areas.sum()).mean()), len(factors)


def benchmark(config: PaintBenchmarkConfig) -> None:
    device = choose_device(config.device)
    lines: dict[str, Any] = {}
    for name in config.sizes:
        size, generator = SIZES[name]
        if config.dry_run:
            print(f"would measure {config.repeats} strokes at {name} size, {in_pixels(size)} pixels, ngf {generator.width}, on {device}")
            continue
        with TemporaryDirectory(prefix="paint-") as folder:
            run = made_run(Path(folder, "run"), size, generator, config.classes)
            painter = Painter(str(run), device, Path(folder))
            studio = Studio(PaintConfig(run=str(run), device=config.device), painter)
            assert studio.layouts is not None
            start = studio.layouts[0]
            maps = strokes(np.where(start == IGNORE_INDEX, 0, start), config.repeats + 1, config.classes)
            found = measure(painter, studio, maps, device)
            medians = {way: 1000 * median(seconds) for way, seconds in found.items()}
            ratio = median(server / forward for server, forward in zip(found["server"], found["forward"]))
            saved = 1 - medians["forward of prepared ids"] / medians["forward"]
            told = ", ".join(f"{way} {milliseconds:.1f} ms" for way, milliseconds in medians.items())
            print(f"{name}, {in_pixels(size)}, ngf {generator.width}: {told}; server / forward {ratio:.2f} (at most {ALLOWED} wanted)")
            unchanged, share, sizes = unchanged_sizes(painter, maps)
            kept = f"a stroke leaves {unchanged:.1f} of {sizes} sizes as they are, which have {share:.1%} of the pixels"
            print(f"  preparing ids is {saved:.0%} of a forward pass; {kept}")
            lines[name] = {"ms": medians, "ratio": ratio, "preparing": saved, "unchanged_sizes": unchanged, "unchanged_pixels": share}
            studio.turns.close()
    if config.json is not None and not config.dry_run:
        write_json(config.json, {"results": lines, "environment": environment()})


if __name__ == "__main__":
    run_program(benchmark, PaintBenchmarkConfig, "synth.paint.benchmark")
