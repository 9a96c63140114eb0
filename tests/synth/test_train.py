"""`python -m synth.train` with every kind of discriminator and of options: it ends, resumes to the same weights, and refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shared.data.batch import Batch
from shared.data.scenes.classes import SceneClasses
from shared.files.tensor_file import read_tensors
from synth.build import generator_from, opponent_from
from synth.config import DiscriminatorConfig, GeneratorConfig, SynthConfig
from synth.semantics import build_semantics
from synth.training.step import Step
from tests.small import scenes, synthesis

Invoke = Callable[..., Any]
SMALL = [*scenes(classes=30, train=8, val=4), *synthesis(), "--train.steps", 4, "--train.batch_size", 2]
SMALL += ["--train.save_every", 2, "--train.log_every", 2, "--semantics", "random"]


def checkpoint(run: Path) -> dict[str, torch.Tensor]:
    return read_tensors(run / "checkpoints/last.safetensors", "checkpoint tensors/1")[0]


NOISY = ["--generator.noise_channels", 3, "--generator.noise", "region", "--train.clip_norm", 1, "--train.recompute", "true"]
OASIS, EMBEDDING = (["--discriminator.name", name] for name in ("oasis", "oasis_embedding"))
LITE0 = ["--discriminator.encoder", "efficientnet_lite0", "--loss.perceptual", "efficientnet_lite0", "--loss.vgg_weight", 10]


@pytest.mark.parametrize(
    "options",
    [
        [*OASIS, *NOISY],
        [*EMBEDDING, "--trainable", "true"],
        pytest.param([*OASIS, *LITE0], marks=pytest.mark.long),
        [*LITE0, "--discriminator.begin", 0.75],
    ],
)
def test_a_stopped_run_continues_exactly(options: list[object], invoke: Invoke, tmp_path: Path) -> None:
    for name, stops in (("whole", [4]), ("stopped", [2, 4])):
        for stop in stops:
            outcome = invoke("synth.train", *SMALL, *options, "--run_dir", tmp_path / name, "--train.stop_after", stop)
            assert outcome.status == 0, outcome.errors
    whole, resumed = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "stopped")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_continued_run_keeps_its_perceptual_loss(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the published weights have come to hand since."""
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    command = ["synth.train", *SMALL, "--loss.vgg_weight", 10, "--run_dir", tmp_path / "run", "--train.stop_after"]
    first = invoke(*command, 2)
    assert first.status == 0 and "perceptual loss: efficientnet_lite0" in first.output, first.errors
    monkeypatch.setattr("shared.files.weights.WeightsFile.find", lambda *_, **__: tmp_path)
    second = invoke(*command, 4)
    assert second.status == 0 and "perceptual loss: efficientnet_lite0" in second.output, second.errors
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert all(line["generator/perceptual"] > 0 for line in lines)


def test_a_discriminator_that_begins_late(invoke: Invoke, tmp_path: Path) -> None:
    """Until then it neither teaches nor learns; where nothing else teaches, it begins at once."""
    judged = {}
    for name, begin, weight in (("half", 0.5, 10), ("never", 1, 10), ("alone", 1, 0)):
        options = ["--loss.perceptual", "efficientnet_lite0", "--loss.vgg_weight", weight, "--discriminator.begin", begin]
        outcome = invoke("synth.train", *SMALL, *OASIS, *options, "--run_dir", tmp_path / name)
        assert outcome.status == 0, outcome.errors
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        wanted = {"generator/gan", "discriminator/real", "discriminator/fake", "discriminator/label_mix"}
        assert all(wanted <= line.keys() or not wanted & line.keys() for line in lines)
        judged[name] = [wanted <= line.keys() for line in lines]
    assert judged == {"half": [False, True], "never": [False, False], "alone": [True, True]}
    moments = {name: [key for key in checkpoint(tmp_path / name) if key.startswith("discriminator_optimizer")] for name in judged}
    assert not moments["never"] and moments["half"]
    refused = invoke("synth.train", *SMALL, "--discriminator.begin", 1.5)
    assert refused.status == 1 and "discriminator.begin is 1.5; it must be a share of the steps, 0 to 1" in refused.errors


