"""Experiments: arms that differ in one thing, cells that are not made twice, and what they say together."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detection_examples import ground_truth
from run_folders import write_run
from tiny_data import change_json, write_data, write_graph

from detector.ablation import ablate, name_of
from detector.ablation_arms import CONTROLS, fitting_controls, list_arms, second_stage
from detector.ablation_report import summarize, table_rows
from detector.ablation_source import Source, digest_of, is_done, resampled_ap
from detector.ablation_variants import Variant, base_recipe, list_variants
from detector.annotations import load_annotations
from detector.checkpoint import load_run
from detector.cli import main
from detector.errors import ConfigError, DetectorError
from detector.evaluate import detect
from detector.experiment import Experiment
from detector.frozen_cell import FrozenCell
from detector.interfaces import SharedHeadConfig, TwoLinearConfig
from detector.knowledge import lift_of, load_knowledge
from detector.overrides import flatten, override
from detector.recipes import load_recipe
from detector.training_cell import TrainingCell
from detector.trust import count_pairs, row_trust, trusted_lift
from detector.worlds import World, make_world, parse_worlds, run_kgtool
from kgtool.graph import load_graph

RECIPE = "reasoning_rcnn_sample"


def test_every_control_of_the_attention_is_for_reasoning_and_class_lift_has_only_its_counts() -> None:
    expected = {
        RECIPE: CONTROLS,
        "sgrn_sample": ("none", "context"),
        "relation_sample": ("none", "context"),
        "class_lift_sample": ("none", "context", "shuffled"),
    }
    for recipe, controls in expected.items():
        assert fitting_controls(second_stage(load_recipe(recipe))) == controls


@pytest.mark.parametrize(
    ("recipe", "controls", "message"),
    [
        (RECIPE, ["shufled"], "found shufled; expected some of none, context, identity"),
        (
            "sgrn_sample",
            ["no-attention"],
            "takes nothing away from recipe sgrn_.*of none, context$",
        ),
        ("class_lift_sample", ["identity"], "expected some of none, context, shuffled$"),
        ("faster_rcnn_sample", [], "found the plain head alone"),
    ],
)
def test_a_control_without_meaning_is_refused_with_those_that_have_one(
    recipe: str, controls: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        list_arms(load_recipe(recipe), controls)


def test_the_plain_and_the_context_arm_are_always_there() -> None:
    arms = list_arms(load_recipe(RECIPE), [], [load_recipe("sgrn_sample")])
    assert [(arm.name, arm.graph) for arm in arms] == [
        (RECIPE, "given"),
        ("none", ""),
        ("context", ""),
        ("sgrn_sample", ""),
    ]
    assert arms[1].stage == replace(arms[0].stage, head=SharedHeadConfig())


def test_every_arm_learns_with_the_threshold_the_box_scale_and_the_weight_of_the_first_stage() -> None:
    recipe = load_recipe(RECIPE)
    for arm in list_arms(recipe, ["all"], [load_recipe("relation_sample")]):
        for name in ("foreground_iou", "box_std", "loss_weight"):
            assert getattr(arm.stage, name) == getattr(recipe.model.stages[0], name)


def test_end_to_end_every_arm_is_a_recipe_with_the_same_training() -> None:
    settings = {"train.epochs": 3, "model.roi_size": 4, "model.stages.1.head.squeeze": 32}
    variants = list_variants(RECIPE, ["all"], ["relation_sample"], settings)
    by_name = {variant.name: variant.config for variant in variants}
    assert {variant.name for variant in variants} == {RECIPE, *CONTROLS, "relation_sample"}
    assert by_name["none"].recipe == "stacked_plain_sample"
    assert by_name["context"].recipe == "stacked_context_sample"
    assert flatten(by_name["uniform"])["model.stages.1.head.attention"] == "uniform"
    assert by_name["identity"] == by_name["shuffled"] == by_name[RECIPE]
    for config in by_name.values():
        assert (config.train, config.model.roi_size) == (by_name[RECIPE].train, 4)
        assert override(load_recipe(config.recipe), flatten(config)) == config


@pytest.mark.parametrize("recipe", ["reasoning_rcnn_kept_sample", "reasoning_rcnn_r101_fpn", "sgrn_sample"])
def test_end_to_end_the_controls_of_a_recipe_have_its_stages(recipe: str) -> None:
    own, plain, context = (variant.config.model for variant in list_variants(recipe, [], [], {}))
    for control in (plain, context):
        assert replace(control, stages=own.stages) == own
        assert [replace(stage, head=None) for stage in control.stages] == [
            replace(stage, head=None) for stage in own.stages
        ]


def test_end_to_end_a_recipe_of_one_stage_is_compared_with_the_plain_one_and_a_context_stage() -> None:
    variants = list_variants("class_lift_sample", ["shuffled"], [], {})
    assert [(variant.name, variant.config.recipe, variant.graph) for variant in variants] == [
        ("class_lift_sample", "class_lift_sample", "given"),
        ("none", "faster_rcnn_sample", ""),
        ("context", "stacked_context_sample", ""),
        ("shuffled", "class_lift_sample", "shuffled"),
    ]


@pytest.mark.parametrize("recipe", ["stacked_plain_sample", "stacked_context_sample"])
def test_end_to_end_a_control_with_two_stages_is_compared_with_two_plain_ones(recipe: str) -> None:
    assert [variant.config.recipe for variant in list_variants(recipe, [], [], {})] == [
        recipe,
        "stacked_plain_sample",
        "stacked_context_sample",
    ]


@pytest.mark.parametrize(
    ("recipe", "head"),
    [
        ("relation_sample", TwoLinearConfig(128)),
        ("class_lift_relation_sample", TwoLinearConfig(128)),
        ("class_lift_sample", SharedHeadConfig()),
        ("sgrn_sample", SharedHeadConfig()),
    ],
)
def test_where_a_head_has_linear_layers_of_its_own_so_has_the_plain_one(recipe: str, head: object) -> None:
    own, plain = list_arms(load_recipe(recipe), [])[:2]
    assert plain.stage == replace(own.stage, head=head, score_update=None)


def test_the_base_of_a_recipe_is_its_plain_detector() -> None:
    assert base_recipe(RECIPE).recipe == "faster_rcnn_sample"
    assert base_recipe("relation_sample").recipe == "faster_rcnn_sample"
    assert base_recipe("reasoning_rcnn_r101_fpn").recipe == "faster_rcnn_r101_fpn"


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A tiny data folder, its graph, and a base detector with random weights."""
    data = write_data(tmp_path / "data", train=6, test=4)
    write_run(tmp_path / "base", load_recipe("faster_rcnn_sample"), data)
    (tmp_path / "cells").mkdir()
    return Source("data", tmp_path, data, write_graph(tmp_path / "graph.npz"), tmp_path / "base")


