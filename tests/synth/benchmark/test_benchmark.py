"""The contestants of synth.benchmark, its label maps and plan, and the whole command on tiny sizes."""

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.benchmark import suite
from shared.data.config import DataConfig
from synth.benchmark.cases import GROUPS, MAP_SIZE, Case, distinct_shares, label_maps, save_label_maps, spread
from synth.benchmark.config import MODULATIONS, BenchmarkConfig, plan
from synth.benchmark.layers import DENSE, EMBEDDING, GATHERED
from synth.benchmark.networks import (
    PUBLISHED,
    GeneratorPass,
    PublishedDiscriminator,
    PublishedOneHot,
    TrainingStep,
    generator_of,
    main_path_work,
    parameter_counts,
)
from synth.discriminator import MultiscaleDiscriminator
from synth.semantics import build_semantics

Invoke = Callable[..., Any]


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    """A small generator on two of the built-in scenes."""
    path = tmp_path_factory.mktemp("maps") / "maps.npy"
    save_label_maps(DataConfig(), 3, path)
    return Case("generator", 40, 2, 64, 64, channels=3, hidden=5, dim=4, device="cpu", threads=1, seed=0, maps=str(path))


# --- Label maps -------------------------------------------------------------------------------------------------------------


def test_ids_are_spread_over_any_number_of_classes() -> None:
    maps = torch.tensor([[[-1, 0, 1, 18]]])
    assert spread(maps, 19, 19).tolist() == [[[-1, 0, 1, 18]]]
    assert spread(maps, 19, 1900).tolist() == [[[-1, 0, 100, 1800]]]
    assert spread(maps, 19, 7).tolist() == [[[-1, 0, 1, 4]]]
    assert len(spread(torch.arange(19)[None, None], 19, 35).unique()) == 19, "no two ids become one"


def test_label_maps_of_a_case(case: Case) -> None:
    labels = label_maps(case)
    assert labels.shape == (2, 64, 64) and labels.dtype == torch.int64
    assert labels.min() >= -1 and 19 < labels.max() < 40
    assert not torch.equal(labels[0], labels[1])


def test_shares_of_distinct_patches() -> None:
    plain, noise = torch.zeros(1, *MAP_SIZE, dtype=torch.long), torch.randint(0, 10**6, (1, *MAP_SIZE))
    (share,) = distinct_shares(plain, [(4, 8)])
    assert (share.small, share.wide) == (9 / 32, 20 / 32)  # 3·3 and 4·5 places by the border
    assert [(share.small, share.wide) for share in distinct_shares(noise, [(8, 16), (16, 32)])] == [(1, 1), (1, 1)]


# --- Contestants ------------------------------------------------------------------------------------------------------------


def test_the_published_generator_makes_the_same_images(case: Case) -> None:
    passes = [GeneratorPass(case, name) for name in (PUBLISHED, DENSE, GATHERED)]
    for generator_pass in passes:
        gradients = {}
        for name, parameter in generator_pass.generator.named_parameters():
            parameter.register_hook(lambda gradient, name=name, gradients=gradients: gradients.update({name: gradient}))
        generator_pass.gradients = gradients
    images = [generator_pass() for generator_pass in passes]
    for other in (1, 2):
        torch.testing.assert_close(images[other], images[0], rtol=1e-4, atol=1e-5)
        for name in ("fc.weight", "up_3.norm_0.mlp_shared.0.weight", "up_0.norm_s.mlp_gamma.weight", "conv_img.weight"):
            expected = passes[0].gradients[name]
            error = (passes[other].gradients[name] - expected).norm() / expected.norm()
            assert error < 1e-3, (name, error)
    assert all(parameter.grad is None for parameter in passes[0].generator.parameters())


def test_the_published_discriminator_says_the_same(case: Case) -> None:
    torch.manual_seed(0)
    plain, gathered = PublishedOneHot(PUBLISHED, 40, None), build_semantics("onehot", 40)
    published, ours = PublishedDiscriminator(plain, width=4), MultiscaleDiscriminator(gathered, width=4)
    ours.load_state_dict(published.state_dict())
    images, labels = torch.randn(4, 3, 64, 64), label_maps(case)
    answers = [published(plain.pyramid(labels), images), ours(gathered.pyramid(labels), images)]
    for expected, found in zip(*([layer for scale in answer for layer in scale] for answer in answers)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [PUBLISHED, DENSE, GATHERED, EMBEDDING])
def test_a_training_step_updates_both_networks(case: Case, name: str) -> None:
    step = TrainingStep(replace(case, group="step"), name)
    networks = step.step.generator, step.step.discriminator
    before = [torch.cat([p.detach().flatten() for p in network.parameters()]) for network in networks]
    losses = step()
    assert all(torch.isfinite(value) for value in losses.values())
    for network, old in zip(networks, before):
        assert not torch.equal(torch.cat([p.detach().flatten() for p in network.parameters()]), old)


@pytest.mark.parametrize("group", ["convolution", "modulation"])
def test_layers_agree_with_the_dense_map_in_float64(case: Case, group: str) -> None:
    case = replace(case, group=group, images=1, channels=6)
    contestants = suite.contestants_of(case)
    assert {DENSE, GATHERED, EMBEDDING} <= contestants.keys()
    for contestant in contestants.values():
        assert all(torch.isfinite(tensor).all() for tensor in contestant.prepare()())
        if contestant.errors is not None:
            assert max(contestant.errors().values()) < 1e-4, contestant.name


def test_parameters_are_counted_without_memory(case: Case) -> None:
    generator, discriminator = parameter_counts(case, GATHERED)
    assert generator == sum(parameter.numel() for parameter in generator_of(case, GATHERED).parameters())
    assert parameter_counts(replace(case, classes=10**6), EMBEDDING) == parameter_counts(case, EMBEDDING)
    assert parameter_counts(replace(case, classes=41), GATHERED)[1] == discriminator + 2 * 3 * 16


