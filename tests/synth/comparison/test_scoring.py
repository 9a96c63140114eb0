"""A comparison is continued with the classes that it began with."""

from pathlib import Path

import pytest

from shared.data.spec import DatasetSpec
from shared.errors import InputError
from shared.visualise import voc_palette
from synth.comparison.scoring import require_classes_of_before, write_real


def town(*names: str) -> DatasetSpec:
    return DatasetSpec("town", names, voc_palette(len(names)))


def test_classes_of_before(tmp_path: Path) -> None:
    require_classes_of_before(tmp_path, town("road", "sky"))
    write_real(tmp_path, [], town("road", "caf\u00e9"))  # type: ignore[arg-type]
    require_classes_of_before(tmp_path, town("road", "cafe\u0301"))
    with pytest.raises(InputError, match=r"class 0 is road in .*classes\.json, and caf\u00e9 now; .* give another --run_dir"):
        require_classes_of_before(tmp_path, town("caf\u00e9", "road"))
    with pytest.raises(InputError, match=r"classes\.json was saved with 2 classes, and there are 3 now"):
        require_classes_of_before(tmp_path, town("road", "caf\u00e9", "car"))
