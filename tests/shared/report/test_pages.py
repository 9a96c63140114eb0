"""The comparison report: its numbers are the given ones, its page stands alone, and odd input does not break it."""

import json
import math
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    write_report,
)
from shared.report.class_scores import extremes
from shared.report.figures import thinned
from shared.report.maps import lay_out, nearest_classes, neighbour_plane, neighbours_kept, principal_plane, unit_rows
from shared.report.statistics import caveats, conclusions, confidence_interval, paired_differences, spread_over_seeds
from shared.report.tables import Table, class_table, decimals_for, difference_table, duration, number, results_table, seed_table

FD = {"onehot": (10.0, 12.0, 14.0), "random": (9.0, 12.5, 12.0), "learned": (8.0, 9.0, 10.0)}
NAMES = ("sky", "a<b> & c", "$x|y$")
PALETTE = np.array([[0, 0, 200], [200, 0, 0], [0, 200, 0]], dtype=np.uint8)


def run(semantics: str, seed: int, fd: float, **changes: object) -> ArmRun:
    scores = {"FD-seg": Score("FD-seg", fd, None, 400, 500), "KD-seg": Score("KD-seg", fd / 1000, 0.0005, 400, 500)}
    curves = {"generator": LossCurve(range(0, 1000, 10), [2.0] * 100)}
    return replace(ArmRun(semantics, seed, scores, curves, 75.0, 1000, 1_500_000, f"runs/{semantics}-{seed}"), **changes)


def comparison(seeds: int = 3, **changes: object) -> ComparisonReport:
    rng = np.random.default_rng(0)
    label_map = PALETTE[rng.integers(0, 2, (8, 12))]
    generated = {arm: rng.integers(0, 255, (8, 12, 3), dtype=np.uint8) for arm in FD}
    full = ComparisonReport(
        title="Semantics <compared>",
        dataset=DatasetSpec("scenes", NAMES, PALETTE),
        created=datetime(2025, 11, 22, 12, 7),
        machine="1 GPU",
        score_kinds=[ScoreKind("FD-seg", "Own features.", True), ScoreKind("KD-seg", "Kernel.", True)],
        runs=[run(arm, seed, FD[arm][seed]) for arm in FD for seed in range(seeds)],
        references=[ReferenceRow("floor", {"FD-seg": Score("FD-seg", 0.93, None, 200, 201)})],
        pictures=[Picture("val 0/1", label_map, generated["onehot"], generated)],
        embedding_map=EmbeddingMap(NAMES, np.eye(3), PALETTE),
        protocol=[ProtocolItem("batch size", "16")],
        segmentation=[SegmentationResult("plain", "softmax", 0.4891, 0.888, 500, 60.0, 800)],
        commands=[Command("python -m synth.compare", 3700.0)],
        notes=["Procedural data."],
    )
    return replace(full, **changes)


def page(report: ComparisonReport, folder: Path) -> str:
    return write_report(report, folder).read_text(encoding="utf-8")


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_results_are_mean_and_deviation_over_seeds_with_image_counts() -> None:
    table = results_table(comparison())
    assert texts(table)[0] == ["onehot", "12.00 ± 2.00", "0.0120 ± 0.0020"]
    assert texts(table)[2] == ["learned", "9.00 ± 1.00", "0.0090 ± 0.0010"]
    assert texts(table)[3] == ["floor", "0.93", "–"]
    assert [row[1].note for row in table.rows] == ["400/500"] * 3 + ["200/201"]


def test_every_seed_has_its_own_row() -> None:
    assert [row[1] for row in texts(seed_table(comparison()))] == [f"{value:.2f}" for arm in FD for value in FD[arm]]


def test_differences_are_paired_by_seed() -> None:
    rows = texts(difference_table(comparison()))
    assert rows[0] == ["random − onehot", "−1.00", "0.50", "−2.00", "−0.83 ± 1.26", "−3.96 to 2.29", "2 of 3"]
    assert rows[2] == ["learned − onehot", "−2.00", "−3.00", "−4.00", "−3.00 ± 1.00", "−5.48 to −0.52", "3 of 3"]
    assert rows[4] == ["learned − random", "−1.00", "−3.50", "−2.00", "−2.17 ± 1.26", "−5.29 to 0.96", "3 of 3"]


