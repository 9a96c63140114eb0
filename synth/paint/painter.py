"""A trained generator that makes the images of paintings, as synth.generate makes those of label files, to the bit."""

import hashlib
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shared.data.pictures import read_image
from shared.errors import InputError
from shared.run.directory import RunDirectory
from shared.visualise import label_storage
from synth.images.class_changes import add_table, mix, parse_mixtures
from synth.images.generation import generate
from synth.images.layout_images import LayoutImagesConfig, choose_noise, choose_styles
from synth.paint.painting import Painting, mix_text, settings_of
from synth.semantics import Semantics
from synth.semantics.edges import instance_edges
from synth.semantics.layout import SemanticPyramid
from synth.trained import TrainedGenerator, load_generator

KEPT_MIXES, KEPT_STYLES, KEPT_WAYS = 16, 32, 16
STYLE_PIXELS = 2**24
"""Pixels of the largest style image."""


class Painter:
    """The generator of a run. Its methods are called by one thread at a time.

    folder: for the style images that are brought.
    Raises InputError: no such run, or a table that does not fit it.
    """

    def __init__(self, run: str, device: torch.device, folder: Path, table: str | None = None) -> None:
        self.run, self.device, self.folder, self.table = run, device, folder, table
        trained = load_generator(RunDirectory.open(run), device)
        self.trained = trained if table is None else add_table(trained, table)
        self.generator, self.spec = self.trained.generator, self.trained.spec
        label_storage(self.spec.num_classes)  # refuses more classes than a label file can have
        self.styles: OrderedDict[str, Path] = OrderedDict()
        self._last: tuple[Semantics, torch.Tensor, SemanticPyramid] | None = None
        self._as_trained = self.generator.semantics
        self._mixed: OrderedDict[str, tuple[Semantics, TrainedGenerator]] = OrderedDict()
        self._ways: OrderedDict[Any, list[torch.Tensor | None]] = OrderedDict()

    @property
    def has_vectors(self) -> bool:
        return self._as_trained.table is not None

    def vectors(self) -> np.ndarray:
        """(C, D). Raises InputError where the semantics are one-hot."""
        return self._as_trained.class_vectors.detach().cpu().numpy()

    def settings(self, painting: Painting, **given: Any) -> LayoutImagesConfig:
        """Those of synth.generate. Raises InputError: a style image that is not here, or a mix that has no text."""
        styled, noisy = self.generator.z_dim is not None, self.generator.noise_channels > 0
        run, names = given.pop("run", self.run), self.spec.class_names
        return settings_of(painting, names, run, lambda key: str(self.style_file(key)), styled=styled, noisy=noisy, **given)

    def image(self, painting: Painting) -> np.ndarray:
        """(H, W, 3) uint8.

        Raises:
            InputError: a size, a mix or a style that this generator cannot make.
        """
        self.generator.start_size(painting.size)
        settings = self.settings(painting)
        semantics, trained = self._with_mixes(painting)
        self.generator.semantics = semantics
        label_map = torch.from_numpy(painting.labels)
        labels = label_map[None].to(self.device)
        edges = instance_edges(torch.zeros_like(labels), labels) if semantics.instance_edges else None
        pyramid = self._pyramid(semantics, labels, edges)
        style = self._way(trained, settings)[painting.style.step if settings.steps else 0]
        noise = choose_noise(trained, settings)(label_map, pyramid, 0)
        return generate(self.generator, pyramid, style=None if style is None else style.to(self.device), noise=noise, size=painting.size)[0]

    def _pyramid(self, semantics: Semantics, labels: torch.Tensor, edges: torch.Tensor | None) -> SemanticPyramid:
        """That of the last painting, prepared as it is, where style or noise alone have changed."""
        before = self._last
        if before is None or before[0] is not semantics or not torch.equal(before[1], labels):
            self._last = before = semantics, labels, semantics.pyramid(labels, edges)
        return before[2]

    def _with_mixes(self, painting: Painting) -> tuple[Semantics, TrainedGenerator]:
        text = mix_text(painting.mixes, self.spec.class_names)
        self.generator.semantics = self._as_trained
        if not text:
            return self._as_trained, self.trained
        if text not in self._mixed:
            counts = Counter([*self.spec.class_names, *(name for name, _ in painting.mixes)])
            if taken := [name for name, _ in painting.mixes if counts[name] > 1]:
                raise InputError(f"there is a class {taken[0]} already; give the mixed class another name")
            changed = mix(self.trained, parse_mixtures(text))
            label_storage(changed.spec.num_classes)
            self._mixed[text] = changed.generator.semantics, changed
        return _keep(self._mixed, text, KEPT_MIXES)

    def _way(self, trained: TrainedGenerator, settings: LayoutImagesConfig) -> list[torch.Tensor | None]:
        """The styles on the way, (1, Z) each; a style image is looked at once."""
        key = settings.style, settings.style_to, settings.steps
        if key not in self._ways:
            # a fixed style is the same for any layout
            self._ways[key] = list(choose_styles(trained, settings)(torch.empty(0)))
        return _keep(self._ways, key, KEPT_WAYS)

    def add_style(self, file: Path) -> str:
        """Keep an image file that has a style, by a key that follows from its content.

        Raises:
            InputError: no style in this generator, or no image.
        """
        if self.generator.z_dim is None:
            raise InputError("this generator has no style; train with --generator.style_dim 256")
        read_image(file, max_pixels=STYLE_PIXELS)
        key = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        kept = self.folder / f"style-{key}{file.suffix.lower()}"
        file.replace(kept)
        self.styles[key] = kept
        while len(self.styles) > KEPT_STYLES:
            self.styles.popitem(last=False)[1].unlink(missing_ok=True)
        return key

    def style_file(self, key: str) -> Path:
        """Raises InputError: it was not brought, or long ago."""
        if key not in self.styles:
            raise InputError("the style image is not here any more; drop it on the page again")
        return self.styles[key]


def _keep(kept: "OrderedDict[Any, Any]", key: Any, most: int) -> Any:
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
    return kept[key]
