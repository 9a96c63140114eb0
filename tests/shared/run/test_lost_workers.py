"""A process that reads data is killed: one line where the next batch is waited for, and all else is finished as if nothing had been.

Each test makes the moment of the death: the main process kills the worker, or the worker itself, and nothing depends on speed.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing.reductions
from torch.utils.tensorboard import SummaryWriter

import seg.inference
import shared.files.tensor_file
import shared.run.training
from shared.data.loader import BatchLoader, build_eval_loader
from shared.data.spec import DatasetSpec, Sample, SegmentationDataset
from shared.errors import InputError
from shared.run.checkpoint import read_checkpoint
from shared.run.directory import RunDirectory
from shared.run.lost_workers import LOST_WORKER
from shared.run.program import one_line_errors
from tests.launcher import Launcher
from tests.test_faults import SEG, SYNTH, require_same

Invoke = Callable[..., Any]
FIRST_WORDS = "a process that reads data was killed, most likely because memory ran out"


def nothing(index: int) -> None:
    pass


class Ten(SegmentationDataset):
    """Ten samples. `event(index)` comes before a sample is read."""

    def __init__(self, event: Callable[[int], None] = nothing) -> None:
        self.spec, self.split, self.event = DatasetSpec("ten", ("a", "b"), np.zeros((2, 3), np.uint8)), "train", event

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Sample:
        self.event(index)
        return Sample(torch.zeros(3, 4, 4), torch.full((4, 4), index), None, str(index))


def kept(sample: Sample) -> Sample:
    return sample


def loader_of(event: Callable[[int], None] = nothing, num_workers: int = 1) -> BatchLoader:
    return build_eval_loader(Ten(event), kept, batch_size=1, num_workers=num_workers)


def workers() -> list[BaseProcess]:
    """The processes that read data for this one, oldest first."""
    return sorted(multiprocessing.active_children(), key=lambda process: process.pid or 0)


def kill(number: signal.Signals = signal.SIGKILL) -> None:
    """Kill the oldest worker, and return when it is dead and this process has been told so."""
    pid = workers()[0].pid
    assert pid is not None
    os.kill(pid, number)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def die(number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process, nor the hooks of a program that would end after its line."""
    for module, hook in ((threading, "excepthook"), (sys, "unraisablehook")):
        monkeypatch.setattr(module, hook, getattr(module, hook))
    yield
    for process in multiprocessing.active_children():  # of loaders that the traceback of a test holds
        process.kill()
        process.join()


# --- Where a batch is waited for ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [1, 2])
def test_between_batches_nothing_is_disturbed_and_the_next_batch_tells(num_workers: int) -> None:
    batches = iter(loader_of(num_workers=num_workers))
    assert next(batches).names == ["0"]
    started = workers()
    assert len(started) == num_workers
    kill()
    assert sum(number % 3 for number in range(10_000)) == 9999  # a handler that raised would have done so by now
    with pytest.raises(InputError, match=FIRST_WORDS):
        next(batches)
    for process in started:  # none is left to wait for work
        process.join(10)
        assert process.exitcode == -signal.SIGKILL
    with pytest.raises(StopIteration):
        next(batches)


def test_while_a_batch_is_waited_for() -> None:
    batches = iter(loader_of(lambda index: die() if index == 4 else None))
    with pytest.raises(InputError, match=FIRST_WORDS):
        list(batches)


def test_a_bus_error_speaks_of_shared_memory() -> None:
    with pytest.raises(InputError, match=r"Fewer such processes: --data.num_workers. Or its shared memory \(/dev/shm\) is too small"):
        list(loader_of(lambda index: die(signal.SIGBUS)))


