"""Tables and plots from results.json of `run.py`: `python docs/results/real_images/tables.py RESULTS FOLDER`.

Writes tables.md, time.png, classes.png and choices.png to FOLDER. Differences are paired by seed, ± is the 95 % interval of a mean
(Student's t), and a mean without ± is of one seed.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from shared.report.statistics import Spread, confidence_interval, spread_over_seeds

Trainings = dict[int, dict[str, Any]]
SCORES = {"mIoU": "miou", "pixel accuracy": "pixel_accuracy", "FwIoU": "fwiou"}


def arms_of(trainings: dict[str, Any], part: str) -> dict[str, dict[str, Trainings]]:
    """Set → arm → seed → training."""
    found: dict[str, dict[str, Trainings]] = {}
    for name, training in trainings.items():
        of_part, set_name, arm, seed = name.split("/")
        if of_part == part:
            found.setdefault(set_name, {}).setdefault(arm, {})[int(seed)] = training
    return found


def iou_of(training: dict[str, Any]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in training["evaluation"]["iou"]])


def score(training: dict[str, Any], key: str, pixels: dict[str, list[int]]) -> float:
    """In percent; mIoU is over the classes that occur in the validation split."""
    if key != "miou":
        return 100 * float(training["evaluation"][key])
    iou = iou_of(training)
    labelled = np.array(pixels["val"])[: len(iou)] > 0
    return 100 * float(np.nan_to_num(iou[: len(labelled)][labelled]).mean())


def spread_of(arm: Trainings, key: str, pixels: dict[str, list[int]]) -> Spread:
    return spread_over_seeds({seed: score(training, key, pixels) for seed, training in arm.items()})


def in_words(spread: Spread, digits: int = 1, sign: str = "") -> str:
    if spread.deviation is None:
        return f"{spread.mean:{sign}.{digits}f}"
    low, high = confidence_interval(spread)
    return f"{spread.mean:{sign}.{digits}f} ± {(high - low) / 2:.{digits}f}"


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def few_table(arms: dict[str, dict[str, Trainings]], pixels: dict[str, Any]) -> str:
    rows = []
    for set_name, by_arm in arms.items():
        counts, baseline = pixels[set_name], by_arm.get("softmax", {})
        for arm, of_seeds in by_arm.items():
            figures = [in_words(spread_of(of_seeds, key, counts)) for key in SCORES.values()]
            pairs = sorted(set(of_seeds) & set(baseline))
            apart = {seed: score(of_seeds[seed], "miou", counts) - score(baseline[seed], "miou", counts) for seed in pairs}
            difference = "" if arm == "softmax" or not pairs else in_words(spread_over_seeds(apart), sign="+")
            labelled = int((np.array(counts["val"]) > 0).sum())
            rows.append([set_name, str(labelled), arm, *figures, difference, str(len(of_seeds))])
    return table(["set", "classes in val", "head", *(f"{name} %" for name in SCORES), "mIoU less softmax's", "seeds"], rows)


def many_table(by_arm: dict[str, Trainings], pixels: dict[str, list[int]], alone: dict[str, float]) -> str:
    """`alone`: milliseconds of a step where nothing else runs on the device."""
    baseline = spread_of(by_arm["softmax, batch 2"], "miou", pixels).mean if "softmax, batch 2" in by_arm else np.nan
    rows = []
    for arm, of_seeds in by_arm.items():
        first = next(iter(of_seeds.values()))
        steps = first["evaluation"]["step"]
        miou = spread_of(of_seeds, "miou", pixels)
        figures = [in_words(miou, 2), *(in_words(spread_of(of_seeds, key, pixels), 2) for key in list(SCORES.values())[1:])]
        time = [f"{alone[arm]:.1f}", f"{alone[arm] * steps / 1000:.0f}"] if arm in alone else ["", ""]
        rows.append(
            [arm, f"{first['peak_mib'] / 1024:.2f}", str(steps), *time, *figures, f"{miou.mean / baseline:.2f}", str(len(of_seeds))]
        )
    header = ["arm", "peak GiB", "steps", "ms a step", "seconds", *(f"{name} %" for name in SCORES), "over softmax, batch 2", "seeds"]
    return table(header, rows)


def plot_time(by_arm: dict[str, Trainings], alone: dict[str, float], file: Path) -> None:
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for arm, of_seeds in by_arm.items():
        curves = [[(entry["step"], 100 * entry["val/miou"]) for entry in training["curve"]] for training in of_seeds.values()]
        steps = np.array([step for step, _ in curves[0]])
        values = np.array([[value for _, value in curve] for curve in curves]).mean(axis=0)
        axes.plot(steps * alone.get(arm, np.nan) / 1000, values, marker="o", label=arm)
    axes.set(xlabel="seconds of training, nothing else on the device", ylabel="mIoU, %", title="1284 classes, peak below 1.25 GiB")
    axes.legend(fontsize=8)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def plot_classes(by_arm: dict[str, Trainings], pixels: dict[str, list[int]], file: Path) -> None:
    """mIoU of the n most frequent classes (the paper's Figure 6)."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for arm, of_seeds in by_arm.items():
        curves = []
        for training in of_seeds.values():
            iou = iou_of(training)
            val, train = (np.array(pixels[split] + [0] * (len(iou) - len(pixels[split]))) for split in ("val", "train"))
            order = np.argsort(-train, kind="stable")
            kept = order[val[order] > 0]
            curves.append(100 * np.cumsum(np.nan_to_num(iou[kept])) / np.arange(1, len(kept) + 1))
        axes.plot(np.arange(1, len(curves[0]) + 1), np.mean(curves, axis=0), label=arm)
    axes.set(xlabel="n most frequent classes of the training split", ylabel="their mIoU, %", xscale="log")
    axes.legend(fontsize=8)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def choices_table(arms: dict[str, dict[str, Trainings]], pixels: dict[str, Any]) -> str:
    names = list(next(iter(arms.values())))
    rows = [
        [
            name,
            *(
                in_words(spread_of(by_arm[name], key, pixels[of]), 2) if name in by_arm else ""
                for of, by_arm in arms.items()
                for key in ("miou", "pixel_accuracy")
            ),
        ]
        for name in names
    ]
    return table(["setting", *(f"{of}: {what} %" for of in arms for what in ("mIoU", "pixel accuracy"))], rows)


def plot_choices(arms: dict[str, dict[str, Trainings]], pixels: dict[str, Any], file: Path) -> None:
    kinds = ("D", "k", "temperature")
    figure, all_axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    for axes, kind in zip(all_axes, kinds):
        for of, by_arm in arms.items():
            points = [
                (float(name.split()[1]), spread_of(of_seeds, "miou", pixels[of]).mean)
                for name, of_seeds in by_arm.items()
                if name.split()[0] == kind
            ]
            axes.plot(*zip(*points), marker="o", label=of)
            axes.axhline(spread_of(by_arm["D 12"], "miou", pixels[of]).mean, color=axes.lines[-1].get_color(), linestyle=":", linewidth=1)
        axes.set(xlabel=kind, ylabel="mIoU, %", xscale="log", ylim=(0, None))
    all_axes[0].legend(fontsize=8)
    figure.suptitle("one setting changed at a time; dotted: the defaults (D 12, all classes, temperature learned)", fontsize=9)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    results = json.loads(given.results.read_text())
    pixels, trainings, alone = results["pixels"], results["trainings"], results.get("milliseconds_alone", {})
    text = []
    if arms := arms_of(trainings, "few"):
        text.append("## Few classes\n\n" + few_table(arms, pixels))
    if arms := arms_of(trainings, "many"):
        by_arm = arms["voc-words"]
        text.append("## 1284 classes\n\n" + many_table(by_arm, pixels["voc-words"], alone))
        plot_time(by_arm, alone, given.folder / "time.png")
        plot_classes(by_arm, pixels["voc-words"], given.folder / "classes.png")
    if arms := arms_of(trainings, "choices"):
        text.append("## D, k and temperature\n\n" + choices_table(arms, pixels))
        plot_choices(arms, pixels, given.folder / "choices.png")
    (given.folder / "tables.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
