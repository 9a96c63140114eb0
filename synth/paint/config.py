"""Settings of the page to paint on."""

from dataclasses import dataclass
from typing import Literal

from shared.errors import InputError

SMALLEST_CANVAS, LARGEST_CANVAS = 2**10, 2**26


@dataclass(kw_only=True)
class PaintConfig:
    """Paint label maps on a page in the browser of this machine, and see the image that the generator makes of them."""

    run: str
    """Run directory of synth.train, or of synth.convert, whose generator paints."""
    port: int = 8734
    """Port of 127.0.0.1, the only address that is served; 0: any free one."""
    open: bool = False
    """Open the page in the browser."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes CUDA when there is a device."""
    segmenter: str | None = None
    """Run directory of seg.train that turns photos into label maps to paint on, by the names of its classes. Null: photos are refused."""
    table: str | None = None
    """Class table with names (.safetensors, .npz, .csv), for generators on class vectors: further classes, as in synth.generate."""
    data_root: str | None = None
    """Folder of the data set whose validation layouts are offered. Null: where it lay in the training."""
    max_pixels: int = 2**21
    """Pixels of the largest canvas; a larger label map is refused."""
    dry_run: bool = False
    """Check what is given, say what would be served, and stop."""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise InputError(f"port is {self.port}; it must be between 0 and 65535")
        if not SMALLEST_CANVAS <= self.max_pixels <= LARGEST_CANVAS:
            raise InputError(f"max_pixels is {self.max_pixels}; it must be between {SMALLEST_CANVAS} and {LARGEST_CANVAS}")
