"""Spoilt input, at random: `python -m tests.fuzz --cases 1000`. Programs answer with success or one line, and leave nothing half-written.

A case is a function of its number and the seed: `--first N --cases 1` repeats it.
"""

import argparse
import contextlib
import faulthandler
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from shared.files.tensor_file import read_tensors
from tests.programs import Outcome, invoke_program
from tests.small import SEGMENTER, scenes, synthesis
from tests.spoiling import Chance, spoil_bytes, spoil_picture, spoil_yaml, write_folder, write_tables

SECONDS = 60
"""A case that takes longer hangs."""
MEMORY = 6 * 2**30
"""Bytes of address space beyond what is taken at the start."""
FOLDER = ["--data.name", "folder", "--data.root", "data", "--data.num_workers", 0]
SCENES = [*scenes(classes=4, train=2, val=2, size=(32, 32)), "--train.steps", 1, "--train.batch_size", 2]
SEG = ["seg.train", *SCENES, *SEGMENTER]
SYNTH = ["synth.train", *SCENES, *synthesis((32, 32)), "--semantics", "random"]


# --- Cases: spoil something and run a program on it -----------------------------------------------------------------------


def data_set(chance: Chance) -> Outcome:
    write_folder(Path("data"))
    if chance.random() < 0.15:
        path = Path("data/classes.txt")
        path.write_bytes(spoil_bytes(path.read_bytes(), chance))
    else:
        spoil_picture(chance.choice(sorted(Path("data").rglob("*.png"))), chance)
    program = chance.choice((["check"], ["stats", "-o", "out"], ["write", "-o", "out"]))
    return invoke_program("shared.data", *program, *FOLDER)


def embeddings(chance: Chance) -> Outcome:
    write_tables(Path())
    path = Path("t.safetensors")
    path.write_bytes(spoil_bytes(path.read_bytes(), chance))
    return invoke_program("seg.inspect", path, "-o", "out")


def class_table(chance: Chance) -> Outcome:
    write_folder(Path("data"))
    write_tables(Path())
    path = Path(chance.choice(("t.npz", "t.npy", "t.csv", "t.safetensors")))
    path.write_bytes(spoil_bytes(path.read_bytes(), chance))
    small = [
        "--input.size",
        "[32, 32]",
        "--generator.width",
        2,
        "--generator.hidden",
        4,
        "--discriminator.width",
        4,
        "--loss.vgg_weight",
        0,
    ]
    return invoke_program("synth.train", *FOLDER, *small, "--semantics", path, "--run_dir", "out", "--dry-run")


def config(chance: Chance) -> Outcome:
    program = chance.choice(("seg.train", "synth.train", "synth.compare"))
    Path("c.yaml").write_bytes(spoil_yaml(_printed_settings(program), chance))
    return invoke_program(program, "--config", "c.yaml", "--run_dir", "out", "--dry-run")


_settings: dict[str, str] = {}


def _printed_settings(program: str) -> str:
    """The settings that a dry run prints, with small networks, as YAML."""
    if program not in _settings:
        outcome = invoke_program(*map(str, SEG if program == "seg.train" else SYNTH), "--dry-run")
        text = outcome.output[outcome.output.index("data:") :]
        kept = text[: text.index("run_dir:")].splitlines()
        if program == "synth.compare":
            kept = [line for line in kept if not line.startswith(("semantics", "trainable", "embedding"))]
        _settings[program] = "\n".join(kept)
    return _settings[program]


def picture_folder(chance: Chance) -> Outcome:
    """The distance of two folders, in the features of an encoder; or label maps of a picture folder, or pictures of label maps."""
    write_folder(Path("data"))
    kind = chance.choice(("images", "labels"))
    spoil_picture(chance.choice(sorted(Path("data", kind, "val").glob("*.png"))), chance)
    runs = trained_runs()
    if kind == "labels":
        return invoke_program("synth.generate", runs / "synth", "data/labels/val", "-o", "out")
    if chance.random() < 0.5:
        return invoke_program("seg.predict", runs / "seg", "data/images/val", "-o", "out")
    return invoke_program("shared.fid", "data/images/train", "data/images/val", "--features", runs / "seg/encoder.safetensors")


def checkpoint(chance: Chance) -> Outcome:
    """A run directory with one spoilt file, which is used or continued."""
    half = chance.choice(("seg", "synth"))
    shutil.copytree(trained_runs() / half, "run")
    path = chance.choice([path for path in sorted(Path("run").rglob("*")) if path.suffix in (".safetensors", ".yaml", ".jsonl")])
    path.write_bytes(spoil_bytes(path.read_bytes(), chance))
    use = {
        "seg": [["seg.evaluate", "run"], ["seg.export", "run", "-o", "out"], [*SEG, "--run_dir", "run"]],
        "synth": [[*SYNTH, "--run_dir", "run"]],
    }[half]
    return invoke_program(*map(str, chance.choice(use)))


_runs: list[Path] = []


def trained_runs() -> Path:
    """A folder with a run `seg` and a run `synth` of one step, made at the first call."""
    if not _runs:
        folder = Path(tempfile.mkdtemp(prefix="fuzz-runs-"))
        for half, command in (("seg", SEG), ("synth", SYNTH)):
            outcome = invoke_program(*map(str, command), "--run_dir", folder / half)
            assert outcome.status == 0, outcome.errors
        _runs.append(folder)
    return _runs[0]


QUICK: tuple[Callable[[Chance], Outcome], ...] = (data_set, embeddings, class_table, config)
"""Kinds of cases that need no trained network."""
ALL = (*QUICK, picture_folder, checkpoint)


# --- What must hold -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failure:
    number: int
    kind: str
    reason: str


def run_case(number: int, seed: int, kinds: tuple[Callable[[Chance], Outcome], ...] = ALL) -> Failure | None:
    """Run a case in an empty folder of its own; None where everything is as it should be."""
    kind = kinds[number % len(kinds)]
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        os.chdir(folder)
        try:
            with _time_limit():
                reason = _complaint(kind(random.Random(f"{seed} {number}")))
        except Exception:
            reason = traceback.format_exc()
        finally:
            os.chdir(before)
    return Failure(number, kind.__name__, reason) if reason else None


def _complaint(outcome: Outcome) -> str:
    """What is wrong with how a program ended and what it left; empty if nothing is."""
    lines = [line for line in outcome.errors.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    if "Traceback" in outcome.errors + outcome.output:
        return f"traceback: {outcome.errors}{outcome.output}"
    if outcome.status not in (0, 1) or (outcome.status == 1) != (len(lines) == 1):
        return f"status {outcome.status} and {len(lines)} error lines: {outcome.errors}"
    if temporary := list(Path().rglob("*.tmp")):
        return f"left {temporary[0]}"
    for path in Path("out").rglob("*") if Path("out").exists() else ():
        if path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
        elif path.suffix == ".safetensors":
            _read_any(path)
    return ""


def _read_any(path: Path) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        kind = file.metadata()["format"]
    read_tensors(path, kind)


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def give_up(number: int, frame: object) -> None:
        raise TimeoutError(f"takes longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    faulthandler.enable()
    torch.set_num_threads(1)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    began, failures = time.monotonic(), 0
    for number in range(options.first, options.first + options.cases):
        failure = run_case(number, options.seed)
        if failure is not None:
            failures += 1
            print(f"--- case {failure.number} ({failure.kind})\n{failure.reason}", flush=True)
    for folder in _runs:
        shutil.rmtree(folder)
    print(f"{options.cases} cases, {failures} failures, {time.monotonic() - began:.0f} s")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
