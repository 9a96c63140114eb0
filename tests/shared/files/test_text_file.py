"""Tables of names and numbers as spreadsheets of any country save them."""

from pathlib import Path

import pytest
import torch

from seg.training.pixel_weights import read_class_weights
from shared.class_tables import read_class_table
from shared.data.spec import DatasetSpec
from shared.errors import InputError
from shared.files.text_file import read_named_numbers, read_text
from shared.visualise import voc_palette

ROWS = [["road", "1", "2"], ["sky", "3", "4"], ["car", "5", "6.5"]]
FORMS = {
    "commas": "road,1,2\nsky,3,4\ncar,5,6.5\n",
    "commas, quoted": '"road","1","2"\n"sky","3","4"\n"car","5","6.5"\n',
    "semicolons": "road;1;2\nsky;3;4\ncar;5;6.5\n",
    "decimal commas": "road;1;2\nsky;3;4\ncar;5;6,5\n",
    "tabs": "road\t1\t2\nsky\t3\t4\ncar\t5\t6.5\n",
    "tabs and decimal commas": "road\t1\t2\nsky\t3\t4\ncar\t5\t6,5\n",
    "spaces": "road, 1, 2\n\n sky, 3, 4 \ncar, 5, 6.5\n\n",
    "a named separator": "sep=;\nroad;1;2\nsky;3;4\ncar;5;6,5\n",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("form", FORMS)
def test_one_table_in_every_form(form: str, ends: str, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(FORMS[form].replace("\n", ends).encode(encoding))
    assert read_named_numbers(path, "table", "") == ROWS
    table = read_class_table(path)
    assert table.names == ("road", "sky", "car")
    torch.testing.assert_close(table.vectors, torch.nn.functional.normalize(torch.tensor([[1, 2], [3, 4], [5, 6.5]])))


def test_titles_stay(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("class;x;y\nroad;1,5;2\n")
    assert read_named_numbers(tmp_path / "t.csv", "table", "") == [["class", "x", "y"], ["road", "1.5", "2"]]
    assert read_class_table(tmp_path / "t.csv").names == ("road",)


def test_two_ways_to_read_are_not_chosen_from(tmp_path: Path) -> None:
    """Either a name and 1.5, or the name "road;1" and 5; the class names decide where they are known."""
    (tmp_path / "t.csv").write_text("road;1,5\nsky;2,5\n")
    with pytest.raises(InputError, match=r"t\.csv can be read in two ways, with commas or with semicolons between the cells; write"):
        read_class_table(tmp_path / "t.csv")
    spec = DatasetSpec("town", ("sky", "road"), voc_palette(2))
    assert read_class_weights(tmp_path / "t.csv", spec).tolist() == [2.5, 1.5]


def test_what_is_no_table_is_read_with_commas(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("road,1,x\nsky,3,4\n")
    with pytest.raises(InputError, match=r"the row of class road in .*t\.csv holds 'x'; a name and then numbers were expected"):
        read_class_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("road|1|2\n")
    with pytest.raises(InputError, match=r"the row of class road\|1\|2 in .*t\.csv holds 0 numbers"):
        read_class_table(tmp_path / "t.csv")


def test_weights_below_titles(tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_bytes("class,weight\r\nroad,1\r\nsky,2\r\n".encode("utf-8-sig"))
    assert read_class_weights(tmp_path / "w.csv", DatasetSpec("town", ("sky", "road"), voc_palette(2))).tolist() == [2, 1]


@pytest.mark.parametrize("content", [b"stra\xdfe\n", b"\xff\xfea"])
def test_no_text_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read the words file .*t\.txt: it is not UTF-8 text; look again"):
        read_text(tmp_path / "t.txt", "words", "look again")
