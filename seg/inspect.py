"""What the class embeddings say of the classes: `python -m seg.inspect EMBEDDINGS`."""

from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from shared.embedding_file import ClassEmbeddings
from shared.errors import InputError
from shared.files import atomic_write
from shared.program import run_program
from shared.report import EmbeddingMap
from shared.report.embedding_map import lay_out, nearest_classes, principal_plane
from shared.visualise import voc_palette


@dataclass
class InspectConfig:
    """Show the nearest classes of each class, and write a 2-D map and the files for TensorBoard's projector."""

    embeddings: str
    """Embedding file (class_embeddings.safetensors)."""
    neighbours: int = 3
    """Nearest classes listed for each class."""
    output: str | None = None
    """Folder for map.svg and the projector files. Null: beside the embedding file, in inspect/."""

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise InputError(f"neighbours is {self.neighbours}; it must be at least 1")


def nearest_table(embeddings: ClassEmbeddings, neighbours: int) -> str:
    """A line per class: its nearest other classes with their Euclidean distances."""
    names = embeddings.class_names
    width = max(map(len, names))
    lines = []
    for name, ids, distances in zip(names, *nearest_classes(embeddings.vectors.numpy(), neighbours)):
        lines.append(f"{name:<{width}}  {', '.join(f'{names[other]} {distance:.3f}' for other, distance in zip(ids, distances))}")
    return "\n".join(lines)


def write_map(embeddings: ClassEmbeddings, path: Path) -> None:
    """The first two principal axes of the class embeddings as an SVG picture, with the labels that find room."""
    vectors = embeddings.vectors.numpy()
    positions, shares = principal_plane(vectors)
    layout = lay_out(EmbeddingMap(embeddings.class_names, vectors, voc_palette(len(vectors) + 1)[1:]), positions)
    figure = Figure(figsize=(layout.width / 96, layout.height / 96), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(0, layout.width), ylim=(layout.height, 0), xticks=[], yticks=[])
    axes.set_xlabel(f"first axis, {shares[0]:.0%} of the variance")
    axes.set_ylabel(f"second axis, {shares[1]:.0%}")
    for point in layout.points:
        axes.plot(point.x, point.y, "o", color=point.colour)
        if point.label is not None:
            side = {"start": "left", "middle": "center", "end": "right"}[point.label.anchor]
            axes.text(point.label.x, point.label.y, point.label.text, fontsize=8, horizontalalignment=side)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="svg")


def main(config: InspectConfig) -> None:
    embeddings = ClassEmbeddings.load(config.embeddings)
    output = Path(config.output) if config.output else Path(config.embeddings).parent / "inspect"
    print(f"{len(embeddings.class_names)} classes of {embeddings.dataset}, {embeddings.vectors.shape[1]} dimensions; {embeddings.meta}")
    print(nearest_table(embeddings, config.neighbours))
    write_map(embeddings, output / "map.svg")
    with SummaryWriter(output) as writer:
        writer.add_embedding(embeddings.vectors, list(embeddings.class_names), tag="class embeddings")
    print(f"wrote {output / 'map.svg'}; the projector: tensorboard --logdir {output}")


if __name__ == "__main__":
    run_program(main, InspectConfig, "seg.inspect", positional={"embeddings": None}, short={"output": "-o"})
