"""The experiment: semantics × seeds under one protocol, scored and reported: `python -m synth.compare`."""

import shlex
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path

from shared.config import read_yaml, to_dict, to_yaml
from shared.data import build_dataset
from shared.data.loader import build_eval_loader
from shared.embedding_file import EMBEDDINGS_FILE, ClassEmbeddings
from shared.files.atomic import write_text
from shared.report import ArmRun, ComparisonReport, EmbeddingMap, LossCurve, write_report
from shared.run.checkpoint import TrainingState
from shared.run.directory import RunDirectory, machine
from shared.run.monitor import PEAK_MEMORY
from shared.run.program import run_program
from shared.run.training import begin_or_continue, choose_device
from synth.comparison.arms import (
    PROTOCOL,
    SEGMENTATION,
    Arm,
    arms_of,
    embedding_trainings,
    embeddings_run,
    generate_images,
    layout_samples,
    options_of,
)
from synth.comparison.checks import require_arms, require_images, require_segmenter
from synth.comparison.commands import CommandLog
from synth.comparison.config import FREE_TO_COMPARE, CompareConfig, Variant
from synth.comparison.report import (
    class_scores,
    commands_run,
    layout_pictures,
    notes_of,
    protocol_items,
    segmentation_panels,
    segmentation_results,
    shown_names,
    versions_of,
)
from synth.comparison.scoring import (
    Scorer,
    diversity_score,
    feature_networks,
    find_segmenter,
    pair_distance_for,
    require_classes_of_before,
    score_kinds,
    write_real,
)
from synth.config import Protocol
from synth.generator import DOUBLINGS, require_multiples
from synth.inputs import eval_transform
from synth.semantics.build import READS_EMBEDDINGS
from synth.semantics.newest import find_embeddings
from synth.training.perceptual import choose_perceptual


