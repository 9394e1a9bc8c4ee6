"""Exports run without the detector and give what it gives; one that does not is not left behind."""

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_data import change_json, write_data
from torchvision.ops import ps_roi_align

import detector.export as module
from detector import load
from detector.data import load_image
from detector.errors import (
    ConfigError,
    DetectorError,
    InputError,
    MissingResourceError,
    OutputExistsError,
)
from detector.export import Columns, Runner, export_run
from detector.export_operators import position_sensitive
from detector.nms import SoftNMSConfig
from detector.overrides import override
from detector.recipes import load_recipe
from detector.train import train
from kgtool.graph import make_graph, save_graph


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("export") / "data", train=6, test=2)


@pytest.fixture(scope="module")
def make_run(data: Path) -> Callable[..., Path]:
    """Train a recipe for a moment, each once."""
    counts = np.array([[0, 9, 2], [9, 0, 1], [2, 1, 5]])
    names = ("blue", "green", "red")
    graph = make_graph(
        classes=names,
        synsets=[f"{name}.n.01" for name in names],
        weight=counts / 9,
        counts=counts,
        kind="relation",
        recipe={"name": "paper", "num_terms": 0},
        dataset="squares",
    )
    save_graph(graph, data.parent / "graph.npz")

    def make(recipe: str, regions: str = "") -> Path:
        run = data.parent / f"{recipe}{regions}"
        if not run.exists():
            config = override(load_recipe(recipe), {"train.epochs": 5, "train.batch_size": 2})
            config = override(config, {"model.stages.1.regions": regions} if regions else {})
            graphs = [data.parent / "graph.npz"] if recipe == "reasoning_rcnn_sample" else []
            train(config, data, run, graphs=graphs, quiet=True)
        return run

    return make


def run_onnx(path: Path) -> tuple[Runner, dict[str, str]]:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra onnx)")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return (
        lambda image: tuple(session.run(None, {"image": image.numpy()})),
        session.get_modelmeta().custom_metadata_map,
    )


def run_program(path: Path) -> tuple[Runner, dict[str, str]]:
    extra = {"metadata.json": ""}
    with path.open("rb") as file:
        program = torch.export.load(file, extra_files=extra).module()
    return lambda image: tuple(column.detach().numpy() for column in program(image)), json.loads(
        extra["metadata.json"]
    )


@pytest.mark.parametrize(
    ("recipe", "form"),
    [
        ("faster_rcnn_sample", "onnx"),
        ("reasoning_rcnn_sample", "onnx"),
        ("reasoning_rcnn_sample", "torch-export"),
        ("sgrn_sample", "onnx"),
        ("light_head_sample", "onnx"),
        ("relation_nms_sample", "onnx"),
    ],
)
def test_an_export_alone_gives_what_the_detector_gives(
    make_run: Callable[[str], Path], data: Path, tmp_path: Path, recipe: str, form: str
) -> None:
    if form == "onnx":
        pytest.importorskip("onnx", reason="onnx is not installed (extra onnx)")
    run, out = make_run(recipe), tmp_path / "export"
    threshold = 0.0 if recipe == "relation_nms_sample" else 0.02  # its scores are products
    done = export_run(run, out, format=form, images=[data / "images" / "train_0.png"], threshold=threshold)
    assert (done.height, done.width, done.images_checked) == (64, 64, 3)
    assert done.detections_compared > 0
    assert done.box_difference_px < 0.01
    assert done.score_difference < 1e-4
    runner, metadata = (run_onnx if form == "onnx" else run_program)(out)
    detect = load(run, threshold=threshold, device="cpu")
    classes = json.loads(metadata["classes"])
    assert classes == list(detect.class_names)
    assert metadata["recipe"] == recipe
    for path in sorted((data / "images").glob("test_*.png")):  # images that the export has not seen
        [expected] = detect([path])
        boxes, class_N, scores = runner(load_image(path).float() / 255)
        assert np.allclose(boxes, expected.boxes, atol=0.01)
        assert np.allclose(scores, expected.scores, atol=1e-4)
        assert tuple(classes[index] for index in class_N) == expected.names


@pytest.mark.parametrize("form", ["onnx", "torch-export"])
def test_a_stage_that_keeps_its_regions_is_exported_too(
    make_run: Callable[..., Path], data: Path, tmp_path: Path, form: str
) -> None:
    """At a threshold above the image without anything: all places there are alike, and chance picks some."""
    if form == "onnx":
        pytest.importorskip("onnx", reason="onnx is not installed (extra onnx)")
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra onnx)")
    run, images = make_run("reasoning_rcnn_sample", "kept"), [data / "images"]
    done = export_run(run, tmp_path / "export", format=form, images=images, threshold=0.04)
    assert done.images_checked > 3
    assert done.detections_compared > done.images_checked
    assert done.box_difference_px < 0.01
    assert done.score_difference < 1e-4


