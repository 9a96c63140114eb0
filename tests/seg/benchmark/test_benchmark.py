"""The contestants of seg.benchmark, its plan, and the whole command on tiny sizes."""

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seg.benchmark.cases import BLOB, PAPER_SETTINGS, TEMPERATURE, Case, image_size, make_inputs, part_of
from seg.benchmark.config import BenchmarkConfig, plan
from seg.benchmark.heads import training_contestants
from seg.benchmark.losses import loss_contestants, work_over_all, work_over_neighbours
from seg.benchmark.rivals import chunked_softmax, dense_softmax, faiss_obstacle, faiss_search, released_cross_entropy
from seg.benchmark.searches import cdist_search, matmul_search, search_contestants
from seg.benchmark.swap import AFTER, BEFORE, SwapStep, swap_contestants
from seg.benchmark.whole_model import BatchSetting, batch_table, largest_batches
from seg.losses import exact_cross_entropy, neighbour_cross_entropy
from shared.benchmark import suite
from shared.benchmark.isolation import Failed
from shared.constants import IGNORE_INDEX

Invoke = Callable[..., Any]
CASE = Case("losses", classes=9, images=1, height=20, width=25, dim=6, neighbours=3, device="cpu", threads=1, seed=0)
NO_FAISS = faiss_obstacle(torch.device("cpu"))
SEARCHES = [
    pytest.param(matmul_search, id="matmul"),
    pytest.param(cdist_search, id="cdist"),
    pytest.param(faiss_search, id="faiss", marks=pytest.mark.skipif(bool(NO_FAISS), reason=NO_FAISS)),
]


def value_and_gradients(loss: Callable[..., torch.Tensor], pixels: torch.Tensor, classes: torch.Tensor, labels: torch.Tensor):
    value = loss(pixels, classes, labels)
    return value.detach(), *torch.autograd.grad(value, (pixels, classes))