def test_the_plan_names_the_networks_of_trained_features(invoke: Invoke, tmp_path: Path) -> None:
    outcome = invoke("synth.train", *SMALL, *OASIS, *LITE0, "--loss.perceptual", "auto", "--run_dir", tmp_path / "run", "--dry-run")
    assert outcome.status == 0, outcome.errors
    assert "perceptual: efficientnet_lite0" in outcome.output and "encoder: efficientnet_lite0" in outcome.output
    assert not (tmp_path / "run").exists()


def test_a_discriminator_without_class_vectors(invoke: Invoke, tmp_path: Path) -> None:
    arguments = [*SMALL, "--semantics", "onehot", "--discriminator.name", "oasis_embedding", "--run_dir", tmp_path / "run"]
    outcome = invoke("synth.train", *arguments)
    assert outcome.status == 1
    assert "error: semantics onehot have no class vectors; use random, learned or a table of your own" in outcome.errors
    assert not (tmp_path / "run").exists()


def test_a_table_of_any_origin_trains_generates_and_takes_new_classes(invoke: Invoke, tmp_path: Path) -> None:
    names = SceneClasses(30).spec.class_names
    rows = np.random.default_rng(0).normal(size=(30, 5))
    np.savez(tmp_path / "words.npz", names=np.array(names[::-1]), vectors=rows[::-1])
    outcome = invoke("synth.train", *SMALL, *EMBEDDING, "--semantics", tmp_path / "words.npz", "--run_dir", tmp_path / "run")
    assert outcome.status == 0, outcome.errors
    table = checkpoint(tmp_path / "run")["generator.semantics.table"]
    np.testing.assert_allclose(table[:-1].numpy(), rows / np.linalg.norm(rows, axis=1, keepdims=True), rtol=1e-6)
    np.savez(tmp_path / "words.npz", names=np.array(names), vectors=np.ones((30, 6)))
    outcome = invoke("synth.train", *SMALL, *EMBEDDING, "--semantics", tmp_path / "words.npz", "--run_dir", tmp_path / "run")
    assert f"the row of class {names[0]} in {tmp_path / 'words.npz'} has 6 numbers, but {tmp_path / 'run'} began with" in outcome.errors
    Image.fromarray(np.full((32, 64), 30, np.uint8)).save(tmp_path / "new.png")
    command = ["synth.generate", tmp_path / "run", tmp_path / "new.png", "-o", tmp_path / "out"]
    refused = invoke(*command)
    assert refused.status == 1 and "holds value 30; allowed are 0..29" in refused.errors
    outcome = invoke(*command, "--mix", f"tram=0.5*{names[0]}+0.5*{names[5]}")
    assert outcome.status == 0 and "wrote 1 images" in outcome.output, outcome.errors


@pytest.mark.parametrize("discriminator", ["multiscale", "oasis_embedding"])
def test_trained_class_vectors_learn_from_the_generator_alone(discriminator: str) -> None:
    """In the generator's step they have gradients through the generator; the discriminator's view of them gives none in either step."""
    config = SynthConfig(generator=GeneratorConfig(width=2, hidden=4), discriminator=DiscriminatorConfig(discriminator, width=4, depth=2))
    semantics = build_semantics("random", 5, embedding_dim=3, trainable=True)
    generator = generator_from(config.generator, (32, 64), semantics)
    network, seen, adversary = opponent_from(config.discriminator, config.loss, semantics)
    assert any(parameter is semantics.table for parameter in generator.parameters())
    labels, images = torch.randint(-1, 5, (2, 32, 64)), torch.rand(2, 3, 32, 64)
    judged = None if seen is None else seen.pyramid(labels, trained=False)
    adversary.begin([labels])
    sum(adversary.generator_terms(network, labels, judged, images.clone().requires_grad_(), images).values()).backward()
    sum(adversary.discriminator_terms(network, labels, judged, images, images).values()).backward()
    assert semantics.table is not None and semantics.table.grad is None
    generator(labels).sum().backward()
    assert semantics.table.grad is not None and (semantics.table.grad[labels.unique()] != 0).any()


