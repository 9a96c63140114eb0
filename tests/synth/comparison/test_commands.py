"""Commands of a comparison stop together with it, and go on."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from shared.errors import InputError
from shared.run.stopping import Stopped, interruptible
from synth.comparison.commands import CommandLog

CHILD = """
import signal, sys, time
from pathlib import Path

def leave(number, frame):
    Path(sys.argv[1] + ".saved").touch()
    sys.exit(3)

signal.signal(signal.SIGTERM, leave)
Path(sys.argv[1] + ".began").touch()
while not Path("go").exists():
    time.sleep(0.01)
"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_request_to_stop_reaches_the_commands_which_save(jobs: int, tmp_path: Path) -> None:
    Path("child.py").write_text(CHILD)
    commands = [["child", str(number)] for number in range(3)]

    def stop_when_all_run() -> None:
        while len(list(tmp_path.glob("*.began"))) < jobs:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_when_all_run, daemon=True).start()
    with pytest.raises(KeyboardInterrupt), interruptible():
        CommandLog(tmp_path / "commands.json", jobs).run_all(commands, "train", total=3)
    assert len(list(tmp_path.glob("*.saved"))) == len(list(tmp_path.glob("*.began"))) == jobs

    Path("go").touch()
    CommandLog(tmp_path / "commands.json", jobs).run_all(commands, "train", total=3)
    assert len(list(tmp_path.glob("*.began"))) == 3


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_request_while_a_command_starts_reaches_it_too(jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("child.py").write_text(CHILD)

    def start_and_stop(*arguments: Any, **options: Any) -> Any:
        child = start(*arguments, **options)
        while not Path("0.began").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        return child

    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", start_and_stop)
    with pytest.raises(KeyboardInterrupt), interruptible():
        CommandLog(tmp_path / "commands.json", jobs).run_all([["child", "0"]], "train", total=1)
    assert Path("0.saved").exists()


@pytest.mark.parametrize(("source", "said"), [("raise SystemExit('broken')", "1: broken (all of it in "), ("import sys; sys.exit(7)", "7")])
def test_a_command_that_fails_is_one_line_though_it_said_nothing(source: str, said: str, tmp_path: Path) -> None:
    Path("child.py").write_text(source)
    with pytest.raises(InputError) as told:
        CommandLog(tmp_path / "commands.json", 2).run_all([["child"]], "train", total=1)
    assert str(told.value).startswith(f"`python -m child` ended with status {said}")


def test_a_command_that_was_stopped_alone_stops_the_comparison(tmp_path: Path) -> None:
    Path("child.py").write_text("import sys; sys.exit(3)")
    with pytest.raises(Stopped, match="`python -m child` was asked to stop and can be continued"):
        CommandLog(tmp_path / "commands.json", 1).run_all([["child"]], "train", total=1)
