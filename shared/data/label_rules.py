"""Which of the files beside each other are label maps, and what their numbers mean: a data set's own rule, wherever its folders lie."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.data.labels import LabelReader
from shared.data.picture_files import add_output, find_pictures, picture_files, require_file_or_folder
from shared.data.pictures import LABEL_SUFFIXES
from shared.errors import InputError


@dataclass(frozen=True)
class LabelRule:
    """Label files of one kind.

    Attributes:
        reader: what the numbers in them mean.
        ending: how their names end before the suffix; empty: in any way that no other rule knows.
        suffixes: such as (".png",).
    """

    reader: LabelReader
    ending: str = ""
    suffixes: tuple[str, ...] = LABEL_SUFFIXES

    def to_plain(self) -> dict[str, Any]:
        """As JSON values."""
        return self.reader.to_plain() | {"ending": self.ending, "suffixes": list(self.suffixes)}


@dataclass(frozen=True)
class LabelRules:
    """The label files of a data set.

    Attributes:
        rules: kinds of label files, the one to take where several lie in a folder first; the last has no ending.
        instances: how the names of instance maps end, before the suffix.
        others: endings of files that lie beside them and are no label maps.
    """

    rules: tuple[LabelRule, ...]
    instances: str = ""
    others: tuple[str, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """As JSON values, which travel with a checkpoint."""
        return {"rules": [rule.to_plain() for rule in self.rules], "instances": self.instances, "others": list(self.others)}

    def find(self, paths: list[str]) -> dict[str, tuple[Path, LabelReader]]:
        """Label files given one by one or by folder: name, without ending, -> file and what its numbers mean.

        Raises:
            InputError: no such file, one that is no label map by its ending, a folder without label maps, or two files with one name.
        """
        found: dict[str, Path] = {}
        readers: dict[str, LabelReader] = {}
        for path in map(Path, paths):
            rule = self._of_folder(path) if path.is_dir() else self._of_file(path)
            files = find_pictures(path, rule.suffixes, rule.ending, self._beside(rule)).values() if path.is_dir() else [path]
            for file in files:
                name = (file.relative_to(path).with_suffix("").as_posix() if path.is_dir() else file.stem).removesuffix(rule.ending)
                add_output(found, name, file)
                readers[name] = rule.reader
        return {name: (file, readers[name]) for name, file in found.items()}

    def find_instances(self, folder: Path) -> dict[str, Path]:
        """Instance maps in a folder, by name without ending; where none has the ending, all its files.

        Raises:
            InputError: no such folder, or an empty one.
        """
        ending = self.instances
        if ending and not any(file.stem.endswith(ending) for file in picture_files(folder, LABEL_SUFFIXES)):
            ending = ""
        return find_pictures(folder, LABEL_SUFFIXES, ending)

    def _beside(self, rule: LabelRule) -> tuple[str, ...]:
        """Endings that a file of this rule does not have."""
        return () if rule.ending else (*self.others, *(other.ending for other in self.rules if other.ending))

    def _of_folder(self, folder: Path) -> LabelRule:
        """The first kind that the folder holds."""
        every = tuple(suffix for rule in self.rules for suffix in rule.suffixes)
        files = list(picture_files(folder, every))
        for rule in self.rules:
            beside = self._beside(rule)
            for file in files:
                if file.suffix.lower() in rule.suffixes and file.stem.endswith(rule.ending) and not file.stem.endswith(beside):
                    return rule
        raise InputError(f"the folder {folder} holds no {self._expected()} file; check the path")

    def _of_file(self, path: Path) -> LabelRule:
        require_file_or_folder(path, tuple(dict.fromkeys(suffix for rule in self.rules for suffix in rule.suffixes)))
        if path.stem.endswith(self.others):
            raise InputError(f"{path} is no label map by its name; give the {self._expected()} file beside it")
        return next(rule for rule in self.rules if path.stem.endswith(rule.ending) and path.suffix.lower() in rule.suffixes)

    def _expected(self) -> str:
        named = [rule for rule in self.rules if rule.ending] or list(self.rules)
        return " or ".join(dict.fromkeys(f"*{rule.ending}{suffix}" for rule in named for suffix in rule.suffixes))
