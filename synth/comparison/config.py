"""Settings of a comparison."""

import re
from dataclasses import dataclass, field
from typing import Any

from shared.errors import InputError
from shared.fid.features import FeaturesConfig
from synth.config import Discriminator, Protocol
from synth.semantics import semantics_title
from synth.semantics.build import require_semantics


@dataclass
class Variant:
    """A named change of what the arms of a comparison share."""

    seg: dict[str, Any] = field(default_factory=dict)
    """Settings of seg.train (dotted names) with which class embeddings of its own are learned first, such as {model.embedding_dim: 4}."""
    synth: dict[str, Any] = field(default_factory=dict)
    """Settings of synth.train (dotted names), such as {trainable: true}."""
    semantics: list[str] | None = None
    """Semantics that have this variant. Null: all."""

    def __post_init__(self) -> None:
        taken = {"semantics", "embeddings", "run_dir", "train.seed", "config", "dry_run"} & {*self.seg, *self.synth}
        if taken:
            raise InputError(f"a variant sets {', '.join(sorted(taken))}, which the comparison sets itself; leave it out")


@dataclass
class CompareConfig(Protocol, FeaturesConfig):
    """Train a generator for every semantics and seed under one protocol, score them alike, and write the report."""

    semantics: list[str] = field(default_factory=lambda: ["onehot", "random", "learned"])
    """The arms: names, or paths of class tables, as semantics of synth.train."""
    discriminators: list[Discriminator] | None = None
    """Kinds of discriminator, each with all semantics an arm. Null: that of the protocol, discriminator.name."""
    variants: dict[str, Variant] = field(default_factory=dict)
    """Named changes, each with its semantics an arm: of how the embeddings are learned, and of the generator's training. Empty: none."""
    segmentation: str | None = None
    """Settings file of seg.train that the variants' own embeddings are learned with, on the comparison's data, once for all seeds."""
    seeds: list[int] = field(default_factory=lambda: [0])
    """Training seeds of every arm; from two on, the report has deviations and paired differences."""
    embeddings: str | None = None
    """Embedding file (learned; random takes its width). Null: the newest export of a seg.train run on the same data."""
    segmenter: str | None = None
    """Run of seg.train --head softmax on the same data: it segments the generated images, and its encoder gives the features of FD-seg,
    which stands beside the distance in other features. Null: the newest."""
    jobs: int = 1
    """Trainings that run at once, sharing the cores. On a CPU several are faster than one after the other; on one GPU leave it at 1."""
    samples: int = 4
    """Images of every validation layout whose mean distance is the diversity (generators with style or noise)."""
    pictures: int = 12
    """Validation layouts in the report, the first few shown at once."""
    run_dir: str | None = None
    """Folder of the comparison; continues the one that is there. Null: the next free runs/synth.compare/<data>-<number>."""
    dry_run: bool = False
    """Resolve, check what is needed, print, and stop."""

    def __post_init__(self) -> None:
        for name in ("semantics", "discriminators", "seeds"):
            values = getattr(self, name)
            if values is None:
                continue
            if not values or len(set(values)) < len(values):
                raise InputError(f"{name} is {values}; one or more different values were expected")
        for name in [*self.semantics, *(name for variant in self.variants.values() for name in variant.semantics or [])]:
            require_semantics(name)
        for title, variant in self.variants.items():
            if not re.fullmatch(r"[\w .=+-]+", title):
                raise InputError(f"variant {title!r} is no name of a folder; use letters, digits, spaces and . = + - _")
            if variant.seg and self.segmentation is None:
                raise InputError(f"variant {title} has settings of seg.train, but segmentation is null; name the settings file they change")
        titles = [semantics_title(name) for name in self.semantics]
        if len(set(titles)) < len(titles):
            raise InputError(f"semantics is {self.semantics}; the file names of class tables must differ from each other and from names")
        if (
            self.discriminators is not None
            and self.discriminator.begin == 1
            and self.loss.perceptual != "none"
            and self.loss.vgg_weight > 0
        ):
            raise InputError(
                "discriminators are compared, but discriminator.begin is 1, and none takes part; set it to 0, or loss.perceptual to none"
            )
        FeaturesConfig.__post_init__(self)
        for name, least in (("jobs", 1), ("samples", 2)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if self.train.stop_after is not None:
            raise InputError("train.stop_after stops a training early, but a comparison needs whole ones; leave it out")


FREE_TO_COMPARE = {
    *("run_dir", "dry_run", "semantics", "discriminators", "seeds", "jobs", "samples", "pictures", "variants"),
    *("data.root", "data.num_workers", "data.max_pixels", "train.threads", "train.not_finite", "train.tf32", "train.deterministic"),
}
"""Settings that a continued comparison may change: arms and seeds can be added."""
