"""The commands: from data to a picture, and one line and an exit code for whatever is wrong."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from tiny_data import change_json, write_data, write_graph

from detector.cli import main


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_graph(tmp_path / "graph.npz")


def call(*arguments: object) -> int:
    """Run the command in this process; return its exit code."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


TRAIN = ("train", "--recipe", "reasoning_rcnn_sample", "--epochs", 2, "--batch-size", 3)


def test_train_eval_and_predict_end_to_end(
    data: Path, graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    assert call(*TRAIN, "--data", data, "--graph", graph, "--out", run, "--json") == 0
    output = capsys.readouterr()
    trained = json.loads(output.out)
    assert trained["run"] == str(run)
    assert "reasoning_rcnn_sample: 0." in output.err
    assert "epoch 2/2" in output.err

    assert call("eval", run, "--data", data, "--json") == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert evaluated["metrics"] == trained["metrics"]
    assert call("eval", run, "--data", data, "--backend", "pycocotools") == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "test.json, 3 images, box metrics in percent"
    assert [line.split()[0] for line in table[1:]] == [
        "AP",
        "AP50",
        "AP75",
        "APs",
        "APm",
        "APl",
        "AR1",
        "AR10",
        "AR100",
        "ARs",
        "ARm",
        "ARl",
        "APr",
        "APc",
        "APf",
        "VOC50",
    ]
    assert table[12].split() == ["ARl", "-"]  # no large box
    assert table[14].split() == ["APc", "-"]  # no class has more than ten images

    assert call("predict", run, data / "images", "--out", out, "--threshold", 0, "--json") == 0
    predicted = json.loads(capsys.readouterr().out)
    assert predicted["detections"] == json.loads((out / "detections.json").read_text())
    assert len(predicted["pictures"]) == 9
    assert all(Path(picture).is_file() for picture in predicted["pictures"])


def test_flags_beat_set_and_set_beats_the_recipe(data: Path, graph: Path, tmp_path: Path) -> None:
    options = ("--set", "train.epochs=9", "--set", "train.lr=0.001", "--set", "model.stages.1.head.width=8")
    run = tmp_path / "run"
    assert call(*TRAIN, *options, "--seed", 5, "--data", data, "--graph", graph, "--out", run) == 0
    settings = json.loads((run / "config.json").read_text())["settings"]
    assert settings["train.epochs"] == 2
    assert settings["train.lr"] == 0.001
    assert settings["model.stages.1.head.width"] == 8
    assert settings["train.seed"] == 5
    assert settings["train.weight_decay"] == 0.01


def test_show_config_tells_every_setting_and_where_it_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Flag beats environment, environment beats --set, --set beats the recipe."""
    run = tmp_path / "run"
    command = ("train", "--recipe", "faster_rcnn_sample", "--data", tmp_path, "--out", run, "--show-config")
    options = ("--set", "train.epochs=9", "--set", "train.seed=9", "--set", "train.lr=0.5", "--epochs", 2)
    monkeypatch.setenv("DETECTOR_TRAIN_EPOCHS", "7")
    monkeypatch.setenv("DETECTOR_TRAIN_SEED", "8")
    assert call(*command, *options, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    settings = shown["settings"]
    assert settings["train.epochs"] == {"value": 2, "from": "--epochs"}
    assert settings["train.seed"] == {"value": 8, "from": "environment DETECTOR_TRAIN_SEED"}
    assert settings["train.lr"] == {"value": 0.5, "from": "--set"}
    assert settings["train.batch_size"] == {"value": 8, "from": "recipe"}
    monkeypatch.setenv("DETECTOR_TRAIN_ASSIGNMENTS", "train.flip=0.25")
    assert call(*command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "recipe faster_rcnn_sample"
    assert "train.flip=0.25    # environment DETECTOR_TRAIN_ASSIGNMENTS" in lines
    assert "train.epochs=7    # environment DETECTOR_TRAIN_EPOCHS" in lines
    assert len(lines) == 1 + len(settings)
    assert not run.exists()


def test_a_dry_run_checks_everything_and_writes_nothing(
    data: Path, graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    command = (*TRAIN, "--data", data, "--graph", graph, "--out", tmp_path / "run", "--dry-run")
    assert call(*command, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["train_images"], found["eval_images"], found["classes"]) == (6, 3, 3)
    assert found["steps"] == 4
    assert "stage2_class" in found["losses"]
    assert call(*command) == 0
    assert "; nothing was written" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before
    (data / "images" / "test_2.png").unlink()
    assert call(*command) == 3
    assert "test_2.png: no such image; test.json names 3 and 1 are missing" in capsys.readouterr().err
    assert call(*TRAIN, "--data", data, "--out", tmp_path / "run", "--dry-run") == 2


def test_recipes_are_listed_with_their_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("recipes", "--json") == 0
    summaries = json.loads(capsys.readouterr().out)
    assert summaries["faster_rcnn_r50_fpn"].startswith("Faster R-CNN, ResNet-50-FPN")
    assert call("recipes") == 0
    listed = capsys.readouterr().out
    assert all(f"{name}\n    {summary}\n" in listed for name, summary in summaries.items())
    assert call("recipes", "reasoning_rcnn_sample") == 0
    assert "\nmodel.stages.1.head.form=working\n" in capsys.readouterr().out


def cut_in_half(path: Path) -> None:
    path.write_text(path.read_text()[: path.stat().st_size // 2])


def of_another_version(path: Path) -> None:
    """Change the version in a graph file."""
    import numpy as np

    with np.load(path, allow_pickle=False) as stored:
        arrays = dict(stored)
    header = {**json.loads(str(arrays["meta"])), "version": "2.0"}
    arrays["meta"] = np.array(json.dumps(header, sort_keys=True))
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("arguments", "spoil", "exit_code", "message"),
    [
        (("--recipe", "reasoning_rcnn_samples"), None, 2, "did you mean reasoning_rcnn_sample"),
        (("--set", "train.learning_rate=1"), None, 2, "setting train.learning_rate: not known"),
        (("--set", "lr=1"), None, 2, "did you mean train.lr?"),
        (("--set", "model.backbone.trainable_layers=9"), None, 2, "found 9; expected 0 to 5"),
        (("--set", "train.milestones=-1"), None, 2, "train.milestones: found (-1,); expected epochs"),
        (("--set", "model.stages.1.head.form=print"), None, 2, "expected printed or released or working"),
        (("--epochs", "0"), None, 2, "Invalid value for '--epochs'"),
        (("--batchsize", "2"), None, 2, "No such option '--batchsize'"),
        (("--graph", "nowhere.npz"), None, 3, "nowhere.npz"),
        ((), lambda data, graph: cut_in_half(data / "train.json"), 3, "train.json: Input data was truncated"),
        ((), lambda data, graph: (data / "images" / "train_3.png").unlink(), 3, "train_3.png: no such image"),
        ((), lambda data, graph: of_another_version(graph), 3, "version"),
        ((), lambda data, graph: graph.write_text("no graph"), 3, "graph.npz"),
        (
            (),
            lambda data, graph: change_json(
                data / "train.json", lambda document: document["categories"][0].update(name="rad", synset="")
            ),
            4,
            "rad",
        ),
        (("--device", "cuda"), None, 5, "no CUDA device found"),
    ],
)
def test_everything_wrong_is_one_line_an_exit_code_and_no_run_folder(
    data: Path,
    graph: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    spoil: object,
    exit_code: int,
    message: str,
) -> None:
    import torch

    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    if spoil:
        spoil(data, graph)
    run = tmp_path / "run"
    assert call(*TRAIN, "--data", data, "--graph", graph, "--out", run, *arguments) == exit_code
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err
    if not output.err.startswith("Usage"):
        assert len(output.err.splitlines()) == 1
        assert output.err.startswith("detector: ")
    assert not run.exists()
    assert not list(tmp_path.glob("*.part"))


def test_eval_of_other_classes_is_refused_with_code_four(
    data: Path, graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    call(*TRAIN, "--data", data, "--graph", graph, "--out", run)
    change_json(data / "test.json", lambda document: document["categories"][0].update(name="reed"))
    capsys.readouterr()
    assert call("eval", run, "--data", data) == 4
    assert "'red' is not in the data (near: reed)" in capsys.readouterr().err


def test_a_broken_image_costs_predict_code_three_and_one_line(
    data: Path, graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    call(*TRAIN, "--data", data, "--graph", graph, "--out", run)
    (data / "images" / "train_0.png").write_bytes(b"broken")
    capsys.readouterr()
    assert call("predict", run, data / "images", "--out", tmp_path / "out") == 3
    output = capsys.readouterr()
    assert f" detections in 8 images: {tmp_path / 'out'}" in output.out
    assert len(output.err.splitlines()) == 1
    assert "train_0.png: cannot be decoded" in output.err


def test_an_unknown_command_gets_its_near_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("evaluate") == 2
    error = capsys.readouterr().err
    assert "No such command 'evaluate'. Did you mean" in error
    assert "eval?" in error


def test_interruption_is_code_130_and_not_a_traceback(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import detector.train as module

    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "fit", interrupt)
    assert call("train", "--recipe", "faster_rcnn_sample", "--data", data, "--out", tmp_path / "run") == 130
    assert capsys.readouterr().err.endswith("detector: interrupted\n")


def test_being_terminated_is_code_143_and_the_steps_done_are_kept(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import detector.readings as module

    def terminate(numbers: object, step: int, *rest: object) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(module, "check_finite", terminate)
    command = ("train", "--recipe", "faster_rcnn_sample", "--batch-size", 1, "--data", data, "--out")
    monkeypatch.setattr(sys, "argv", ["detector", *map(str, command), str(tmp_path / "run")])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert end.value.code == 143
    assert "Traceback" not in capsys.readouterr().err
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_evaluation_says_so_by_its_code_and_leaves_no_file(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    code: int,
) -> None:
    import detector.evaluate as module

    run = tmp_path / "run"
    plain = ("train", "--recipe", "faster_rcnn_sample", "--epochs", 1, "--data", data, "--out", run)
    assert call(*plain) == 0
    to_arrays, seen = module.to_arrays, []

    def stop_at_the_second_image(output: dict[str, torch.Tensor]) -> object:
        seen.append(output)
        if len(seen) == 2:
            os.kill(os.getpid(), number)
        return to_arrays(output)

    monkeypatch.setattr(module, "to_arrays", stop_at_the_second_image)
    files = ("--save-predictions", tmp_path / "found.json", "--per-class", tmp_path / "classes.csv")
    command = map(str, ("eval", run, "--data", data, *files))
    monkeypatch.setattr(sys, "argv", ["detector", *command])
    capsys.readouterr()
    before, there = signal.getsignal(signal.SIGTERM), sorted(tmp_path.iterdir())
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert end.value.code == code
    output = capsys.readouterr()
    assert output.out == ""
    assert "Traceback" not in output.err
    assert sorted(tmp_path.iterdir()) == there


def test_a_split_without_images_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    plain = ("train", "--recipe", "faster_rcnn_sample", "--epochs", 1, "--data", data, "--out")
    assert call(*plain, run) == 0
    change_json(data / "test.json", lambda document: document.update(images=[], annotations=[]))
    capsys.readouterr()
    for command in (("eval", run, "--data", data), (*plain, tmp_path / "other")):
        assert call(*command) == 3
        output = capsys.readouterr()
        assert output.err == f"detector: {data / 'test.json'}: found no image; expected one or more\n"
        assert output.out == ""


def test_predicting_only_files_that_cannot_be_read_is_code_three(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, broken = tmp_path / "run", tmp_path / "broken.png"
    call("train", "--recipe", "faster_rcnn_sample", "--epochs", 1, "--data", data, "--out", run)
    broken.write_bytes(b"broken")
    capsys.readouterr()
    assert call("predict", run, broken, "--out", tmp_path / "out") == 3
    assert "broken.png: cannot be decoded" in capsys.readouterr().err


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    import detector.recipes as module

    monkeypatch.setattr(module, "RECIPES", None)
    with pytest.raises(AttributeError):
        main(["recipes"])


def test_help_is_there_for_every_command_and_names_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "3 bad input, 4 class lists differ" in text
    for command in ("train", "eval", "predict", "recipes"):
        assert call(command, "--help") == 0
        assert "Example: detector" in capsys.readouterr().out


def test_the_module_runs_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import runpy

    monkeypatch.setattr(sys, "argv", ["detector", "--version"])
    with pytest.raises(SystemExit):
        runpy.run_module("detector", run_name="__main__")
    assert capsys.readouterr().out.startswith("detector, version ")


def test_a_folder_that_cannot_be_made_is_one_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with a full disk or missing rights, which a test run by root would not meet: a name too long."""
    out = tmp_path / ("x" * 300)
    assert call("train", "--recipe", "faster_rcnn_sample", "--data", data, "--out", out) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("detector: ")
    assert "Traceback" not in error


def test_no_color_makes_the_progress_bar_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    from detector.training_log import _make_bar

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert not _make_bar().console.no_color
    monkeypatch.setenv("NO_COLOR", "1")
    assert _make_bar().console.no_color
