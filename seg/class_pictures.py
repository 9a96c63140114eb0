"""Class embeddings as SVG pictures: flat maps, a tree of clusters, and norms against how often a class occurs. C classes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared.embedding_file import ClassEmbeddings
from shared.files.atomic import atomic_write
from shared.report.maps import ClassMap, unit_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAVES = 300
"""Most leaves of the drawn tree; of more classes, each leaf is a cluster."""
LONGEST_NAME = 60


@contextmanager
def _picture(path: Path, width: float, height: float) -> Iterator["Axes"]:
    """Axes of a figure of that size in inches, which is then written to `path` as SVG, whole or not at all.

    A class called "$x$" is a name here and not a formula, and the same embeddings give the same files.
    """
    import matplotlib  # here, as it takes a second that --help and refusals need not wait for
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"text.parse_math": False, "svg.hashsalt": "classes"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure.add_subplot()
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


def draw_map(drawn: ClassMap, path: Path) -> None:
    """Every class as a point of its colour, with the names that find room."""
    layout = drawn.layout
    # inches, at CSS's 96 units per inch
    with _picture(path, layout.width / 96, layout.height / 96) as axes:
        # the layout's y grows downwards, as on a page
        axes.set(xlim=(0, layout.width), ylim=(layout.height, 0), xticks=[], yticks=[])
        axes.set_xlabel(drawn.note, fontsize=7, wrap=True)
        axes.scatter([p.x for p in layout.points], [p.y for p in layout.points], c=[p.colour for p in layout.points], s=18)
        for point in layout.points:
            if point.label is not None:
                side = {"start": "left", "middle": "center", "end": "right"}[point.label.anchor]
                axes.text(point.label.x, point.label.y, point.label.text, fontsize=8, ha=side, va="center")


def norm_correlation(embeddings: ClassEmbeddings, pixels: np.ndarray) -> float:
    """Spearman's rank correlation between the pixels of a class (C,) and the norm of its vector before normalisation.

    Over classes that occur; nan for fewer than three, or where all are alike. The paper (section 3.1) normalises because the length of
    vectors that are not normalised follows the frequency; in a file whose training normalises, the length is what is left of it.
    """
    seen = pixels > 0
    if seen.sum() < 3:
        return float("nan")
    norms = embeddings.raw.norm(dim=1).numpy()[seen]
    if np.ptp(norms) == 0 or np.ptp(pixels[seen]) == 0:
        return float("nan")
    from scipy.stats import spearmanr

    return float(spearmanr(pixels[seen], norms).statistic)


def draw_norms(embeddings: ClassEmbeddings, pixels: np.ndarray, path: Path) -> None:
    """A point per class that occurs: its pixels, on a logarithmic axis, and its norm."""
    norms, seen = embeddings.raw.norm(dim=1).numpy(), np.flatnonzero(pixels > 0)
    with _picture(path, 7, 4.5) as axes:
        axes.scatter(pixels[seen], norms[seen], s=16, color="#4477aa")
        axes.set(xscale="log", xlabel="pixels of the class in the training images", ylabel="norm of its vector before normalisation")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.xaxis.set_minor_formatter("")
        for index in seen[np.argsort(-np.abs(norms[seen] - np.median(norms[seen])))][:20]:  # the names that stand out
            axes.annotate(embeddings.class_names[index], (pixels[index], norms[index]), (4, 3), textcoords="offset points", fontsize=7)
        axes.set_title(f"rank correlation {norm_correlation(embeddings, pixels):.2f} over {len(seen)} classes", fontsize=9)


def class_tree(vectors: np.ndarray) -> np.ndarray:
    """SciPy's (C − 1, 4) linkage of the unit rows of (C, D), by the mean distance of members. Needs memory for C² / 2 numbers."""
    from scipy.cluster.hierarchy import linkage

    return linkage(unit_rows(vectors), "average") if len(vectors) > 1 else np.zeros((0, 4))


def to_newick(tree: np.ndarray, names: Sequence[str]) -> str:
    """The whole tree as text that programs for trees read: ((car:0.3,bus:0.3):0.5,…); lengths add up to the distance of merging."""
    texts, heights = [_quoted(name) for name in names], [0.0] * len(names)
    for first, second, distance, _ in tree:
        # half: SciPy's distance is the way from leaf to leaf, which goes up one side and down the other
        sides = [f"{texts[int(side)]}:{(distance - heights[int(side)]) / 2:.6g}" for side in (first, second)]
        texts[int(first)] = texts[int(second)] = ""  # each is used once; the text stays in one place
        texts.append(f"({','.join(sides)})")
        heights.append(float(distance))
    return texts[-1] + ";\n"


def draw_tree(tree: np.ndarray, names: Sequence[str], path: Path) -> None:
    """The tree as an SVG, names at its leaves; its upper part where there are more than `LEAVES` classes."""
    from scipy.cluster.hierarchy import dendrogram

    leaves = min(len(names), LEAVES)
    with _picture(path, 9, 1 + 0.17 * leaves) as axes:
        if len(tree):
            labels = leaf_labels(tree, names)
            cut = {"truncate_mode": "lastp", "p": LEAVES} if len(names) > LEAVES else {}
            dendrogram(tree, ax=axes, orientation="left", leaf_font_size=8, leaf_label_func=labels.__getitem__, color_threshold=0, **cut)
        axes.set_xlabel("mean distance between the classes of two branches, unit vectors")
        axes.spines[["left", "right", "top"]].set_visible(False)


def leaf_labels(tree: np.ndarray, names: Sequence[str]) -> list[str]:
    """What stands at a leaf, for every class and every cluster: its name, or the number of its classes and the first of them."""
    labels, members = list(names), [[name] for name in names]
    for first, second, _, count in tree:
        # more names do not fit a leaf, and whole lists would need memory for C² of them
        members.append((members[int(first)] + members[int(second)])[:6])
        text = f"{int(count)}: {', '.join(members[-1])}"
        labels.append(text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…")
    return labels


def _quoted(name: str) -> str:
    return "'" + " ".join(name.split()).replace("'", "''") + "'"
