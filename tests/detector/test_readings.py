"""Numbers of steps, read one by one or several together."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_data import write_data, write_graph
from torch import Tensor

from detector import readings, training_step
from detector.annotations import load_annotations
from detector.augmentation import Augmentation
from detector.config import Config
from detector.data import ImageDataset, iter_batches, load_batches
from detector.errors import TrainingError
from detector.overrides import override
from detector.rcnn import RCNN
from detector.readings import StepNumbers
from detector.recipes import load_recipe
from detector.train import train

COLLAPSED = "what the reasoning head adds is too small to be used"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_graph(tmp_path / "graph.npz")


def config(recipe: str = "reasoning_rcnn_sample", **settings: object) -> Config:
    few = {"train.epochs": 2, "train.batch_size": 2, "train.average_decay": 0.9}
    return override(
        load_recipe(recipe), {**few, **{f"train.{key}": value for key, value in settings.items()}}
    )


def lines(run: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


@pytest.mark.parametrize("together", [2, 100])
def test_numbers_read_together_are_those_read_one_by_one(
    data: Path, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    train(config(), data, tmp_path / "one", graphs=[graph], quiet=True)
    monkeypatch.setitem(readings.STEPS_PER_READING, "cpu", together)
    train(config(), data, tmp_path / "run", graphs=[graph], max_minutes=1e-9, quiet=True)
    assert [record["step"] for record in lines(tmp_path / "run") if "lr" in record] == [1], "a stop reads"
    train(config(), data, tmp_path / "run", graphs=[graph], resume=True, quiet=True)
    one, run = tmp_path / "one", tmp_path / "run"
    steps, others = ([record for record in lines(path) if "lr" in record] for path in (one, run))
    assert others == steps
    assert len(steps) == 6
    assert (one / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


@pytest.mark.parametrize("together", [1, 10])
def test_the_first_number_that_is_not_finite_is_named_whenever_it_is_read(
    data: Path, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    order: list[list[str]] = []
    take_step = training_step.take_step

    def spoiled(net: Any, state: Any, *rest: Any) -> StepNumbers:
        found = take_step(net, state, *rest)
        order.append(list(found.images))
        if found.step >= 2:  # as a loss that explodes stays so
            found.losses["stage2_box"].fill_(float("nan"))  # type: ignore[attr-defined]
        return found

    monkeypatch.setitem(readings.STEPS_PER_READING, "cpu", together)
    monkeypatch.setattr("detector.training_loop.take_step", spoiled)
    with pytest.raises(TrainingError) as error:
        train(config(), data, tmp_path / "run", graphs=[graph], quiet=True)
    assert len(order) == (2 if together == 1 else 3), "together: read at the end of the epoch"
    start = f"step 2: stage2_box is nan; images of this step: {', '.join(order[1])}; try"
    assert str(error.value).startswith(start)
    assert [record["step"] for record in lines(tmp_path / "run") if "lr" in record] == [1]
    assert not (tmp_path / "run" / "state.pt").exists(), "nothing is kept of what is not finite"


def test_what_fails_after_a_number_that_is_not_finite_is_told_as_that(
    data: Path, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_step = training_step.take_step

    def failing(net: Any, state: Any, *rest: Any) -> StepNumbers:
        if state.step == 1:
            raise RuntimeError("index out of range, as boxes that are no numbers may give")
        found = take_step(net, state, *rest)
        found.losses["stage2_box"].fill_(float("inf"))  # type: ignore[attr-defined]
        return found

    monkeypatch.setitem(readings.STEPS_PER_READING, "cpu", 10)
    monkeypatch.setattr("detector.training_loop.take_step", failing)
    with pytest.raises(TrainingError, match="step 1: stage2_box is inf"):
        train(config(), data, tmp_path / "run", graphs=[graph], quiet=True)


WAITS = ("item", "tolist", "numpy", "cpu", "__float__", "__bool__")


def test_outside_the_model_a_step_waits_for_no_number(
    data: Path, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU would stand still at each; what a model needs to know itself is another matter."""
    in_step, waits = [False], []
    take_step, forward = training_step.take_step, RCNN.forward

    def watched_step(net: Any, state: Any, sizes: Any, parts: Any, *rest: Any) -> StepNumbers:
        loaded = iter(list(parts))
        in_step[0] = True
        found = take_step(net, state, sizes, loaded, *rest)
        in_step[0] = False
        return found

    def unwatched_forward(*arguments: Any) -> Any:
        before, in_step[0] = in_step[0], False
        losses = forward(*arguments)
        in_step[0] = before
        return losses

    def watch(name: str) -> None:
        method = getattr(Tensor, name)

        def watched(tensor: Tensor, *arguments: Any) -> Any:
            if in_step[0]:
                waits.append(name)
            return method(tensor, *arguments)

        monkeypatch.setattr(Tensor, name, watched)

    for name in WAITS:
        watch(name)
    monkeypatch.setattr("detector.training_loop.take_step", watched_step)
    monkeypatch.setattr(RCNN, "forward", unwatched_forward)
    settings = config(epochs=1, optimizer="sgd")  # adamw counts its steps in a tensor on the CPU
    train(settings, data, tmp_path / "run", graphs=[graph], quiet=True)
    assert waits == []
    in_step[0] = True
    torch.zeros(()).item()
    assert waits == ["item"], "the watch works"


