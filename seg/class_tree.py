"""The tree of classes that clustering their embeddings gives. C classes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram, linkage

from seg.class_pictures import plain_text
from shared.files.atomic import atomic_write
from shared.report.maps import unit_rows

LEAVES = 300
"""Most leaves of the drawn tree; of more classes, each leaf is a cluster."""
LONGEST_NAME = 60


def class_tree(vectors: np.ndarray) -> np.ndarray:
    """SciPy's (C − 1, 4) linkage of the unit rows of (C, D), by the mean distance of members. Needs memory for C² / 2 numbers."""
    return linkage(unit_rows(vectors), "average") if len(vectors) > 1 else np.zeros((0, 4))


def to_newick(tree: np.ndarray, names: Sequence[str]) -> str:
    """The whole tree as text that programs for trees read: ((car:0.3,bus:0.3):0.5,…); lengths add up to the distance of merging."""
    texts, heights = [_quoted(name) for name in names], [0.0] * len(names)
    for first, second, distance, _ in tree:
        sides = [f"{texts[int(side)]}:{(distance - heights[int(side)]) / 2:.6g}" for side in (first, second)]
        texts[int(first)] = texts[int(second)] = ""  # each is used once; the text stays in one place
        texts.append(f"({','.join(sides)})")
        heights.append(float(distance))
    return texts[-1] + ";\n"


@plain_text()
def draw_tree(tree: np.ndarray, names: Sequence[str], path: Path) -> None:
    """The tree as an SVG, names at its leaves; its upper part where there are more than `LEAVES` classes."""
    leaves = min(len(names), LEAVES)
    figure = Figure(figsize=(9, 1 + 0.17 * leaves), layout="constrained")
    axes = figure.add_subplot()
    if len(tree):
        labels = leaf_labels(tree, names)
        cut = {"truncate_mode": "lastp", "p": LEAVES} if len(names) > LEAVES else {}
        dendrogram(tree, ax=axes, orientation="left", leaf_font_size=8, leaf_label_func=labels.__getitem__, color_threshold=0, **cut)
    axes.set_xlabel("mean distance between the classes of two branches, unit vectors")
    axes.spines[["left", "right", "top"]].set_visible(False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})


def leaf_labels(tree: np.ndarray, names: Sequence[str]) -> list[str]:
    """What stands at a leaf, for every class and every cluster: its name, or the number of its classes and the first of them."""
    labels, members = list(names), [[name] for name in names]
    for first, second, _, count in tree:
        members.append((members[int(first)] + members[int(second)])[:6])
        text = f"{int(count)}: {', '.join(members[-1])}"
        labels.append(text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…")
    return labels


def _quoted(name: str) -> str:
    return "'" + " ".join(name.split()).replace("'", "''") + "'"
