"""What the card is and what it can do at best; started by `python -m shared.gpu_check`, not by hand."""

import os
import platform
import subprocess
from functools import partial

import torch

from shared.benchmark.ceilings import exponential_rate, fastest, matrix_rate
from shared.gpu_check.checks import Absent, Check, Found, serve
from shared.gpu_check.config import PartConfig
from shared.run.program import run_program

PROGRAM = "shared.gpu_check.machine"
ASKED = ("driver_version", "clocks.max.sm", "clocks.max.memory", "power.limit", "ecc.mode.current", "mig.mode.current", "memory.used")
"""Of nvidia-smi."""


def checks_of(device: torch.device, rehearsal: bool) -> list[Check]:
    """Versions, the card, and its rates one by one; the rehearsal leaves two out."""
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    rates = [Check(f"matrix product, {name}", partial(matrix, device, dtype, "highest")) for name, dtype in types.items()]
    return [
        Check("versions", versions),
        Check("card", partial(card, device)),
        Check("driver", driver),
        Check("copy", partial(copy, device)),
        rates[0],
        *([] if rehearsal else [Check("matrix product, TF32", partial(matrix, device, torch.float32, "high")), *rates[1:]]),
        Check("base-2 exponentials", lambda: Found({"G/s": exponential_rate(device) / 1e9})),
    ]


def versions() -> Found:
    """Of what computes."""
    try:
        import triton

        compiler = str(triton.__version__)
    except ImportError as error:
        compiler = f"none ({error})"
    cuda, cudnn = str(torch.version.cuda), str(torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None)
    return Found({"python": platform.python_version(), "torch": torch.__version__, "CUDA": cuda, "cuDNN": cudnn, "triton": compiler})


def card(device: torch.device) -> Found:
    """Name, size, and the precision of float32 products that torch begins with."""
    cores: dict[str, float | str] = {"CPU cores": float(os.cpu_count() or 0), "products": torch.get_float32_matmul_precision()}
    if device.type != "cuda":
        return Found({"device": platform.machine()} | cores)
    of_card = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    size: dict[str, float | str] = {"multiprocessors": float(of_card.multi_processor_count), "GiB": total / 2**30, "free GiB": free / 2**30}
    return Found({"name": of_card.name, "capability": f"{of_card.major}.{of_card.minor}"} | size | cores)


def driver() -> Found:
    """What nvidia-smi says."""
    try:
        command = ["nvidia-smi", f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise Absent(f"nvidia-smi does not answer: {error}") from error
    return Found(dict(zip(ASKED, (word.strip() for word in done.stdout.splitlines()[0].split(",")))))


def copy(device: torch.device) -> Found:
    """Bytes read and written per second."""
    source = torch.ones(2**28 if device.type == "cuda" else 2**20, device=device)
    target = torch.empty_like(source)
    return Found({"GB/s": 2 * source.nbytes / fastest(lambda: target.copy_(source), device) / 1e9})


def matrix(device: torch.device, dtype: torch.dtype, precision: str) -> Found:
    """TFLOP/s of a product; float32 by `precision`."""
    torch.set_float32_matmul_precision(precision)
    return Found({"TFLOP/s": matrix_rate(device, dtype) / 1e12})


def main(config: PartConfig) -> None:
    """Do the checks."""
    serve({"machine": checks_of}, config, PROGRAM)


if __name__ == "__main__":
    run_program(main, PartConfig, PROGRAM)
