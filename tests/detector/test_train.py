"""The loop, its schedule and its checks, on a data folder of coloured squares."""

import json
import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_data import change_json, write_data, write_graph
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from detector.checkpoint import load_run
from detector.config import Config, TrainConfig
from detector.errors import (
    ClassMatchError,
    ConfigError,
    DetectorError,
    InputError,
    MissingResourceError,
    OutputExistsError,
    TrainingError,
)
from detector.evaluate import evaluate, evaluate_run
from detector.evaluation import Evaluation
from detector.interfaces import KNOWLEDGE_BUFFERS
from detector.optimizer import build_optimizer, build_schedule
from detector.overrides import flatten, override
from detector.rcnn import RCNN
from detector.recipes import load_recipe
from detector.train import train
from detector.training_loop import fit


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_graph(tmp_path / "graph.npz")


def config(recipe: str = "faster_rcnn_sample", **settings: object) -> Config:
    few = {"train.epochs": 2, "train.batch_size": 3}
    return override(
        load_recipe(recipe), {**few, **{f"train.{key}": value for key, value in settings.items()}}
    )


def steps(run: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in record.items() if key != "seconds"}
        for record in records
        if "lr" in record
    ]


def lrs(settings: TrainConfig, steps_per_epoch: int) -> Iterator[float]:
    """The learning rate of every step of a run."""
    optimizer = build_optimizer(nn.Linear(1, 1), settings)
    schedule = build_schedule(optimizer, settings, steps_per_epoch)
    for _ in range(settings.epochs * steps_per_epoch):
        yield optimizer.param_groups[0]["lr"]
        optimizer.step()
        schedule.step()


def test_a_run_with_a_graph_leaves_everything_that_is_needed(data: Path, graph: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = train(config("reasoning_rcnn_sample"), data, run, graphs=[graph], quiet=True)
    pictures = ["training.png"] if find_spec("matplotlib") else []
    assert sorted(path.name for path in run.iterdir()) == [
        "card.md",
        "classes.json",
        "config.json",
        "environment.json",
        "log.jsonl",
        "metrics.csv",
        "metrics.json",
        "model.safetensors",
        "per_class.csv",
        *pictures,
    ]
    assert json.loads((run / "metrics.json").read_text()) == result
    assert result["num_images"] == 3
    assert set(result["metrics"]) >= {"AP", "AP50", "ARl"}
    classes = json.loads((run / "classes.json").read_text())
    green = {"id": 2, "name": "green", "synset": "green.n.01", "train_images": 3}
    assert classes["classes"][0] == green
    assert [len(graph_hash) for graph_hash in classes["graph_hashes"]] == [64]
    log = steps(run)
    assert [record["step"] for record in log] == [1, 2, 3, 4]
    assert [record["epoch"] for record in log] == [1, 1, 2, 2]
    for record in log:
        assert record["loss"] == pytest.approx(sum(record["losses"].values()))
        assert {"stage1_class", "stage2_box", "rpn_box"} <= record["losses"].keys()
        assert record["stage2_context_sd_ratio"] > 0
        assert 0 < record["stage2_attention_max"] <= 1


def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    data: Path, graph: Path, tmp_path: Path
) -> None:
    runs = [tmp_path / name for name in ("one", "same", "other")]
    for run, seed in zip(runs, (0, 0, 1), strict=True):
        train(config("reasoning_rcnn_sample", seed=seed), data, run, graphs=[graph], quiet=True)
    one, same, other = runs
    assert steps(one) == steps(same)
    assert (one / "model.safetensors").read_bytes() == (same / "model.safetensors").read_bytes()
    assert steps(one) != steps(other)


def test_deterministic_runs_have_the_same_bits_and_leave_torch_as_it_was(
    data: Path, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watched(*given: Any) -> bool:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return fit(*given)

    monkeypatch.setattr("detector.train.fit", watched)
    settings = config("reasoning_rcnn_sample", deterministic=True)
    for name in ("one", "same"):
        train(settings, data, tmp_path / name, graphs=[graph], quiet=True)
    one, same = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "same"))
    assert one == same
    assert seen == [True, True]
    assert not torch.are_deterministic_algorithms_enabled()