def started(source: Source, arm_name: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """The tensors that an arm starts with."""
    recipe = load_recipe(RECIPE)
    arms = {arm.name: arm for arm in list_arms(recipe, ["all"])}
    cell = FrozenCell(source, arms[arm_name], arms[RECIPE].stage, replace(recipe.train, seed=seed), 2)
    return dict(cell.build(load_run(source.base, torch.device("cpu"))).state_dict())


@pytest.mark.parametrize("control", ["identity", "shuffled", "random", "degree-preserving"])
def test_a_graph_control_changes_the_graph_and_no_bit_besides(source: Source, control: str) -> None:
    own, other = started(source, RECIPE), started(source, control)
    changed = [name for name in own if not torch.equal(own[name], other[name])]
    assert list(own) == list(other)
    assert changed == ["stages.1.head.graphs"]


@pytest.mark.parametrize("control", CONTROLS)
def test_all_arms_start_with_the_same_bits_where_they_have_the_same_weights(
    source: Source, control: str
) -> None:
    own, other = started(source, RECIPE), started(source, control)
    shared = [name for name in own if name in other and own[name].shape == other[name].shape]
    assert [name for name in shared if not torch.equal(own[name], other[name])] in (
        [],
        ["stages.1.head.graphs"],
    )
    width = 128
    assert torch.equal(
        own["stages.1.class_layer.weight"][:, :width], other["stages.1.class_layer.weight"][:, :width]
    )
    assert not torch.equal(
        own["stages.1.head.transform.weight"], started(source, RECIPE, 1)["stages.1.head.transform.weight"]
    )


def test_class_lift_asks_the_training_images_how_far_to_trust_as_in_training(source: Source) -> None:
    recipe = load_recipe("class_lift_sample")
    arm = list_arms(recipe, ["none"])[0]
    run = load_run(source.base, torch.device("cpu"))
    update = FrozenCell(source, arm, arm.stage, recipe.train, 2).build(run).stages[1].score_update
    assert source.graph is not None
    knowledge = load_knowledge(source.graph, run.classes.names, run.classes.synsets)
    assert knowledge.counts_CC is not None
    lift = lift_of(knowledge.counts_CC, 1.0)
    own = count_pairs(source.annotations("train", run))
    expected = trusted_lift(lift, row_trust(lift, own)) - 1
    assert not torch.allclose(expected, lift - 1)
    torch.testing.assert_close(update.excess_CC, expected.float())


@pytest.mark.parametrize("arm_name", ["none", "context"])
def test_arms_without_a_graph_are_built_beside_class_lift_by_position(source: Source, arm_name: str) -> None:
    key = "model.stages.0.score_update.positions"
    recipe = override(load_recipe("class_lift_sample"), {key: True})
    own, *arms = list_arms(recipe, [])
    arm = next(arm for arm in arms if arm.name == arm_name)
    model = FrozenCell(source, arm, own.stage, recipe.train, 2).build(
        load_run(source.base, torch.device("cpu"))
    )
    assert model.stages[1].score_update is None


def test_the_context_arm_beside_another_recipe_is_another_cell_and_the_plain_one_is_not(
    source: Source,
) -> None:
    train = load_recipe(RECIPE).train
    settings = []
    for recipe in (RECIPE, "sgrn_sample"):
        own, plain, context = list_arms(load_recipe(recipe), [])
        settings.append([FrozenCell(source, arm, own.stage, train, 2).settings() for arm in (plain, context)])
    (plain, context), (other_plain, other_context) = settings
    assert plain == other_plain
    assert context["stage"] == other_context["stage"]
    assert context != other_context


def test_a_rival_that_becomes_the_recipe_is_made_again(source: Source) -> None:
    rival_of = load_recipe(RECIPE)
    own, *_, rival = list_arms(rival_of, [], [load_recipe("sgrn_sample")])
    beside = FrozenCell(source, rival, own.stage, rival_of.train, 2)
    alone = FrozenCell(source, rival, rival.stage, rival_of.train, 2)
    for made, wanted in ((beside, alone), (alone, beside)):
        made.path.write_text(json.dumps({"settings": made.settings()}))
        assert is_done(made, overwrite=False)
        with pytest.raises(DetectorError, match=r"other settings \(recipe_stage\)"):
            is_done(wanted, overwrite=False)


def test_a_control_of_another_graph_is_another_file(source: Source) -> None:
    assert source.graph is not None
    first = source.graph_file("identity", 0)
    assert source.graph_file("identity", 0) == first
    source.graph.unlink()
    write_graph(source.graph, ("green", "red", "violet"))
    other = source.graph_file("identity", 0)
    assert first is not None
    assert other is not None
    assert load_graph(first).classes == ("blue", "green", "red")
    assert load_graph(other).classes == ("green", "red", "violet")


def test_a_data_folder_has_a_name_of_its_own_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    assert [name_of(Path(text)) for text in ("..", ".", "/")] == [tmp_path.name, "inside", "data"]


def test_a_whole_detector_is_evaluated_in_the_precision_that_it_was_trained_in(source: Source) -> None:
    settings = {"train.epochs": 1, "train.precision": "bf16"}
    variant = Variant("none", override(load_recipe("faster_rcnn_sample"), settings), "")
    result = TrainingCell(source, variant, 2, "cpu", False).run()
    run = load_run(source.folder / "end_to_end_none_0", torch.device("cpu"))
    annotations = source.annotations("test", run)
    digests = [
        digest_of(detect(run.model, annotations, batch_size=1, precision=name))
        for name in ("bf16", "float32")
    ]
    assert digests[0] == result["detections"] != digests[1]


def experiment(source: Source, **changes: object) -> Experiment:
    settings = {"train.epochs": 1, "train.batch_size": 4}
    values = {"controls": ("identity",), "data": source.data, "graph": source.graph, "init": source.base}
    return Experiment(**{"recipe": RECIPE, "settings": settings, "resamples": 5, **values, **changes})


def found_in(out: Path) -> dict[str, str]:
    """What the cells of an experiment have detected, as digests by their file."""
    cells = (out / "data" / "cells").iterdir()
    return {path.name: json.loads(path.read_text())["detections"] for path in cells}


def test_a_finished_cell_is_not_made_again_and_more_arms_and_seeds_join_it(
    source: Source, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    said: list[str] = []
    first = ablate(experiment(source), out, say=said.append)
    assert sum(", seed" in line for line in said) == 4
    files = {path: path.stat().st_mtime_ns for path in (out / "data" / "cells").iterdir()}
    said.clear()
    assert ablate(experiment(source), out, say=said.append) == first
    assert said == ["data: data, graph and base detector are there"]
    ablate(experiment(source, rivals=("sgrn_sample",), seeds=2), out, say=said.append)
    assert sum(", seed" in line for line in said) == 6
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert not list((out / "data").glob("regions_*"))
    assert json.loads((out / "ablation.json").read_text())["seeds"] == [0, 1]


def test_cells_of_other_settings_are_neither_mixed_in_nor_overwritten_silently(
    source: Source, tmp_path: Path
) -> None:
    ablate(experiment(source, controls=()), tmp_path / "out")
    longer = experiment(source, controls=(), settings={"train.epochs": 2, "train.batch_size": 4})
    with pytest.raises(DetectorError, match=r"other settings \(train\); give --overwrite"):
        ablate(longer, tmp_path / "out")
    ablate(longer, tmp_path / "out", overwrite=True)
    cell = json.loads((tmp_path / "out" / "data" / "cells" / "none_0.json").read_text())
    assert cell["settings"]["train"]["epochs"] == 2


def test_a_cell_is_the_same_from_another_process(source: Source, tmp_path: Path) -> None:
    reports = [
        ablate(experiment(source, controls=(), seeds=2), tmp_path / f"out{jobs}", jobs=jobs)
        for jobs in (1, 2)
    ]
    assert [row["metrics"] for row in reports[0]["arms"]] == [row["metrics"] for row in reports[1]["arms"]]
    alone, together = (found_in(tmp_path / f"out{jobs}") for jobs in (1, 2))
    assert alone == together
    assert len(set(alone.values())) == len(alone) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"graph": None}, "arm reasoning_rcnn_sample reads a class graph and got none"),
        ({"recipe": "sgrn_sample", "controls": ()}, "no arm reads a class graph"),
        ({"data": None}, "either --worlds or --data"),
        ({"settings": {"model.roi_size": 7}}, "--set model.roi_size: has no effect .* --base-set"),
        (
            {"settings": {"model.stages.1.loss_weight": 0.5}},
            "--set model.stages.1.loss_weight: has no effect",
        ),
        ({"rivals": (RECIPE,)}, "--rivals: found reasoning_rcnn_sample twice"),
        ({"settings": {"train.seed": 3}}, "--set train.seed: --seeds counts them"),
        ({"worlds": (World("W", 0),), "data": None}, "leave out --graph and --init"),
        ({"settings": {"train.flip": 0.0}}, "--set train.flip: has no effect"),
        ({"recipe": "reasoning_retinanet_sample", "init": None}, r"found 0 stages \(none\); expected"),
        (
            {"recipe": "reasoning_rcnn_r101_c4_coco", "init": None},
            r"found 1 stages \(Conv5Config\); expected",
        ),
        ({"recipe": "sgrn_r101_fpn_coco", "init": None}, "no recipe that is the plain detector behind sgrn"),
        ({"recipe": "relation_nms_sample", "init": None}, "no recipe that is the plain detector behind rel"),
        ({"base_settings": {"train.no": 1}, "init": None}, "train.no"),
    ],
)
def test_what_does_not_fit_together_is_found_before_anything_is_written(
    source: Source, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ablate(experiment(source, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_test_images_are_another_experiment(source: Source, tmp_path: Path) -> None:
    ablate(experiment(source, controls=()), tmp_path / "out")
    change_json(source.data / "test.json", lambda document: document["annotations"].pop())
    with pytest.raises(DetectorError, match=r"other settings \(data_test\); give --overwrite"):
        ablate(experiment(source, controls=()), tmp_path / "out")


def test_resampled_ap_is_that_of_the_images_and_zero_where_a_resample_has_no_box(source: Source) -> None:
    def keep_boxes_of_one_image(document: dict[str, Any]) -> None:
        boxes = document["annotations"]
        document["annotations"] = [box for box in boxes if box["image_id"] == boxes[0]["image_id"]]

    change_json(source.data / "test.json", keep_boxes_of_one_image)
    annotations = load_annotations(source.data, "test")
    values = resampled_ap(annotations, ground_truth(annotations), 60)
    assert set(values) == {0.0, 1.0}
    assert values == resampled_ap(annotations, ground_truth(annotations), 60)


def test_a_base_of_two_stages_is_refused(source: Source, tmp_path: Path) -> None:
    write_run(tmp_path / "stacked", load_recipe("stacked_plain_sample"), source.data)
    with pytest.raises(ConfigError, match=r"found 2 stages \(.*SharedHeadConfig\); expected a detector"):
        ablate(experiment(source, init=tmp_path / "stacked"), tmp_path / "out")


def test_a_base_detector_that_was_copied_from_another_experiment_is_not_trained_again(
    source: Source, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    quick = {"train.epochs": 1}
    whole = experiment(source, controls=(), init=None, base_settings=quick)
    ablate(whole, out)
    shutil.copytree(out / "data" / "base", tmp_path / "copy" / "data" / "base")
    trained = (tmp_path / "copy" / "data" / "base" / "model.safetensors").stat().st_mtime_ns
    ablate(whole, tmp_path / "copy")
    assert (tmp_path / "copy" / "data" / "base" / "model.safetensors").stat().st_mtime_ns == trained
    cells = [folder / "data" / "cells" / "none_0.json" for folder in (out, tmp_path / "copy")]
    one, other = (json.loads(path.read_text())["detections"] for path in cells)
    assert one == other
    assert found_in(out)["context_0.json"] != one


def test_a_folder_of_something_else_is_left_alone(source: Source, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(DetectorError, match="already exists"):
        ablate(experiment(source), tmp_path / "out")


def cell(arm: str, source: str, seed: int, ap: float, parameters: int = 10) -> dict[str, object]:
    rng = np.random.default_rng([seed, len(source)])
    return {
        "arm": arm,
        "source": source,
        "seed": seed,
        "metrics": {"AP": ap, "AP50": ap, "AP75": ap},
        "parameters": parameters,
        "cpu_seconds": 2.0,
        "milliseconds": 1.0,
        "resampled_AP": (ap + rng.normal(0, 0.05, 200)).tolist(),
    }


def test_differences_are_paired_and_their_intervals_know_of_worlds() -> None:
    """Noise that both arms share drops out; what differs from world to world does not."""
    gains = {"W0": 0.10, "W10": 0.20}
    results = [
        cell(arm, source, seed, 0.3 + gain * (arm == "full"), 10 + 5 * (arm == "full"))
        for source, gain in gains.items()
        for seed in (0, 1)
        for arm in ("full", "none")
    ]
    report = summarize(results, "full", {"full": 2, "none": 2})
    full, plain = report["arms"]
    assert full["minus_plain"]["AP"] == pytest.approx(0.15)
    assert full["minus_plain"]["relative"] == pytest.approx(0.5)
    assert full["minus_plain"]["by_source"] == pytest.approx(gains)
    assert (full["minus_plain"]["low"], full["minus_plain"]["high"]) == pytest.approx((0.1, 0.2))
    assert full["parameters_added"] == 5
    assert plain["recipe_minus"] == full["minus_plain"]
    assert plain["minus_plain"]["AP"] == 0


def test_worlds_are_a_number_or_names() -> None:
    assert [world.name for world in parse_worlds("4")] == ["W0", "W1", "W2", "W3"]
    assert parse_worlds("W101, L12") == (World("W", 101), World("L", 12))
    for text in ("0", "3W", "W", "W1,W1", "W1,"):
        with pytest.raises(ConfigError, match="--worlds"):
            parse_worlds(text)


def test_a_world_is_made_once_and_a_failing_command_of_kgtool_is_one_line(tmp_path: Path) -> None:
    data, graph = make_world(World("mini", 3), tmp_path)
    made = graph.stat().st_mtime_ns
    assert make_world(World("mini", 3), tmp_path) == (data, graph)
    assert graph.stat().st_mtime_ns == made
    with pytest.raises(DetectorError, match=r"^kgtool sample: .*'X' is not one of") as unknown:
        make_world(World("X", 3), tmp_path / "other")
    assert unknown.value.exit_code == 2
    with pytest.raises(DetectorError, match=r"^kgtool controls: .*absent\.npz") as caught:
        run_kgtool("controls", tmp_path / "absent.npz", "--kind", "identity", "--out", tmp_path / "x.npz")
    assert caught.value.exit_code == 3


def test_the_command_prints_a_table_or_one_document(
    source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["ablate", "--recipe", RECIPE, "--data", str(source.data), "--graph", str(source.graph)]
    command += ["--init", str(source.base), "--set", "train.epochs=1", "--resamples", "5"]
    command += ["--out", str(tmp_path / "out")]
    for extra in ([], ["--json"]):
        with pytest.raises(SystemExit) as end:
            main([*command, *extra])
        assert not end.value.code
        printed = capsys.readouterr().out
        if extra:
            assert [row["arm"] for row in json.loads(printed)["arms"]] == [RECIPE, "none", "context"]
        else:
            assert printed.splitlines()[2].startswith("none (plain, 2 stages)")
    assert (tmp_path / "out" / "ablation.md").is_file()


def test_the_table_has_a_data_set_a_column_where_there_are_several_and_nothing_minus_itself() -> None:
    results = [cell(arm, source, 0, 0.4) for source in ("W0", "W10") for arm in ("full", "none")]
    head, rows = table_rows(summarize(results, "full", {"full": 2, "none": 2}))
    assert head[:5] == ["arm", "AP", "W0", "W10", "AP50"]
    full, plain = (dict(zip(head, row, strict=True)) for row in rows)
    assert (full["full minus it"], full["minus plain"]) == ("", "+0.0 (+0.0 to +0.0)")
    assert (plain["full minus it"], plain["minus plain"]) == ("+0.0 (+0.0 to +0.0)", "")
    assert (plain["W10"], plain["weights added"]) == ("40.0", "+0")
    assert "W10" not in table_rows(summarize(results[:2], "full", {"full": 2, "none": 2}))[0]


def test_end_to_end_arms_are_runs_that_go_on_and_another_base_is_another_experiment(
    source: Source, tmp_path: Path
) -> None:
    out, folder = tmp_path / "out", tmp_path / "out" / "data"
    given = {"recipe": "class_lift_sample", "controls": (), "protocol": "end-to-end", "device": "cpu"}
    first = ablate(experiment(source, **given), out)
    found = found_in(out)
    assert len(set(found.values())) == 3
    assert [row["arm"] for row in first["arms"]] == ["class_lift_sample", "none", "context"]
    labels = [row[0] for row in table_rows(first)[1]]
    assert labels == ["class_lift_sample", "none (plain, 1 stage)", "context (2 stages)"]
    run = load_run(folder / "end_to_end_context_0", torch.device("cpu"))
    assert run.config.recipe == "stacked_context_sample"

    (folder / "cells" / "end_to_end_none_0.json").unlink()
    weights = (folder / "end_to_end_none_0" / "model.safetensors").read_bytes()
    again = ablate(experiment(source, **given), out)
    assert (folder / "end_to_end_none_0" / "model.safetensors").read_bytes() == weights
    assert [row["metrics"] for row in again["arms"]] == [row["metrics"] for row in first["arms"]]
    assert found_in(out) == found

    write_run(tmp_path / "other", load_recipe("faster_rcnn_sample"), source.data, seed=7)
    changed = experiment(source, **given, init=tmp_path / "other")
    with pytest.raises(DetectorError, match=r"other settings \(base\)"):
        ablate(changed, out)
    ablate(changed, out, overwrite=True)
    assert (folder / "end_to_end_none_0" / "model.safetensors").read_bytes() != weights