@pytest.mark.parametrize("form", ["onnx", "torch-export"])
def test_exported_learned_removal_also_finds_nothing(
    make_run: Callable[[str], Path], data: Path, tmp_path: Path, form: str
) -> None:
    """As where no class is above the threshold under which a class does not take part."""
    if form == "onnx":
        pytest.importorskip("onnx", reason="onnx is not installed (extra onnx)")
    run, image = tmp_path / "run", data / "images" / "train_0.png"
    shutil.copytree(make_run("relation_nms_sample"), run)
    pictures = module._load_pictures([image], None)
    plain = module.PlainDetector(module.load_run(run, torch.device("cpu")).model)
    best: list[float] = []
    plain.model.duplicate_removal.register_forward_pre_hook(
        lambda _, given: best.append(float(given[0][:, 1:].max()))
    )
    with torch.no_grad():
        for picture in pictures:
            plain(picture)
    assert best[0] > best[-1], "an object is surer than noise"
    threshold = (best[0] + best[-1]) / 2
    change_json(
        run / "config.json",
        lambda config: config["settings"].update({"model.duplicate_removal.class_threshold": threshold}),
    )
    export_run(run, tmp_path / "export", format=form, images=[image], threshold=0.0)
    runner, _ = (run_onnx if form == "onnx" else run_program)(tmp_path / "export")
    assert [len(runner(picture)[0]) > 0 for picture in (pictures[0], pictures[-1])] == [True, False]


@pytest.mark.parametrize("points", [1, 2, 3])
def test_position_sensitive_pooling_is_that_of_torchvision(points: int) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3 * 25, 12, 17, generator=generator)
    corners = torch.rand(40, 2, generator=generator) * 200 - 20
    sides = torch.rand(40, 2, generator=generator) * 150
    sides[:3] = 0
    image = torch.randint(0, 2, (40, 1), generator=generator).float()
    boxes = torch.cat([image, corners, corners + sides], dim=1)
    expected = ps_roi_align(maps, boxes, 5, 1 / 16, points)
    assert torch.equal(position_sensitive(maps, boxes, 5, 1 / 16, points), expected)


def test_a_failed_export_leaves_stdout_to_the_command(
    make_run: Callable[[str], Path],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed (extra onnx)")
    monkeypatch.setattr(module, "onnx_operators", lambda opset: nullcontext())
    with pytest.raises(
        DetectorError, match=r"recipe light_head_sample cannot be exported as onnx: .*ps_roi_al"
    ):
        export_run(
            make_run("light_head_sample"),
            tmp_path / "out",
            format="onnx",
            images=[data / "images/train_0.png"],
        )
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("wrong", ["box", "score", "class", "fewer", "failure"])
def test_an_export_that_gives_something_else_is_not_left_behind(
    make_run: Callable[[str], Path],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrong: str,
) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed (extra onnx)")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra onnx)")
    make_runner = module._onnx_runner

    def spoilt(path: Path) -> Runner:
        runner = make_runner(path)

        def run(image: torch.Tensor) -> Columns:
            boxes, classes, scores = runner(image)
            if wrong == "failure":
                raise RuntimeError("bad node")
            return {
                "box": (boxes + 1, classes, scores),
                "score": (boxes, classes, scores + 0.01),
                "class": (boxes, (classes + 1) % 3, scores),
                "fewer": (boxes[1:], classes[1:], scores[1:]),
            }[wrong]

        return run

    monkeypatch.setattr(module, "_onnx_runner", spoilt)
    with pytest.raises(DetectorError, match="bad node" if wrong == "failure" else "detects something else"):
        export_run(
            make_run("faster_rcnn_sample"),
            tmp_path / "export.onnx",
            format="onnx",
            images=[data / "images" / "train_0.png"],
            threshold=0.02,
        )
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused_in_one_line(
    make_run: Callable[[str], Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out, images = make_run("faster_rcnn_sample"), tmp_path / "out", [data / "images"]
    with pytest.raises(ConfigError, match="expected onnx or torch-export"):
        export_run(run, out, format="tflite", images=images)
    trained = module.load_run(run, torch.device("cpu"))
    soft = replace(trained.config.model, duplicate_removal=SoftNMSConfig())
    with pytest.raises(ConfigError, match=r"its duplicate removal is Soft-NMS, which .* expected greedy NMS"):
        module._check_exportable(replace(trained, config=replace(trained.config, model=soft)))
    with pytest.raises(InputError, match="the detector finds nothing in them"):
        module._compare(lambda image: no_detections(), lambda image: none_found(), [torch.zeros(3, 8, 8)])
    (tmp_path / "there").write_text("mine")
    with pytest.raises(OutputExistsError, match="give --overwrite"):
        export_run(run, tmp_path / "there", format="onnx", images=images)
    assert (tmp_path / "there").read_text() == "mine"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingResourceError, match=r"needs onnx.*pip install 'kgtool-detector\[onnx\]'"):
        export_run(run, out, format="onnx", images=images)
    assert not out.exists()


def no_detections() -> tuple[torch.Tensor, ...]:
    return torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0)


def none_found() -> Columns:
    boxes, classes, scores = (column.numpy() for column in no_detections())
    return boxes, classes, scores
