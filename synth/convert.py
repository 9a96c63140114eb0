"""From a published SPADE model to a run directory, and from a run directory to the published files: `python -m synth.convert`."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from shared.config import to_dict
from shared.data import cityscapes, cocostuff
from shared.data.class_lists import read_class_names
from shared.data.label_rules import LabelRule, LabelRules
from shared.data.labels import LabelCodes
from shared.errors import InputError
from shared.run.checkpoint import TrainingState
from shared.run.directory import RunDirectory
from shared.run.program import run_program
from shared.visualise import voc_palette
from synth.build import style_encoder_from
from synth.checkpoints import load_official_encoder, load_official_generator, published_options, save_official
from synth.config import GeneratorConfig, InputConfig
from synth.encoder import StyleEncoder
from synth.factorise import factorise
from synth.generator import SpadeGenerator, in_pixels
from synth.published import PUBLISHED_MODELS, LabelConvention
from synth.trained import load_generator


@dataclass
class ConvertConfig:
    """Make a run directory, for synth.generate, of a published generator; or the published files of a run."""

    source: str
    """latest_net_G.pth of a published model; or a run directory with a generator."""
    output: str
    """Run directory to make; or folder for latest_net_G.pth and, with style, latest_net_E.pth."""
    model: Literal["cityscapes", "coco", "ade20k"] | None = None
    """The published model of that name; gives all settings from crop_size to ignore_value."""
    crop_size: int | None = None
    """Option of the training: the width in pixels."""
    aspect_ratio: float | None = None
    """Option of the training: width / height."""
    upsampling: Literal["normal", "more", "most"] | None = None
    """Option of the training (num_upsampling_layers). Null: read off the weights, where they tell."""
    unknown: Literal["last", "first", "none"] | None = None
    """Where the channel of ignored pixels is in the semantic map: after the classes, before them, or nowhere."""
    instance_edges: bool | None = None
    """Whether the last channel of the semantic map marks borders of instances (not no_instance)."""
    label_offset: int | None = None
    """Value of the first class in the label files. Null: 0."""
    ignore_value: int | None = None
    """Value of ignored pixels in the label files. Null: 255."""
    class_names: str | None = None
    """File of class names, as data.folder.class_names of a data set. Null: the classes are numbered."""
    style_encoder: str | None = None
    """latest_net_E.pth, for generators with style."""
    rank: int | None = None
    """Convert to class embeddings of this length. Null: the generator stays as it is."""
    dry_run: bool = False
    """Read and check what is given, say what would be written, and stop."""

    def __post_init__(self) -> None:
        for name in ("crop_size", "aspect_ratio"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} is {value}; it must be more than 0")


def main(config: ConvertConfig) -> None:
    if Path(config.source).is_dir():
        _to_official(config)
    else:
        _to_run(config)


# --- A published model becomes a run --------------------------------------------------------------------------------------------


def _to_run(config: ConvertConfig) -> None:
    _complete(config)
    assert config.crop_size and config.aspect_ratio and config.unknown and config.instance_edges is not None  # asked for by now
    generator = load_official_generator(
        config.source,
        crop_size=config.crop_size,
        aspect_ratio=config.aspect_ratio,
        upsampling=config.upsampling,
        labels=LabelConvention(config.unknown, config.instance_edges),
    )
    if config.model is not None:
        _require_classes(generator, config.model)
    encoder = _read_encoder(config, generator)
    about = _describe(config, generator)
    run = RunDirectory(Path(config.output))
    if run.path.exists() and (not run.path.is_dir() or any(run.path.iterdir())):
        raise InputError(f"{run.path} is there already and not an empty folder; choose another -o")
    said = [f"generator of {len(about['class_names'])} classes, images of {in_pixels(generator.image_size)} pixels (height x width)"]
    if config.rank is not None:
        generator, report = factorise(generator, config.rank)
        about["config"]["semantics"], about["factorisation"] = generator.semantics.name, asdict(report)
        said.append(str(report))
    if config.dry_run:
        print("; ".join(said) + f"; would write {run.path}")
        return
    modules: dict[str, torch.nn.Module] = {"generator": generator} | ({"style_encoder": encoder} if encoder else {})
    run.start(about["config"])
    TrainingState(modules, {}, about).save(run.checkpoint("last"))
    for line in said:
        run.log(line)
    run.log(f"wrote {run.path}; next: python -m synth.generate {run.path} LABELMAPS -o DIR")


def _complete(config: ConvertConfig) -> None:
    """Fill in what the published model of that name, or a default, gives; ask for what is still missing."""
    if config.model is not None:
        published = PUBLISHED_MODELS[config.model]
        for name, value in (asdict(published) | asdict(published.labels)).items():
            if hasattr(config, name) and getattr(config, name) is None:
                setattr(config, name, value)
    config.label_offset = 0 if config.label_offset is None else config.label_offset
    config.ignore_value = 255 if config.ignore_value is None else config.ignore_value
    missing = [f"--{name}" for name in ("crop_size", "aspect_ratio", "unknown", "instance_edges") if getattr(config, name) is None]
    if missing:
        raise InputError(
            f"the weights do not tell {', '.join(missing)}; say them, or --model {' or '.join(PUBLISHED_MODELS)} if it is that"
        )


def _require_classes(generator: SpadeGenerator, model: str) -> None:
    found, published = generator.semantics.num_classes, PUBLISHED_MODELS[model].num_classes
    if found != published:
        raise InputError(f"model {model} was given, which has {published} classes; this generator has {found}: it is another model")


def _read_encoder(config: ConvertConfig, generator: SpadeGenerator) -> StyleEncoder | None:
    if generator.z_dim is None:
        if config.style_encoder is not None:
            raise InputError(f"style_encoder {config.style_encoder} was given, but the generator has no style; leave it out")
        return None
    if config.style_encoder is None:
        raise InputError(f"{config.source} is a generator with style; give its latest_net_E.pth with --style_encoder")
    encoder, fitting = load_official_encoder(config.style_encoder), style_encoder_from(_settings(generator), generator.image_size)
    assert fitting is not None
    of_file, wanted = ([value.shape for value in network.state_dict().values()] for network in (encoder, fitting))
    if of_file != wanted:
        sizes = f"{generator.z_dim} style values and {in_pixels(generator.image_size)} pixels"
        raise InputError(f"{config.style_encoder} is not the encoder of this generator of {sizes}; give the two files of one training")
    return encoder


def _describe(config: ConvertConfig, generator: SpadeGenerator) -> dict[str, Any]:
    """What travels with the checkpoint; as `synth.trained.describe`, of a model that was trained elsewhere."""
    num_classes = generator.semantics.num_classes
    assert config.label_offset is not None
    codes = LabelCodes(num_classes, config.label_offset, config.ignore_value)
    settings = {
        "semantics": "onehot",
        "input": to_dict(InputConfig(generator.image_size, instance_edges=generator.semantics.instance_edges)),
        "generator": to_dict(_settings(generator)),
    }
    return {
        "config": settings,
        "dataset": config.model or "custom",
        "class_names": _class_names(config.class_names, num_classes),
        "palette": voc_palette(num_classes + 1)[1:].tolist(),
        "label_files": _rules(config.model, codes).to_plain(),
        "published_labels": asdict(generator.published_labels),
    }


def _rules(model: str | None, codes: LabelCodes) -> LabelRules:
    """What the label files of the published data set are called; numbers mean in all of them the same."""
    if model == "cityscapes":
        return cityscapes.label_rules({"labelIds": codes}, codes)
    return LabelRules((LabelRule(codes),), others=cocostuff.LABEL_RULES.others if model == "coco" else ())


def _settings(generator: SpadeGenerator) -> GeneratorConfig:
    block = generator.head_0
    return GeneratorConfig(
        width=block.conv_0.in_channels // 16,
        hidden=block.norm_0.mlp_gamma.in_channels,
        upsampling=generator.upsampling,  # type: ignore[arg-type]
        norm=generator.norm,  # type: ignore[arg-type]
        style_dim=generator.z_dim,
    )


def _class_names(path: str | None, num_classes: int) -> list[str]:
    if path is None:
        return [f"class {index}" for index in range(num_classes)]
    names = read_class_names(Path(path), "check --class_names")
    if len(names) != num_classes or len(set(names)) < num_classes:
        found = f"{len(names)} class names, {len(set(names))} of them different"
        raise InputError(f"{path} holds {found}; the generator has {num_classes} classes: give one name per line and class")
    return names


# --- A run becomes published files ----------------------------------------------------------------------------------------------


def _to_official(config: ConvertConfig) -> None:
    given = [name for name, value in vars(config).items() if value is not None and name not in ("source", "output", "dry_run")]
    if given:
        raise InputError(f"{config.source} is a run, which knows its settings; leave out --{', --'.join(given)}")
    trained = load_generator(RunDirectory.open(config.source), torch.device("cpu"))
    networks = {"G": trained.generator} | ({"E": trained.style_encoder} if trained.style_encoder else {})
    paths = {letter: Path(config.output) / f"latest_net_{letter}.pth" for letter in networks}
    names = " and ".join(map(str, paths.values()))
    print(f"options of the published code: {published_options(trained.generator)}")
    if config.dry_run:
        print(f"would write {names}")
        return
    for letter, network in networks.items():
        save_official(network, paths[letter])
    print(f"wrote {names}")


if __name__ == "__main__":
    run_program(main, ConvertConfig, "synth.convert", positional={"source": None}, short={"output": "-o"})
