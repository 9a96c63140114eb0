"""A headless Chromium that the report's tests drive, and a report with everything in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from shared.data.spec import DatasetSpec
from shared.report import (
    ArmRun,
    ClassScores,
    Command,
    ComparisonReport,
    EmbeddingMap,
    LossCurve,
    Picture,
    ProtocolItem,
    ReferenceRow,
    Score,
    ScoreKind,
    SegmentationResult,
)
from shared.visualise import voc_palette

ARMS = ("onehot", "random", "learned")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)


def missing_browser() -> str | None:
    """Why there is no browser to test with; None when there is one."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(absent)} not found; apt-get install chromium chromium-driver" if absent else None


@contextmanager
def browser() -> Iterator[Any]:
    """A driver with a profile of its own, which goes with it."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
        try:
            yield driver
        finally:
            driver.quit()


def resize(driver: Any, width: int, height: int, *, dark: bool = False) -> None:
    """Give the page a window of this size, a phone's below 500 pixels, and the reader's choice of colours."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    chosen = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    still = {"name": "prefers-reduced-motion", "value": "reduce"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [chosen, still]})


def problems(driver: Any) -> list[str]:
    """Errors and warnings on the console since the last call."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def full_report(num_classes: int) -> ComparisonReport:
    """Three arms, two seeds, six layouts with three classes in each, panels, curves, class tables and a map."""
    rng = np.random.default_rng(0)
    names = ("sky <b>", 'a "road" & more', *(f"class {index}" for index in range(2, num_classes)))
    palette = voc_palette(num_classes + 1)[1:]
    runs, pictures = [], []
    for arm in ARMS:
        for seed in range(2):
            scores = {name: Score(name, float(rng.uniform(5, 9)), None, 40, 40) for name in ("FD-seg", "mIoU")}
            curves = {name: LossCurve(range(0, 400, 10), rng.normal(2, 0.1, 40)) for name in ("generator/gan", "discriminator/real")}
            runs.append(ArmRun(arm, seed, scores, curves, 60.0, 400, 1_500_000, f"runs/{arm}-{seed}", 800.0))
    for layout in range(6):
        labels = np.repeat(np.arange(3) + layout % (num_classes - 2), 22)[:64, None] * np.ones((1, 200), int)  # three bands
        real, *generated = (rng.integers(0, 256, (64, 200, 3), dtype=np.uint8) // 2 + palette[labels] // 2 for _ in range(4))
        pictures.append(Picture(f"val_<i>{layout}", palette[labels], real, dict(zip(ARMS, generated))))
    panels = [
        Picture(shown.name, shown.label_map, shown.real, dict.fromkeys(("softmax", "embedding"), shown.label_map)) for shown in pictures
    ]
    iou = {name: rng.uniform(0, 100, num_classes) for name in ("softmax", "embedding")}
    pixels = (1e6 / np.arange(1, num_classes + 1) ** 1.2).astype(int)
    return ComparisonReport(
        title="Semantics <compared>",
        dataset=DatasetSpec("made", names, palette),
        created=datetime(2026, 11, 25, 12, 0),
        machine="two cores",
        score_kinds=[ScoreKind("FD-seg", "Own features.", True), ScoreKind("mIoU", "In percent.", False)],
        runs=runs,
        references=[ReferenceRow("floor", {"FD-seg": Score("FD-seg", 0.9, None, 40, 40)})],
        pictures=pictures,
        embedding_map=EmbeddingMap(names, rng.normal(size=(num_classes, 12)), palette),
        protocol=[ProtocolItem("batch size", "16")],
        segmentation=[SegmentationResult("scores the images", "softmax", 48.9, 88.8, 40, 60.0, 800)],
        panels=panels,
        class_scores=[ClassScores("Networks on real images", "40 images.", names, palette, pixels, iou)],
        commands=[Command("python -m synth.compare " + "--long.option value " * 12, 3700.0)],
        versions={"torch": "2.15.0"},
        notes=["Made up."],
    )


def write(folder: Path, num_classes: int) -> str:
    """The address of the page."""
    from shared.report import write_report

    return write_report(full_report(num_classes), folder).resolve().as_uri()
