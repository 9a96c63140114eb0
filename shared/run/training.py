"""What both training loops share: devices, seeds, progress, running means, and how a run begins or goes on.

The data order counts images: update `step` reads those from step · images on, `images` of them, however they are spread over processes,
passes and batches. So a run may continue on fewer or more processes with the same images an update, if batch size or accumulation make
up for it.
"""

import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from shared.config import require_same_settings
from shared.distributed import is_first, join_processes, own_gpu, share_weights, sum_over_processes, world_size
from shared.errors import InputError
from shared.files.atomic import leftovers
from shared.files.text_file import composed
from shared.run.checkpoint import TrainingState, read_newest
from shared.run.directory import NOT_STORED, RunDirectory
from shared.run.faults import cuda_obstacle, gpu_is_plugged_in
from shared.run.stopping import Stopped, StopRequest

FREE_IF_IMAGES_STAY = {"train.batch_size", "train.accumulation"}
"""Settings that a continued run may change as `explain_change` allows it."""


Item = TypeVar("Item")


class Spread(NamedTuple):
    """`processes` × `passes` × `batch_size` images an update."""

    processes: int
    passes: int
    batch_size: int

    @classmethod
    def of(cls, config: dict[str, Any], processes: int | None = None) -> "Spread":
        """That of settings and, unless given, the processes that there are."""
        train = config["train"]
        return cls(world_size() if processes is None else processes, train.get("accumulation", 1), train["batch_size"])

    @property
    def images(self) -> int:
        return self.processes * self.passes * self.batch_size

    def __str__(self) -> str:
        return f"{self.images} images an update ({self.processes} processes × {self.passes} passes × batches of {self.batch_size})"


def explain_change(before: Spread, now: Spread, where: str) -> str:
    """What is said when a run that was saved with `before` continues with `now`; empty where nothing has changed.

    Raises:
        InputError: batch size or accumulation were changed, and the images of an update with them.
    """
    if before == now:
        return ""
    if before.images == now.images:
        return f"there were {before} and are now {now}: the same in the same order; results differ by rounding and batch statistics"
    if before[1:] != now[1:]:
        raise InputError(
            f"{where} was saved with {before} and would continue with {now}; give a batch size and an accumulation that leave their number"
        )
    return f"there were {before} and are now {now}: other images come next than without the change, and more or fewer of them an update"


def require_same_classes(before: Sequence[str], now: Sequence[str], where: str) -> None:
    """Refuse to continue with other classes than the checkpoint `where` has, or with the same in another order.

    Raises:
        InputError: names the first class that differs.
    """
    if list(map(composed, before)) == list(map(composed, now)):
        return
    advice = "the weights would change their meaning: bring the class list back to what it was, or give another --run_dir"
    if len(before) != len(now):
        raise InputError(f"{where} was saved with {len(before)} classes, and there are {len(now)} now; {advice}")
    class_id, was, is_now = next((id_, old, new) for id_, (old, new) in enumerate(zip(before, now)) if composed(old) != composed(new))
    raise InputError(f"class {class_id} is {was} in {where}, and {is_now} now; {advice}")


def choose_device(name: str, threads: int | None = None) -> torch.device:
    """`auto` is CUDA when it can be used; of several processes each has a device of its own. `threads` limits the CPU threads of this
    process.

    Raises:
        InputError: CUDA was asked for and cannot be used; says why. Or there are fewer devices than processes.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    device = _usable_device(name)
    join_processes(device.type)
    return device


def _usable_device(name: str) -> torch.device:
    """Nothing has touched CUDA before this, and nothing touches it where the CPU is to compute."""
    cpu = torch.device("cpu")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available() and not gpu_is_plugged_in()):
        return cpu
    gpu = own_gpu()
    if obstacle := cuda_obstacle(gpu):
        if name != "auto":
            raise InputError(f"the device is to be {name}, but CUDA cannot be used: {obstacle}; use cpu, or auto")
        warnings.warn(f"there is a GPU, but CUDA cannot be used: {obstacle}; the CPU computes", stacklevel=3)
        return cpu
    return torch.device("cuda", gpu)


def seed_of(*numbers: int, purpose: int | None = None) -> int:
    """A 63-bit seed that follows from numbers ≥ 0; `purpose` keeps streams apart that are counted by the same numbers."""
    sequence = np.random.SeedSequence(numbers, spawn_key=() if purpose is None else (purpose,))
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Make every random draw of a step (dropout, style) a function of (seed, step, rank), so that resuming needs no generator state."""
    torch.manual_seed(seed_of(seed, step, rank))