def test_conclusions_say_what_the_seeds_tell_apart() -> None:
    fd, kd, together = conclusions(comparison())
    told = "learned is better than onehot by 0.516 to 5.48; the seeds do not tell random and onehot, learned and random apart."
    assert fd == f"FD-seg: {told}"
    assert kd.startswith("KD-seg: learned is better than onehot by 0.000516 to 0.00548; ")
    assert together.startswith("The intervals hold one by one: of 6 of them, about 0.3 would leave 0 out by chance")
    upwards = comparison(score_kinds=[ScoreKind("FD-seg", "", False), ScoreKind("KD-seg", "", True)])
    assert "learned is worse than onehot" in conclusions(upwards)[0]
    pair = comparison(runs=[run(arm, seed, FD[arm][seed]) for arm in ("onehot", "random") for seed in range(3)])
    assert conclusions(pair)[0] == "FD-seg: the seeds tell no two arms apart."
    assert conclusions(comparison(seeds=1)) == []


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        low, high = confidence_interval(spread_over_seeds(dict(enumerate(random.normal(5.0, 2.0, 3)))))
        held += low < 5.0 < high
    assert held / 2000 == pytest.approx(0.95, abs=0.015)


def test_differences_use_only_seeds_that_both_arms_have() -> None:
    runs = [run("onehot", 0, 5.0), run("onehot", 1, 6.0), run("onehot", 2, 7.0), run("learned", 1, 3.0), run("learned", 2, 5.0)]
    first = paired_differences(comparison(runs=runs))[0]
    assert first.spread.values == {1: -3.0, 2: -2.0}
    assert any("same seeds" in note for note in caveats(comparison(runs=runs)))


def test_a_higher_is_better_score_counts_positive_differences_as_better() -> None:
    report = comparison(score_kinds=[ScoreKind("FD-seg", "", False), ScoreKind("KD-seg", "", True)])
    assert texts(difference_table(report))[0][-1] == "1 of 3"


def test_one_seed_has_no_error_bar_and_says_so(tmp_path: Path) -> None:
    report = comparison(seeds=1)
    html = page(report, tmp_path)
    assert texts(results_table(report))[0] == ["onehot", "10.00", "0.0100"]
    assert results_table(report).rows[0][2].note == "est. ± 0.0005, 400/500"
    assert "One seed: no error bar" in html and "Paired differences" not in html and "Every seed" not in html
    assert any(note.startswith("One seed per arm: no error bar") for note in caveats(report))


def test_page_names_every_arm_and_count_and_escapes(tmp_path: Path) -> None:
    html = page(comparison(), tmp_path)
    for expected in ("onehot", "random", "learned", "12.00 ± 2.00", "400/500", "200/201", "−3.00 ± 1.00", "0.489", "1 h 2 min"):
        assert expected in html
    assert "a&lt;b&gt; &amp; c" in html and "a<b>" not in html and "Semantics &lt;compared&gt;" in html
    assert "FID" not in html


def test_page_needs_no_network(tmp_path: Path) -> None:
    html = page(comparison(), tmp_path)
    assert not re.search(r"https?:|@import|url\((?!#)", html)
    links = re.findall(r'(?:src|href)="([^"]{1,5})', html)
    assert links and all(link.startswith(("data:", "#")) for link in links)
    assert html.count("data:image/png;base64,") == 5
    identifiers = re.findall(r' id="([^"]+)"', html)
    assert len(set(identifiers)) == len(identifiers)


def test_same_report_gives_the_same_files(tmp_path: Path) -> None:
    assert page(comparison(), tmp_path / "a") == page(comparison(), tmp_path / "b")


def test_arms_that_need_escaping_in_a_chart(tmp_path: Path) -> None:
    html = page(comparison(runs=[run("<i>&$_$", 0, 3.0)], pictures=()), tmp_path)
    assert "<i>&" not in html and "&lt;i&gt;&amp;$_$" in html


def test_json_holds_the_numbers(tmp_path: Path) -> None:
    report = comparison()
    page(report, tmp_path)
    data = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    scores = {(entry["semantics"], entry["seed"]): entry["scores"]["FD-seg"] for entry in data["runs"]}
    assert scores["random", 1] == {"name": "FD-seg", "value": 12.5, "deviation": None, "num_real": 400, "num_generated": 500}
    assert data["summary"]["learned"]["FD-seg"] == {"values": {"0": 8.0, "1": 9.0, "2": 10.0}, "mean": 9.0, "deviation": 1.0}
    assert data["paired_differences"][2]["spread"]["mean"] == -3.0
    assert data["created"] == "2025-11-22T12:07:00" and data["runs"][0]["loss_curves"]["generator"]["steps"][1] == 10
    assert data["embedding_map"]["distances"][0] == pytest.approx([math.sqrt(2)] * 2)


