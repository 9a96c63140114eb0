"""The maps of the class embeddings that a report shows: flat positions by two methods, with a sentence on how to read each."""

from dataclasses import dataclass

from shared.report.embedding_map import Layout, lay_out, principal_plane
from shared.report.model import EmbeddingMap
from shared.report.neighbour_map import neighbour_plane, neighbours_kept

FEWEST = 6
"""Classes from which there are neighbourhoods to keep."""


@dataclass(frozen=True)
class ClassMap:
    """A drawn map, its title, and a sentence on how to read it."""

    title: str
    note: str
    layout: Layout


def class_maps(embedding_map: EmbeddingMap) -> list[ClassMap]:
    """The neighbour-preserving map, where there are classes enough, and the two main axes."""
    flat, shares = principal_plane(embedding_map.vectors)
    axes = f"The two main axes, with {shares[0]:.0%} and {shares[1]:.0%} of the variance: distances are true to these axes alone."
    found = []
    if len(flat) >= FEWEST:
        close = neighbour_plane(embedding_map.vectors)
        near = min(10, len(flat) - 1)
        shown, plain = (neighbours_kept(embedding_map.vectors, positions) for positions in (close, flat))
        kept = f"{shown:.0%} of the {near} nearest classes of each class are among the {near} nearest here, {plain:.0%} on the main axes."
        note = f"Arranged so that near classes stay near; how far apart groups lie says little. {kept}"
        found.append(ClassMap("neighbours", note, lay_out(embedding_map, close)))
    return [*found, ClassMap("main axes", axes, lay_out(embedding_map, flat))]
