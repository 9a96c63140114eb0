"""What is no number does not reach the weights, and failures of the machine are told in one line."""

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import nn

import shared.data
from shared.data import DataConfig, build_dataset
from shared.data.loader import build_eval_loader
from shared.data.spec import Sample, SegmentationDataset
from shared.errors import InputError
from shared.kernels import kernels_missing
from shared.run import training
from shared.run.checkpoint import read_checkpoint
from shared.run.directory import RunDirectory, machine
from shared.run.faults import explain_fault
from shared.run.guards import SKIPPED_IN_A_ROW, NotFinite, UpdateGuard, require_finite, require_finite_gradients
from shared.run.training import choose_device
from tests.test_faults import SEG, SYNTH

Invoke = Callable[..., Any]


class Poisoned(SegmentationDataset):
    """A data set whose third image holds no numbers in one channel."""

    def __init__(self, clean: SegmentationDataset) -> None:
        self.clean, self.spec, self.split = clean, clean.spec, clean.split

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, index: int) -> Sample:
        sample = self.clean[index]
        sample.image = sample.image.float() / 255
        if index == 2 and self.split == "train":
            sample.image[0] = float("nan")
        return sample


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = shared.data.build_dataset

    def build(config: DataConfig, split: Any) -> SegmentationDataset:
        return Poisoned(clean(config, split))

    monkeypatch.setattr(shared.data, "build_dataset", build)


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("command", [[*SEG, "--input.jitter", 0], SYNTH])
def test_a_poisoned_image_stops_the_training_or_is_left_out(command: list[object], invoke: Invoke) -> None:
    command = [*command, "--data.num_workers", 0, "--train.steps", 6, "--train.save_every", 1]
    outcome = invoke(*command, "--run_dir", "run")
    errors = [line for line in outcome.errors.splitlines() if line.startswith("error: ")]
    assert outcome.status == 1
    assert len(errors) == 1, outcome.errors
    name = shared.data.build_dataset(DataConfig(), "train")[2].name
    assert f"which reads {name}; the weights have not moved" in errors[0]
    assert "is not finite at step" in errors[0]
    require_finite_checkpoint(Path("run"))

    outcome = invoke(*command, "--run_dir", "skipping", "--train.not_finite", "skip")
    assert outcome.status == 0, outcome.errors
    assert outcome.output.count(f"which reads {name}; this update is left out") == 1
    require_finite_checkpoint(Path("skipping"))


def require_finite_checkpoint(run: Path) -> None:
    path = run / "checkpoints/last.safetensors"
    if path.is_file():  # not where the first step was refused
        assert [key for key, tensor in read_checkpoint(path)[0].items() if not tensor.isfinite().all()] == []


def norm_guard(rule: str, run: Path) -> tuple[nn.Module, UpdateGuard]:
    network = nn.BatchNorm1d(2)
    return network, UpdateGuard(rule, [network], RunDirectory(run), lambda: "Use less")


def test_a_gradient_that_is_no_number_is_noticed_though_the_loss_is_finite(tmp_path: Path) -> None:
    network, guard = norm_guard("skip", tmp_path)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with guard.update(7) as names:
        names.append("a.png")
        output = network(torch.rand(3, 2))
        loss = torch.sqrt((output - output).sum())  # 0, with the gradient 0 · ∞
        loss.backward()
        require_finite({"loss": loss})
        require_finite_gradients(nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None]))
        pytest.fail("the gradient passed")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert "a gradient is not finite at step 7, which reads a.png; this update is left out" in (tmp_path / "log.txt").read_text()


def test_many_lost_updates_in_a_row_stop(tmp_path: Path) -> None:
    _, guard = norm_guard("skip", tmp_path)

    def lose(step: int) -> None:
        with guard.update(step):
            raise NotFinite("loss x is not finite")

    for step in range(SKIPPED_IN_A_ROW):
        lose(step)
    with guard.update(20):
        pass
    for step in range(SKIPPED_IN_A_ROW):
        lose(step)
    with pytest.raises(InputError, match="as at 20 steps before"):
        lose(41)


def test_when_memory_ends_the_largest_batch_is_told(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address space is limited once the training has begun, so that the system refuses a real allocation."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    begin = RunDirectory.forget_after

    def begin_and_limit(run: RunDirectory, *steps: int) -> None:
        begin(run, *steps)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, limits[1]))

    monkeypatch.setattr(RunDirectory, "forget_after", begin_and_limit)
    torch.ones((), requires_grad=True).backward()  # starts autograd's threads, which could not start later
    size = ["--data.scenes.height", 256, "--data.scenes.width", 512, "--train.batch_size", 12, "--model.width", 256]
    try:
        with torch.backends.mkldnn.flags(enabled=False):  # which hides what it was refused behind a message of its own
            outcome = invoke(*SEG, *size, "--data.num_workers", 0, "--run_dir", "run")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    errors = [line for line in outcome.errors.splitlines() if line.startswith("error: ")]
    assert outcome.status == 1
    assert len(errors) == 1, outcome.errors
    assert "memory has ended at step 0" in errors[0]
    assert "A step on 12 images of 256x512 is predicted to need" in errors[0]
    assert "largest train.batch_size for the" in errors[0]


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has …", "memory has ended: CUDA out of memory"),
        (
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 40 bytes. E",
            "memory has ended: DefaultCPUAllocator: can't allocate memory: you tried to allocate 40 bytes",
        ),
        (
            "CUDA error: no kernel image is available for execution on it\nCUDA kernel errors …",
            "the GPU cannot be used: CUDA error",
        ),
        ("The NVIDIA driver on your system is too old (found version 11040). Please update", "system is too old (found version 11040)"),
        ("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible …", "/dev/shm"),
    ],
)
def test_messages_of_libraries(message: str, told: str) -> None:
    explained = explain_fault(RuntimeError(message))
    assert explained is not None
    assert told in explained
    assert "\n" not in explained


def test_our_own_mistakes_are_not_explained_away() -> None:
    assert explain_fault(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA can be used here")
def test_cuda_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(InputError, match=r"the device is to be cuda, but CUDA cannot be used: .*; use cpu, or auto"):
        choose_device("cuda")
    assert choose_device("auto").type == "cpu"


def test_a_training_on_the_cpu_does_not_touch_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*_: object) -> NoReturn:
        raise AssertionError("CUDA was touched")

    for name in ("_lazy_init", "is_available", "device_count", "set_device", "current_device"):
        monkeypatch.setattr(torch.cuda, name, touched)
    device = choose_device("cpu")
    assert device == torch.device("cpu") and "CPU" in machine()
    dataset = build_dataset(DataConfig(), "val")
    loader = build_eval_loader(dataset, lambda sample: sample, batch_size=1, num_workers=0, samples=range(1), device=device)
    assert len(next(iter(loader)).names) == 1


def test_each_process_looks_at_its_own_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    monkeypatch.setattr(training, "cuda_obstacle", lambda gpu: looked_at.append(gpu) or "")
    monkeypatch.setattr(training, "join_processes", lambda kind: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda") == torch.device("cuda", 0)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("cuda") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match=r"process 2 of this machine has no GPU: it has 2; lower torchrun's --nproc-per-node"):
        choose_device("cuda")
    assert looked_at == [0, 1]


def test_kernels_that_cannot_be_loaded_are_told() -> None:
    with pytest.warns(UserWarning, match=r"cannot be loaded \(No module named 'shared.no_such_kernels'\); plain torch computes on cpu"):
        assert kernels_missing("shared.no_such_kernels", torch.device("cpu"))
