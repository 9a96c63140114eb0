"""Spoilt input, at random: `python -m tests.fuzz --cases 1000`. Programs answer with success or one line, and leave nothing half-written.

A case is a function of its number and the seed: `--first N --cases 1` repeats it.
"""

import argparse
import contextlib
import faulthandler
import os
import random
import re
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

import numpy as np
import torch
from PIL import Image

from shared.backbone import build_backbone
from shared.files.tensor_file import read_tensors
from tests.programs import Outcome, invoke_program
from tests.small import SEGMENTER, scenes, synthesis
from tests.spoiling import (
    NAMES,
    Chance,
    draw_masks,
    rename_files,
    scatter_images,
    spoil_bytes,
    spoil_picture,
    spoil_yaml,
    turn_photos,
    wrap_weights,
    write_annotations,
    write_folder,
    write_list,
    write_tables,
)

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
    path = Path(chance.choice(("t.npz", "t.npy", "t.csv", "t.csv", "t.safetensors")))
    if path.suffix == ".csv" and chance.random() < 0.7:
        text = chance.choice(("", "name,x,y,z,w\n", "sep=;\n")) + path.read_text()
        separator = chance.choice((",", ";", "\t"))
        text = text.replace(",", separator)
        text = text.replace(".", ",") if separator != "," and chance.random() < 0.5 else text
        path.write_bytes(text.encode(chance.choice(("utf-8", "utf-8-sig", "utf-16"))))
    else:
        path.write_bytes(spoil_bytes(path.read_bytes(), chance))
    return invoke_program("synth.train", *FOLDER, *synthesis((32, 32)), "--semantics", path, "--run_dir", "out", "--dry-run")


def config(chance: Chance) -> Outcome:
    program = chance.choice(("seg.train", "synth.train", "synth.compare"))
    Path("c.yaml").write_bytes(spoil_yaml(_printed_settings(program), chance))
    return invoke_program(program, "--config", "c.yaml", "--run_dir", "out", "--dry-run")


def masks(chance: Chance) -> Outcome:
    """Masks that leave a class out are said, and a split in which nothing is labelled is refused."""
    write_folder(Path("data"))
    draw_masks(Path("data"), chance)
    offset = ["--data.folder.label_offset", chance.choice((0, 1))]
    program = chance.choice((["shared.data", "check"], ["seg.train", "--dry-run"], ["synth.train", *synthesis((32, 32)), "--dry-run"]))
    outcome = invoke_program(*program, *FOLDER, *offset)
    for split in ("train", "val"):
        values = [np.array(Image.open(path)) for path in Path("data/labels", split).glob("*.png")]
        ignored = np.mean(np.stack(values) == 255)
        if outcome.status == 0 and ignored == 1:
            raise AssertionError(f"{split}: nothing is labelled, and nothing is said")
        absent = [index for index in range(3) if not np.any(np.stack(values) == index + offset[1])]  # type: ignore[operator]
        if outcome.status == 0 and absent and ignored >= 0.05 and f"label maps of {split} are ignored" not in outcome.output:
            raise AssertionError(f"{split}: class {absent[0]} never occurs, {ignored:.0%} are ignored, and nothing is said")
    return outcome


def class_list(chance: Chance) -> Outcome:
    """A class list is these three names in this order, or it is refused."""
    names = chance.choice((NAMES, ("stra\u00dfe", "caf\u00e9", "car"), ("a, b", "c, d", "e")))
    write_folder(Path("data"))
    name = write_list(Path("data"), names, chance)
    outcome = invoke_program("shared.data", "stats", *FOLDER, "--data.folder.class_names", name, "--split", "train")
    found = tuple(line.split(maxsplit=4)[4] for line in outcome.output.splitlines()[2:5])
    if outcome.status == 0 and found != names:
        raise AssertionError(f"{name} gives {found} and not {names}: {outcome.output}")
    return outcome


