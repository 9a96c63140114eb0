"""Images from label maps alone: `python -m synth.generate RUN LABELMAPS… -o DIR`."""

from dataclasses import dataclass
from pathlib import Path

from shared.files.atomic import require_name
from shared.run.program import run_program
from shared.run.training import progress
from shared.visualise import save_png
from synth.images.layout_images import LayoutImages, LayoutImagesConfig


@dataclass(kw_only=True)
class GenerateConfig(LayoutImagesConfig):
    """Generate images from label maps: no real image is needed."""

    output: str
    """Folder for the images; a label map a/b.png of a folder gives a/b.png, and a/b_0.png, a/b_1.png, … when it gives several."""
    dry_run: bool = False
    """Check what is given, say what would be done, and stop."""


def main(config: GenerateConfig) -> None:
    images, output = LayoutImages(config), Path(config.output)
    require_name(output / f"{images.longest_name}.png")
    if config.dry_run:
        print(f"would generate {len(images)} images of {images.sizes} and write to {output}")
        return
    for name, image in progress(images, "generate", total=len(images), unit="image"):
        save_png(image, output / f"{name}.png")
    print(f"wrote {len(images)} images to {output}")


if __name__ == "__main__":
    run_program(main, GenerateConfig, "synth.generate", positional={"run": None, "label_maps": "+"}, short={"output": "-o"})
