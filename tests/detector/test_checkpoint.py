"""A run folder brings its detector back, or says in one line why it cannot."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_data import change_json, write_data, write_graph

from detector.checkpoint import load_config, load_run, save_weights
from detector.config import Config
from detector.data import load_image
from detector.errors import ConfigError, DetectorError, InputError
from detector.overrides import override
from detector.recipes import load_recipe
from detector.train import train

CPU = torch.device("cpu")


def settings() -> Config:
    changes = {"train.epochs": 3, "train.batch_size": 3, "model.stages.1.head.width": 24, "train.flip": 0.25}
    return override(load_recipe("reasoning_rcnn_sample"), changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a graph, made once; tests work on copies."""
    folder = tmp_path_factory.mktemp("trained")
    data, graph = write_data(folder / "data"), write_graph(folder / "graph.npz")
    train(settings(), data, folder / "run", graphs=[graph], quiet=True)
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_a_run_comes_back_with_its_configuration_classes_and_graph(run: Path) -> None:
    loaded = load_run(run, CPU)
    assert loaded.config == settings()
    assert loaded.classes.names == ("green", "red", "blue")
    assert loaded.classes.category_ids == (2, 7, 30)
    graph = loaded.model.stages[1].head.graphs
    assert graph.abs().sum() > 0  # it was built with zeros and filled from the weights
    assert not loaded.model.training


def test_saving_and_loading_changes_no_detection_and_no_byte(
    run: Path, trained: Path, tmp_path: Path
) -> None:
    image = load_image(trained.parent / "data" / "images" / "train_0.png").float() / 255
    first = load_run(run, CPU)
    save_weights(first.model, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    with torch.inference_mode():
        (one,), (two,) = (load_run(run, CPU).model([image]) for _ in range(2))
        (three,) = first.model([image])
    assert len(one["scores"]) > 0
    for name in ("boxes", "labels", "scores"):
        assert torch.equal(one[name], two[name])
        assert torch.equal(one[name], three[name])


def test_a_run_outlives_a_change_of_its_recipe(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from detector import recipes

    expected = settings()
    changed = override(
        load_recipe("reasoning_rcnn_sample"), {"model.stages.0.head.width": 32, "train.lr": 1.0}
    )
    monkeypatch.setitem(recipes.RECIPES, "reasoning_rcnn_sample", lambda: changed)
    assert load_run(run, CPU).config == expected


def test_a_crash_while_saving_leaves_the_last_good_weights(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detector import checkpoint

    before = (run / "model.safetensors").read_bytes()

    def fail_half_way(tensors: object, path: Path, **rest: object) -> None:
        path.write_bytes(before[:1000])
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint, "save_file", fail_half_way)
    with pytest.raises(OSError, match="no space left"):
        save_weights(load_run(run, CPU).model, run)
    assert (run / "model.safetensors").read_bytes() == before
    assert not list(run.glob(".*"))


def drop_tensor(run: Path) -> None:
    tensors = load_file(run / "model.safetensors")
    tensors.pop("stages.0.class_layer.bias")
    save_file(tensors, run / "model.safetensors")


def add_class(run: Path) -> None:
    row = {"id": 99, "name": "pink", "synset": ""}
    change_json(run / "classes.json", lambda document: document["classes"].append(row))


def truncate_weights(run: Path) -> None:
    weights = run / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])


def pickle_weights(run: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, run / "model.safetensors")


def rename_setting(document: dict[str, Any]) -> None:
    document["settings"]["train.lrr"] = document["settings"].pop("train.lr")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (drop_tensor, InputError, "tensor 'stages.0.class_layer.bias' is missing; expected the"),
        (
            add_class,
            InputError,
            r"tensor 'stages.\S+' has shape \[\d.*\]; expected \[\d.*\] for this config.json",
        ),
        (truncate_weights, InputError, "cannot be read as safetensors"),
        (pickle_weights, InputError, "cannot be read as safetensors"),
        (lambda run: (run / "model.safetensors").unlink(), InputError, "has not finished its first epoch"),
        (lambda run: (run / "config.json").unlink(), InputError, "no config.json; expected a run folder"),
        (lambda run: (run / "config.json").write_text("{"), InputError, "config.json: not valid JSON"),
        (
            lambda run: (run / "config.json").write_text("[]"),
            InputError,
            "found a JSON list; expected an object",
        ),
        (lambda run: (run / "config.json").write_text("{}"), InputError, "expected the keys recipe"),
        (
            lambda run: change_json(run / "classes.json", lambda document: document.pop("graph_hashes")),
            InputError,
            "classes.json: found no graph_hashes; expected a run of this version; train it again",
        ),
        (
            lambda run: change_json(run / "classes.json", lambda document: document.pop("classes")),
            InputError,
            r"found KeyError\('classes'\); expected graph_hashes and classes",
        ),
        (lambda run: (run / "classes.json").unlink(), InputError, "classes.json: cannot be read"),
        (
            lambda run: change_json(run / "config.json", rename_setting),
            ConfigError,
            "setting train.lrr: not known; did you mean .*train.lr",
        ),
        (
            lambda run: change_json(
                run / "config.json", lambda document: document.update(recipe="reasoning")
            ),
            ConfigError,
            "recipe reasoning: not known",
        ),
    ],
)
def test_a_spoilt_run_is_refused_in_one_line(
    run: Path, spoil: Any, error: type[DetectorError], message: str
) -> None:
    spoil(run)
    with pytest.raises(error, match=message) as caught:
        load_run(run, CPU)
    assert "\n" not in str(caught.value)


def test_loading_a_run_downloads_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of an ImageNet recipe has its own weights: the backbone's first ones are not fetched again."""
    change_json(
        run / "config.json", lambda document: document["settings"].update({"model.backbone.weights": "gone"})
    )
    assert load_config(run).model.backbone.weights == "gone"
    assert load_run(run, CPU).classes.names == ("green", "red", "blue")


def test_the_stored_settings_are_flat_and_whole(run: Path) -> None:
    document = json.loads((run / "config.json").read_text())
    assert document["recipe"] == "reasoning_rcnn_sample"
    assert document["settings"]["model.stages.1.head.width"] == 24
    assert document["settings"]["model.proposals.anchor_sizes"] == [[10, 16, 26, 42]]
    assert not any(isinstance(value, dict) for value in document["settings"].values())