# --- Rivals -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("k", [1, 3, 9])
def test_the_released_way_is_the_published_loss(search: Callable[..., torch.Tensor], k: int) -> None:
    inputs = make_inputs(CASE)
    assert 0 < (inputs.labels == IGNORE_INDEX).sum() < inputs.labels.numel()
    released = partial(released_cross_entropy, num_neighbours=k, temperature=TEMPERATURE, search=search)
    reference = partial(neighbour_cross_entropy, num_neighbours=k, temperature=TEMPERATURE, impl="reference")
    for found, expected in zip(value_and_gradients(released, *inputs), value_and_gradients(reference, *inputs)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("softmax", [dense_softmax, chunked_softmax])
def test_both_softmaxes_are_the_exact_loss(softmax: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seg.benchmark.rivals.pixels_per_chunk", lambda *_: 64)  # several chunks, the last one short
    inputs = make_inputs(CASE)
    reference = partial(exact_cross_entropy, temperature=TEMPERATURE, impl="reference")
    found = value_and_gradients(partial(softmax, temperature=TEMPERATURE), *inputs)
    for ours, expected in zip(found, value_and_gradients(reference, *inputs)):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.long
def test_every_loss_contestant_reports_small_errors_and_a_wrong_one_large_ones() -> None:
    contestants = [contestant for contestant in loss_contestants(CASE) if not contestant.obstacle]
    assert len(contestants) >= 5
    for contestant in contestants:
        errors = contestant.errors() if contestant.errors else {}
        assert errors["loss"] < 1e-5 and errors["gradient"] < 1e-4, contestant.name
    wrong = replace(CASE, neighbours=1)  # the loss over other candidates
    from seg.benchmark.losses import errors_of

    other = partial(neighbour_cross_entropy, num_neighbours=1, temperature=TEMPERATURE)
    reference = partial(exact_cross_entropy, temperature=TEMPERATURE, impl="reference")
    assert errors_of(other, reference, make_inputs(wrong))["loss"] > 1e-3


def test_searches_agree_and_a_wrong_one_is_found_out() -> None:
    from seg.benchmark.searches import errors_of

    case = replace(CASE, group="search", classes=50)
    for contestant in search_contestants(case):
        if not contestant.obstacle and contestant.errors:
            assert contestant.errors() == {"ids": 0.0}, contestant.name
    pixels, classes, _ = make_inputs(case)
    flat = pixels.detach().movedim(1, -1).flatten(0, 2)
    assert errors_of(lambda x, c, k: torch.arange(k).expand(len(x), k), flat, classes.detach(), 3)["ids"] > 0.5


@pytest.mark.long
def test_heads_in_bands_give_what_whole_heads_give() -> None:
    case = replace(CASE, group="head training", height=24, width=32)
    found = {contestant.name: contestant.prepare()() for contestant in training_contestants(case)}
    for name in ("softmax", "exact", "neighbours"):
        for whole, banded in zip(found[name], found[f"{name} in bands"]):
            torch.testing.assert_close(banded, whole, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_the_swap_changes_the_last_layer_alone() -> None:
    """The rest of the network starts from the same weights, and a step moves them; at once and in bands it is the same step."""
    case = replace(CASE, group="swap", images=2, height=17, width=24)
    assert [contestant.name for contestant in swap_contestants(case)] == [BEFORE, *AFTER]
    losses, before, after = {}, {}, {}
    for name in (BEFORE, *AFTER):
        step = SwapStep(case, name)
        before[name] = step.backbone.conv1.weight.detach().clone()
        torch.manual_seed(1)  # of the dropout
        losses[name] = step().item()
        after[name] = step.backbone.conv1.weight.detach().clone()
    head, bands = AFTER
    assert torch.equal(before[BEFORE], before[head]) and torch.equal(before[head], before[bands])
    assert losses[head] == pytest.approx(losses[bands], rel=1e-5)
    assert losses[BEFORE] != pytest.approx(losses[head])
    torch.testing.assert_close(after[head], after[bands], rtol=1e-3, atol=1e-5)
    assert not torch.equal(before[BEFORE], after[BEFORE]) and not torch.equal(before[head], after[head])


# --- Inputs, plan, floors ---------------------------------------------------------------------------------------------------


def test_inputs_look_like_a_networks() -> None:
    case = replace(CASE, classes=50, height=160, width=200)
    pixels, classes, labels = make_inputs(case)
    assert pixels.shape == (1, 6, 160, 200) and classes.shape == (50, 6) and labels.shape == (1, 160, 200)
    torch.testing.assert_close(pixels.norm(dim=1), torch.ones(1, 160, 200))
    valid = labels[labels != IGNORE_INDEX]
    assert 0.03 < 1 - valid.numel() / labels.numel() < 0.07
    assert (labels[:, :, 1:] == labels[:, :, :-1]).float().mean() > 1 - 4 / BLOB - 0.1, "areas, not dots"
    assert valid.bincount(minlength=50)[:5].sum() > valid.bincount(minlength=50)[25:].sum(), "the first classes are the frequent ones"
    again = make_inputs(case)
    assert torch.equal(again.pixels, pixels) and torch.equal(again.labels, labels)
    own = (pixels.movedim(1, -1)[labels != IGNORE_INDEX] * classes[valid]).sum(1)
    assert own.mean() > 0.6


@given(st.integers(1, 10**7))
def test_images_have_at_most_the_pixels_asked_for(pixels: int) -> None:
    height, width = image_size(pixels)
    assert height >= 1 and 0 <= pixels - height * width < height


def test_a_part_keeps_pixels_and_labels_together() -> None:
    inputs = make_inputs(CASE)
    part = part_of(inputs, 100)
    assert part.pixels.shape == (1, 6, 1, 100) and part.labels.shape == (1, 1, 100)
    assert torch.equal(part.pixels[0, :, 0, 7], inputs.pixels[0, :, 35 // 25, 35 % 25])
    assert part.labels[0, 0, 7] == inputs.labels.flatten()[35]


def test_floors_by_hand() -> None:
    case = replace(CASE, classes=1000, height=400, width=500, dim=10)
    everything, nearest = work_over_all(case), work_over_neighbours(case, 3)
    assert everything.bytes == 2 * 4 * 10 * 201_000 + 8 * 200_000 == nearest.bytes
    assert everything.flops == 3 * 2 * 200_000 * 1000 * 10
    assert nearest.flops == 2 * 200_000 * 1000 * 10 + 2 * 2 * 200_000 * 4 * 10
    assert everything.exponentials == 200_000_000 == work_over_all(replace(case, device="cuda")).exponentials / 2


def test_the_plan_has_fewer_pixels_with_very_many_classes() -> None:
    planned = plan(BenchmarkConfig(classes=[19, 100_000]), "cpu", 1)
    assert [(item.case.group, item.case.pixels) for item in planned[:2]] == [("losses", 200_000), ("losses", 45 * 57)]
    assert planned[0].full is None
    assert planned[1].full is not None and planned[1].full.pixels == 200_000
    assert planned[3].case.pixels == 45 * 57 and planned[3].full is None, "search"
    paper = plan(BenchmarkConfig(what=["paper"]), "cpu", 1)
    assert [item.case.classes for item in paper] == [setting.classes for setting in PAPER_SETTINGS.values()]
    assert paper[-1].case.pixels == 2_025_000
    assert plan(BenchmarkConfig(), "cuda", 1)[0].case.pixels == 2_025_000
    swaps = plan(BenchmarkConfig(what=["swap"]), "cpu", 1)
    assert swaps[-1].case.classes == 10_000 and swaps[-1].case.pixels == 2 * 96 * 96


# --- Predictions ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_largest_batches_of_a_small_network() -> None:
    setting = BatchSetting("small", classes=300, height=64, width=64, dim=12, batches=(2, 10))
    found = {line.variant: line for line in largest_batches(setting, card=1.0, backbone="tiny")}
    assert found["exact"].largest > found["softmax"].largest > 0
    assert found["softmax in bands"].largest > found["softmax"].largest
    assert "2 / 10" in batch_table(list(found.values())).rows[0]


def compile_nothing(module: str, **choice: Any) -> list[Any]:
    """Instead of the kernels, which take a while to compile and have tests of their own."""
    raise Failed("not in this test")


# --- The command ------------------------------------------------------------------------------------------------------------


def test_a_footprint_comes_from_a_child_process() -> None:
    case = replace(CASE, height=200, width=250)
    found = suite.footprint_in_child(case, "dense softmax", memory=2**31, timeout=600)
    logits = 4 * case.pixels * case.classes
    assert found.seconds > 0
    assert found.peak is None or 2 * logits < found.peak < 20 * logits


@pytest.mark.long
def test_the_command_writes_figures_tables_and_plots(tmp_path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "collect", gc.freeze)  # else every footprint begins with a look at what all tests before have left
    monkeypatch.setattr(suite, "footprint_in_child", lambda case, name, **_: suite.footprint_here(case, name))
    monkeypatch.setattr("shared.benchmark.findings.compiled_kernels", compile_nothing)
    monkeypatch.setattr("seg.benchmark.config.MOST_SCORES", {"cpu": 2000})
    monkeypatch.setattr("shared.benchmark.ceilings.MEASURING_SECONDS", 0.0)
    what = "[losses,search,head]"
    outcome = invoke(
        "seg.benchmark", "--what", what, "--classes", "[5]", "--pixels", 500, "--repeats", 2, "--threads", 1, "--run_dir", "run"
    )
    assert outcome.status == 0, outcome.errors
    assert "dense softmax" in outcome.output and "× released way" in outcome.output
    report = json.loads((tmp_path / "run/benchmark.json").read_text())
    results = [result for section in report["sections"] for result in section["results"]]
    assert {result["group"] for result in results} == {"losses", "search", "head training", "head inference"}
    assert report["config"]["seed"] == 0 and report["environment"]["libraries"]["torch"] in torch.__version__
    for result in results:
        wanted, timed = result["setting"]["all_pixels"], result["setting"]["pixels"]
        assert (wanted, timed) == (500, 391) if result["group"] == "losses" else wanted == timed
        assert result["note"] or (result["timing"]["seconds"] > 0 and result["share_of_floor"] > 0), result
    assert "No kernels compiled for sm_90: not in this test" in outcome.output
    page = (tmp_path / "run/benchmark.md").read_text()
    assert "| exact (chunked) |" in page and "![](memory.png)" in page
    assert (tmp_path / "run/time.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "run/batch.png").exists()

    again = invoke("seg.benchmark", "--classes", "[5]", "--run_dir", "run")
    assert (again.status, again.errors) == (1, "error: run is not empty; choose another --run_dir\n")


def test_the_dry_run_lists_what_would_be_measured(tmp_path, invoke: Invoke) -> None:
    outcome = invoke("seg.benchmark", "--what", "[losses,paper,whole_model]", "--classes", "[19,10000]", "--threads", 1, "--dry-run")
    assert outcome.status == 0, outcome.errors
    assert "C 10000, D 12, k 8, 1×143×179 = 25,597 pixels (memory also with 200,000)" in outcome.output
    assert "cocolvis, C 1284, D 12, k 8, 10×450×450 = 2,025,000 pixels" in outcome.output
    assert outcome.output.splitlines()[-1] == "on cpu with 1 threads; would write runs/seg.benchmark/cpu-001"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--classes", "[1]"], "classes is [1]; give at least one number, each 2 or more"),
        (["--repeats", "0"], "repeats is 0; it must be above 0"),
        (["--memory_limit", "-1"], "memory_limit is -1.0; it must be above 0"),
        (["--what", "[losse]"], "losse"),
        (["--pixel", "3"], "did you mean pixels?"),
    ],
)
def test_bad_input_is_one_line(invoke: Invoke, arguments: list[str], message: str) -> None:
    outcome = invoke("seg.benchmark", *arguments)
    assert outcome.status == 1
    assert outcome.errors.startswith("error: ") and outcome.errors.count("\n") == 1 and message in outcome.errors, outcome.errors