def test_training_learns_squares_it_has_seen(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", train=4, test=2)
    settings = config(epochs=25, batch_size=2, flip=0.0)
    result = train(settings, data, tmp_path / "run", eval_split="train", quiet=True)
    log = steps(tmp_path / "run")
    assert log[-1]["loss"] < log[0]["loss"] / 2
    assert result["metrics"]["AP50"] > 0.9


def test_a_learning_rate_that_explodes_stops_the_run_and_names_loss_step_and_images(
    data: Path, tmp_path: Path
) -> None:
    settings = config(
        lr=1e30, schedule="constant", warmup_iterations=0, epochs=20, clip_norm=0, optimizer="sgd"
    )
    with pytest.raises(
        TrainingError, match=r"step \d+: .* is (nan|inf|-inf); images of this step: train_\d.png"
    ):
        train(settings, data, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_multistep_warms_up_and_drops_after_its_epochs() -> None:
    settings = TrainConfig(epochs=6, lr=0.5, milestones=(2, 4), warmup_iterations=5)
    found = list(lrs(settings, steps_per_epoch=10))
    warm_up = [0.5 * (0.001 + 0.999 * step / 5) for step in range(5)]
    assert found == pytest.approx(warm_up + [0.5] * 15 + [0.05] * 20 + [0.005] * 20)


def test_onecycle_is_torchs_own_with_its_defaults() -> None:
    settings = TrainConfig(epochs=3, lr=0.1, schedule="onecycle", optimizer="adamw")
    optimizer = torch.optim.AdamW(nn.Linear(1, 1).parameters(), lr=0.1)
    schedule = OneCycleLR(optimizer, max_lr=0.1, total_steps=21)
    expected = []
    for _ in range(21):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert list(lrs(settings, steps_per_epoch=7)) == expected
    assert max(expected) == pytest.approx(0.1, rel=0.01)


@pytest.mark.parametrize("schedule", ["multistep", "onecycle", "constant"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_every_schedule_lasts_a_run_of_one_step(schedule: str, optimizer: str) -> None:
    settings = TrainConfig(epochs=1, schedule=schedule, optimizer=optimizer, momentum=0.0)
    assert all(math.isfinite(lr) for lr in lrs(settings, steps_per_epoch=1))


def test_layers_that_do_not_train_are_left_out_of_the_optimiser() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    (group,) = build_optimizer(model, TrainConfig()).param_groups
    assert [parameter.shape for parameter in group["params"]] == [(1, 3), (1,)]


def test_evaluation_comes_as_often_as_asked_and_always_at_the_end(data: Path, tmp_path: Path) -> None:
    train(config(epochs=5, eval_every=2), data, tmp_path / "run", quiet=True)
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records if "metrics" in record] == [2, 4, 5]


def test_evaluating_on_the_way_does_not_change_the_training(data: Path, tmp_path: Path) -> None:
    for run, eval_every in (("often", 1), ("once", 0)):
        train(config(eval_every=eval_every), data, tmp_path / run, quiet=True)
    assert steps(tmp_path / "often") == steps(tmp_path / "once")


def test_a_run_starts_from_the_weights_of_another(data: Path, graph: Path, tmp_path: Path) -> None:
    base, run = tmp_path / "base", tmp_path / "run"
    train(config(), data, base, quiet=True)
    still = config("reasoning_rcnn_sample", lr=1e-30, weight_decay=0.0, epochs=1)
    train(still, data, run, graphs=[graph], init=base, quiet=True)
    before, after = load_file(base / "model.safetensors"), load_file(run / "model.safetensors")
    learned = [name for name in before if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(before[name], after[name]) for name in learned)
    assert len(after) > len(before)
    assert "tensors start from this run" in (run / "log.jsonl").read_text()


@pytest.mark.parametrize("recipe", ["reasoning_rcnn_sample", "class_lift_sample"])
def test_a_run_that_starts_from_another_has_the_graph_that_it_was_given(
    recipe: str, data: Path, graph: Path, tmp_path: Path
) -> None:
    """Else a control, started from a run with the right graph, would have the right graph."""
    other = write_graph(tmp_path / "other.npz", classes=("green", "red", "blue"))
    train(config(recipe, epochs=1), data, tmp_path / "base", graphs=[graph], quiet=True)
    run_with = {"fresh": None, "started": tmp_path / "base"}
    for name, init in run_with.items():
        train(config(recipe, epochs=1), data, tmp_path / name, graphs=[other], init=init, quiet=True)
    fresh, started, base = (load_file(tmp_path / run / "model.safetensors") for run in (*run_with, "base"))
    kept = [name for name in fresh if name.rpartition(".")[2] in KNOWLEDGE_BUFFERS]
    assert kept
    for name in kept:
        assert torch.equal(started[name], fresh[name])
        assert not torch.equal(started[name], base[name])


def test_a_run_of_other_classes_is_no_start(data: Path, tmp_path: Path) -> None:
    train(config(), data, tmp_path / "base", quiet=True)
    for split in ("train", "test"):
        change_json(data / f"{split}.json", lambda document: document["categories"][0].update(name="pink"))
    with pytest.raises(ClassMatchError, match="its classes are not those of --data in the same order"):
        train(config(), data, tmp_path / "run", init=tmp_path / "base", quiet=True)
    assert not (tmp_path / "run").exists()


def test_max_images_limits_both_splits(data: Path, tmp_path: Path) -> None:
    result = train(config(), data, tmp_path / "run", max_images=2, quiet=True)
    assert result["num_images"] == 2
    assert steps(tmp_path / "run")[-1]["step"] == 2  # one batch of three in each of two epochs


def break_json(data: Path) -> None:
    (data / "train.json").write_text('{"images": [')


def lose_image(data: Path) -> None:
    (data / "images" / "test_1.png").unlink()


def rename_test_class(data: Path) -> None:
    change_json(data / "test.json", lambda document: document["categories"][0].update(name="pink"))


def drop_boxes(data: Path) -> None:
    change_json(data / "train.json", lambda document: document.update(annotations=[]))


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (break_json, InputError, "train.json: Input data was truncated"),
        (lose_image, InputError, "test_1.png: no such image; .* expected them under --data"),
        (rename_test_class, ClassMatchError, "test.json: 1 classes of .*train.json are missing"),
        (drop_boxes, InputError, "no image with a box to train on"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_bad_data_is_found_before_the_run_folder_is_touched(
    data: Path, tmp_path: Path, spoil: Any, error: type[DetectorError], message: str, overwrite: bool
) -> None:
    run = tmp_path / "run"
    if overwrite:
        train(config(epochs=1), data, run, quiet=True)
    before = {path.name: path.read_bytes() for path in run.glob("*")}
    spoil(data)
    with pytest.raises(error, match=message):
        train(config(), data, run, overwrite=overwrite, quiet=True)
    assert {path.name: path.read_bytes() for path in run.glob("*")} == before
    assert run.exists() == overwrite


def test_a_graph_is_given_exactly_when_a_head_reads_it(data: Path, graph: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="reasoning_rcnn_sample needs a class graph and got none; give --graph"
    ):
        train(config("reasoning_rcnn_sample"), data, tmp_path / "run", quiet=True)
    with pytest.raises(ConfigError, match="no head of recipe faster_rcnn_sample reads a graph"):
        train(config(), data, tmp_path / "run", graphs=[graph], quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_run_with_two_graphs_has_both_hashes_and_comes_back(
    data: Path, graph: Path, tmp_path: Path
) -> None:
    other = write_graph(tmp_path / "other.npz", classes=("green", "red", "blue"))
    run = tmp_path / "run"
    train(config("reasoning_rcnn_sample"), data, run, graphs=[graph, other], quiet=True)
    hashes = json.loads((run / "classes.json").read_text())["graph_hashes"]
    assert len(hashes) == len(set(hashes)) == 2
    loaded = load_run(run, torch.device("cpu"))
    head = loaded.model.stages[1].head
    assert head.graphs.shape == (2, 3, 3)
    assert head.out_features == 128 + 2 * 64
    assert head.graphs.abs().sum(dim=(1, 2)).min() > 0


def test_a_graph_without_a_class_of_the_data_is_refused(data: Path, tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "other.npz", classes=("red", "gren", "blue"))
    with pytest.raises(ClassMatchError, match=r"green.*gren"):
        train(config("reasoning_rcnn_sample"), data, tmp_path / "run", graphs=[graph], quiet=True)
    assert not (tmp_path / "run").exists()


def test_nothing_is_overwritten_silently(data: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    train(config(epochs=1), data, run, quiet=True)
    with pytest.raises(OutputExistsError, match="give --overwrite"):
        train(config(), data, run, quiet=True)
    train(config(epochs=1), data, run, overwrite=True, quiet=True)
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputExistsError, match="holds other things than a run"):
        train(config(), data, other, overwrite=True, quiet=True)
    with pytest.raises(DetectorError, match=r"folder .*nowhere does not exist"):
        train(config(), data, tmp_path / "nowhere" / "run", quiet=True)


def test_an_image_that_cannot_be_decoded_is_named_and_the_steps_before_it_are_kept(
    data: Path, tmp_path: Path
) -> None:
    run, broken = tmp_path / "run", data / "images" / "train_3.png"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(InputError, match=r"train_3.png: cannot be decoded") as error:
        train(config(batch_size=1, seed=1), data, run, quiet=True)
    assert "\n" not in str(error.value)
    done = len(steps(run))
    assert 0 < done < 6, "the image is neither the first nor in a later epoch"
    load_run(run, torch.device("cpu"))
    assert torch.load(run / "state.pt", weights_only=True)["step"] == done


def test_a_full_gpu_is_one_line_with_the_settings_to_change(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, calls = RCNN.forward, []

    def full_at_the_third(model: RCNN, *inputs: Any) -> Any:
        calls.append(model)
        if len(calls) == 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines")
        return forward(model, *inputs)

    monkeypatch.setattr(RCNN, "forward", full_at_the_third)
    run = tmp_path / "run"
    with pytest.raises(TrainingError, match=r"^step 3: the GPU's memory is full; take a smaller") as error:
        train(config(batch_size=1), data, run, quiet=True)
    message = str(error.value)
    assert "\n" not in message
    for setting in ("train.batch_size", "train.accumulate", "model.min_size", "train.precision=bf16"):
        assert setting in message
        assert setting.partition("=")[0] in flatten(config())
    assert not (run / "metrics.json").exists()


def test_a_gpu_that_is_full_in_an_evaluation_costs_no_step_and_the_message_names_what_helps(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = RCNN.forward

    def full_with_two_images(model: RCNN, images: Any, targets: Any = None) -> Any:
        if not model.training and len(images) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(model, images, targets)

    whole, run = tmp_path / "whole", tmp_path / "run"
    expected = train(config(epochs=1, eval_batch_size=1), data, whole, quiet=True)
    monkeypatch.setattr(RCNN, "forward", full_with_two_images)
    message = (
        r"^evaluation after epoch 1: the GPU's memory is full; take a smaller train.eval_batch_size \(now 4\)"
    )
    with pytest.raises(TrainingError, match=message):
        train(config(epochs=1), data, run, quiet=True)
    assert torch.load(run / "state.pt", weights_only=True)["step"] == 2
    smaller = config(epochs=1, eval_batch_size=1)
    assert train(smaller, data, run, resume=True, quiet=True)["metrics"] == expected["metrics"]
    assert steps(run) == steps(whole), "no step was taken again"
    with pytest.raises(DetectorError, match=r"full with 2 images at a time; take a smaller --batch-size"):
        evaluate_run(run, data, batch_size=2)


@pytest.mark.parametrize("average_decay", [0.0, 0.9])
def test_a_run_evaluates_in_its_own_precision_and_so_does_eval(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, average_decay: float
) -> None:
    found = []

    def kept(*arguments: Any, **options: Any) -> Evaluation | None:
        evaluation = evaluate(*arguments, **options)
        assert evaluation is not None
        found.append(evaluation.detections)
        return evaluation

    monkeypatch.setattr("detector.training_loop.evaluate", kept)
    low = override(
        config(precision="bf16", channels_last=True, average_decay=average_decay),
        {"model.score_threshold": 0.0},
    )
    train(low, data, tmp_path / "run", quiet=True)
    again, wanted = (evaluate_run(tmp_path / "run", data, precision=kind) for kind in (None, "bf16"))
    exact = evaluate_run(tmp_path / "run", data, precision="float32")
    for other in (again, wanted):
        assert np.array_equal(found[0].score_N, other.detections.score_N)
        assert np.array_equal(found[0].boxes_xyxy, other.detections.boxes_xyxy)
    assert found[0].score_N.dtype == found[0].boxes_xyxy.dtype == np.float32
    best, best_exact = np.sort(found[0].score_N)[-3:], np.sort(exact.detections.score_N)[-3:]
    assert not np.array_equal(best, best_exact)
    assert best == pytest.approx(best_exact, rel=0.02)


def test_a_collapsed_head_is_reported(data: Path, graph: Path, tmp_path: Path) -> None:
    settings = override(config("reasoning_rcnn_sample"), {"model.stages.1.head.form": "printed"})
    base, run = tmp_path / "base", tmp_path / "run"
    train(settings, data, base, graphs=[graph], quiet=True)
    weights = load_file(base / "model.safetensors")
    weights["stages.1.head.transform.weight"] *= 1e-6
    save_file(weights, base / "model.safetensors")
    train(override(settings, {"train.lr": 1e-9}), data, run, graphs=[graph], init=base, quiet=True)
    collapsed, sound = (path / "log.jsonl" for path in (run, base))
    assert collapsed.read_text().count("what the reasoning head adds is too small to be used") == 1
    assert "too small to be used" not in sound.read_text()


def test_cuda_without_a_gpu_is_refused(data: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(MissingResourceError, match=r"--device cuda: no CUDA device found; use --device cpu"):
        train(config(), data, tmp_path / "run", device="cuda", quiet=True)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains_to_nearly_the_same_losses(data: Path, tmp_path: Path, precision: str) -> None:
    exact = {"regions_per_image": 100_000, "proposals.batch_size_per_image": 100_000}
    models = {f"model.{key}": value for key, value in exact.items()}
    plain, mixed = (override(config(precision=kind, flip=0.0), models) for kind in ("float32", precision))
    train(plain, data, tmp_path / "plain", quiet=True)
    train(mixed, data, tmp_path / "mixed", quiet=True)
    first, other = steps(tmp_path / "plain")[0], steps(tmp_path / "mixed")[0]
    assert other["losses"] == pytest.approx(first["losses"], rel=0.05)
    assert other["losses"] != first["losses"]
    assert all(math.isfinite(record["loss"]) for record in steps(tmp_path / "mixed"))


def test_the_average_of_the_weights_is_what_is_kept(data: Path, tmp_path: Path) -> None:
    for name, decay in (("last", 0.0), ("average", 0.9)):
        train(config(average_decay=decay), data, tmp_path / name, quiet=True)
    last, average = (load_file(tmp_path / name / "model.safetensors") for name in ("last", "average"))
    assert steps(tmp_path / "last") == steps(tmp_path / "average"), "the training itself is the same"
    weight = "stages.0.class_layer.weight"
    assert not torch.equal(last[weight], average[weight])


def test_cosine_falls_to_nothing_and_lr_grows_with_the_batch() -> None:
    settings = TrainConfig(epochs=2, lr=0.1, schedule="cosine", warmup_iterations=0)
    found = list(lrs(settings, steps_per_epoch=4))
    assert found == pytest.approx([0.05 * (1 + math.cos(math.pi * step / 8)) for step in range(8)])
    larger = TrainConfig(lr=0.1, schedule="constant", warmup_iterations=0, batch_size=4, reference_batch=16)
    assert next(lrs(larger, steps_per_epoch=4)) == pytest.approx(0.025)


def test_a_compiled_backbone_trains_to_the_same_losses(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch import nn

    compile_ = nn.Module.compile  # without code generation, which takes a minute
    monkeypatch.setattr(nn.Module, "compile", lambda module: compile_(module, backend="aot_eager"))
    for name, compiled in (("plain", False), ("compiled", True)):
        train(config(epochs=1, compile=compiled), data, tmp_path / name, quiet=True)
    plain, other = (steps(tmp_path / name) for name in ("plain", "compiled"))
    for mine, theirs in zip(plain, other, strict=True):
        assert mine["losses"] == pytest.approx(theirs["losses"], rel=1e-3)
    load_run(tmp_path / "compiled", torch.device("cpu"))
