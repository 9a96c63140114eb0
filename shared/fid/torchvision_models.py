"""Classifiers of torchvision's without their last layer, with weights from a file."""

import pickle
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torchvision import models
from torchvision.transforms._presets import ImageClassification

from shared.errors import InputError
from shared.files import sha256

TORCHVISION = "torchvision/"
"""How the names of these networks begin, wherever a network is named."""


class Reading(NamedTuple):
    """How a classifier reads images: resized to size × size, then normalised per channel."""

    size: int
    mean: list[float]
    std: list[float]


def find_weights(name: str, path: Path | None) -> Path:
    """The weights file of a model: `path`, or the one in torch's cache, whose name tells the start of its SHA-256.

    Raises:
        InputError: unknown model, no such file, or another content than its name tells.
    """
    weights = _published(name)
    file = Path(torch.hub.get_dir(), "checkpoints", weights.url.rsplit("/", 1)[-1]) if path is None else path
    if not file.is_file():
        raise InputError(f"no weights of {TORCHVISION}{name} at {file}; put {weights.url} there, or name the file with --weights")
    if path is None and not sha256(file).startswith(prefix := file.stem.rsplit("-", 1)[-1]):
        raise InputError(f"{file} is damaged: its SHA-256 does not begin with {prefix}; replace it by {weights.url}")
    return file


def load_headless(name: str, file: Path) -> tuple[nn.Module, int, Reading]:
    """The model without its last linear layer, the width of what that layer read, and how the model reads images.

    Raises:
        InputError: the file does not hold the weights of this model.
    """
    model = models.get_model(name, weights=None, **({"init_weights": False} if name in ("googlenet", "inception_v3") else {}))
    try:
        model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except (RuntimeError, TypeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise InputError(f"{file} does not hold the weights of {TORCHVISION}{name}: {' '.join(str(error).split())[:200]}") from error
    last, head = [(place, layer) for place, layer in model.named_modules() if isinstance(layer, nn.Linear)][-1]
    parent, _, attribute = last.rpartition(".")
    setattr(model.get_submodule(parent), attribute, nn.Identity())
    preset = _published(name).transforms()
    assert isinstance(preset, ImageClassification)
    return model, head.in_features, Reading(preset.crop_size[0], preset.mean, preset.std)


def _published(name: str) -> models.WeightsEnum:
    """The weights that torchvision publishes for a classifier.

    Raises:
        InputError: there is no classifier of this name.
    """
    known = models.list_models(module=models)
    if name not in known:
        raise InputError(f"torchvision has no classifier {name}; it has {', '.join(known)}")
    weights: models.WeightsEnum = models.get_model_weights(name).DEFAULT
    return weights