def progress(items: Iterable[Item], title: str, *, total: int, initial: int = 0, unit: str = "step") -> "tqdm[Item]":
    """Progress bar with rate and time left; one line every ten seconds where there is no terminal."""
    return tqdm(
        items, title, total=total, initial=initial, unit=unit, mininterval=_bar_interval(), dynamic_ncols=True, disable=not is_first()
    )


def progress_by_hand(title: str, *, total: int, unit: str) -> "tqdm[NoReturn]":
    """The same bar for work that reports how far it is; call its `update`."""
    return tqdm(desc=title, total=total, unit=unit, mininterval=_bar_interval(), dynamic_ncols=True, disable=not is_first())


def _bar_interval() -> float:
    return 0.2 if sys.stderr.isatty() else 10.0


class RunningMeans:
    """Means of named values since the last `take`. They are summed up on their device, which nothing waits for before that."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}  # float64 scalars
        self._count = 0

    def add(self, values: dict[str, torch.Tensor]) -> None:
        for name, value in values.items():
            value = value.detach().double()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1

    def take(self) -> dict[str, float]:
        """The means, over all processes too, which call this together."""
        means = {name: total / self._count for name, total in self._mean_sums().items()}
        self._sums, self._count = {}, 0
        return means

    def state_dict(self) -> dict[str, Any]:
        """JSON values, which keep every bit: a run that stops between two `take`s goes on with what it had."""
        return {"sums": self._mean_sums(), "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sums = {name: torch.tensor(value, dtype=torch.float64) for name, value in state["sums"].items()}
        self._count = state["count"]

    def _mean_sums(self) -> dict[str, float]:
        """Means over the processes, which have the same names."""
        if not self._sums:
            return {}
        # those that were loaded are on the CPU until something is added to them
        device = next((value.device for value in self._sums.values() if value.device.type != "cpu"), torch.device("cpu"))
        sums = torch.stack([value.to(device) for value in self._sums.values()]).cpu()
        return dict(zip(self._sums, (sum_over_processes(sums) / world_size()).tolist()))


def begin_or_continue(run: RunDirectory, state: TrainingState, config: dict[str, Any], free: set[str]) -> None:
    """Start `run`, or load its last checkpoint into `state` when there is one: the same command continues.

    Args:
        config: resolved settings of this command.
        free: dotted settings that a continued run may change.

    Raises:
        InputError: the folder holds something else than a run, or a run with other settings, classes or images of an update.
    """
    if run.path.is_dir() and set(run.path.iterdir()) - set(leftovers(run.path)) and not run.config_path.is_file():
        raise InputError(f"{run.path} is not empty and holds no run of this program; choose another --run_dir")
    if run.config_path.is_file():
        given = {key: value for key, value in config.items() if key not in NOT_STORED}
        require_same_settings(run.config, given, free=free | FREE_IF_IMAGES_STAY, where=str(run.path))
    stored = read_newest(run.resumable)
    change = ""
    if stored is not None:
        before = Spread.of(stored.meta["config"], stored.meta.get("processes", 1))
        require_same_classes(stored.meta.get("class_names", []), state.about.get("class_names", []), str(stored.path))
        change = explain_change(before, Spread.of(config), str(stored.path))
        state.restore(stored)
        if state.step > config["train"]["steps"]:
            raise InputError(f"{run.path} is at step {state.step} already, beyond train.steps {config['train']['steps']}; give more steps")
    share_weights(*state.modules.values())
    run.start(config)
    if not is_first():
        return
    for path in leftovers(run.path) + leftovers(run.checkpoint("last").parent):
        path.unlink(missing_ok=True)
    for path, reason in stored.damaged.items() if stored is not None else ():
        run.log(f"{reason}. It is now {path.with_suffix('.damaged')}, and the run goes on from the checkpoint before it")
        path.replace(path.with_suffix(".damaged"))
    run.forget_after(state.step, state.evaluated)
    if change:
        run.log(change)
    run.log(f"{run.path}: {f'continuing after step {state.step}' if state.step else 'starting'}")


def leave_if_asked(stop: StopRequest, run: RunDirectory, state: TrainingState) -> None:
    """End the program after a loop that a request to stop has ended, and that has saved `state`.

    Raises:
        Stopped: says how to go on.
    """
    if stop.accepted:
        run.close()
        raise Stopped(f"step {state.step} is saved; the same command with --run_dir {run.path} continues")
