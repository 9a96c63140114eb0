"""The arms of a comparison from its settings: semantics, discriminators and variants, and what the variants train first."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synth.arms import Arm
from synth.config import CompareConfig

PROTOCOL, SEGMENTATION = "protocol.yaml", "segmentation.yaml"
"""Settings files in the folder of a comparison: what all generators share, and what all variants' embeddings share."""


def arms_of(config: CompareConfig, folder: Path) -> list[Arm]:
    """Every arm at every seed, seed by seed."""
    kinds: Sequence[str | None] = config.discriminators or [None]
    variants: Sequence[str | None] = list(config.variants) or [None]
    return [
        Arm(semantics, kind, variant, seed, folder)
        for seed in config.seeds
        for kind in kinds
        for variant in variants
        for semantics in (None if variant is None else config.variants[variant].semantics) or config.semantics
    ]


def embedding_trainings(config: CompareConfig, folder: Path) -> dict[str, list[str]]:
    """Variant -> the arguments after `python -m` that learn its class embeddings, for those that have their own."""
    return {
        name: [
            "seg.train",
            "--config",
            str(folder / SEGMENTATION),
            *options_of(variant.seg),
            "--run_dir",
            str(embeddings_run(name, folder)),
        ]
        for name, variant in config.variants.items()
        if variant.seg
    }


def embeddings_run(variant: str, folder: Path) -> Path:
    """The run directory of a variant's segmentation training."""
    return folder / f"embeddings-{variant.replace(' ', '-')}"


def options_of(settings: Mapping[str, Any]) -> list[str]:
    """Settings as a command line."""
    return [part for key, value in settings.items() for part in (f"--{key}", value if isinstance(value, str) else json.dumps(value))]
