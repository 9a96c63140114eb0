"""How long the page's server takes beside the generator's own forward pass: `python -m synth.paint.benchmark`."""

from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from shared.constants import IGNORE_INDEX
from shared.errors import InputError
from shared.files.json_file import write_json
from shared.run.directory import environment
from shared.run.program import run_program
from shared.run.training import choose_device
from synth.config import GeneratorConfig
from synth.generator import in_pixels
from synth.paint.config import PaintConfig
from synth.paint.painter import Painter
from synth.paint.speed import made_run, measure, strokes, unchanged_sizes
from synth.paint.studio import Studio

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
