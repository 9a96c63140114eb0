"""`python -m synth.generate`: sizes, styles, label conventions and refusals, on networks with random weights."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

from shared.backbone import build_backbone
from shared.config import to_dict
from shared.data.labels import LabelCodes
from shared.data.pairs import PairDataset
from shared.data.pictures import read_image
from shared.data.spec import DatasetSpec, Sample
from shared.encoder_file import save_encoder
from shared.run.checkpoint import TrainingState
from shared.run.directory import RunDirectory
from synth.build import generator_from, semantics_from, style_encoder_from
from synth.config import GeneratorConfig, InputConfig, SynthConfig
from synth.images.generation import generate, style_of
from synth.images.styles import drawn_style
from synth.inputs import eval_transform
from synth.semantics.edges import instance_edges
from synth.trained import describe, load_generator
from tests.small import refusal

Invoke = Callable[..., Any]
SPEC = DatasetSpec("town", ("road", "sky", "car", "tree"), np.eye(4, 3, dtype=np.uint8) * 255)
CPU = torch.device("cpu")


def write_run(
    path: Path,
    *,
    style_dim: int | None = None,
    noise_channels: int = 0,
    noise: Literal["image", "region", "pixel"] = "image",
    offset: int = 0,
    ignore_value: int | None = 255,
    semantics: str = "onehot",
    **inputs: Any,
) -> Path:
    """A run directory with weights that make every image unlike every other."""
    config = SynthConfig(
        input=InputConfig(**{"size": (32, 64), **inputs}),
        generator=GeneratorConfig(width=2, hidden=4, style_dim=style_dim, noise_channels=noise_channels, noise=noise),
        semantics=semantics,
    )
    config.train.ema_decay = None
    torch.manual_seed(0)
    modules: dict[str, torch.nn.Module] = {
        "generator": generator_from(config.generator, config.input.size, semantics_from(config, SPEC.num_classes, None))
    }
    encoder = style_encoder_from(config.generator, config.input.size)
    if encoder is not None:
        modules["style_encoder"] = encoder
    for module in modules.values():
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    run = RunDirectory(path)
    about = describe(config, PairDataset(SPEC, "train", [], LabelCodes(SPEC.num_classes, offset, ignore_value)))
    TrainingState(modules, {}, about).save(run.checkpoint("last"))
    run.start(to_dict(config))
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def styled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("styled"), style_dim=6)


def save(path: Path, array: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array)).save(path)
    return path


def labels(seed: int = 0, size: tuple[int, int] = (32, 64), classes: int = 4) -> np.ndarray:
    """(height, width) uint8, blocks of 8x8 pixels."""
    blocks = np.random.default_rng(seed).integers(0, classes, (-(-size[0] // 8), -(-size[1] // 8)), dtype=np.uint8)
    return blocks.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]


def images(folder: Path) -> dict[str, np.ndarray]:
    return {path.relative_to(folder).as_posix(): np.array(Image.open(path)) for path in sorted(folder.rglob("*.png"))}


@pytest.fixture
def run_generate(invoke: Invoke, tmp_path: Path) -> Callable[..., dict[str, np.ndarray]]:
    """Generate into a new folder; gives the images by file name."""
    count = 0

    def go(run: Path, *arguments: object) -> dict[str, np.ndarray]:
        nonlocal count
        count += 1
        outcome = invoke("synth.generate", run, *arguments, "-o", tmp_path / f"out{count}")
        assert outcome.status == 0, outcome.errors
        made = images(tmp_path / f"out{count}")
        assert f"wrote {len(made)} images" in outcome.output
        return made

    return go


# ---- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ([], (32, 64)),
        (["--size", "[64, 96]"], (64, 96)),
        (["--mode", "none"], (64, 128)),
        (["--mode", "scale_width", "--size", "[32, 96]"], (32, 96)),
        (["--mode", "scale_shortside"], (32, 64)),
        (["--mode", "crop", "--size", "[32, 32]"], (32, 32)),
    ],
)
def test_sizes(options: list[str], size: tuple[int, int], plain: Path, run_generate: Any, tmp_path: Path) -> None:
    layout = labels(size=(50, 120))
    made = run_generate(plain, save(tmp_path / "a.png", layout), *options)
    assert list(made) == ["a.png"]
    assert made["a.png"].shape == (*size, 3)


def test_an_image_of_another_size_is_that_of_the_resized_layout(plain: Path, run_generate: Any, tmp_path: Path) -> None:
    layout = labels()
    made = run_generate(plain, save(tmp_path / "a.png", layout), "--size", "[64, 128]")["a.png"]
    generator = load_generator(RunDirectory(plain), CPU).generator
    large = torch.from_numpy(layout.repeat(2, 0).repeat(2, 1).astype(np.int64))[None]
    assert np.array_equal(made, generate(generator, large, size=(64, 128))[0])
    assert made.std() > 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "[250, 500]"], "image size 250x500 (height x width) cannot be generated: both sides must be multiples of 32; "
         "nearest: 256x512 (height 224 or 256, width 480 or 512)"),
        (["--size", "[10, 64]"], "nearest: 32x64 (height 32)"),
        (["--size", "[64, 64]", "--mode", "none"], "mode none keeps the layouts' own sizes, so size has no use"),
        (["--mode", "stretch"], "scale_shortside_and_crop"),
    ],
)  # fmt: skip
def test_sizes_that_cannot_be(options: list[str], message: str, plain: Path, invoke: Invoke, tmp_path: Path) -> None:
    layout = save(tmp_path / "a.png", labels())
    assert message in refusal(invoke("synth.generate", plain, layout, "-o", tmp_path / "out", *options))
    assert not (tmp_path / "out").exists()


def test_a_style_code_fixes_the_size(styled: Path, invoke: Invoke, tmp_path: Path) -> None:
    layout = save(tmp_path / "a.png", labels(size=(64, 64)))
    given = refusal(invoke("synth.generate", styled, layout, "-o", tmp_path / "out", "--size", "[64, 64]"))
    assert "makes images of the size it was trained for, 32x64 (height x width), but 64x64 was asked for" in given
    assert f"{layout}: a generator with a style code" in refusal(
        invoke("synth.generate", styled, layout, "-o", tmp_path / "out", "--mode", "none")
    )


def test_dry_run_names_the_sizes(plain: Path, invoke: Invoke, tmp_path: Path) -> None:
    command = ["synth.generate", plain, save(tmp_path / "a.png", labels()), "-o", "out", "--dry-run"]
    assert "would generate 1 images of (64, 64) pixels" in invoke(*command, "--size", "[64, 64]").output
    assert "would generate 1 images of the sizes of mode none" in invoke(*command, "--mode", "none").output
    assert not (tmp_path / "out").exists()


# ---- styles ----------------------------------------------------------------------------------------------------------


def test_samples_do_not_depend_on_the_rest_of_the_call(styled: Path, run_generate: Any, tmp_path: Path) -> None:
    for index in range(3):
        save(tmp_path / f"maps/{index}.png", labels(index))
    together = run_generate(styled, tmp_path / "maps", "--samples", 3, "--seed", 5)
    assert list(together) == [f"{index}_{sample}.png" for index in range(3) for sample in range(3)]
    assert len({image.tobytes() for image in together.values()}) == 9
    copy = save(tmp_path / "elsewhere/b.png", labels(2))
    assert np.array_equal(run_generate(styled, copy, "--seed", 5)["b.png"], together["2_0.png"])
    assert np.array_equal(run_generate(styled, copy, "--seed", 5, "--samples", 2)["b_1.png"], together["2_1.png"])
    assert not np.array_equal(run_generate(styled, copy, "--seed", 6)["b.png"], together["2_0.png"])


def test_many_samples_sort_in_order(styled: Path, run_generate: Any, tmp_path: Path) -> None:
    made = run_generate(styled, save(tmp_path / "a.png", labels()), "--samples", 11)
    assert list(made) == [f"a_{index:02d}.png" for index in range(11)]


def test_style_of_an_image_is_read_as_in_training(styled: Path, run_generate: Any, tmp_path: Path) -> None:
    photo = save(tmp_path / "photo.png", np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8))
    layout = labels()
    made = run_generate(styled, save(tmp_path / "a.png", layout), "--style", photo)["a.png"]
    trained = load_generator(RunDirectory(styled), CPU)
    image = read_image(photo)
    ready = eval_transform(InputConfig(size=(32, 64)))(Sample(image, torch.zeros(70, 90, dtype=torch.int64), None, "photo"))
    assert trained.style_encoder is not None
    expected = style_of(trained.style_encoder, ready.image[None])
    assert np.array_equal(made, generate(trained.generator, torch.from_numpy(layout.astype(np.int64))[None], style=expected)[0])


def test_one_seeded_style_for_all_layouts(styled: Path, run_generate: Any, tmp_path: Path) -> None:
    made = run_generate(styled, save(tmp_path / "a.png", labels()), "--style", 7)["a.png"]
    generator = load_generator(RunDirectory(styled), CPU).generator
    expected = generate(generator, torch.from_numpy(labels().astype(np.int64))[None], style=drawn_style(6, 7))
    assert np.array_equal(made, expected[0])


def test_from_style_to_style(styled: Path, run_generate: Any, tmp_path: Path) -> None:
    photo = save(tmp_path / "photo.jpg", np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8))
    maps = [save(tmp_path / f"{name}.png", labels(seed)) for seed, name in enumerate("ab")]
    way = run_generate(styled, *maps, "--style", 3, "--style_to", photo, "--steps", 4)
    assert list(way) == [f"{name}_{step}.png" for name in "ab" for step in range(4)]
    start, end = run_generate(styled, *maps, "--style", 3), run_generate(styled, *maps, "--style", photo)
    for name in "ab":
        steps = [way[f"{name}_{step}.png"].astype(int) for step in range(4)]
        assert np.abs(steps[0] - start[f"{name}.png"]).max() <= 1
        assert np.abs(steps[3] - end[f"{name}.png"]).max() <= 1
        whole = np.abs(steps[3] - steps[0]).mean()
        assert all(0 < np.abs(after - before).mean() < whole for before, after in pairwise(steps))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--samples", 0], "samples is 0; it must be at least 1"),
        (["--seed", -1], "seed is -1; it must be at least 0"),
        (["--style", -3], "style is -3; it must be at least 0"),
        (["--style", 1, "--samples", 2], "style gives one image per label map, but samples is 2"),
        (["--style_to", 1], "style_to is the end of a way; give --style, where it begins, and --steps"),
        (["--style", 1, "--style_to", 2], "style_to is the end of a way"),
        (["--style", 1, "--steps", 3], "steps is 3, but there is no way to go"),
        (["--style", 1, "--style_to", 2, "--steps", 1], "steps is 1; it must be at least 2"),
        (["--style", "nowhere.png"], "cannot read the picture nowhere.png"),
    ],
)
def test_styles_that_cannot_be(options: list[object], message: str, styled: Path, invoke: Invoke, tmp_path: Path) -> None:
    layout = save(tmp_path / "a.png", labels())
    assert message in refusal(invoke("synth.generate", styled, layout, "-o", tmp_path / "out", *options))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("options", "asked"), [(["--style", 7], "style 7 was given"), (["--samples", 2], "samples is 2")])
def test_generators_without_style(options: list[object], asked: str, plain: Path, invoke: Invoke, tmp_path: Path) -> None:
    line = refusal(invoke("synth.generate", plain, save(tmp_path / "a.png", labels()), "-o", "out", *options))
    assert f"{asked}, but this generator gives one image per label map; train with --generator.style_dim" in line


# ---- label files -----------------------------------------------------------------------------------------------------


def test_label_files_are_read_as_the_checkpoint_says(run_generate: Any, invoke: Invoke, tmp_path: Path) -> None:
    run = write_run(tmp_path / "shifted", offset=1, ignore_value=0)
    ids = labels().astype(np.int64)
    ids[:8, :8] = -1
    as_trained = save(tmp_path / "as_trained.png", (ids + 1).astype(np.uint8))
    plain_ids = save(tmp_path / "plain.png", np.where(ids < 0, 9, ids).astype(np.uint8))
    expected = generate(load_generator(RunDirectory(run), CPU).generator, torch.from_numpy(ids)[None])[0]
    assert np.array_equal(run_generate(run, as_trained)["as_trained.png"], expected)
    assert np.array_equal(run_generate(run, plain_ids, "--label_offset", 0, "--ignore_value", 9)["plain.png"], expected)
    line = refusal(invoke("synth.generate", run, plain_ids, "-o", "out"))
    assert f"{plain_ids} holds value 9; allowed are 1..4 and 0 (ignored)" in line
    collision = refusal(invoke("synth.generate", run, plain_ids, "-o", "out", "--label_offset", 0))
    assert "value 0 is ignored and is also class 0 of 4" in collision


def test_edges_are_borders_of_instances_and_of_labels(run_generate: Any, invoke: Invoke, tmp_path: Path) -> None:
    run = write_run(tmp_path / "edges", instance_edges=True)
    layout = save(tmp_path / "maps/a.png", labels())
    objects = (np.arange(64) // 20 + 300).astype(np.uint16)[None].repeat(32, 0)
    save(tmp_path / "instances/a.png", objects)
    made = run_generate(run, layout, "--instances", tmp_path / "instances")["a.png"]
    label_map, instance_map = (torch.from_numpy(array.astype(np.int64))[None] for array in (labels(), objects))
    generator = load_generator(RunDirectory(run), CPU).generator
    assert np.array_equal(made, generate(generator, label_map, edges=instance_edges(instance_map, label_map))[0])
    assert not np.array_equal(made, generate(generator, label_map, edges=instance_edges(instance_map))[0])

    save(tmp_path / "instances/b.png", objects[:8])
    other = save(tmp_path / "maps/b.png", labels(1))
    command = ["synth.generate", run, other, "-o", tmp_path / "out"]
    assert "give the folder of instance maps with --instances" in refusal(invoke(*command))
    assert "has size (8, 64), its label map (32, 64)" in refusal(invoke(*command, "--instances", tmp_path / "instances"))
    (tmp_path / "instances/b.png").unlink()
    missing = refusal(invoke(*command[:2], layout, *command[2:], "--instances", tmp_path / "instances"))
    assert "1 of 2 label maps have no instance map; the first is" in missing and "b.png: add it" in missing
    assert not (tmp_path / "out").exists()


def test_instances_that_nobody_reads(plain: Path, invoke: Invoke, tmp_path: Path) -> None:
    line = refusal(invoke("synth.generate", plain, save(tmp_path / "a.png", labels()), "--instances", tmp_path, "-o", "out"))
    assert "this generator was trained without instance edges; leave it out" in line


# ---- noise -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["image", "region", "pixel"])
def noisy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("noisy"), noise_channels=5, noise=request.param)


def test_samples_differ_and_repeat(noisy: Path, run_generate: Any, tmp_path: Path) -> None:
    layout = save(tmp_path / "a.png", labels())
    first, again, other = (run_generate(noisy, layout, "--samples", 2, "--seed", seed) for seed in (1, 1, 2))
    assert list(first) == ["a_0.png", "a_1.png"]
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert len({image.tobytes() for image in (*first.values(), *other.values())}) == 4


def test_resampled_classes_alone_have_other_noise(noisy: Path, run_generate: Any, tmp_path: Path) -> None:
    """Without the class in the layout nothing changes; with it something does."""
    layout = save(tmp_path / "a.png", np.minimum(labels(), 2))
    tree, car = (run_generate(noisy, layout, "--samples", 2, "--resample", name) for name in ("tree", "car, road"))
    assert np.array_equal(tree["a_0.png"], tree["a_1.png"]) and np.array_equal(tree["a_0.png"], car["a_0.png"])
    assert not np.array_equal(car["a_0.png"], car["a_1.png"])


def test_noise_of_one_seed_for_all_layouts(noisy: Path, run_generate: Any, tmp_path: Path) -> None:
    """Equal for equal layouts and seeds; redrawing a class changes something where the class is, and nothing where it is not."""
    layout = save(tmp_path / "a.png", np.minimum(labels(), 2))
    first, again, other, car, tree = (
        run_generate(noisy, layout, "--noise", seed, *more)["a.png"]
        for seed, more in ((3, []), (3, []), (4, []), (3, ["--redraw", "car=9; road=3"]), (3, ["--redraw", "tree=9"]))
    )
    assert np.array_equal(first, again) and np.array_equal(first, tree)
    assert not np.array_equal(first, other) and not np.array_equal(first, car)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--noise", -1], "noise is -1; it must be at least 0"),
        (["--noise", 1, "--samples", 2], "noise gives all images one noise"),
        (["--redraw", "sky=1"], "redraw is sky=1, but no seed for the other classes is given"),
        (["--noise", 1, "--redraw", "sky"], "redraw 'sky' is not understood; write it like sky=3"),
        (["--noise", 1, "--redraw", "sky=-1"], "is not understood"),
        (["--noise", 1, "--redraw", "tram=1"], "redraw: unknown class of town 'tram'"),
    ],
)
def test_noise_that_cannot_be(options: list[object], message: str, noisy: Path, invoke: Invoke, tmp_path: Path) -> None:
    layout = save(tmp_path / "a.png", labels())
    assert message in refusal(invoke("synth.generate", noisy, layout, "-o", tmp_path / "out", *options))


def test_resampling_is_refused(plain: Path, noisy: Path, invoke: Invoke, tmp_path: Path) -> None:
    layout, out = save(tmp_path / "a.png", labels()), tmp_path / "out"
    assert "this generator has no noise" in refusal(invoke("synth.generate", plain, layout, "-o", out, "--resample", "sky"))
    assert "noise 3 was given, but this generator has no noise" in refusal(invoke("synth.generate", plain, layout, "-o", out, "--noise", 3))
    assert "resample: unknown class of town 'tram'" in refusal(
        invoke("synth.generate", noisy, layout, "-o", out, "--resample", "sky, tram")
    )
    assert not out.exists()


# scores without files


def test_score_is_generate_and_then_fid(styled: Path, tmp_path: Path, invoke: Invoke) -> None:
    """Of two images per layout with styles of their own, to the last digit; the real side comes from its folder or its statistics."""
    for index in range(3):
        save(tmp_path / f"maps/{index}.png", labels(index))
    for index in range(4):
        save(tmp_path / f"real/{index}.png", np.random.default_rng(index).integers(0, 256, (32, 64, 3), np.uint8))
    torch.manual_seed(0)
    save_encoder(tmp_path / "e.safetensors", build_backbone("tiny"), {"backbone": "tiny", "output_stride": 16, "dataset": "town"})
    made, measured = ["--samples", 2, "--seed", 5], ["--features", tmp_path / "e.safetensors", "--subsets", 5]
    assert invoke("synth.generate", styled, tmp_path / "maps", "-o", tmp_path / "out", *made).status == 0
    files = [*measured, "--seed", 5, "--json", "files.json", "--save_real", "real.npz"]
    assert invoke("shared.fid", tmp_path / "real", tmp_path / "out", *files).status == 0
    for real in (tmp_path / "real", "real.npz"):
        scored = invoke("synth.score", styled, tmp_path / "maps", "--real", real, *made, *measured, "--json", "score.json")
        assert scored.status == 0, scored.errors
        (direct, detour) = (json.loads(Path(name).read_text()) for name in ("score.json", "files.json"))
        assert direct["count_generated"] == 6
        assert direct.pop("generated") == str(styled)
        assert direct.pop("real") == str(real)
        found = direct.pop("diversity")
        assert (found["title"], found["layouts"], found["samples"]) == ("PD-seg", 3, 2)
        assert found["value"] > 0
        assert "diversity, PD-seg of 2 images of each of 3 layouts: 0." in scored.output
        assert detour | direct == detour


def test_score_says_what_it_would_do(plain: Path, tmp_path: Path, invoke: Invoke) -> None:
    layouts = [save(tmp_path / f"{name}.png", labels(seed)) for seed, name in enumerate("ab")]
    for index in range(2):
        save(tmp_path / f"real/{index}.png", np.zeros((16, 32, 3), np.uint8))
    save_encoder(tmp_path / "e.safetensors", build_backbone("tiny"), {"backbone": "tiny", "output_stride": 16, "dataset": "town"})
    given = ["--real", tmp_path / "real", "--features", tmp_path / "e.safetensors"]
    outcome = invoke("synth.score", plain, *layouts, *given, "--dry-run")
    assert "would compare 2 images of" in outcome.output and "with 2 generated ones of (32, 64) pixels" in outcome.output
    assert "needs at least 2 on each side" in refusal(invoke("synth.score", plain, layouts[0], *given))