def turned(chance: Chance) -> Outcome:
    """Every photo that a viewer turns is named by a check, and what is predicted has the size that a viewer shows."""
    write_folder(Path("data"))
    photos = turn_photos(Path("data"), chance)
    if chance.random() < 0.5:
        outcome = invoke_program("seg.predict", trained_runs() / "seg", "data/images/val", "-o", "out")
        for path in Path("data/images/val").glob("*.png") if outcome.status == 0 else ():
            with Image.open(path) as photo, Image.open(f"out/labels/{path.name}") as labels:
                if photo.size[:: -1 if 5 <= _orientation_of(photo) <= 8 else 1] != labels.size:
                    raise AssertionError(f"{path}: labels of {labels.size}")
        return outcome
    outcome = invoke_program("shared.data", "check", *FOLDER)
    for path in photos:
        with Image.open(path) as photo:
            # of a photo whose label map does not fit, the check says that
            if 2 <= _orientation_of(photo) <= 8 and str(path) not in outcome.output:
                raise AssertionError(f"{path} is turned, and nothing is said: {outcome.output}")
    return outcome


def _orientation_of(photo: Image.Image) -> int:
    try:
        value = photo.getexif().get(0x0112, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) else 1


def annotations(chance: Chance) -> Outcome:
    """What is wrong is refused or left out, and what is left out is counted."""
    changed = write_annotations(Path("coco"), chance)
    skip = chance.choice(([], ["--skip_bad"]))
    stuff = ["--stuff", chance.choice(("maps", "json"))]
    outcome = invoke_program(
        "shared.data", "build-coco-lvis", "--coco", "coco", "--lvis", "coco", "-o", "out", "--data.num_workers", 0, *stuff, *skip
    )
    told = re.search(r"left out (\d+) annotations", outcome.output)
    if outcome.status == 0 and (int(told[1]) if told else 0) > changed:
        raise AssertionError(f"{changed} annotations were changed: {outcome.output}")
    if outcome.status == 0 and not skip and told:
        raise AssertionError(f"left out without being asked to: {outcome.output}")
    return outcome


def names_of_files(chance: Chance) -> Outcome:
    """Files of any name are read, and what is made of them has their names."""
    write_folder(Path("data"))
    rename_files(Path("data"), chance)
    kind = chance.choice(("check", "write", "predict", "generate"))
    if kind in ("check", "write"):
        outcome = invoke_program("shared.data", kind, *FOLDER, *(["-o", "out"] if kind == "write" else []))
    elif kind == "predict":
        outcome = invoke_program("seg.predict", trained_runs() / "seg", "data/images/val", "-o", "out")
    else:
        outcome = invoke_program("synth.generate", trained_runs() / "synth", "data/labels/val", "-o", "out")
    if outcome.status != 0:
        raise AssertionError(f"a name is refused: {outcome.errors}")
    made, given = {"predict": ("out/labels", "images/val"), "generate": ("out", "labels/val")}.get(kind, ("", ""))
    if made and sorted(os.listdir(made)) != sorted(os.listdir(f"data/{given}")):
        raise AssertionError(f"{sorted(os.listdir(made))} of {sorted(os.listdir(f'data/{given}'))}")
    return outcome


def distance(chance: Chance) -> Outcome:
    """A distance counts the images that a data set would read."""
    Path("real").mkdir()
    Path("made").mkdir()
    counts = [scatter_images(Path(side), chance) for side in ("real", "made")]
    outcome = invoke_program("shared.fid", "real", "made", "--encoder", trained_runs() / "seg/encoder.safetensors", "--cache", "null")
    if outcome.status != 0 or f"N={counts[0]}/{counts[1]}" not in outcome.output:
        raise AssertionError(f"there are {counts} images: {outcome.output}{outcome.errors}")
    return outcome


def weights(chance: Chance) -> Outcome:
    """Weights of others in any wrapping, which are taken as they are or refused."""
    state = build_backbone("tiny").state_dict()
    content = wrap_weights(state, chance)
    torch.save(content, "w.pth")
    if chance.random() < 0.3:
        Path("w.pth").write_bytes(spoil_bytes(Path("w.pth").read_bytes(), chance))
    return invoke_program(*map(str, SEG), "--model.weights_path", "w.pth", "--run_dir", "out", "--dry-run")


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


QUICK: tuple[Callable[[Chance], Outcome], ...] = (data_set, embeddings, class_table, config, masks, class_list, annotations, weights)
"""Kinds of cases that need no trained network."""
ALL = (*QUICK, picture_folder, checkpoint, turned, names_of_files, distance)


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
