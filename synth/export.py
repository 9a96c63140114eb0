"""Write a trained generator as a file for other programs: `python -m synth.export RUN --onnx FILE`."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from shared.errors import InputError
from shared.files.graph_file import Axes, Portable, write_files
from shared.run.directory import RunDirectory
from shared.run.program import run_program
from synth.generator import SpadeGenerator
from synth.kernels.rows import Pair
from synth.networks.spectral import SpectralConv2d
from synth.semantics.layout import DenseLayout, SemanticPyramid, numeric_padding
from synth.trained import TrainedGenerator, load_generator

EXAMPLE_BATCH = 2


@dataclass
class ExportConfig:
    """Write the generator of a run as ONNX, or as a program of torch.export; the class table is an input of it."""

    run: str
    """Run directory of synth.train or synth.convert."""
    onnx: str | None = None
    """File to write, .onnx; needs the extra export."""
    program: str | None = None
    """File to write, .pt2, for torch.export.load."""
    dry_run: bool = False
    """Check what is given, say what would be done, and stop."""


def main(config: ExportConfig) -> None:
    if config.onnx is None and config.program is None:
        raise InputError("nothing to write was named; give --onnx FILE, --program FILE or both")
    trained = load_generator(RunDirectory.open(config.run), torch.device("cpu"))
    write_files(portable_generator(trained), config.onnx, config.program, dry_run=config.dry_run)


class TableLayout(DenseLayout):
    """The map that a table makes of ids: resized ids are looked up, in place of resizing what was looked up.

    table: (C + 1, S), the last row for ignored pixels. ids: (N, H, W) int64 in [−1, C). further: (N, ·, H, W), channels after the table's.
    """

    def __init__(self, table: Tensor, ids: Tensor, further: Tensor | None) -> None:
        self.table, self.ids, self.further = table, ids, further
        vectors = table[ids].permute(0, 3, 1, 2)  # −1 is the last row
        super().__init__(vectors if further is None else torch.cat([vectors, further], 1))

    def resized(self, height: int, width: int) -> "TableLayout":
        ids = F.interpolate(self.ids[:, None].float(), (height, width), mode="nearest")[:, 0].long()
        further = None if self.further is None else F.interpolate(self.further, (height, width), mode="nearest")
        return TableLayout(self.table, ids, further)


class TablePyramid(SemanticPyramid):
    """The same for sizes that are symbols: these are no keys of a dictionary, but what they are called is."""

    def __init__(self, full_size: TableLayout) -> None:
        self.classes, self.full_size = None, full_size
        self.size, self.batch_size = full_size.size, full_size.batch_size
        self._made: dict[str, TableLayout] = {}

    def at(self, height: int, width: int) -> TableLayout:
        name = f"{height}x{width}"
        if name not in self._made:
            self._made[name] = self.full_size.resized(height, width)
        return self._made[name]

    def prepare(self, sizes: Sequence[Pair], conv: nn.Conv2d) -> None:
        """Nothing: the layouts of a graph are maps."""


class ImageGraph(nn.Module):
    """Label maps and a class table → images. Which further inputs there are follows from the generator: style, noise, edges."""

    def __init__(self, generator: SpadeGenerator) -> None:
        super().__init__()
        self.generator = with_plain_convolutions(generator)
        self.generator.noise_channels = 0  # the graph's layouts hold it

    def forward(
        self,
        label_map: Tensor,
        class_table: Tensor,
        style: Tensor | None = None,
        noise: Tensor | None = None,
        edges: Tensor | None = None,
    ) -> Tensor:
        """label_map: (N, H, W) int64 in [−1, C), −1 = ignored. class_table: (C + 1, S), the last row for ignored pixels.
        style, noise: (N, Z). edges: (N, H, W) float, 1 on the borders of instances. Returns (N, 3, H, W) in [0, 1].
        """
        channels = [] if edges is None else [edges[:, None]]
        if noise is not None:
            channels.append(noise[:, :, None, None].expand(-1, -1, *label_map.shape[1:]))
        pyramid = TablePyramid(TableLayout(class_table, label_map, torch.cat(channels, 1) if channels else None))
        images: Tensor = self.generator(pyramid, z=style, size=tuple(label_map.shape[1:]))
        return images / 2 + 0.5


def with_plain_convolutions(network: SpadeGenerator) -> SpadeGenerator:
    """A copy whose spectral convolutions are plain ones with the kernels that they divide out in evaluation."""
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, SpectralConv2d):
                size, stride, padding = child.kernel_size[0], child.stride[0], numeric_padding(child)
                plain = nn.Conv2d(child.in_channels, child.out_channels, size, stride, padding, bias=child.bias is not None)
                plain.weight = nn.Parameter(child.normalised_kernel(), requires_grad=False)
                plain.bias = child.bias
                setattr(module, name, plain)
    return network


def portable_generator(trained: TrainedGenerator) -> Portable:
    """The graph of a trained generator, on the CPU.

    Raises:
        InputError: its noise is drawn per region or pixel, which a graph does not do.
    """
    generator, spec = trained.generator, trained.spec
    semantics, multiple = generator.semantics, generator.size_multiple
    height, width = generator.image_size
    if generator.z_dim is None:
        height, width = max(height, 2 * multiple), max(width, 2 * multiple)
    if generator.noise_channels and generator.noise != "image":
        raise InputError(f"generator.noise is {generator.noise}; only noise per image can be an input of an exported generator")
    draws, batch = torch.Generator().manual_seed(0), Dim("batch")
    table = torch.eye(semantics.num_classes + 1) if semantics.table is None else semantics.table.detach()
    labels = torch.randint(-1, semantics.num_classes, (EXAMPLE_BATCH, height, width), generator=draws)
    inputs = {"label_map": labels, "class_table": table}
    if generator.z_dim is not None:
        inputs["style"] = torch.randn(EXAMPLE_BATCH, generator.z_dim, generator=draws)
    if generator.noise_channels:
        inputs["noise"] = torch.randn(EXAMPLE_BATCH, generator.noise_channels, generator=draws)
    if semantics.instance_edges:
        inputs["edges"] = torch.randint(2, labels.shape, generator=draws).float()
    axes: dict[str, Axes] = {name: {0: batch} for name in inputs} | {"class_table": {0: Dim("rows")}}
    if generator.z_dim is None:  # a style's first features are of one size
        for name in inputs.keys() & {"label_map", "edges"}:
            axes[name] |= {1: multiple * Dim("rows_of_features", min=2), 2: multiple * Dim("columns_of_features", min=2)}
    about = {"class_names": list(spec.class_names), "dataset": spec.name, "semantics": semantics.name, "step": trained.meta["step"]}
    return Portable(ImageGraph(generator).eval(), inputs, axes, "images", ("class_table",), about)


if __name__ == "__main__":
    run_program(main, ExportConfig, "synth.export", positional={"run": None})
