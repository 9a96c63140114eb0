"""A request to stop ends a program in order: after the step, saved, with a status of its own."""

import json
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.data import DataConfig, build_dataset
from shared.data.loader import build_train_loader
from shared.data.spec import Sample
from shared.run import stopping
from shared.run.checkpoint import read_checkpoint
from shared.run.program import one_line_errors
from shared.run.stopping import REPEATS, STOPPED, StopRequest, interruptible, leave_signals_to_parent, starting_processes
from tests.launcher import Launcher

Invoke = Callable[..., Any]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that go on only where a test says so."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def handled_as_in_a_terminal() -> Iterator[None]:
    """A shell starts what runs in its background with Ctrl-C ignored, the tests too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_step_is_finished_and_a_repeated_signal_counts_once(
    number: signal.Signals, clock: list[float], handled_as_in_a_terminal: None
) -> None:
    before, stop, finished = signal.getsignal(number), StopRequest(), []
    for step in stop.watch(range(5)):
        if step == 2:
            signal.raise_signal(number)
            clock[0] += REPEATS
            signal.raise_signal(number)
        finished.append(step)
        assert stop.due() == (step == 2)
    assert finished == [0, 1, 2]
    assert stop.accepted
    assert signal.getsignal(number) is before


def test_a_second_request_ends_the_step(clock: list[float]) -> None:
    stop = StopRequest()
    with pytest.raises(KeyboardInterrupt):
        for _ in stop.watch(range(2)):
            signal.raise_signal(signal.SIGTERM)
            clock[0] += REPEATS + 0.1
            signal.raise_signal(signal.SIGTERM)
            pytest.fail("the second signal was not heeded")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        stop = StopRequest()
        for _ in stop.watch(range(1)):
            signal.raise_signal(signal.SIGINT)
            assert not stop.due()
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_stays_one_whatever_a_library_makes_of_it(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left, one_line_errors():
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt as error:  # as code in Rust and C++ does that knows no such error
            raise ValueError("could not determine the shape of object type") from error
    assert left.value.code == STOPPED
    assert capsys.readouterr().err.startswith("stopped: ")
    with pytest.raises(ValueError, match="our own mistake"), one_line_errors():  # in the next program
        raise ValueError("our own mistake")


def _begin_slowly(meet: Any) -> None:
    meet.wait()
    leave_signals_to_parent()


def test_signals_in_the_first_moment_of_a_worker_are_left_to_the_parent_too() -> None:
    meet = multiprocessing.Barrier(2)
    with interruptible():
        with starting_processes():
            worker = multiprocessing.Process(target=_begin_slowly, args=(meet,))
            worker.start()
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGINT)
        meet.wait()
    worker.join()
    assert worker.exitcode == 0


def _stay(said: Connection) -> None:
    leave_signals_to_parent()
    said.send("begun")
    time.sleep(600)


def _start_and_die(said: Connection) -> None:
    begun, hear = multiprocessing.Pipe()
    multiprocessing.Process(target=_stay, args=(hear,)).start()
    begun.recv()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_ends_when_its_parent_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_ORPHAN_SECONDS", 0.02)
    ours, theirs = multiprocessing.Pipe()
    parent = multiprocessing.Process(target=_start_and_die, args=(theirs,))
    parent.start()
    theirs.close()
    parent.join()
    assert parent.exitcode == -signal.SIGKILL
    assert ours.poll(60), "the worker, which holds the other end, is still there"
    with pytest.raises(EOFError):
        ours.recv()


def _slowly(sample: Sample) -> Sample:
    time.sleep(0.02)
    return sample


def test_workers_leave_signals_to_the_training() -> None:
    """Both signals reach the workers too, as from a terminal or a scheduler; every batch still comes, and the workers end with the loop."""
    dataset = build_dataset(DataConfig(), "train")
    loader = build_train_loader(dataset, _slowly, batch_size=1, seed=0, start_step=0, num_steps=6, num_workers=2)
    others = set(_children())
    batches = iter(loader)
    first = next(batches)
    workers = set(_children()) - others
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker, signal.SIGINT)
        subprocess.run(["kill", "-TERM", str(worker)], check=True)  # not from the parent, whose word counts
    assert len([first, *batches]) == 6
    assert not set(_children()) & workers


def _children() -> list[int]:
    return [int(number) for number in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


SETTINGS = ["--data.num_workers", 1, "--data.scenes.height", 32, "--data.scenes.width", 32, "--data.scenes.train_length", 4]
SETTINGS += ["--data.scenes.val_length", 2, "--model.width", 16, "--train.batch_size", 1, "--train.threads", 1]
SETTINGS += ["--train.save_every", 1000, "--train.log_every", 3]


def test_a_training_saves_leaves_with_its_own_status_and_continues_exactly(launcher: Launcher, invoke: Invoke) -> None:
    training = launcher.start("seg.train", *SETTINGS, "--train.steps", 100000, "--run_dir", "run")
    metrics = Path("run/metrics.jsonl")
    training.run_until(lambda: metrics.is_file() and metrics.read_text() != "")
    os.killpg(training.pid, signal.SIGTERM)
    assert training.wait() == STOPPED, training.errors
    assert "is saved; the same command with --run_dir run continues" in training.errors
    assert "Traceback" not in training.errors
    step = read_checkpoint(Path("run/checkpoints/last.safetensors"))[1]["step"]
    # the schedule depends on the number of steps, so the uninterrupted run has the same and leaves a little later
    stop = ["--train.steps", 100000, "--train.stop_after", step + 4]
    for run in ("run", "whole"):
        outcome = invoke("seg.train", *SETTINGS, *stop, "--run_dir", run)
        assert outcome.status == 0, outcome.errors
    resumed, whole = (read_checkpoint(Path(run) / "checkpoints/last.safetensors") for run in ("run", "whole"))
    assert resumed[1]["small"] == whole[1]["small"]
    assert all(torch.equal(resumed[0][name], whole[0][name]) for name in whole[0])
    lines = [
        [json.loads(line) | {"seconds": 0} for line in (Path(run) / "metrics.jsonl").read_text().splitlines()] for run in ("run", "whole")
    ]
    assert lines[0] == lines[1]
