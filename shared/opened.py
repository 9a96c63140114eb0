"""A trained run that is open for Python: what `seg.load` and `synth.load` have in common."""

from typing import Generic, Protocol, TypeVar

import torch

from shared.data.spec import DatasetSpec


class Trained(Protocol):
    """The networks of a run, with its classes."""

    @property
    def spec(self) -> DatasetSpec: ...


Networks = TypeVar("Networks", bound=Trained)


class OpenedRun(Generic[Networks]):
    """A trained run on a device.

    Attributes:
        class_names: C names; position = class id.
        trained: the networks, with the settings of their run.
    """

    def __init__(self, trained: Networks, device: torch.device, run: str) -> None:
        self.trained, self.device, self.run = trained, device, run
        self.class_names = trained.spec.class_names
