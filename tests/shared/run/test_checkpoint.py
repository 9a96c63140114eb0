"""A checkpoint brings back every tensor, or says why it cannot."""

from pathlib import Path

import pytest
import torch
from torch import nn

from shared.errors import InputError
from shared.run.checkpoint import TrainingState, read_checkpoint, read_newest
from shared.run.training import RunningMeans


def make_state(width: int = 3, seed: int = 0) -> TrainingState:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(2, width, 1), nn.BatchNorm2d(width))
    optimizers: dict[str, torch.optim.Optimizer] = {
        "sgd": torch.optim.SGD(model[0].parameters(), lr=0.1, momentum=0.9),
        "adam": torch.optim.Adam(model[1].parameters(), lr=0.1),
    }
    return TrainingState({"model": model}, optimizers, {"class_names": ["road", "sky"]})


def advance(state: TrainingState, steps: int) -> None:
    for _ in range(steps):
        torch.manual_seed(state.step)
        state.modules["model"](torch.randn(4, 2, 3, 3)).square().sum().backward()
        for optimizer in state.optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        state.step += 1


def test_resumed_training_is_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = make_state()
    advance(whole, 5)
    first = make_state()
    advance(first, 2)
    first.best = 0.5
    first.save(tmp_path / "last.safetensors")
    second = make_state(seed=1)
    second.load(tmp_path / "last.safetensors")
    assert (second.step, second.best) == (2, 0.5)
    advance(second, 3)
    for key, value in whole.modules["model"].state_dict().items():
        assert torch.equal(value, second.modules["model"].state_dict()[key]), key


def test_settings_travel_with_the_checkpoint(tmp_path: Path) -> None:
    make_state().save(tmp_path / "a.safetensors")
    assert read_checkpoint(tmp_path / "a.safetensors")[1]["class_names"] == ["road", "sky"]


def test_other_network_is_refused(tmp_path: Path) -> None:
    make_state(3).save(tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"does not fit the settings: model\.\S+ is \(3,.*there, \(4,.*here"):
        make_state(4).load(tmp_path / "a.safetensors")


def test_missing_damaged_and_foreign_files_are_one_line(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match=r"no file .*checkpoint tensors were expected"):
        read_checkpoint(path)
    make_state().save(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match="cannot read"):
        read_checkpoint(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"checkpoint tensors .* were expected"):
        read_checkpoint(path)


def test_one_changed_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    make_state().save(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a.safetensors is damaged: .* checksum"):
        read_checkpoint(path)


def test_the_checkpoint_before_is_kept_and_used(tmp_path: Path) -> None:
    last, previous = tmp_path / "last.safetensors", tmp_path / "previous.safetensors"
    assert read_newest([last, previous]) is None
    state = make_state()
    for step in (1, 2, 3):
        state.step = step
        state.save(last, previous)
    assert [read_checkpoint(path)[1]["step"] for path in (last, previous)] == [3, 2]
    last.write_bytes(last.read_bytes()[:-5])
    found = read_newest([last, previous])
    assert found is not None
    assert (found.path, found.meta["step"]) == (previous, 2)
    assert "cannot read" in found.damaged[last]
    previous.write_text("foreign")
    with pytest.raises(InputError, match=r"last.safetensors.*previous.safetensors.*no checkpoint is left"):
        read_newest([last, previous])


def test_small_states_keep_every_bit(tmp_path: Path) -> None:
    means = RunningMeans()
    for value in (0.1, 1 / 3, 1e-300):
        means.add({"loss": torch.tensor(value)})
    state = make_state()
    state.small["means"] = means
    state.save(tmp_path / "a.safetensors")
    other = make_state()
    restored = other.small["means"] = RunningMeans()
    other.load(tmp_path / "a.safetensors")
    assert restored.take() == means.take()