def test_the_work_of_the_main_path(case: Case) -> None:
    """Counted by hand for width 1, `more`: start 1×1, then 2, 4, 8, 16, 32, 64 pixels a side."""
    flops = 6 * (1 * 2 * 9 * 256 + 4 * 2 * 9 * 256 + 16 * 2 * 9 * 256)
    for side, wide, narrow in ((8, 16, 8), (16, 8, 4), (32, 4, 2), (64, 2, 1)):
        flops += 6 * side * side * (9 * wide * narrow + 9 * narrow * narrow + wide * narrow)
    flops += 6 * 64 * 64 * 9 * 3
    assert main_path_work(replace(case, images=1, channels=1)).flops == flops


# --- Plan -------------------------------------------------------------------------------------------------------------------


def test_the_plan() -> None:
    planned = plan(BenchmarkConfig(classes=[19, 184, 1284]), "cpu", 1, "maps")
    assert [case.classes for case in planned if case.group == "convolution"] == [19, 184, 1284]
    assert {(case.height, case.width): case.channels for case in planned if case.group == "modulation"} == MODULATIONS
    assert {case.classes for case in planned if case.group == "modulation"} == {184}
    assert (planned[-1].height, planned[-1].width, planned[-1].channels, planned[-1].hidden) == (64, 128, 16, 32)
    on_gpu = plan(BenchmarkConfig(), "cuda", 1, "maps")[-1]
    assert (on_gpu.height, on_gpu.width, on_gpu.channels, on_gpu.hidden) == (256, 512, 64, 128)


# --- The command ------------------------------------------------------------------------------------------------------------


def test_a_footprint_comes_from_a_child_process(case: Case) -> None:
    case = replace(case, group="convolution", images=1, height=128, width=256, hidden=64, classes=150)
    found = suite.footprint_in_child(case, DENSE, memory=2**31, timeout=600)
    one_hot = 4 * case.pixels * case.classes
    assert found.seconds > 0
    assert found.peak is None or one_hot < found.peak < 10 * one_hot


@pytest.mark.long
def test_the_command_writes_figures_tables_and_plots(tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "collect", gc.freeze)  # else every footprint begins with a look at what all tests before have left
    monkeypatch.setattr(suite, "footprint_in_child", lambda case, name, **_: suite.footprint_here(case, name))
    monkeypatch.setattr("shared.benchmark.ceilings.MEASURING_SECONDS", 0.0)
    for name, value in (("MODULATIONS", {(32, 64): 4}), ("CONVOLUTION_SIZE", (32, 64)), ("PUBLISHED_HIDDEN", 8)):
        monkeypatch.setattr(f"synth.benchmark.config.{name}", value)
    size = ["--size", "[64,128]", "--width", 2, "--hidden", 4, "--maps", 2, "--contestants", "[published,gathered]"]
    outcome = invoke("synth.benchmark", "--classes", "[5]", "--repeats", 1, "--threads", 1, "--run_dir", "run", *size)
    assert outcome.status == 0, outcome.errors
    assert "distinct patches per pixel" in outcome.output and "gathered one-hot" in outcome.output
    report = json.loads((tmp_path / "run/benchmark.json").read_text())
    results = [result for section in report["sections"] for result in section["results"]]
    assert {result["group"] for result in results} == GROUPS.keys() - {"options"}  # which is not measured by default
    assert not [result for result in results if result["note"]]
    assert all(result["timing"]["seconds"] > 0 for result in results)
    assert {line["semantics"] for line in report["parameters"]} >= {GATHERED, EMBEDDING}
    assert "| published form |" in (tmp_path / "run/benchmark.md").read_text()
    assert (tmp_path / "run/step_time.png").read_bytes().startswith(b"\x89PNG")

    again = invoke("synth.benchmark", "--classes", "[5]", "--run_dir", "run")
    assert (again.status, again.errors) == (1, "error: run is not empty; choose another --run_dir\n")


def test_the_dry_run_lists_what_would_be_measured(tmp_path: Path, invoke: Invoke) -> None:
    arguments = ["--what", "[generator]", "--classes", "[19]", "--contestants", "[gathered,embedding]"]
    outcome = invoke("synth.benchmark", *arguments, "--threads", 1, "--dry-run")
    assert outcome.status == 0, outcome.errors
    line = "Generator, forward and backward: C 19, 1×64×128 pixels, 16 channels, hidden 32, D 12: gathered one-hot, embedding"
    assert outcome.output.splitlines() == [line, "on cpu with 1 threads; would write runs/synth.benchmark/cpu-001"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--classes", "[1]"], "classes is [1]; give at least one number, each 2 or more"),
        (["--repeats", "0"], "repeats is 0; it must be above 0"),
        (["--images", "13"], "images is 13, but there are 12 label maps; give at least as many maps"),
        (["--size", "[60,128]"], "nearest: 64x128"),
        (["--contestants", "[nobody]"], "no contestant of convolution begins with nobody; there are dense one-hot"),
        (["--data.name", "camvid"], "data set camvid lies in files"),
        (["--data.scenes.train_length", "5"], "data set scenes-19 has 5 training samples, but maps is 12; ask for fewer"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, invoke: Invoke, arguments: list[str], message: str) -> None:
    outcome = invoke("synth.benchmark", *arguments)
    assert outcome.status == 1
    assert outcome.errors.startswith("error: ") and outcome.errors.count("\n") == 1 and message in outcome.errors, outcome.errors
    assert not list(tmp_path.iterdir())
