"""Whether label files mean what their settings say, seen from how often each class occurs: said before a training, not found after it.

A mistake that no single file shows: masks drawn in black and white whose white is the ignored value are right in every pixel, and a class
never occurs.
"""

from dataclasses import dataclass

from shared.data.folder import FolderDataset
from shared.data.labels import LabelCodes
from shared.data.pairs import PairDataset
from shared.data.spec import SegmentationDataset
from shared.data.statistics import ClassStatistics
from shared.errors import InputError

MOST_IGNORED = 0.5
"""Share of ignored pixels from which on it is said."""
SOME_IGNORED, MANY_ABSENT = 0.05, 0.25
"""In a folder of one's own: the share of ignored pixels that is said where a class does not occur; and in a sample of it, the share of the
classes."""


@dataclass(frozen=True)
class Survey:
    """Counts over a split, or over a sample of it.

    Attributes:
        statistics: of the label maps that were read.
        total: label maps in the split.
    """

    statistics: ClassStatistics
    total: int

    @property
    def whole(self) -> bool:
        return len(self.statistics.names) == self.total

    @property
    def ignored(self) -> float:
        """Share of the pixels."""
        every = self.statistics.ignored_pixels + int(self.statistics.pixels.sum())
        return self.statistics.ignored_pixels / max(every, 1)

    @property
    def absent(self) -> list[str]:
        """Classes that do not occur."""
        return [name for name, pixels in zip(self.statistics.class_names, self.statistics.pixels) if pixels == 0]


def complaint(survey: Survey, dataset: SegmentationDataset) -> str:
    """One line on ignored pixels and classes that do not occur, with the setting that would change it; empty if there is nothing to say.

    Raises:
        InputError: nothing is labelled.
    """
    read = len(survey.statistics.names)
    if survey.whole and read and not survey.statistics.pixels.any():
        raise InputError(
            f"nothing is labelled in the {dataset.split} split of {dataset.spec.name}: every pixel of its {read} label maps is ignored"
            f"{_value(dataset)}; {_advice(survey, dataset)}"
        )
    if dataset.ignored:
        return ""  # that pixels are ignored and classes absent is what was asked for
    own, absent = isinstance(dataset, FolderDataset), survey.absent
    some = own and survey.ignored >= SOME_IGNORED and (survey.whole or len(absent) >= MANY_ABSENT * dataset.spec.num_classes)
    if survey.ignored < MOST_IGNORED and not (absent and some):
        return ""
    maps = f"{'the' if survey.whole else f'{read} of the'} {survey.total} label maps"
    share = f"{survey.ignored:.1%} of the pixels in {maps} of {dataset.split} are ignored{_value(dataset)}"
    never = f", and class {_listed(absent)} never occurs there" if absent else ""
    return f"{share}{never}; {_advice(survey, dataset)}"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" (and {len(names) - 3} more)" if len(names) > 3 else "")


def _value(dataset: SegmentationDataset) -> str:
    codes = dataset.codes if isinstance(dataset, PairDataset) else None
    return f" (value {codes.ignore_value})" if isinstance(codes, LabelCodes) and codes.ignore_value is not None else ""


def _advice(survey: Survey, dataset: SegmentationDataset) -> str:
    if not isinstance(dataset, FolderDataset):
        return f"check that these are the label files of {dataset.spec.name}"
    codes, absent = dataset.codes, survey.absent
    if len(absent) == dataset.spec.num_classes:
        return "check these files, data.folder.ignore_value, and data.folder.label_offset or label_values"
    if not isinstance(codes, LabelCodes) or codes.ignore_value is None:
        return "check data.folder.label_values and ignore_value"
    if not absent:
        return f"if {codes.ignore_value} is a class in these files, give data.folder.label_values, and ignore_value null"
    values = [codes.offset + class_id for class_id in range(codes.num_classes)]
    values[dataset.spec.class_names.index(absent[-1])] = codes.ignore_value
    shown = f'"{values}"' if len(values) <= 8 else "VALUES"
    return (
        f"if {codes.ignore_value} is the value of {absent[-1]} in these files, set --data.folder.label_values {shown} "
        "--data.folder.ignore_value null"
    )
