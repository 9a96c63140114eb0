import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from shared.data.labels import LabelCodes
from shared.data.pairs import Pair, PairDataset, pair_files
from shared.data.pictures import read_header, read_image, read_numbers
from shared.data.spec import DatasetSpec
from shared.errors import InputError

GREY = np.full((4, 6), 100, np.uint8)
LABELS = np.array([[0, 1, 2], [255, 2, 1]], np.uint8)


def save(path: Path, pixels: np.ndarray | Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    picture.save(path, **options)
    return path


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def refuses(*parts: str):
    """The error is one line that holds these parts in this order."""
    return pytest.raises(InputError, match="^" + ".*".join(["", *map(re.escape, parts), ""]) + "$")


# ---- pairing ---------------------------------------------------------------------------------------------------------


def test_pairs_by_relative_name(tmp_path):
    for name in ("b", "a/b", "a/c.1"):
        save(tmp_path / f"images/{name}.jpg", GREY)
        save(tmp_path / f"labels/{name}.png", GREY)
        save(tmp_path / f"objects/{name}.png", GREY)
    save(tmp_path / "images/.hidden/x.jpg", GREY)
    (tmp_path / "images/notes.txt").write_text("not a picture")
    pairs = pair_files(tmp_path / "images", tmp_path / "labels", tmp_path / "objects")
    files = [tmp_path / f"{file}" for file in ("images/a/c.1.jpg", "labels/a/c.1.png", "objects/a/c.1.png")]
    assert [pair.name for pair in pairs] == ["a/b", "a/c.1", "b"]
    assert pairs[1] == Pair("a/c.1", *files)
    assert pair_files(tmp_path / "images", tmp_path / "labels")[0].instance is None


def test_refuses_images_without_label(tmp_path):
    for index in range(6):
        save(tmp_path / f"images/{index}.jpg", GREY)
    save(tmp_path / "labels/0.png", GREY)
    with refuses("5 of 6 of the images in", "images have no label in", "labels: 1.jpg, 2.jpg, 3.jpg, …;"):
        pair_files(tmp_path / "images", tmp_path / "labels")


def test_refuses_labels_without_image(tmp_path):
    save(tmp_path / "images/0.jpg", GREY)
    for index in range(2):
        save(tmp_path / f"labels/{index}.png", GREY)
    with refuses("1 of 2 of the labels in", "labels have no image in", "images: 1.png;"):
        pair_files(tmp_path / "images", tmp_path / "labels")


def test_refuses_images_without_instance_map(tmp_path):
    for file in ("images/0.jpg", "labels/0.png", "images/1.jpg", "labels/1.png", "objects/0.png"):
        save(tmp_path / file, GREY)
    with refuses("1 of 2 of the images in", "have no instance map in", "objects: 1.jpg;"):
        pair_files(tmp_path / "images", tmp_path / "labels", tmp_path / "objects")


def test_refuses_two_files_with_one_name(tmp_path):
    save(tmp_path / "images/0.jpg", GREY)
    save(tmp_path / "images/0.png", GREY)
    with refuses("images/0.", "images/0.", "have the same name; only one file may be called 0"):
        pair_files(tmp_path / "images", tmp_path / "labels")


def test_refuses_missing_and_empty_folders(tmp_path):
    with refuses("there is no folder", "images;", "--data.root"):
        pair_files(tmp_path / "images", tmp_path / "labels")
    save(tmp_path / "images/0.jpg", GREY)
    save(tmp_path / "labels/0.jpg", GREY)
    with refuses("labels holds no .png file"):
        pair_files(tmp_path / "images", tmp_path / "labels")


# ---- images ----------------------------------------------------------------------------------------------------------


def test_images_become_rgb(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    alpha = np.concatenate([colour, np.zeros((4, 6, 1), np.uint8)], axis=2)
    rgb = torch.from_numpy(colour).permute(2, 0, 1)
    assert torch.equal(read_image(save(tmp_path / "rgb.png", colour)), rgb)
    assert torch.equal(read_image(save(tmp_path / "rgba.png", alpha)), rgb)
    assert torch.equal(read_image(save(tmp_path / "grey.png", GREY)), torch.full((3, 4, 6), 100, dtype=torch.uint8))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_as_a_viewer_shows_them(tmp_path, suffix, orientation):
    """A viewer is Pillow's own function here; a photo of 20 × 30 has a corner of each colour."""
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:10, :15, 0], pixels[:10, 15:, 1], pixels[10:, :15, 2] = 250, 250, 250
    path = save(tmp_path / f"x.{suffix}", pixels, exif=turned(orientation), lossless=True)
    with Image.open(path) as picture:
        viewed = np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    assert np.array_equal(read_image(path).permute(1, 2, 0).numpy(), viewed)
    header = read_header(path)
    assert header.size == viewed.shape[:2] and header.format == {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "tif": "TIFF"}[suffix]


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "CMYK", "1"])
@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_large_images_are_read_in_bands(tmp_path, monkeypatch, mode, suffix):
    if (suffix, mode) in {("png", "CMYK"), ("jpg", "P"), ("jpg", "RGBA"), ("jpg", "LA")}:
        pytest.skip("there are no such files")
    colour = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 23, 3), dtype=np.uint8))
    path = save(tmp_path / f"x.{suffix}", colour.convert(mode), exif=turned(6) if mode != "1" else Image.Exif())
    whole = read_image(path)
    monkeypatch.setattr("shared.data.pictures.BAND_PIXELS", 100)
    assert torch.equal(read_image(path), whole)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_maps_are_as_a_viewer_shows_them(tmp_path, orientation, kind):
    path = save(tmp_path / "x.png", np.arange(12, dtype=kind).reshape(3, 4), exif=turned(orientation))
    with Image.open(path) as picture:
        assert np.array_equal(read_numbers(path), np.array(ImageOps.exif_transpose(picture)))


