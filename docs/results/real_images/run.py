"""Both heads on real images, few classes and 1284: `python docs/results/real_images/run.py DATA OUTPUT PART… [--jobs N] [--seeds N]`.

DATA holds camvid/, voc_animals/, ccp/ and voc_words1284/. Every training is a command of the project, is printed, and is left out where its
result is there already, so that the same command goes on where it was stopped. Parts: few, rates, many (after rates), choices.
OUTPUT/results.json has the figures of every training that is there; `tables.py` beside this file makes tables and plots of it.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

WORDS = ["--data.folder.train_images", "../voc_animals/images/train", "--data.folder.val_images", "../voc_animals/images/val"]
FOLDER = ["--data.name", "folder", "--data.folder.ignore_value"]
SETS = {
    "camvid": ("camvid", ["--data.name", "camvid"], (240, 320)),
    "voc-animals": ("voc_animals", [*FOLDER, "255", "--data.folder.name", "voc-animals"], (160, 208)),
    "ccp": ("ccp", [*FOLDER, "null", "--data.folder.name", "ccp"], (240, 160)),
    "voc-words": ("voc_words1284", [*FOLDER, "null", "--data.folder.name", "voc-words", *WORDS], (160, 208)),
}
"""By name: folder in DATA, options, (height, width) that images are resized to."""
HEADS = ("embedding", "softmax")
FEW_STEPS = {"camvid": 900, "voc-animals": 400, "ccp": 400}
CHOICE_STEPS = 400
MANY = {
    "softmax, batch 2": (["--head", "softmax"], 2),
    "softmax, batch 2, 5 passes an update": (["--head", "softmax", "--train.accumulation", "5"], 2),
    "softmax, batch 2, group norm": (["--head", "softmax", "--model.norm", "group"], 2),
    "softmax in bands, batch 10": (["--head", "softmax", "--loss.band_rows", "16"], 10),
    "embedding, batch 10": ([], 10),
    "embedding, batch 10, D 32": (["--model.embedding_dim", "32"], 10),
    "embedding, batch 16": ([], 16),
}
"""Arms at 1284 classes, whose peaks stay below 1.25 GiB: options and batch."""
DIMS, NEIGHBOURS, TEMPERATURES = (4, 8, 12, 16, 32, 64), (2, 4, 8, 16, 32), (0.05, 0.2, 0.5)


def few(seeds: int) -> dict[str, list[str]]:
    """Both heads with few classes, and on CCP the loss over neighbours."""
    jobs = {}
    for name, length in FEW_STEPS.items():
        steps = ["--train.steps", str(length), "--train.batch_size", "8"]
        for seed in range(seeds):
            for head in HEADS:
                jobs[f"few/{name}/{head}/{seed}"] = [*steps, "--head", head]
            if name == "ccp":
                jobs[f"few/{name}/neighbours/{seed}"] = [*steps, "--loss.candidates", "neighbours"]
    return jobs


def many(seeds: int, steps: dict[str, int]) -> dict[str, list[str]]:
    """1284 classes at one budget of memory; `steps` of each arm, so that all take the same time."""
    return {
        f"many/voc-words/{arm}/{seed}": [*of_arm(arm, steps[arm]), "--train.eval_every", str(max(1, steps[arm] // 4))]
        for seed in range(seeds)
        for arm in steps
    }


def of_arm(arm: str, steps: int) -> list[str]:
    options, batch = MANY[arm]
    return [*options, "--train.batch_size", str(batch), "--train.steps", str(steps)]


def rates(data: Path, output: Path) -> dict[str, float]:
    """Milliseconds of an update of each arm at 1284 classes, the median of the last ten, while nothing else runs."""
    found = {}
    for arm in MANY:
        name = f"rates/voc-words/{arm}/0"
        options = [*of_arm(arm, 400), "--train.stop_after", "30", "--data.num_workers", str(min(8, os.cpu_count() or 1))]
        run(name, options, data, output)
        if not (file := output / folder_of(name) / "resources.jsonl").exists():
            continue
        resources = read_lines(file)
        images = MANY[arm][1] * (5 if "--train.accumulation" in options else 1)
        found[arm] = round(1000 * images / resources[-1]["images_per_second"], 2)
    return found


def choices(seeds: int) -> dict[str, list[str]]:
    """D, k and temperature, one at a time from the defaults."""
    jobs = {}
    for name in ("voc-words", "ccp"):
        steps = ["--train.steps", str(CHOICE_STEPS), "--train.batch_size", "10"]
        for seed in range(seeds):
            for dim in DIMS:
                jobs[f"choices/{name}/D {dim}/{seed}"] = [*steps, "--model.embedding_dim", str(dim)]
            for k in NEIGHBOURS:
                jobs[f"choices/{name}/k {k}/{seed}"] = [*steps, "--loss.candidates", "neighbours", "--loss.num_neighbours", str(k)]
            for temperature in TEMPERATURES:
                jobs[f"choices/{name}/temperature {temperature}/{seed}"] = [*steps, "--loss.temperature", str(temperature)]
    return jobs


def command(name: str, options: list[str], data: Path, output: Path) -> list[str]:
    _, set_name, _, seed = name.split("/")
    folder, about, (height, width) = SETS[set_name]
    every = [] if "--train.eval_every" in options else ["--train.eval_every", "100000"]
    size = ["--data.root", str(data / folder), "--input.resize", f"[{height},{width}]"]
    workers = [] if "--data.num_workers" in options else ["--data.num_workers", "2"]
    rest = ["--train.seed", seed, "--train.save_every", "1000", "--train.threads", "1", "--run_dir", str(output / folder_of(name))]
    return ["seg.train", *about, *size, *workers, *options, *every, *rest]


def folder_of(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "_")


def read_lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(name: str, options: list[str], data: Path, output: Path) -> None:
    run_dir = output / folder_of(name)
    if (run_dir / "evaluation.json").exists():
        return
    line = command(name, options, data, output)
    print("python -m", shlex.join(line), flush=True)
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{run_dir}.log", "w", encoding="utf-8") as log:
        status = subprocess.run([sys.executable, "-m", *line], stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    if status:
        said = Path(f"{run_dir}.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        print(f"{name} ended with status {status}: {said[-1] if said else ''}", flush=True)


def pixels_per_class(data: Path) -> dict[str, dict[str, list[int]]]:
    """By set and split, the number of pixels of each class as they are stored; what is void is left out."""
    found: dict[str, dict[str, list[int]]] = {}
    for name, (folder, _, _) in SETS.items():
        parts = {"train": "trainannot", "val": "valannot"} if name == "camvid" else {"train": "labels/train", "val": "labels/val"}
        void = {"camvid": 11, "voc-animals": 255}.get(name)
        counts = {}
        for split, part in parts.items():
            total = np.zeros(1 << 16, np.int64)
            for path in (data / folder / part).glob("*.png"):
                total += np.bincount(np.asarray(Image.open(path)).ravel().astype(np.int64), minlength=1 << 16)
            if void is not None:
                total[void] = 0
            counts[split] = total
        classes = 1 + max(int(np.flatnonzero(total).max()) for total in counts.values())
        found[name] = {split: total[:classes].tolist() for split, total in counts.items()}
    return found


def results_of(output: Path, jobs: dict[str, list[str]]) -> dict[str, object]:
    """What the finished trainings say of themselves."""
    found: dict[str, object] = {}
    for name, options in jobs.items():
        run_dir = output / folder_of(name)
        if not (run_dir / "evaluation.json").exists():
            continue
        evaluation = json.loads((run_dir / "evaluation.json").read_text())
        metrics, resources = read_lines(run_dir / "metrics.jsonl"), read_lines(run_dir / "resources.jsonl")
        evaluation["iou"] = [None if value is None else round(value, 5) for value in evaluation["iou"].values()]
        found[name] = {
            "options": options,
            "evaluation": {key: value for key, value in evaluation.items() if key != "run"},
            "curve": [entry for entry in metrics if any(key.startswith("val/") for key in entry)],
            "last": [entry for entry in metrics if "loss/cross_entropy" in entry][-1],
            "images_per_second": [entry["images_per_second"] for entry in resources if "images_per_second" in entry][-1:],
            "peak_mib": max((entry["memory/peak_mib"] for entry in resources), default=None),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("parts", nargs="+", choices=["few", "rates", "many", "choices"])
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2), help="trainings at a time")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=60, help="of each training of the part many, by the steps' times of the part rates"
    )
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    file = given.output / "results.json"
    found = json.loads(file.read_text()) if file.exists() else {"pixels": pixels_per_class(given.data), "trainings": {}}
    if "rates" in given.parts:
        found["milliseconds_alone"] = rates(given.data, given.output)
        print(found["milliseconds_alone"], flush=True)
    jobs = few(given.seeds) if "few" in given.parts else {}
    if "many" in given.parts:
        jobs |= many(given.seeds, {arm: int(1000 * given.seconds / alone) for arm, alone in found["milliseconds_alone"].items()})
    if "choices" in given.parts:
        jobs |= choices(1)
    with ThreadPoolExecutor(given.jobs) as pool:
        for job in [pool.submit(run, name, options, given.data, given.output) for name, options in jobs.items()]:
            job.result()
            found["trainings"].update(results_of(given.output, jobs))
            file.write_text(json.dumps(found, separators=(",", ":")).replace('},"', '},\n"') + "\n")


if __name__ == "__main__":
    main()
