"""What training, evaluation and generation make of stored pictures."""

import pickle
from dataclasses import replace
from typing import get_args

import pytest
import torch

from shared.config import parse_config
from shared.constants import IGNORE_INDEX
from shared.data.spec import Sample
from shared.data.transforms import SIZED_MODES, SynthMode
from shared.errors import InputError
from synth.config import InputConfig, SynthConfig
from synth.inputs import eval_transform, layout_transform, train_transform


def sample(height: int, width: int) -> Sample:
    labels = torch.arange(height * width).view(height, width)
    return Sample(torch.zeros(3, height, width, dtype=torch.uint8), labels, None, "street")


@pytest.mark.parametrize("mode", get_args(SynthMode))
def test_every_mode_trains_at_the_generators_size(mode: SynthMode) -> None:
    config = InputConfig(size=(32, 64), mode=mode)
    for picture in (sample(32, 64), sample(64, 128), sample(70, 70)):
        fits = mode in SIZED_MODES or (picture.label_map.shape == (32, 64) if mode == "none" else picture.label_map.shape[1] != 70)
        for transform in (train_transform(config), eval_transform(config)):
            if fits:
                assert transform(picture).label_map.shape == (32, 64)
            else:
                with pytest.raises(InputError, match=f"street becomes .* in input.mode {mode}, but input.size is 32x64 .*; use mode fixed"):
                    transform(picture)


def test_proportional_modes_round_to_what_the_generator_can_make() -> None:
    config = InputConfig(size=(192, 256), mode="scale_width")
    assert train_transform(config, multiple=64)(sample(72, 96)).label_map.shape == (192, 256)
    assert train_transform(config, multiple=64)(sample(78, 96)).label_map.shape == (192, 256)  # 208 rows
    with pytest.raises(InputError, match="street becomes 224x256"):
        train_transform(config, multiple=32)(sample(80, 96))


def test_evaluation_is_not_enlarged_and_not_random() -> None:
    config = InputConfig(size=(8, 12), mode="resize_and_crop", load_size=(16, 24))
    whole = sample(8, 12)
    torch.manual_seed(0)
    assert torch.equal(eval_transform(config)(whole).label_map, whole.label_map)
    assert not torch.equal(train_transform(config)(whole).label_map, whole.label_map)
    middle = eval_transform(replace(config, mode="crop", load_size=None))(sample(10, 16)).label_map
    assert middle[0, 0] == 1 * 16 + 2


def test_layouts_keep_their_own_size() -> None:
    transform = layout_transform(InputConfig(size=(32, 64), mode="none"), multiple=64)
    assert transform(sample(100, 250)).label_map.shape == (128, 256)
    small = layout_transform(InputConfig(size=(32, 64), mode="crop"))(sample(20, 70)).label_map
    assert small.shape == (32, 64)
    assert (small[20:] == IGNORE_INDEX).all()


def test_transforms_reach_worker_processes() -> None:
    transform = pickle.loads(pickle.dumps(train_transform(InputConfig(size=(8, 8), mode="scale_shortside_and_crop", load_size=(9, 9)))))
    assert transform(sample(12, 20)).label_map.shape == (8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input.load_size", "[72, 144]", "--input.mode", "fixed"], "mode fixed does not resize before a crop"),
        (
            ["--input.mode", "resize_and_crop", "--input.load_size", "[32, 144]"],
            r"load size \(32, 144\) is smaller than the crop \(64, 128\)",
        ),
        (["--input.size", "[0, 128]"], "size 0x128 .* both sides must be at least 1"),
        (["--input.mode", "stretch"], "input.mode.*scale_shortside_and_crop.*stretch"),
    ],
)
def test_settings_that_contradict_each_other(options: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_config(SynthConfig, options, program="synth.train")


def test_settings_in_any_order() -> None:
    for options in (["--input.load_size", "[70, 140]", "--input.mode", "scale_width_and_crop"], ["--input.mode", "none"]):
        assert parse_config(SynthConfig, options, program="synth.train").input.mode == options[-1]