@pytest.mark.parametrize("exif", [turned(0), turned(9), b"Exif\0\0II*\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01", b"no EXIF"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_an_orientation_that_is_none_turns_nothing(tmp_path, exif):
    path = save(tmp_path / "x.png", GREY, exif=exif)
    assert torch.equal(read_image(path), torch.full((3, 4, 6), 100, dtype=torch.uint8))
    assert read_header(path).orientation == 1


@pytest.mark.parametrize("name", ["x.jpg", "x.png"])
def test_refuses_truncated_image(tmp_path, name):
    path = save(tmp_path / name, np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:-500])
    with refuses("cannot read the picture", name, "repair or replace the file"):
        read_image(path)


def test_refuses_what_is_no_8_bit_picture(tmp_path):
    (tmp_path / "x.png").write_text("hello")
    with refuses("cannot read the picture", "x.png: cannot identify image file;"):
        read_image(tmp_path / "x.png")
    with refuses("cannot read the picture", "gone.png: No such file or directory;"):
        read_image(tmp_path / "gone.png")
    with refuses("deep.png has pixels of mode I;16; images need 8 bits per channel"):
        read_image(save(tmp_path / "deep.png", GREY.astype(np.uint16)))


# ---- labels ----------------------------------------------------------------------------------------------------------


def test_label_values_become_class_ids(tmp_path):
    path = save(tmp_path / "x.png", LABELS)
    ids = LabelCodes(3).read(path)
    assert ids.dtype == torch.int64 and ids.tolist() == [[0, 1, 2], [-1, 2, 1]]
    assert LabelCodes(2, offset=1, ignore_value=0).read(save(tmp_path / "y.png", LABELS % 3)).tolist() == [[-1, 0, 1], [-1, 1, 0]]


def test_palette_files_give_their_indices(tmp_path):
    picture = Image.fromarray(LABELS).convert("P")
    picture.putpalette([200, 100, 50] * 256)
    picture.putdata(LABELS.ravel().tolist())
    assert np.array_equal(read_numbers(save(tmp_path / "x.png", picture)), LABELS)
    picture = Image.fromarray(LABELS % 3).convert("P")
    picture.putdata((LABELS % 3).ravel().tolist())
    assert np.array_equal(read_numbers(save(tmp_path / "two_bits.png", picture, bits=2)), LABELS % 3)


def test_16_bit_labels_survive_with_class_255(tmp_path):
    values = np.array([[0, 254, 255], [256, 1283, 65535]], np.uint16)
    ids = LabelCodes(1284, ignore_value=65535).read(save(tmp_path / "x.png", values))
    assert ids.tolist() == [[0, 254, 255], [256, 1283, -1]]


def test_every_16_bit_value_survives(tmp_path):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    ids = LabelCodes(65535, offset=1, ignore_value=0).read(save(tmp_path / "x.png", values))
    assert np.array_equal(ids.numpy().ravel(), np.arange(-1, 65535))


def test_refuses_values_without_class(tmp_path):
    path = save(tmp_path / "x.png", np.array([[0, 37], [18, 255]], np.uint8))
    with refuses("x.png holds value 37; allowed are 0..18 and 255 (ignored);"):
        LabelCodes(19).read(path)
    with refuses("x.png holds values 37, 255; allowed are 0..18;"):
        LabelCodes(19, ignore_value=None).read(path)
    with refuses("x.png holds value 0; allowed are 1..37 and 255 (ignored);"):
        LabelCodes(37, offset=1).read(path)
    with refuses("holds values 2, 3, 4, 5, 6, …; allowed are 0..1 and 255"):
        LabelCodes(2).read(save(tmp_path / "y.png", np.arange(12, dtype=np.uint8)[None]))


def test_refuses_8_bits_for_more_classes(tmp_path):
    path = save(tmp_path / "x.png", LABELS)
    with refuses("x.png has 8 bits per pixel, which end at 255, but the 300 classes use values 0..299;", "16 bits"):
        LabelCodes(300, ignore_value=None).read(path)
    assert LabelCodes(256, ignore_value=None).read(path).max() == 255


def test_refuses_pictures_that_hold_no_ids(tmp_path):
    with refuses("x.png is a colour picture (mode RGB); expected class ids in one channel of 8 or 16 bits"):
        read_numbers(save(tmp_path / "x.png", np.zeros((2, 2, 3), np.uint8)))
    with refuses("fewer than 8 bits per pixel"):
        read_numbers(save(tmp_path / "y.png", Image.new("1", (2, 2))))


def test_codes_refuse_contradictions():
    with refuses("value 255 is ignored and is also class 255 of 1284; set ignore_value"):
        LabelCodes(1284)
    with refuses("do not fit in 16 bits"):
        LabelCodes(70000, ignore_value=None)
    with refuses("do not fit in 16 bits"):
        LabelCodes(3, ignore_value=-1)


# ---- samples ---------------------------------------------------------------------------------------------------------


def dataset(image: Path, label: Path, instance: Path | None = None) -> PairDataset:
    spec = DatasetSpec("made", ("a", "b", "c"), np.zeros((3, 3), np.uint8))
    return PairDataset(spec, "train", [Pair("x", image, label, instance)], LabelCodes(3))


def test_sample_of_files(tmp_path):
    files = [
        save(tmp_path / "i.jpg", GREY[:2, :3]),
        save(tmp_path / "l.png", LABELS),
        save(tmp_path / "o.png", LABELS.astype(np.uint16) * 200),
    ]
    sample = dataset(*files)[0]
    assert sample.image.shape == (3, 2, 3) and sample.name == "x"
    assert sample.instance_map is not None and sample.instance_map.tolist() == [[0, 200, 400], [51000, 400, 200]]
    assert dataset(*files[:2])[0].instance_map is None


def test_refuses_other_size(tmp_path):
    label = save(tmp_path / "l.png", LABELS)
    with refuses("l.png is 2x3 (height x width) but its image", "i.png is 4x6; make the two the same size"):
        dataset(save(tmp_path / "i.png", GREY), label)[0]
    with refuses("but its image", "t.png is 3x2 (they are turned against each other)"):
        dataset(save(tmp_path / "t.png", GREY[:3, :2]), label)[0]
    with refuses("o.png is 4x6 (height x width) but its image"):
        dataset(save(tmp_path / "j.png", GREY[:2, :3]), label, save(tmp_path / "o.png", GREY))[0]
