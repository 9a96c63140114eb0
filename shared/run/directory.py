"""A run directory: everything one run wrote, and nothing else."""

import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from shared.config import read_yaml, to_yaml, with_new_names
from shared.distributed import from_first, is_first, wait_for_all, world_size
from shared.errors import InputError
from shared.files.atomic import lock, write_failure, write_text
from shared.files.json_file import to_json, write_json

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter
RUNS = Path("runs")
METRICS, RESOURCES = "metrics.jsonl", "resources.jsonl"
EVALUATION = "val/"
"""How the metrics of an evaluation are called."""
NOT_STORED = ("run_dir", "dry_run")
"""Settings of one command rather than of the run."""
LIBRARIES = ("torch", "torchvision", "numpy", "pillow", "safetensors", "faiss-gpu", "faiss-cpu", "pytorch-fid")


class RunDirectory:
    """`runs/<program>/<name>/` with config.yaml, metrics.jsonl, resources.jsonl, log.txt, environment.json, tensorboard/ and checkpoints/.

    Of several processes all see the same one, and the first one writes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started = time.time()
        self._lock: BinaryIO | None = None

    @classmethod
    def choose(cls, program: str, name: str, run_dir: str | None) -> "RunDirectory":
        """The directory given as `run_dir`, or the next free `runs/<program>/<name>-<number>`."""
        if run_dir is not None:
            return cls(Path(run_dir))
        return cls(from_first(cls._next_free(program, name)))

    @staticmethod
    def _next_free(program: str, name: str) -> Path:
        taken = [int(path.name.rsplit("-", 1)[1]) for path in RUNS.glob(f"{program}/{name}-*") if path.name.rsplit("-", 1)[1].isdigit()]
        return RUNS / program / f"{name}-{max(taken, default=0) + 1:03d}"

    @classmethod
    def open(cls, path: str | Path) -> "RunDirectory":
        """An existing run.

        Raises:
            InputError: there is no run at `path`.
        """
        run = cls(Path(path))
        if not run.config_path.is_file():
            raise InputError(f"{path} is no run directory: it has no config.yaml; give the folder that a training program printed")
        return run

    @property
    def config_path(self) -> Path:
        return self.path / "config.yaml"

    @property
    def config(self) -> dict[str, Any]:
        """The settings it began with, under the names that they have today."""
        return with_new_names(read_yaml(self.config_path))

    def checkpoint(self, which: str) -> Path:
        """Path of the checkpoint `last`, `previous` (the one before it) or `best`."""
        return self.path / "checkpoints" / f"{which}.safetensors"

    @property
    def resumable(self) -> list[Path]:
        """Checkpoints that a run continues from, newest first."""
        return [self.checkpoint("last"), self.checkpoint("previous")]

    def start(self, config: dict[str, Any]) -> None:
        """Write config.yaml (without `run_dir`, so that `--config` of it starts a new run) and environment.json.

        Raises:
            InputError: the folder cannot be written, or another process is at work in it.
        """
        wait_for_all()  # they have read what was there
        if not is_first():
            return
        str(self.path).encode("utf-8")  # TensorBoard and safetensors take no other names, and would say so too late
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write run directory {self.path}: {write_failure(error) or error}") from error
        self._lock = lock(self.path / ".lock")
        write_text(self.config_path, to_yaml({key: value for key, value in config.items() if key not in NOT_STORED}))
        write_json(self.path / "environment.json", environment())

    def log(self, message: str) -> None:
        """Print a line and keep it in log.txt."""
        if not is_first():
            return
        with open(self.path / "log.txt", "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {message}\n")
        print(message, flush=True)

    def log_metrics(self, step: int, values: dict[str, float]) -> None:
        """Append one line to metrics.jsonl and the same values to TensorBoard. Non-finite values become null."""
        self._append(METRICS, step, values)

    def log_resources(self, step: int, values: dict[str, float]) -> None:
        """The same for speed and memory, in resources.jsonl: a repeated run has the same metrics and other resources."""
        self._append(RESOURCES, step, values)

    def metrics(self) -> Iterator[dict[str, Any]]:
        """The lines of metrics.jsonl, oldest first. A last line that is not whole, since its writer is at it or was killed, is left out.

        Raises:
            InputError: another line is no JSON with a step.
        """
        return self._lines(METRICS)

    def resources(self) -> Iterator[dict[str, Any]]:
        """The lines of resources.jsonl, as `metrics` gives its own."""
        return self._lines(RESOURCES)

    def forget_after(self, step: int, evaluated: int) -> None:
        """Drop metrics and resources later than `step`, and evaluations later than `evaluated`: a resumed run writes them again."""
        if not is_first():
            return

        def stays(entry: dict[str, Any]) -> bool:
            return entry["step"] <= (evaluated if any(key.startswith(EVALUATION) for key in entry) else step)

        for file in (METRICS, RESOURCES):
            kept = [to_json(entry) for entry in self._lines(file) if stays(entry)]
            write_text(self.path / file, "".join(line + "\n" for line in kept))

    def _append(self, file: str, step: int, values: dict[str, float]) -> None:
        if not is_first():
            return
        with open(self.path / file, "a", encoding="utf-8") as lines:
            lines.write(to_json({"step": step, "seconds": round(time.time() - self.started, 2)} | values) + "\n")
        for key, value in values.items():
            self.tensorboard.add_scalar(key, value, step)

    def _lines(self, file: str) -> Iterator[dict[str, Any]]:
        path = self.path / file
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                int(entry["step"])
            except (ValueError, TypeError, KeyError) as error:
                if number == len(lines):
                    return
                raise InputError(f"line {number} of {path} is damaged: {line[:60]!r} came, JSON with a step was expected") from error
            yield entry

    @cached_property
    def tensorboard(self) -> "SummaryWriter":
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(self.path / "tensorboard")

    def close(self) -> None:
        """Write out what is still to be written, and let other processes work here."""
        if "tensorboard" in self.__dict__:
            self.tensorboard.close()
        if self._lock is not None:
            self._lock.close()


def find_runs(program: str) -> list[RunDirectory]:
    """Runs of `program` under `runs/`, newest first."""
    paths = [path.parent for path in RUNS.glob(f"{program}/*/config.yaml")]
    return [RunDirectory(path) for path in sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)]


def environment() -> dict[str, Any]:
    """What a reader needs to judge or repeat a run: command, versions, machine, revision, date."""
    import torch

    return {
        "command": shlex.join(["python", "-m", _module_name(), *sys.argv[1:]]),
        "date": datetime.now().isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES if _version(name)},
        "machine": machine(),
        "processes": world_size(),
        "threads": torch.get_num_threads(),
        "revision": _revision(),
    }


def machine() -> str:
    """Processor, or the GPU where this process computes on one."""
    import torch

    # not is_available(): to ask for the name makes a context, which a training on the CPU is not to have
    if torch.cuda.is_initialized():
        return torch.cuda.get_device_name()
    import os

    return f"{platform.machine()} CPU, {os.cpu_count()} cores"


def _module_name() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).name


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _revision() -> str | None:
    root = Path(__file__).parents[2]
    try:
        done = subprocess.run(["git", "-C", str(root), "describe", "--always", "--dirty"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