def compare(config: CompareConfig) -> None:
    """Run, or continue, the comparison and write its report."""
    # --- What is needed, before anything starts -------------------------------------------------------------------------
    multiple = 2 ** DOUBLINGS[config.generator.upsampling]
    require_multiples(config.input.size, multiple)
    train_set, val_set = build_dataset(config.data, "train"), build_dataset(config.data, "val")
    spec, device = val_set.spec, choose_device(config.train.device)
    embeddings_path = find_embeddings(config.embeddings, spec, required=any(READS_EMBEDDINGS.get(name, False) for name in config.semantics))
    embeddings = None if embeddings_path is None else ClassEmbeddings.load(embeddings_path)
    segmenter = find_segmenter(config.segmenter, spec)
    require_images(train_set, val_set)
    require_segmenter(segmenter, spec)
    networks, pair_distance = feature_networks(config, segmenter, device), pair_distance_for(config, segmenter, device)
    run = RunDirectory.choose("synth.compare", spec.name, config.run_dir)
    config.loss.perceptual = choose_perceptual(config.loss, run.config["loss"].get("perceptual") if run.config_path.is_file() else None)
    arms, own_embeddings = arms_of(config, run.path), embedding_trainings(config, run.path)
    require_arms(config, arms, embeddings, val_set)
    segmentation = None if config.segmentation is None else read_yaml(Path(config.segmentation)) | {"data": to_dict(config.data)}
    if config.dry_run:
        print(to_yaml(to_dict(config)))
        commands_to_run = [*own_embeddings.values(), *(training_command(arm, config, run.path, embeddings_path) for arm in arms)]
        print("\n".join(shlex.join(["python", "-m", *command]) for command in commands_to_run))
        print(
            f"{len(arms)} trainings; embeddings {embeddings_path}; segmenter {segmenter.path}; {networks[0].title}; would write {run.path}"
        )
        return
    require_classes_of_before(run.path / "real", spec)
    begin_or_continue(run, TrainingState({}, {}, {}), to_dict(config), FREE_TO_COMPARE)
    write_text(run.path / PROTOCOL, to_yaml({field.name: to_dict(getattr(config, field.name)) for field in fields(Protocol)}))
    if segmentation is not None:
        write_text(run.path / SEGMENTATION, to_yaml(segmentation))
    commands = CommandLog(run.path / "commands.json", config.jobs)
    transform, batch_size = eval_transform(config.input, multiple=multiple), config.train.batch_size
    loader, others = (
        build_eval_loader(split, transform, batch_size=batch_size, num_workers=config.data.num_workers, device=device)
        for split in (val_set, train_set)
    )
    names = write_real(run.path / "real", loader, spec)

    # --- Train and generate ---------------------------------------------------------------------------------------------
    commands.run_all(list(own_embeddings.values()), f"embeddings of {len(own_embeddings)} variants", total=len(own_embeddings))
    trainings = [training_command(arm, config, run.path, embeddings_path) for arm in arms]
    work = len(arms) * config.train.steps
    commands.run_all(trainings, f"train {len(arms)} arms", total=work, done=lambda: sum(arm.steps_logged() for arm in arms))
    for arm in arms:
        generate_images(arm, loader, device)

    # --- Score ----------------------------------------------------------------------------------------------------------
    scorer = Scorer(networks, segmenter, commands, run.path / "real", names, spec, config.data.num_workers)
    scorer.segment([arm.images for arm in arms])
    runs = [score_arm(scorer, arm) for arm in arms]
    if pair_distance is not None:
        measured = [diversity_score(pair_distance, layout_samples(arm, loader, device, config.samples)) for arm in arms]
        runs = [replace(run_of_arm, scores={**run_of_arm.scores, **more}) for run_of_arm, more in zip(runs, measured)]
    references = scorer.references(others, loader)

    # --- Report ---------------------------------------------------------------------------------------------------------
    pictures = layout_pictures(arms, shown_names(names, config.pictures), run.path / "real", loader, spec)
    report = ComparisonReport(
        title=f"{'Discriminators' if config.discriminators else 'Semantics'} compared on {spec.name}",
        dataset=spec,
        created=datetime.now(),
        machine=machine(),
        score_kinds=score_kinds(networks, pair_distance, config.input.size),
        runs=runs,
        references=references,
        pictures=pictures,
        embedding_map=None if embeddings is None else EmbeddingMap(spec.class_names, embeddings.vectors.numpy(), spec.palette),
        protocol=protocol_items(config, embeddings, len(names)),
        segmentation=segmentation_results(segmenter, embeddings),
        panels=segmentation_panels(pictures, segmenter, embeddings, commands, run.path / "segmentations"),
        class_scores=class_scores(arms, segmenter, embeddings, spec, len(names)),
        versions=versions_of(run),
        commands=commands_run(segmenter, embeddings, commands),
        notes=notes_of(arms, networks[0], config.features),
    )
    run.log(f"report: {write_report(report, run.path / 'report').resolve()}")


def training_command(arm: Arm, config: CompareConfig, folder: Path, embeddings: Path | None) -> list[str]:
    """The arguments after `python -m` that train an arm; variants with settings of seg.train have embeddings of their own."""
    variant = Variant() if arm.variant is None else config.variants[arm.variant]
    path = embeddings_run(arm.variant, folder) / EMBEDDINGS_FILE if variant.seg and arm.variant is not None else embeddings
    given = [] if path is None else ["--embeddings", str(path)]
    kind = [] if arm.discriminator is None else ["--discriminator.name", arm.discriminator]
    chosen = ["--semantics", arm.semantics, *kind, *options_of(variant.synth), "--train.seed", str(arm.seed), *given]
    return ["synth.train", "--config", str(folder / PROTOCOL), *chosen, "--run_dir", str(arm.run.path)]


def score_arm(scorer: Scorer, arm: Arm) -> ArmRun:
    """What the report says of one trained arm."""
    curves = {name: LossCurve(steps, values) for name, (steps, values) in arm.loss_curves().items()}
    *_, last = arm.run.metrics()
    return ArmRun(
        semantics=arm.title,
        seed=arm.seed,
        scores=scorer.score_folder(arm.images),
        loss_curves=curves,
        seconds=last["seconds"],
        steps=last["step"],
        generator_parameters=arm.parameters(),
        run_dir=str(arm.run.path),
        peak_memory=max((entry[PEAK_MEMORY] for entry in arm.run.resources()), default=None),
    )


if __name__ == "__main__":
    run_program(compare, CompareConfig, "synth.compare")
