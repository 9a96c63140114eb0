"""State dicts of published networks: read without running code, recognised, and loaded whole or refused in one line."""

import re
from collections.abc import Mapping
from os import PathLike
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from shared.errors import InputError

Network = TypeVar("Network", bound=nn.Module)
Source = str | PathLike[str] | Mapping[str, Tensor]
"""A .pth file, or the state dict that such a file holds."""

SIGNS = {
    "head_0.": "a SPADE generator",
    "discriminator_0.": "a SPADE discriminator",
    "fc_mu.": "a SPADE style encoder",
    "body.": "an OASIS generator, which is another network",
    "body_down.": "an OASIS discriminator, which is another network",
    "model.": "a pix2pixHD generator, which is another network",
}
"""What a file holds, by the beginning of a key."""


def read_state(source: Source, sign: str) -> tuple[dict[str, Tensor], str]:
    """The tensors of `source`, and what to call it in messages.

    Args:
        sign: the beginning in `SIGNS` of what is expected.

    Raises:
        InputError: no such file, unreadable, no plain state dict, or one of another network. Code in a file is never run.
    """
    state, where = (source, "the state dict") if isinstance(source, Mapping) else (_read_file(source), str(source))
    if not isinstance(state, Mapping) or not state or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise InputError(f"{where} holds no plain state dict (tensors by name); give the latest_net_ file that the published code wrote")
    found = next((what for start, what in SIGNS.items() if any(key.startswith(start) for key in state)), None)
    if found != SIGNS[sign]:
        found = found or f"{len(state)} tensors such as {next(iter(state))}"
        raise InputError(f"{where} holds {found}; {SIGNS[sign]} was expected")
    return dict(state), where


def _read_file(path: str | PathLike[str]) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}; a .pth file of a published model was expected") from error
    except Exception as error:  # a damaged pickle fails in any way
        code = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it holds code ({code[1]}), which is not run" if code else "it is damaged or no .pth file"
        raise InputError(f"cannot read {path}: {reason}; give a file of weights alone, such as latest_net_G.pth") from error


def require_tensor(state: dict[str, Tensor], key: str, where: str, *dimensions: int) -> Tensor:
    """The tensor of that name, with one of these numbers of dimensions.

    Raises:
        InputError: it is missing, or has another shape.
    """
    if key not in state or state[key].ndim not in dimensions:
        found = f"has shape {tuple(state[key].shape)}" if key in state else "is missing"
        raise InputError(f"{where}: {key} {found}; the file is not complete, or of another network")
    return state[key]


def count_numbers(state: dict[str, Tensor], pattern: str) -> int:
    """How many different numbers the keys have in the place of the pattern's group."""
    return len({match[1] for key in state if (match := re.fullmatch(pattern, key))})


def load_whole(network: Network, state: dict[str, Tensor], where: str) -> Network:
    """Load all of `state` into the network, which is then in evaluation mode.

    Raises:
        InputError: names the first tensors that are missing, unknown or of another shape.
    """
    own = network.state_dict()
    missing, unknown = [key for key in own if key not in state], [key for key in state if key not in own]
    if missing or unknown:
        listed = [f"{len(keys)} tensors are {word}, first {keys[0]}" for keys, word in ((missing, "missing"), (unknown, "unknown")) if keys]
        raise InputError(f"{where} does not fit the published layout: {'; '.join(listed)}")
    for key, value in own.items():
        if state[key].shape != value.shape:
            raise InputError(f"{where}: {key} has shape {tuple(state[key].shape)}; {tuple(value.shape)} was expected from the others")
    network.load_state_dict(state)
    return network.eval()