def test_what_the_program_reads_of_a_target_stays_where_it_reads_it(data: Path) -> None:
    annotations = load_annotations(data, "train")
    dataset = ImageDataset(annotations, np.arange(2), augmentation=Augmentation(short_sides=(64,)))
    ((images, targets),) = iter_batches(load_batches(dataset, [np.arange(2)]), "meta")
    assert all(image.device.type == "meta" for image in images)
    for target in targets:
        places = {name: value.device.type for name, value in target.items()}
        assert places == {"boxes": "meta", "labels": "meta", "image": "cpu", "short_side": "cpu"}


def collapsed_start(data: Path, graph: Path, tmp_path: Path) -> Path:
    """A run whose reasoning head adds next to nothing."""
    base = tmp_path / "base"
    train(printed(epochs=1), data, base, graphs=[graph], quiet=True)
    weights = load_file(base / "model.safetensors")
    weights["stages.1.head.transform.weight"] *= 1e-6
    save_file(weights, base / "model.safetensors")
    return base


def printed(**settings: object) -> Config:
    return override(config(**settings), {"model.stages.1.head.form": "printed"})


def warnings_of(run: Path) -> list[str]:
    return [record["message"] for record in lines(run) if COLLAPSED in record.get("message", "")]


def scripted(monkeypatch: pytest.MonkeyPatch, ratios: Iterator[float]) -> None:
    """Let the reasoning head say these ratios of spreads, one a step."""

    def say(model: RCNN) -> dict[str, Tensor]:
        return {"stage2_context_sd_ratio": torch.tensor(next(ratios))}

    monkeypatch.setattr(RCNN, "diagnostics", say)


@pytest.mark.parametrize(("ratios", "warned"), [([1e-2, 0.0, 0.0], 0), ([1e-3, 0.0, 0.0], 1)])
def test_an_epoch_that_was_stopped_is_judged_whole(
    data: Path,
    graph: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ratios: list[float],
    warned: int,
) -> None:
    run, said = tmp_path / "run", iter(ratios)
    scripted(monkeypatch, said)
    train(config(epochs=1), data, run, graphs=[graph], max_minutes=1e-9, quiet=True)
    assert warnings_of(run) == [], "after one of three steps"
    train(config(epochs=1), data, run, graphs=[graph], resume=True, quiet=True)
    assert next(said, None) is None
    assert len(warnings_of(run)) == warned


def test_a_run_that_goes_on_does_not_warn_again(data: Path, graph: Path, tmp_path: Path) -> None:
    base, run = collapsed_start(data, graph, tmp_path), tmp_path / "run"
    still = override(printed(), {"train.lr": 1e-9})
    for _ in range(4):  # the last of these is in the second epoch
        train(still, data, run, graphs=[graph], init=base, resume=True, max_minutes=1e-9, quiet=True)
    assert len(warnings_of(run)) == 1
    train(still, data, run, graphs=[graph], init=base, resume=True, quiet=True)
    assert len(warnings_of(run)) == 1
