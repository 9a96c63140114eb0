"""Class lists as tools and people write them: taken by name, with a line on what was left out, or refused."""

import json
import logging
from pathlib import Path

import pytest

from shared.data.class_lists import read_class_names
from shared.errors import InputError

NAMES = ["road", "sky", "car"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("plain.txt", "road\nsky\r\n\ncar\n", ""),
        ("bom.txt", "\ufeffroad\nsky\ncar", ""),
        ("list.json", '\ufeff["road", "sky", "car"]', ""),
        (
            "comment.txt",
            "# classes of our street data\nroad\nsky\ncar\n",
            "left out line 1 (# classes of our street data), which is a comment",
        ),
        ("labels.txt", "__ignore__\nroad\nsky\ncar\n", "left out __ignore__, which stands for pixels without a class"),
        ("numbered.txt", "0: road\n1: sky\n2: car\n", "left out the number before every name"),
        ("spaced.txt", "1 road\n2 sky\n3 car\n", "left out the number before every name"),
        ("coloured.txt", "road 128 64 128\nsky 70 130 180\ncar 0 0 142\n", "left out the three numbers behind every name"),
        ("both.txt", "0\troad\t128,64,128\n1\tsky\t70,130,180\n2\tcar\t0,0,142\n", "left out the three numbers behind every name"),
        (
            "class_dict.csv",
            "name,r,g,b\nroad,128,64,128\nsky,70,130,180\ncar,0,0,142\n",
            "took the 3 class names of column name; line 1 (name,r,g,b) is titles",
        ),
        ("without.csv", "road,128,64,128\nsky,70,130,180\ncar,0,0,142\n", "took the 3 class names of column 1"),
        ("german.csv", "Id;Label;Anteil\n0;road;0,5\n1;sky;0,3\n2;car;0,2\n", "took the 3 class names of column Label"),
        ("object_info.tsv", "Idx\tRatio\tName\n1\t0.5\troad\n2\t0.3\tsky\n3\t0.2\tcar\n", "took the 3 class names of column Name"),
        ("sheet.csv", "sep=;\nclass_name;supercategory\nroad;flat\nsky;far\ncar;vehicle\n", "took the 3 class names of column class_name"),
        ("untitled.csv", "0;road\n1;sky\n2;car\n", "took the 3 class names of column 2"),
        ("100% ours.txt", "# 100%s\nroad\nsky\ncar\n", "left out line 1 (# 100%s), which is a comment"),
        ("one_column.csv", "road\nsky\ncar\n", ""),
        ("commented.csv", "# from our tool\nlabel,value\nroad,0\nsky,1\ncar,2\n", "took the 3 class names of column label"),
    ],
)
def test_what_is_taken_and_what_is_said(name: str, content: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert read_class_names(tmp_path / name, "check the path") == NAMES
    assert said in caplog.text and bool(said) == bool(caplog.messages)
    told = len(caplog.messages)
    assert read_class_names(tmp_path / name, "check the path") == NAMES
    assert len(caplog.messages) == told, "the same line for every split"


def test_utf_16_as_spreadsheets_export_text(tmp_path: Path) -> None:
    (tmp_path / "unicode.txt").write_text("road\r\nsky\r\ncar\r\n", encoding="utf-16")
    assert read_class_names(tmp_path / "unicode.txt", "") == NAMES


def test_decomposed_accents_are_composed(tmp_path: Path) -> None:
    (tmp_path / "mac.txt").write_text("cafe\u0301\n", encoding="utf-8")
    (tmp_path / "mac.json").write_text('["cafe\\u0301"]', encoding="utf-8")
    assert read_class_names(tmp_path / "mac.txt", "") == read_class_names(tmp_path / "mac.json", "") == ["caf\u00e9"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("title.txt", "Classes:\nroad\nsky\n", r"line 1 of .*title.txt, 'Classes:', looks like a title and would be class 0"),
        ("title.csv", "name\nroad\nsky\n", r"line 1 of .*title.csv, 'name', looks like a title"),
        ("under_score.txt", "# ours\nclass_names\nroad\nsky\n", r"line 2 of .*, 'class_names', looks like a title"),
        ("other_order.txt", "1 sky\n0 road\n2 car\n", r"other_order.txt numbers class 1 as 0, where 2 was expected; sort the lines"),
        ("other_order.csv", "id,name\n7,road\n8,sidewalk\n11,building\n", r"other_order.csv numbers class 2 as 11, where 9 was expected"),
        ("untitled.csv", "1,sky\n0,road\n2,car\n", r"untitled.csv numbers class 1 as 0, where 2 was expected"),
        ("two.csv", "road,flat\nsky,far\ncar,vehicle\n", r"which column of .*two.csv \(road, flat\) holds the class names is not clear"),
        ("ragged.csv", "name,r,g,b\nroad,128,64,128\nsky,70,130\n", r"ragged.csv has lines of 3 to 4 cells"),
        ("dict.json", '{"0": "road"}', "holds no list of names"),
        ("deep.json", "[" * 100_000, "is not valid JSON"),
        ("latin.txt", b"stra\xdfe\n", "it is not UTF-8 text"),
    ],
)
def test_what_could_be_either_is_refused(name: str, content: str | bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=told) as caught:
        read_class_names(tmp_path / name, "check the path")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", [["label", "text"], ["# 1", "# 2"], ["__ignore__", "road"]])
def test_a_json_list_is_taken_as_it_is(names: list[str], tmp_path: Path) -> None:
    """Whoever has such classes says so with a JSON list."""
    (tmp_path / "names.json").write_text(json.dumps(names))
    assert read_class_names(tmp_path / "names.json", "") == names
