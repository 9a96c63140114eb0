"""What the class embeddings say of the classes: `python -m seg.inspect EMBEDDINGS`."""

import argparse
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seg.class_crops import class_colours, class_crops
from seg.class_pictures import class_tree, draw_map, draw_norms, draw_tree, norm_correlation, to_newick
from seg.inputs import STATISTICS_FILE
from shared.config import flatten
from shared.data import build_dataset
from shared.data.config import DataConfig
from shared.data.sampling import count_once
from shared.data.statistics import ClassStatistics
from shared.embedding_file import ClassEmbeddings
from shared.errors import InputError
from shared.files.atomic import write_text
from shared.files.json_file import write_json
from shared.report import EmbeddingMap
from shared.report.maps import class_maps, nearest_classes
from shared.run.directory import RunDirectory
from shared.run.program import run_program
from shared.visualise import voc_palette


@dataclass
class InspectConfig:
    """Show the nearest classes of each class, and write maps, a tree, norms against frequency, and files for TensorBoard's projector."""

    embeddings: str
    """Embedding file (class_embeddings.safetensors)."""
    neighbours: int = 3
    """Nearest classes listed for each class."""
    statistics: str | None = None
    """File with the counts of the training split, statistics_train.safetensors of python -m shared.data stats -o DIR. Null: that of the
    run that the embeddings are from, where it has one."""
    crops: bool = False
    """Show each class in the projector by a piece of a training image, and not only by its colour. Reads the data set, and counts it if
    there are no counts."""
    data: DataConfig = field(default_factory=DataConfig)
    """The data set of the crops; settings of the run that the embeddings are from are the defaults."""
    output: str | None = None
    """Folder for the pictures, the tree and the projector files. Null: beside the embedding file, in inspect/."""
    json: str | None = None
    """Also write the nearest classes, their distances and the correlation of norms and frequency to this JSON file."""

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise InputError(f"neighbours is {self.neighbours}; it must be at least 1")


def run_of(embeddings: ClassEmbeddings) -> RunDirectory | None:
    """The run that wrote the embeddings, if it is still where it was."""
    run = RunDirectory(Path(str(embeddings.meta.get("run", ""))))
    return run if "run" in embeddings.meta and run.config_path.is_file() else None


def settings_of_run(given: argparse.Namespace) -> dict[str, Any]:
    """The data settings of that run, as defaults of the command line."""
    run = run_of(ClassEmbeddings.load(given.embeddings))
    return {} if run is None else flatten({"data": run.config.get("data", {})})


Nearest = list[tuple[str, list[tuple[str, float]]]]
"""Each class with the others that are nearest to it, nearest first, and their Euclidean distances."""


def nearest_of(embeddings: ClassEmbeddings, neighbours: int) -> Nearest:
    names = embeddings.class_names
    found = zip(names, *nearest_classes(embeddings.vectors.numpy(), neighbours))
    return [(name, [(names[other], float(distance)) for other, distance in zip(ids, distances)]) for name, ids, distances in found]


def nearest_table(nearest: Nearest) -> str:
    """A line per class."""
    width = max(len(name) for name, _ in nearest)
    return "\n".join(f"{name:<{width}}  {', '.join(f'{other} {distance:.3f}' for other, distance in others)}" for name, others in nearest)


def find_counts(config: InspectConfig, embeddings: ClassEmbeddings) -> ClassStatistics | None:
    """The counts given, or those of the run.

    Raises:
        InputError: they count other classes than the embeddings have.
    """
    run = run_of(embeddings)
    path = config.statistics or (run.path / STATISTICS_FILE if run and (run.path / STATISTICS_FILE).is_file() else None)
    if path is None:
        return None
    statistics = ClassStatistics.load(path)
    if statistics.class_names != embeddings.class_names:
        raise InputError(
            f"{path} counts {statistics.dataset}, {config.embeddings} is of {embeddings.dataset}; names and order must be equal"
        )
    return statistics


def main(config: InspectConfig) -> None:
    embeddings = ClassEmbeddings.load(config.embeddings)
    names, vectors = embeddings.class_names, embeddings.vectors.numpy()
    output = Path(config.output) if config.output else Path(config.embeddings).parent / "inspect"
    statistics = find_counts(config, embeddings)
    palette, pictures = voc_palette(len(names) + 1)[1:], None
    if config.crops:
        dataset = build_dataset(config.data, "train")
        embeddings.require_match(dataset.spec, config.embeddings)
        statistics = statistics or count_once(dataset, output / STATISTICS_FILE, config.data.num_workers)
        statistics.require_match(dataset, config.statistics or "the counts of the run")
        palette, pictures = dataset.spec.palette, class_crops(dataset, statistics)

    nearest = nearest_of(embeddings, config.neighbours)
    for drawn in class_maps(EmbeddingMap(names, vectors, palette)):
        draw_map(drawn, output / f"map_{drawn.title.replace(' ', '_')}.svg")
    tree = class_tree(vectors)
    draw_tree(tree, names, output / "tree.svg")
    write_text(output / "tree.nwk", to_newick(tree, names))
    correlation = math.nan if statistics is None else norm_correlation(embeddings, statistics.pixels)
    if statistics is not None:
        draw_norms(embeddings, statistics.pixels, output / "norms.svg")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(output) as writer:
        writer.add_embedding(
            embeddings.vectors, list(names), class_colours(palette) if pictures is None else pictures, tag="class embeddings"
        )
    if config.json is not None:
        about = {"dataset": embeddings.dataset, "dimensions": vectors.shape[1], "meta": embeddings.meta}
        listed = [
            {"class": name, "nearest": [{"class": other, "distance": distance} for other, distance in others]} for name, others in nearest
        ]
        write_json(config.json, about | {"norm_correlation": correlation, "classes": listed})
    print(f"{len(names)} classes of {embeddings.dataset}, {vectors.shape[1]} dimensions; {embeddings.meta}")
    print(nearest_table(nearest))
    if statistics is None:
        print("no norms against frequency: no counts were given; python -m shared.data stats -o DIR writes them, --statistics reads them")
    else:
        print(f"rank correlation of frequency and norm before normalisation: {correlation:.3f}")
    print(f"wrote maps, tree and projector to {output}; to see the projector: tensorboard --logdir {output}")


if __name__ == "__main__":
    run_program(main, InspectConfig, "seg.inspect", positional={"embeddings": None}, short={"output": "-o"}, inherit=settings_of_run)
