"""Photos that a segmentation run turns into label maps to paint on."""

import asyncio
import sys
from pathlib import Path

import numpy as np
import torch

from shared.constants import IGNORE_INDEX
from shared.data.labels import LabelCodes
from shared.data.pictures import IMAGE_SUFFIXES
from shared.errors import InputError
from shared.run.checkpoint import read_checkpoint
from shared.run.directory import RunDirectory
from synth.paint.files import PICTURE_PIXELS, brought, brought_to_size
from synth.paint.painter import Painter

PHOTO_SECONDS = 180


class Photos:
    """Label maps of photos, by `python -m seg.predict` as a process of its own: neither half imports the other.

    Raises InputError: no such run, or no class that the generator has.
    """

    def __init__(self, painter: Painter, run: str, device: str) -> None:
        self.painter, self.run, self.device = painter, run, device
        directory = RunDirectory.open(run)
        path = next((path for path in map(directory.checkpoint, ("best", "last")) if path.is_file()), directory.checkpoint("last"))
        names = read_checkpoint(path)[1]["class_names"]
        ids = {name: class_id for class_id, name in enumerate(painter.spec.class_names)}
        self.which = "best" if path.stem == "best" else "last"
        self.ids = np.array([ids.get(name, IGNORE_INDEX) for name in names])
        if (self.ids == IGNORE_INDEX).all():
            raise InputError(f"segmenter {run} knows none of the classes of {painter.run}; give a run on the same classes")
        self._one_at_a_time = asyncio.Lock()

    async def labels_of(self, name: str, content: bytes, max_pixels: int) -> np.ndarray:
        """(H, W) int64, −1 where the segmenter sees a class that the generator does not have.

        Raises:
            InputError: no image, or the segmenter cannot do it, or not in time.
        """
        with brought(name, content, IMAGE_SUFFIXES) as path:
            output = path.parent / "predicted"
            async with self._one_at_a_time:
                await self._predict(path, output)
            file = output / "labels" / f"{path.stem}.png"
            found = LabelCodes(len(self.ids), ignore_value=None).read(file, max_pixels=PICTURE_PIXELS)
            return brought_to_size(self.painter.trained, torch.from_numpy(self.ids)[found], max_pixels, keep=False)

    async def _predict(self, path: Path, output: Path) -> None:
        options = ["--checkpoint", self.which, "--device", self.device, "--max_pixels", str(PICTURE_PIXELS)]
        command = ["seg.predict", self.run, str(path), "-o", str(output), *options]
        # in a session of its own, so that Ctrl-C at the terminal does not reach it but through us
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *command),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            _, errors = await asyncio.wait_for(child.communicate(), PHOTO_SECONDS)
        except TimeoutError:
            raise InputError(f"segmenter {self.run} has not done {path} in {PHOTO_SECONDS} s; take a smaller photo") from None
        finally:
            if child.returncode is None:
                child.kill()
        if child.returncode:
            said = errors.decode(errors="replace").strip().splitlines()
            raise InputError(f"segmenter {self.run}: {said[-1].removeprefix('error: ') if said else f'status {child.returncode}'}")
