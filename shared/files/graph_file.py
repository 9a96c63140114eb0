"""Networks as files that other programs run without this project: ONNX, and torch's own exported programs.

A class table is an input of the graph. In an ONNX file it has its trained value by default, so that a runtime takes another one, also of
other classes, in the call, and none need be given.
"""

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shared.errors import InputError
from shared.files.atomic import atomic_write
from shared.files.json_file import to_json

Axes = dict[int, Any]
OPSET = 20


@dataclass(frozen=True)
class Portable:
    """A network whose inputs and outputs are tensors alone.

    Args:
        network: in evaluation mode.
        inputs: an example of each, by name, as `network.forward` names them. Axes that are free have at least 2 here.
        axes: which axes of an input are free, each a `torch.export.Dim` or a multiple of one.
        output: name of the result.
        tables: inputs that have a value by default.
        about: plain values that travel with the file.
    """

    network: nn.Module
    inputs: dict[str, Tensor]
    axes: dict[str, Axes]
    output: str
    tables: tuple[str, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)


def write_files(portable: Portable, onnx: str | None, program: str | None, *, dry_run: bool) -> None:
    """Write what is named, and say so; with `dry_run` say what would be written.

    Raises:
        InputError: as `write_onnx`.
    """
    free = {name: list(axes) for name, axes in portable.axes.items() if axes}
    inputs = ", ".join(
        f"{name} ({', '.join('any' if axis in free.get(name, []) else str(size) for axis, size in enumerate(tensor.shape))})"
        for name, tensor in portable.inputs.items()
    )
    graph = f"{inputs} -> {portable.output}"
    if dry_run:
        print(f"would write {', '.join(path for path in (onnx, program) if path)}: {graph}")
        return
    if onnx is not None:
        difference = write_onnx(portable, onnx)
        print(f"wrote {onnx}: {graph}; in onnxruntime its largest difference from PyTorch is {difference:.1e}")
    if program is not None:
        write_program(portable, program)
        print(f"wrote {program}: {graph}")


def write_program(portable: Portable, path: str | os.PathLike[str]) -> None:
    """Write a file for `torch.export.load(path).module()(name=…, …)`, whole or not at all."""
    _keep_inputs_of_activations(portable.network)
    with torch.no_grad():
        program = torch.export.export(portable.network, kwargs=portable.inputs, args=(), dynamic_shapes=_axes(portable))
    about = {"about.json": to_json(portable.about, ensure_ascii=False)}
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        torch.export.save(program, file, extra_files=about)


def write_onnx(portable: Portable, path: str | os.PathLike[str]) -> float:
    """Write an ONNX file, whole or not at all.

    Returns:
        The largest difference between its result and the network's for the example inputs, in onnxruntime.

    Raises:
        InputError: onnx, onnxscript or onnxruntime is not installed.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"an ONNX file needs {error.name}: pip install 'essnet-spade[export]'; --program needs nothing more") from error
    _keep_inputs_of_activations(portable.network)
    with torch.no_grad():
        program = torch.onnx.export(
            portable.network,
            kwargs=portable.inputs,
            dynamo=True,
            dynamic_shapes=_axes(portable),
            input_names=list(portable.inputs),
            output_names=[portable.output],
            opset_version=OPSET,
            verbose=False,
        )
        expected = portable.network(**portable.inputs)
    assert program is not None, "dynamo gives a program"
    model = program.model_proto
    # an initializer with the name of an input is its value by default
    model.graph.initializer.extend(onnx.numpy_helper.from_array(portable.inputs[name].numpy(), name) for name in portable.tables)
    onnx.helper.set_model_props(model, {key: to_json(value, ensure_ascii=False) for key, value in portable.about.items()})
    with atomic_write(path) as temporary:
        # run before the file takes its name: one that onnxruntime refuses is never left
        onnx.save(model, str(temporary))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # it warns of tables that are inputs, as they are meant to be
        session = onnxruntime.InferenceSession(str(temporary), options, providers=["CPUExecutionProvider"])
        given = {name: tensor.numpy() for name, tensor in portable.inputs.items() if name not in portable.tables}
        result: np.ndarray = session.run(None, given)[0]
    return float(np.abs(result.astype(np.float64) - expected.double().numpy()).max())


def _keep_inputs_of_activations(network: nn.Module) -> None:
    """Written over, they take exporters a third of their time, and the graph is the same."""
    for module in network.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]


def _axes(portable: Portable) -> dict[str, Axes]:
    return {name: portable.axes.get(name, {}) for name in portable.inputs}
