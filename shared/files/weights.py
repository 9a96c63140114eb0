"""The one weights file that makes a Fréchet distance FID: found, downloaded, and checked before it is read.

It is the Inception network of 2015 with 1008 outputs, ported by pytorch-fid. torchvision's own Inception weights give other numbers.
"""

import http.client
import logging
import shutil
import urllib.request
from pathlib import Path

import torch
from pytorch_fid.inception import FID_WEIGHTS_URL
from tqdm import tqdm

from shared.errors import InputError
from shared.files.atomic import atomic_write, sha256

SHA256_PREFIX = "6726825d"
TIMEOUT_SECONDS = 10
"""Longest silence of the server before a download is given up."""
log = logging.getLogger(__name__)


class WeightsUnavailable(InputError):
    """The weights are neither here nor to be downloaded."""


def inception_weights(path: str | Path | None = None) -> Path:
    """A weights file whose SHA-256 is right.

    Args:
        path: the file; None = the copy in torch's cache, where pytorch-fid looks too, downloaded first when it is missing.

    Raises:
        WeightsUnavailable: it is not here and the download failed; says which file to put where.
        InputError: another or a damaged file.
    """
    file = cached_path() if path is None else Path(path)
    if path is None and not file.is_file():
        _download(file)
    _require_hash(file)
    return file


def cached_path() -> Path:
    """Where torch and pytorch-fid keep the file."""
    return Path(torch.hub.get_dir(), "checkpoints", FID_WEIGHTS_URL.rsplit("/", 1)[-1])


def _download(file: Path) -> None:
    log.warning("downloading the Inception weights (91 MiB) from %s", FID_WEIGHTS_URL)
    try:
        with urllib.request.urlopen(FID_WEIGHTS_URL, timeout=TIMEOUT_SECONDS) as response, atomic_write(file) as temporary:
            size = int(response.headers.get("Content-Length", 0)) or None
            with open(temporary, "wb") as target, tqdm.wrapattr(response, "read", total=size, desc="Inception weights") as source:
                shutil.copyfileobj(source, target)
            _require_hash(temporary)
    except (OSError, http.client.HTTPException) as error:
        raise WeightsUnavailable(
            f"the Inception weights are not at {file} and cannot be downloaded ({error}); put the file {FID_WEIGHTS_URL} there, or name it"
        ) from error


def _require_hash(file: Path) -> None:
    if not file.is_file():
        raise InputError(f"no Inception weights at {file}; download {FID_WEIGHTS_URL} to there")
    found = sha256(file)
    if not found.startswith(SHA256_PREFIX):
        raise InputError(
            f"{file} is not the FID weights file or is damaged: its SHA-256 begins {found[:8]}, {SHA256_PREFIX} was expected; "
            f"replace it by {FID_WEIGHTS_URL}"
        )
