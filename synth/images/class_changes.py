"""New and changed classes of a trained generator: rows from a file, and class arithmetic.

A generator on vectors knows a class by its vector alone, so that a new vector is a new class. C classes, D numbers per vector.
"""

import re
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from shared.class_tables import read_class_table
from shared.data.spec import DatasetSpec
from shared.errors import InputError, choose
from shared.visualise import voc_palette
from synth.semantics import Semantics
from synth.trained import TrainedGenerator

TERM = re.compile(r"\s*(?:(?P<weight>[+-]?\s*\d*\.?\d+)\s*\*)?\s*(?P<name>.+?)\s*")
# a minus begins a term only before a number and a star, as names of classes may hold one
NEXT_TERM = re.compile(r"\+|(?<!^)(?=-\s*[\d.]+\s*\*)")


class Mixture(NamedTuple):
    """A class that is made of others. parts: (weight, class name) each."""

    name: str
    parts: list[tuple[float, str]]


def parse_mixtures(text: str) -> list[Mixture]:
    """`car = 0.5*car + 0.5*bus; van = 0.7*car - 0.2*bus`: classes and what they are made of, a weight of 1 where there is none.

    Raises:
        InputError: not of this form.
    """
    mixtures = []
    for line in filter(str.strip, text.split(";")):
        name, equals, parts = (part.strip() for part in line.partition("="))
        terms = [TERM.fullmatch(part) for part in NEXT_TERM.split(parts)]
        if not (name and equals) or not all(terms):
            raise InputError(f"mix {line.strip()!r} is not understood; write it like car=0.5*car+0.5*bus, several with ; between them")
        weights = [(float((term["weight"] or "1").replace(" ", "")), term["name"]) for term in terms if term]
        mixtures.append(Mixture(name, weights))
    return mixtures


def mix(trained: TrainedGenerator, mixtures: list[Mixture]) -> TrainedGenerator:
    """The generator with mixed classes, one after the other. The vector of a mixture has the mean length of its parts.

    Raises:
        InputError: one-hot semantics; a part is no class; nothing is left of the parts.
    """
    for name, parts in mixtures:
        names, vectors = trained.spec.class_names, _class_vectors(trained)
        for _, part in parts:
            choose(f"class of {trained.spec.name}", part, names, where=f"mix {name}")
        weights = torch.tensor([weight for weight, _ in parts], device=vectors.device)
        rows = vectors[[names.index(part) for _, part in parts]]
        mixed, length = weights @ rows, (weights.abs() @ rows.norm(dim=1)) / weights.abs().sum()
        # not `<=`, which nan would pass
        if not mixed.norm() > 1e-6:
            raise InputError(f"mix {name}: nothing is left of the parts; give weights that do not cancel out")
        trained = with_classes(trained, [name], (mixed / mixed.norm() * length)[None])
    return trained


def add_table(trained: TrainedGenerator, path: str) -> TrainedGenerator:
    """The generator with the rows of a table: classes it has get a new vector, others are new classes.

    Raises:
        InputError: one-hot semantics, or a table without names or of another width.
    """
    vectors, table = _class_vectors(trained), read_class_table(path)
    if table.names is None:
        raise InputError(f"{path} has rows without names; give a table with names (.npz, .csv)")
    if table.vectors.shape[1] != vectors.shape[1]:
        raise InputError(
            f"the row of class {table.names[0]} in {path} has {table.vectors.shape[1]} numbers, but the generator was trained on class "
            f"vectors of {vectors.shape[1]}; give vectors from the same source"
        )
    return with_classes(trained, table.names, table.vectors.to(vectors.device))


def with_classes(trained: TrainedGenerator, names: list[str] | tuple[str, ...], vectors: Tensor) -> TrainedGenerator:
    """The generator, changed, with these class vectors (K, D): names it knows get them, others become the ids from C on, in their order."""
    known = {name: row for row, name in enumerate(trained.spec.class_names)}
    for name in names:
        known.setdefault(name, len(known))
    old = _class_vectors(trained)
    rows = torch.cat([old, old.new_zeros(len(known) - len(old), old.shape[1])])
    rows[[known[name] for name in names]] = vectors
    semantics = trained.generator.semantics
    assert semantics.table is not None
    trained.generator.semantics = Semantics(
        semantics.name, len(rows), rows, instance_edges=semantics.instance_edges, ignored_vector=semantics.table[-1]
    )
    palette = voc_palette(len(rows))
    palette[: len(old)] = trained.spec.palette
    spec = DatasetSpec(trained.spec.name, tuple(known), palette)
    return replace(trained, spec=spec, meta=trained.meta | {"class_names": list(known), "palette": palette.tolist()})


def _class_vectors(trained: TrainedGenerator) -> Tensor:
    return trained.generator.semantics.class_vectors