def made_update(recompute: bool, *, clip_norm: float | None = None, channels_last: bool = False) -> dict[str, torch.Tensor]:
    """The state of both networks after two steps of one small training, and the gradients of the second."""
    config = SynthConfig(
        generator=GeneratorConfig(width=2, hidden=4, noise_channels=3), discriminator=DiscriminatorConfig("oasis", width=4)
    )
    config.train.clip_norm = clip_norm
    torch.manual_seed(0)
    semantics = build_semantics("random", 5, embedding_dim=3)
    generator = generator_from(config.generator, (32, 64), semantics)
    network, seen, adversary = opponent_from(config.discriminator, config.loss, semantics)
    generator.recompute = recompute
    if channels_last:
        generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizers = tuple(torch.optim.SGD(part.parameters(), 0.01) for part in (generator, network))
    step = Step(config, torch.device("cpu"), semantics, seen, adversary, (generator, network, None), optimizers, None)  # type: ignore[arg-type]
    gradients: dict[str, torch.Tensor] = {}
    optimizers[0].register_step_pre_hook(
        lambda *_: gradients.update(
            {f"{name}.grad": value.grad.clone() for name, value in generator.named_parameters() if value.grad is not None}
        )
    )
    for number in range(2):
        torch.manual_seed(number)
        step([Batch(torch.rand(2, 3, 32, 64) * 2 - 1, torch.randint(-1, 5, (2, 32, 64)), None, ["a", "b"])])
    return {**generator.state_dict(), **gradients, **{f"judge.{name}": value for name, value in network.state_dict().items()}}


def test_recomputed_features_change_nothing() -> None:
    kept, again = made_update(False), made_update(True)
    assert kept.keys() == again.keys() and any(name.endswith("running_var") for name in kept)
    for name, value in kept.items():
        torch.testing.assert_close(again[name], value, rtol=0, atol=0, msg=name)


def test_recomputation_keeps_less() -> None:
    """Bytes that autograd holds for the generator's backward pass."""
    held = []
    for recompute in (False, True):
        generator = generator_from(GeneratorConfig(width=4, hidden=8), (32, 64), build_semantics("random", 5, embedding_dim=3))
        generator.recompute, kept = recompute, {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, kept=kept: kept.setdefault(tensor.data_ptr(), (tensor.numel(), tensor)) and tensor, lambda tensor: tensor
        ):
            generator(torch.randint(0, 5, (2, 32, 64)))
        held.append(sum(count for count, _ in kept.values()))
    assert held[1] < 0.6 * held[0]


def test_clipping_limits_the_gradient() -> None:
    gradients = {name: value for name, value in made_update(False, clip_norm=1e-3).items() if name.endswith(".grad")}
    assert torch.stack([value.norm() for value in gradients.values()]).norm().item() == pytest.approx(1e-3, rel=1e-2)
    free = [value for name, value in made_update(False).items() if name.endswith(".grad")]
    assert torch.stack([value.norm() for value in free]).norm() > 1e-2


def test_channels_last_is_the_same_up_to_rounding() -> None:
    plain, last = made_update(False), made_update(False, channels_last=True)
    for name, value in plain.items():
        torch.testing.assert_close(last[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_clip_norm_is_checked(invoke: Invoke) -> None:
    outcome = invoke("synth.train", *SMALL, "--train.clip_norm", 0)
    assert outcome.status == 1 and "train.clip_norm is 0.0; it must be above 0" in outcome.errors


@pytest.mark.parametrize("precision, discriminator", [("bf16", "oasis_embedding"), ("fp16", "multiscale")])
def test_half_precision_is_near_full_precision(precision: str, discriminator: str) -> None:
    """Of the first step, all terms; and the scale of the losses is a state."""
    config = SynthConfig(generator=GeneratorConfig(width=2, hidden=4), discriminator=DiscriminatorConfig(discriminator, width=4, depth=2))
    results = []
    for chosen in ("no", precision):
        config.train.precision = chosen  # type: ignore[assignment]
        torch.manual_seed(0)
        semantics = build_semantics("random", 5, embedding_dim=3)
        generator = generator_from(config.generator, (32, 64), semantics)
        network, seen, adversary = opponent_from(config.discriminator, config.loss, semantics)
        optimizers = torch.optim.SGD(generator.parameters(), 0.01), torch.optim.SGD(network.parameters(), 0.01)
        step = Step(config, torch.device("cpu"), semantics, seen, adversary, (generator, network, None), optimizers, None)
        results.append(step([Batch(torch.rand(2, 3, 32, 64) * 2 - 1, torch.randint(-1, 5, (2, 32, 64)), None, ["a", "b"])]))
    full, half = results
    for name, value in full.items():
        assert half[name].dtype == torch.float32 and half[name].item() == pytest.approx(value.item(), rel=0.03, abs=0.03), name
    assert bool(step.of_generator.scaler.state_dict()) == (precision == "fp16")
