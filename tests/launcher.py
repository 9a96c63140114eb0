"""Programs in processes of their own that can be signalled and killed, without importing torch for each: a process that has it forks."""

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.programs import quicken_programs

ROOT = Path(__file__).parent.parent


@dataclass
class Launched:
    """A running program, the leader of a process group of its own.

    Attributes:
        errors: what it wrote to standard error, so far.
    """

    pid: int
    launcher: "Launcher"
    error_file: Path

    @property
    def errors(self) -> str:
        return self.error_file.read_text()

    def wait(self) -> int:
        """Exit status, or the negative number of the signal that ended it."""
        self.launcher.running.remove(self.pid)
        return int(self.launcher.ask({"wait": self.pid}))

    def run_until(self, ready: Callable[[], bool]) -> None:
        """Wait until `ready` says so; it is an error if the program ends before."""
        while not ready():
            state = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            assert state != "Z", f"the program has ended: {self.errors}"
            time.sleep(0.02)

    @property
    def workers(self) -> list[int]:
        return [int(number) for number in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]


class Launcher:
    """Starts `python -m program arguments…` in the working directory of the caller."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.launcher"]
        self.running: list[int] = []
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, program: str, *arguments: object) -> Launched:
        error_file = Path.cwd() / "errors.txt"
        argv = [program, *map(str, arguments)]
        self.running.append(int(self.ask({"argv": argv, "folder": str(Path.cwd()), "errors": str(error_file)})))
        return Launched(self.running[-1], self, error_file)

    def ask(self, request: dict[str, Any]) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._process.stdout.readline()

    def kill_all(self) -> None:
        """Kill what was started and not waited for."""
        for pid in self.running:
            os.killpg(pid, signal.SIGKILL)
            self.ask({"wait": pid})
        self.running.clear()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def _serve() -> None:
    for module in (
        "numba",
        "timm",
        "torch._dynamo",
        "torch.utils.tensorboard",
        "seg.training.memory",
        "seg.training.monitoring",
        "synth.images.generation",
        "synth.training.step",
    ):
        importlib.import_module(module)
    quicken_programs()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            print(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]), flush=True)
            continue
        child = os.fork()
        if child == 0:
            _become(request)
        print(child, flush=True)


def _become(request: dict[str, Any]) -> None:
    """Run the program of `request` in this process, and end it."""
    os.setsid()
    os.chdir(request["folder"])
    errors = os.open(request["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream, target in ((0, os.open(os.devnull, os.O_RDONLY)), (1, os.open(os.devnull, os.O_WRONLY)), (2, errors)):
        os.dup2(target, stream)
    sys.argv = request["argv"]
    status: Any = 0
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 70
    sys.stderr.flush()
    os._exit(int(status or 0))


if __name__ == "__main__":
    _serve()
