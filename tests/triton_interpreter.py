"""Triton kernels under test: in Triton's interpreter, which needs no GPU, and on a GPU where there is one.

Triton decides when it is imported whether it interprets. So in the usual process a file's tests of kernels run on a GPU or are skipped, and
one test, `run_in_interpreter(__file__)`, runs the file again in a process of its own with TRITON_INTERPRET=1.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"

of_kernels = pytest.mark.skipif(False, reason="") if INTERPRETED else pytest.mark.gpu
on_gpu = pytest.mark.skipif(INTERPRETED, reason="at sizes that are too large for the interpreter")
outside = pytest.mark.skipif(INTERPRETED, reason="is the process that starts the interpreter, which takes CPU tensors")


def run_in_interpreter(file: str) -> None:
    """Run the tests of `file` that need no GPU, with kernels interpreted."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "not gpu", file]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout + done.stderr
