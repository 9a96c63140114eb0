"""What docs/later_classes.md reports, from trainings to figures: `python docs/results/later_classes/measure.py CCP OUTPUT [SEED]`.

CCP is the folder of Clothing Co-Parsing: images/, labels/ and classes.txt. Every step is a command of the project, is printed, and is left
out where its result is there already, so that the same command goes on where it was stopped.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from shared.run.in_process import run_program_here

FIRST, STEP, COUNT = 10, 4, 10
"""The classes that are held out: of those ranked by the number of training images that show them, the tenth and every fourth after it."""
SHOTS = (1, 5, 20)
REFINE = 200
CONFIG = Path(__file__).with_name("ccp.yaml")


def run(done: Path, program: str, *arguments: object) -> str:
    """`python -m program arguments…`, unless `done` is there; what it prints."""
    if done.exists():
        return ""
    print("python -m", program, *arguments, flush=True)
    outcome = run_program_here(program, arguments)
    if outcome.status:
        sys.exit(outcome.errors or outcome.status)
    return outcome.output


def label_maps(ccp: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.asarray(Image.open(path)) for path in sorted((ccp / "labels/train").iterdir())}


def held_out(maps: dict[str, np.ndarray], names: list[str]) -> list[int]:
    """Ids of the classes that are held out, most frequent first."""
    images = np.zeros(len(names), np.int64)
    for ids in maps.values():
        images[np.unique(ids)] += 1
    order = np.argsort(-images, kind="stable")
    return [int(class_id) for class_id in order[FIRST - 1 :: STEP][:COUNT]]


def write_masks(ccp: Path, output: Path, maps: dict[str, np.ndarray], names: list[str], held: list[int], shots: int, seed: int) -> None:
    """`shots` images of each class, drawn from those that show it; other new classes in them are not looked at."""
    if (output / "names.txt").exists():
        return
    chosen: dict[str, set[int]] = {}
    for class_id in held:
        showing = [name for name, ids in maps.items() if (ids == class_id).any()]
        for index in np.random.default_rng([seed, class_id]).permutation(len(showing))[:shots]:
            chosen.setdefault(showing[index], set()).add(class_id)
    for folder in ("images", "labels"):
        (output / folder).mkdir(parents=True, exist_ok=True)
    for name, marked in chosen.items():
        mask = np.where(np.isin(maps[name], held), 255, 0).astype(np.uint8)
        for class_id in marked:
            mask[maps[name] == class_id] = held.index(class_id) + 1
        Image.fromarray(mask).save(output / f"labels/{name}.png")
        image = next((ccp / "images/train").glob(f"{name}.*"))
        link = output / "images" / image.name
        if not link.exists():
            link.symlink_to(image.resolve())
    (output / "names.txt").write_text("".join(f"{names[class_id]}\n" for class_id in held))


def scores(path: Path, names: list[str], held: list[int]) -> dict[str, float]:
    """Mean IoU in percent: of the old classes, the held-out ones, and the harmonic mean."""
    iou = json.loads(path.read_text())["iou"]
    groups = {"old": [name for index, name in enumerate(names) if index not in held], "new": [names[index] for index in held]}
    old, new = (100 * float(np.nanmean([np.nan if iou[name] is None else iou[name] for name in group])) for group in groups.values())
    return {"old": round(old, 2), "new": round(new, 2), "harmonic": round(2 * old * new / max(old + new, 1e-9), 2)}


def main(ccp: Path, output: Path, seed: int) -> None:
    output.mkdir(parents=True, exist_ok=True)
    names = (ccp / "classes.txt").read_text().splitlines()
    maps = label_maps(ccp)
    held = held_out(maps, names)
    ignored = json.dumps([names[index] for index in held])
    data = ["--config", CONFIG, "--data.root", ccp]
    codes = output / "codes.npz"
    folder = ["--data.name", "folder", "--data.root", ccp, "--data.folder.name", "ccp", "--data.folder.ignore_value", "null"]
    run(codes, "shared.data", "codes", *folder, "--data.num_workers", 0, "--width", 32, "-o", codes)

    every, workers = ["--data.ignore_classes", "null"], ["--data.num_workers", 0]
    found: dict[str, object] = {"held out": [names[index] for index in held]}

    def keep(title: str, figures: object) -> None:
        found[title] = figures
        (output / f"found-{seed}.json").write_text(json.dumps(found, indent=2) + "\n")
        print(title, figures, flush=True)

    def train(arm: str, *options: object) -> Path:
        trained = output / f"{arm}-{seed}"
        run(trained / "evaluation.json", "seg.train", *data, *options, "--train.seed", seed, "--run_dir", trained)
        return trained

    def evaluate(title: str, trained: Path, *options: object) -> None:
        file = output / f"{title.replace(' ', '_')}-{seed}.json"
        run(file, "seg.evaluate", trained, *every, *workers, *options, "--json", file)
        keep(title, scores(file, names, held))

    def calibrate(title: str, trained: Path) -> None:
        run(trained / "rejection.json", "seg.calibrate", trained, *workers)
        keep(title, json.loads((trained / "rejection.json").read_text()))

    without = ["--data.ignore_classes", ignored]
    old = train("held", *without)
    evaluate("before", old)
    for shots in SHOTS:
        masks = output / f"masks-{shots}-{seed}"
        write_masks(ccp, masks, maps, names, held, shots, seed)
        parts = ["--images", masks / "images", "--labels", masks / "labels", "--names", masks / "names.txt"]
        for kind, options in (("means", []), ("refined", ["--refine", REFINE])):
            new = output / f"{kind}-{shots}-{seed}"
            run(new, "seg.add_classes", old, *parts, "-o", new, *options)
            evaluate(f"{kind}, {shots} images", new)
    calibrate("rejection, embedding", old)
    calibrate("rejection, softmax", train("softmax", *without, "--head", "softmax"))
    evaluate("zero-label", train("table", *without, "--classes.table", codes), "--table", codes)
    evaluate("all from the start", train("all"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ccp", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    main(**vars(parser.parse_args()))