def test_markdown_shows_strips_that_exist(tmp_path: Path) -> None:
    page(comparison(), tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    (file,) = re.findall(r"!\[.*\]\((.*)\)", text)
    assert Image.open(tmp_path / file).size == (5 * 12 + 4 * 4, 8)
    assert "| onehot <sub>3 seeds</sub> | 12.00 ± 2.00 <sub>400/500</sub> |" in text
    assert r"a&lt;b&gt; &amp; c" in text and r"$x\|y$" in text


def test_optional_parts_may_be_missing(tmp_path: Path) -> None:
    html = page(comparison(pictures=(), embedding_map=None, segmentation=(), protocol=(), commands=(), references=(), notes=()), tmp_path)
    for absent in ("Pictures", "Class embeddings", "Segmentation", "Protocol", "Commands", "Caveats"):
        assert f">{absent}<" not in html


def test_non_finite_values_are_said_and_null(tmp_path: Path) -> None:
    runs = [run("onehot", 0, 5.0), run("onehot", 1, math.nan), run("learned", 0, 3.0), run("learned", 1, math.inf)]
    runs[0] = replace(runs[0], loss_curves={"generator": LossCurve([0, 1, 2], [1.0, math.nan, math.inf]), "none": LossCurve([], [])})
    report = comparison(runs=runs, references=[ReferenceRow("floor", {"FD-seg": Score("FD-seg", math.inf, None, 1, 1)})])
    html = page(report, tmp_path)
    data = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [entry["scores"]["FD-seg"]["value"] for entry in data["runs"]] == [5.0, None, 3.0, None]
    assert data["summary"]["onehot"]["FD-seg"]["mean"] is None
    assert texts(results_table(report))[0][1] == "not finite" and "not finite for onehot seed 1, learned seed 1" in html


def test_an_arm_without_a_picture_or_a_score(tmp_path: Path) -> None:
    report = comparison()
    picture = replace(report.pictures[0], generated={"onehot": report.pictures[0].real})
    runs = [*report.runs[:-1], replace(report.runs[-1], scores={})]
    report = replace(report, pictures=[picture], runs=runs)
    assert page(report, tmp_path).count("no image") == 2
    assert "grey: no image from random, learned" in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "FD-seg: missing for 1 of 9 runs." in caveats(report)


def test_unequal_counts_and_steps_are_caveats() -> None:
    other = run("learned", 0, 1.0, scores={"FD-seg": Score("FD-seg", 1.0, None, 400, 64)}, steps=500)
    notes = " ".join(caveats(comparison(runs=[run("onehot", 0, 2.0), other])))
    assert "FD-seg: image counts differ" in notes and "number of steps (500–1000)" in notes


@pytest.mark.parametrize("name", ["x" * 255, "\u6f22" * 85])
def test_pictures_with_long_names(name: str, tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    page(comparison(pictures=[Picture(name, pixels, pixels, {})]), tmp_path)
    (strip,) = (tmp_path / "pictures").iterdir()
    assert len(strip.name) <= 255 and f"pictures/{strip.name}" in (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("num_classes", [1, 2, 600])
def test_any_number_of_classes(num_classes: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    names, palette = tuple(f"class {index}" for index in range(num_classes)), rng.integers(0, 256, (num_classes, 3), dtype=np.uint8)
    embeddings = EmbeddingMap(names, rng.normal(size=(num_classes, 16)), palette)
    picture = Picture("one", palette[np.zeros((4, 4), int)], np.zeros((4, 4, 3), np.uint8), {})
    iou = {head: rng.uniform(0, 100, num_classes) for head in ("softmax", "embedding")}
    scores = ClassScores("Two networks", "", names, palette, rng.integers(1, 100, num_classes), iou)
    many = comparison(dataset=DatasetSpec("many", names, palette), embedding_map=embeddings, pictures=[picture], class_scores=[scores])
    html = page(many, tmp_path)
    assert html.count("<circle") == num_classes and "mathdefault" not in html
    assert f"Nearest classes ({num_classes} rows)" in html
    labels = [point.label for point in lay_out(embeddings, principal_plane(embeddings.vectors)[0]).points if point.label]
    assert len(labels) == num_classes if num_classes < 3 else 10 < len(labels) < num_classes


def test_classes_that_gained_and_lost_most_and_the_cumulative_curve(tmp_path: Path) -> None:
    iou = {"softmax": np.array([50.0, 20.0, np.nan, 10.0]), "embedding": np.array([40.0, 50.0, 9.0, 90.0])}
    palette = np.zeros((4, 3), np.uint8)
    scores = ClassScores("Networks", "On 4 images.", ("a", "b", "c", "unlabelled"), palette, np.array([10, 90, 5, 0]), iou)
    gained, lost = extremes(scores)
    assert [(change.name, change.points) for change in gained] == [("b", 30.0)]
    assert [(change.name, change.points) for change in lost] == [("a", -10.0)]
    np.testing.assert_allclose(scores.curves()["embedding"], [50.0, 45.0, 33.0])  # b, then a, then c
    assert texts(class_table(scores))[1] == ["b", "90", "20.0", "50.0", "30.0"] and texts(class_table(scores))[2][-1] == "–"
    html = page(comparison(class_scores=[scores]), tmp_path)
    assert "+30.0" in html and "−10.0" in html
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "**Most gained**, percentage points from softmax to embedding: b +30.0" in text
    with pytest.raises(ValueError, match=r"\[4, 4, 3, 4, 4\] names, colours, pixel counts and figures"):
        replace(scores, pixels=np.ones(3))


def test_nearest_classes_are_those_of_all_pairs() -> None:
    vectors = np.random.default_rng(2).normal(size=(700, 5))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = np.linalg.norm(unit[:, None] - unit, axis=2) + 10 * np.eye(700)
    ids, distances = nearest_classes(vectors, 3)
    np.testing.assert_array_equal(ids, np.argsort(pairs, axis=1)[:, :3])
    np.testing.assert_allclose(distances, np.sort(pairs, axis=1)[:, :3], atol=1e-7)


def test_neighbour_map_keeps_more_neighbours_than_the_main_axes() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(30, 12))[rng.integers(0, 30, 400)] + 0.4 * rng.normal(size=(400, 12))  # 30 groups
    positions = neighbour_plane(vectors)
    assert neighbours_kept(vectors, positions) > 2 * neighbours_kept(vectors, principal_plane(vectors)[0])
    assert neighbours_kept(vectors[:, :2], unit_rows(vectors[:, :2])) == 1.0
    np.testing.assert_array_equal(positions, neighbour_plane(vectors))


def test_principal_plane_keeps_distances_of_flat_vectors() -> None:
    angles = np.array([0.0, 0.4, 2.0, 3.0])
    flat = np.stack([np.cos(angles), np.zeros(4), np.sin(angles)], axis=1)
    positions, shares = principal_plane(3 * flat)
    np.testing.assert_allclose(np.linalg.norm(positions[0] - positions[2]), np.linalg.norm(flat[0] - flat[2]))
    assert sum(shares) == pytest.approx(1.0)


def test_thinned_curve_keeps_the_mean() -> None:
    steps, values = thinned(LossCurve(range(1500), np.arange(1500.0)))
    assert len(steps) == 150 and values.mean() == pytest.approx(749.5) and values[0] == 4.5


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.44, "0.4 s"), (45, "45 s"), (59.7, "1 min 0 s"), (723, "12 min 3 s"), (4340, "1 h 12 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_numbers_of_a_column_share_one_precision() -> None:
    assert [decimals_for(values) for values in ([14.2, 0.1], [0.41], [0.0081, math.nan], [0.0], [])] == [2, 3, 5, 2, 2]
    assert number(-1.5, 2) == "−1.50"


def test_inconsistent_input_is_refused() -> None:
    with pytest.raises(ValueError, match="without a ScoreKind: FD-seg; known: KD-seg"):
        comparison(score_kinds=[ScoreKind("KD-seg", "", True)])
    with pytest.raises(ValueError, match="2 runs of onehot with seed 0"):
        comparison(runs=[run("onehot", 0, 1.0), run("onehot", 0, 2.0)])
    with pytest.raises(ValueError, match=r"learned: size \(4, 5\) differs from the real image's \(4, 4\)"):
        Picture("one", np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8), {"learned": np.zeros((4, 5, 3), np.uint8)})
    with pytest.raises(ValueError, match="3 names, 2 vectors and 3 colours"):
        EmbeddingMap(NAMES, np.eye(3)[:2], PALETTE)