def test_half_a_message() -> None:
    """The rest never comes, and other processes hold the pipe open."""

    def send_half(index: int) -> None:
        def half(connection: Connection, message: bytes) -> None:
            os.write(connection.fileno(), message[: len(message) // 2])
            die()

        if index == 1:
            Connection._send = half  # type: ignore[attr-defined]

    batches = iter(loader_of(send_half, num_workers=2))
    with pytest.raises(InputError, match=FIRST_WORDS):
        list(batches)


@pytest.mark.parametrize("heard", [True, False])
def test_while_it_hands_over_a_batch(heard: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its message has come, its memory has not; told also where the system's signal is not heard, as in a thread."""
    batches = iter(loader_of())
    next(batches)
    fetch = torch.multiprocessing.reductions.rebuild_storage_fd

    def kill_and_fetch(*arguments: Any) -> Any:
        kill()
        return fetch(*arguments)

    monkeypatch.setattr(torch.multiprocessing.reductions, "rebuild_storage_fd", kill_and_fetch)
    if not heard:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with pytest.raises(InputError, match=FIRST_WORDS):
        next(batches)


def test_in_another_thread() -> None:
    told: list[str] = []

    def read() -> None:
        batches = iter(loader_of())
        next(batches)
        kill()
        try:
            next(batches)
        except InputError as error:
            told.append(str(error))

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert told == [LOST_WORKER]


def test_an_error_that_no_death_has_caused_stays_as_it_is() -> None:
    def fail(index: int) -> None:
        raise LookupError("our own mistake")

    with pytest.raises(LookupError, match="our own mistake"):
        list(loader_of(fail))


# --- Elsewhere: one line, whatever the error ------------------------------------------------------------------------------------


def error_line(action: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left, one_line_errors():
        action()
    assert left.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        ValueError("could not determine the shape of object type"),
        TypeError("x"),
        SystemError("returned a result with an exception set"),
        KeyError(1),
        InputError("cannot read a file"),
        OSError(5, "Input/output error"),
        RuntimeError("out of memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_any_type_is_that_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def fail_between_batches() -> None:
        for _ in loader_of():
            kill()
            raise error

    assert error_line(fail_between_batches, capsys) == f"error: {LOST_WORKER}\n"


def test_a_batch_is_that_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def read() -> None:
        for _ in loader_of(num_workers=2):
            kill()

    assert error_line(read, capsys) == f"error: {LOST_WORKER}\n"


def test_threads_and_finalizers_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    class Finalized:
        def __del__(self) -> None:
            raise ConnectionResetError

    def fail_elsewhere() -> None:
        thread = threading.Thread(target=lambda: 1 // 0)
        thread.start()
        thread.join()
        Finalized()

    def read() -> None:
        batches = iter(loader_of())
        next(batches)
        kill()
        fail_elsewhere()
        next(batches)

    assert error_line(read, capsys) == f"error: {LOST_WORKER}\n"
    fail_elsewhere()  # as while the process ends
    assert capsys.readouterr().err == ""


def test_our_own_mistakes_keep_their_traceback() -> None:
    def fail() -> None:
        batches = iter(loader_of())
        next(batches)
        raise TypeError("our own mistake")

    with pytest.raises(TypeError, match="our own mistake"), one_line_errors():
        fail()


def test_the_death_of_an_earlier_program_is_not_told_again(capsys: pytest.CaptureFixture[str]) -> None:
    def read() -> None:
        for _ in loader_of():
            kill()

    error_line(read, capsys)
    with pytest.raises(TypeError, match="our own mistake"), one_line_errors():
        assert len(list(loader_of())) == 10
        raise TypeError("our own mistake")


# --- Programs -------------------------------------------------------------------------------------------------------------------


def kill_within(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch, call: int = 2) -> None:
    """The worker dies at the start of that call of `owner.name`, counted from 1 and from its own start."""
    real, calls = getattr(owner, name), 0

    def kill_and_go_on(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += bool(workers())
        if calls == call:
            calls += 1
            kill()
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, kill_and_go_on)


def require_one_line(outcome: Any) -> None:
    assert outcome.status == 1
    assert [line for line in outcome.errors.splitlines() if line.startswith("error: ")] == [f"error: {LOST_WORKER}"], outcome.errors
    assert "Traceback" not in outcome.errors


MOMENTS = {
    "a checkpoint is written": (shared.files.tensor_file, "save_file", 2),
    "a checkpoint is read back": (shared.files.tensor_file, "safe_open", 2),
    "a checkpoint gets its name": (os, "replace", 2),
    "figures are written": (RunDirectory, "_append", 3),
    "TensorBoard writes": (SummaryWriter, "add_scalar", 3),
    "a step begins": (shared.run.training, "seed_step", 2),
}
"""Where the worker dies, and the step that is finished then."""
COMMANDS = [[*command, "--train.steps", 4, "--train.save_every", 1] for command in (SEG, SYNTH)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, invoke: Invoke) -> Path:
    """Folder of a segmentation and a synthesis in which nobody dies, by the names of their programs."""
    folder = tmp_path_factory.mktemp("whole")
    for command in COMMANDS:
        outcome = invoke(*command, "--run_dir", folder / str(command[0]))
        assert outcome.status == 0, outcome.errors
    return folder


@pytest.mark.parametrize(
    ("command", "moment"),
    [*((COMMANDS[0], moment) for moment in MOMENTS), (COMMANDS[1], "a checkpoint is read back"), (COMMANDS[1], "TensorBoard writes")],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_what_is_under_way_is_finished_and_the_same_command_continues(
    command: list[object], moment: str, whole: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*command, "--run_dir", "run"]
    owner, name, step = MOMENTS[moment]
    with monkeypatch.context() as patch:
        kill_within(owner, name, patch)
        require_one_line(invoke(*command))
    assert read_checkpoint(Path("run/checkpoints/last.safetensors"))[1]["step"] == step
    outcome = invoke(*command)
    assert outcome.status == 0, outcome.errors
    assert f"run: continuing after step {step}" in outcome.output
    require_same(Path("run"), whole / str(command[0]))
    assert not list(Path("run").rglob("*.tmp"))


def test_an_evaluation_tells_it_and_writes_nothing(whole: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_within(seg.inference, "predict_views", monkeypatch, call=1)
    require_one_line(
        invoke("seg.evaluate", whole / "seg.train", "--split", "train", "--batch_size", 1, "--json", "scores.json", "--data.num_workers", 1)
    )
    assert not Path("scores.json").exists()


def test_at_any_moment_of_a_training(launcher: Launcher) -> None:
    process = launcher.start(*SEG, "--train.steps", 10000, "--train.save_every", 1, "--run_dir", "run")
    process.run_until(Path("run/checkpoints/last.safetensors").exists)
    os.kill(process.workers[0], signal.SIGKILL)
    assert process.wait() == 1
    assert process.errors.splitlines()[-1] == f"error: {LOST_WORKER}"
    assert "Traceback" not in process.errors
    assert read_checkpoint(Path("run/checkpoints/last.safetensors"))[1]["step"] > 0
