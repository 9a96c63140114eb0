"""Programs start fast: what takes seconds to import is imported where it is used, not by --help or by a refusal."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.test_import_direction import PROGRAMS, ROOT

HEAVY = {
    *("torchvision", "torch._dynamo", "torch._inductor", "timm", "segmentation_models_pytorch", "sympy", "triton", "numba", "faiss"),
    *("matplotlib", "scipy", "jinja2", "tensorboard", "torch.utils.tensorboard", "pytorch_fid", "onnx", "pycocotools", "torchmetrics"),
}
"""None of these may be loaded by --help or by a refusal."""

STARTED_BY_OTHERS = ("shared.benchmark.child", "shared.gpu_check.machine", "seg.gpu_check", "synth.gpu_check")

ASK = """
import json, os, runpy, sys
import torch, shared.run.program  # once: every program below starts in a copy of this process

calls, heavy = json.loads(sys.argv[1])
for arguments in calls:
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = arguments
        status = None
        try:
            runpy.run_module(arguments[0].removesuffix(".__main__"), run_name="__main__", alter_sys=True)
        except SystemExit as stop:
            status = stop.code
        os.write(2, ("@" + json.dumps([arguments, status, [name for name in heavy if name in sys.modules]]) + "\\n").encode())
        os._exit(0)
    os.waitpid(child, 0)
"""

REFUSALS = {
    "an unknown option": ["seg.train", "--train.step", "3"],
    "a data set that is not there": ["seg.train", "--data.name", "folder", "--data.root", "nowhere"],
    "a run that is not there": ["seg.evaluate", "nowhere"],
    "semantics that are no file": ["synth.train", "--semantics", "nowhere.npz"],
    "label maps that are not there": ["synth.generate", "nowhere", "nowhere.png", "-o", "images"],
    "folders that are not there": ["shared.fid", "nowhere", "elsewhere"],
}


def loaded(calls: list[list[str]]) -> list[tuple[list[str], object, set[str]]]:
    """Exit status and heavy modules of programs with their arguments."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, json.dumps([calls, sorted(HEAVY)])], capture_output=True, text=True, cwd=ROOT, check=True
    )
    lines = [json.loads(line[1:]) for line in done.stderr.splitlines() if line.startswith("@")]
    assert len(lines) == len(calls), done.stderr[-2000:]
    return [(arguments, status, set(modules)) for arguments, status, modules in lines]


HELP = [[program, "--help"] for program in sorted(PROGRAMS) if not program.startswith(STARTED_BY_OTHERS)]


@pytest.fixture(scope="module")
def started() -> list[tuple[list[str], object, set[str]]]:
    """Of every program asked for help, and then of the refusals."""
    return loaded([*HELP, *REFUSALS.values()])


def test_help_loads_nothing_heavy(started: list[tuple[list[str], object, set[str]]]) -> None:
    for arguments, status, modules in started[: len(HELP)]:
        assert status in (0, None), arguments
        assert not modules, f"{arguments[0]} --help loads {', '.join(sorted(modules))}"


def test_refusals_load_nothing_heavy(started: list[tuple[list[str], object, set[str]]]) -> None:
    for what, (arguments, status, modules) in zip(REFUSALS, started[len(HELP) :], strict=True):
        assert status == 1, f"{what}: {arguments} ended with status {status}"
        assert not modules, f"{what} loads {', '.join(sorted(modules))}"


def test_importing_the_packages_loads_nothing() -> None:
    """Nor does asking for a name that is not there; `load` does."""
    ask = "import sys, seg, synth; hasattr(seg, 'x'); before = 'torch' in sys.modules; seg.load; print(before, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_the_names_are_those_of_modules() -> None:
    """A misspelt name would never be loaded. Some are of extras that need not be installed."""
    found = {name for name in HEAVY if find_spec(name.partition(".")[0]) is not None and find_spec(name) is not None}
    assert found >= {"torchvision", "torch._dynamo", "torch._inductor", "numba", "matplotlib", "scipy", "jinja2", "torch.utils.tensorboard"}
