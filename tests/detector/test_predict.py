"""Predictions on image files: results, pictures, and images that cannot be read."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_data import COLOURS, write_data

from detector import Detector, load
from detector.annotations import load_annotations
from detector.errors import DetectorError, InputError, OutputExistsError
from detector.evaluate import detect
from detector.overrides import override
from detector.pictures import draw_detections
from detector.predict import find_media, predict
from detector.recipes import load_recipe
from detector.train import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("predict") / "data", train=4, test=2)


@pytest.fixture(scope="module")
def run(data: Path) -> Detector:
    """A detector that has seen four images often enough to find their squares."""
    config = load_recipe("faster_rcnn_sample")
    config = override(config, {"train.epochs": 25, "train.batch_size": 2, "train.flip": 0})
    train(config, data, data.parent / "run", quiet=True)
    return load(data.parent / "run", device="cpu")


def test_results_are_coco_results_with_the_ids_of_the_training_data(
    run: Detector, data: Path, tmp_path: Path
) -> None:
    images = [data / "images" / f"train_{index}.png" for index in range(3)]
    done = predict(run, images, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "detections.json").read_text()) == done.results
    truth = json.loads((data / "train.json").read_text())
    name_by_id = {category["id"]: category["name"] for category in truth["categories"]}
    for number, path in enumerate(images, start=1):
        expected = [box for box in truth["annotations"] if box["image_id"] == 99 + number]
        found = [result for result in done.results if result["image_id"] == number]
        assert {result["file_name"] for result in found} == {path.name}
        assert {result["category_id"] for result in found} == {box["category_id"] for box in expected}
        for result in found:
            assert name_by_id[result["category_id"]] == result["category_name"]
            assert any(
                box["category_id"] == result["category_id"]
                and np.allclose(box["bbox"], result["bbox"], atol=4)
                for box in expected
            )


def test_one_image_alone_gives_what_evaluation_sees(run: Detector, data: Path, tmp_path: Path) -> None:
    annotations = load_annotations(data, "test")
    expected = detect(run.run.model, annotations)
    done = predict(replace(run, threshold=0.05), [data / "images" / "test_0.png"], tmp_path / "out")
    scores = np.array([result["score"] for result in done.results])
    assert scores == pytest.approx(expected.score_N[expected.image_N == 0], abs=1e-4)


def test_the_threshold_leaves_out_low_scores(run: Detector, data: Path, tmp_path: Path) -> None:
    image = data / "images" / "train_0.png"
    lowest = load(run.run.folder, threshold=0.001, device="cpu")
    every = predict(replace(lowest, threshold=0), [image], tmp_path / "every").results
    some = predict(replace(lowest, threshold=0.6), [image], tmp_path / "some").results
    assert 0 < len(some) < len(every)
    assert some == [result for result in every if result["score"] >= 0.6]


def test_a_threshold_below_that_of_the_recipe_is_honoured(run: Detector, data: Path, tmp_path: Path) -> None:
    image = data / "images" / "train_0.png"
    lower = load(run.run.folder, threshold=0.001, device="cpu")
    found = predict(lower, [image], tmp_path / "out").results
    assert run.run.config.model.score_threshold == 0.05
    assert 0.001 <= min(result["score"] for result in found) < 0.05
    same = load(run.run.folder, threshold=0.5, device="cpu")
    assert same.run.config == run.run.config


def test_folders_are_searched_and_pictures_keep_their_places(
    run: Detector, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for source, target in (("train_0.png", "b.png"), ("train_1.png", "deep/a.png")):
        (tmp_path / "in" / target).write_bytes((data / "images" / source).read_bytes())
    (tmp_path / "in" / "notes.txt").write_text("not an image")
    done = predict(run, [tmp_path / "in"], tmp_path / "out")
    assert {result["file_name"] for result in done.results} == {"b.png", "deep/a.png"}
    assert done.pictures == [tmp_path / "out" / "b.png", tmp_path / "out" / "deep" / "a.png"]
    for picture in done.pictures:
        with Image.open(picture) as image:
            assert min(image.size) >= 480


def test_an_unreadable_image_is_reported_and_the_others_are_done(
    run: Detector, data: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    images = [data / "images" / "train_0.png", broken, data / "images" / "train_1.png"]
    done = predict(run, images, tmp_path / "out")
    assert [line.partition(":")[0] for line in done.unreadable] == [str(broken)]
    assert {result["image_id"] for result in done.results} == {1, 3}
    assert len(done.pictures) == 2


def test_what_is_asked_for_must_be_there_and_distinct(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such image, video or folder"):
        find_media([tmp_path / "gone.jpg"])
    with pytest.raises(InputError, match="no image in this folder"):
        find_media([tmp_path])
    for name in ("one.jpg", "one.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    with pytest.raises(InputError, match=r"one.png: its picture would replace that of .*one.jpg"):
        find_media([tmp_path / "one.jpg", tmp_path / "one.png"])


def test_a_pattern_finds_files_and_names_them_below_its_fixed_part(tmp_path: Path) -> None:
    for name in ("a/one.png", "b/one.png", "b/two.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name, format="PNG")
    found = find_media([tmp_path / "**" / "*"])
    assert [file.name for file in found] == ["a/one.png", "b/one.png"]
    with pytest.raises(InputError, match="no image or video fits this pattern"):
        find_media([tmp_path / "*.jpg"])
    (tmp_path / "a[1].png").write_bytes((tmp_path / "a" / "one.png").read_bytes())
    assert [file.name for file in find_media([tmp_path / "a[1].png"])] == ["a[1].png"]  # a file comes first


def test_without_pictures_there_are_results_alone(run: Detector, data: Path, tmp_path: Path) -> None:
    done = predict(run, [data / "images"], tmp_path / "out", pictures=False)
    assert done.num_images == 6
    assert done.pictures == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["detections.json"]


def test_frames_of_a_video_are_images_with_number_and_time(run: Detector, data: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed (extra video)")
    source = np.asarray(Image.open(data / "images" / "train_0.png").convert("RGB"))
    clip = tmp_path / "clip.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for shift in range(7):
            frame = av.VideoFrame.from_ndarray(np.roll(source, shift, axis=0), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    out = tmp_path / "out"
    done = predict(run, [data / "images" / "train_0.png", clip], out, every=3)
    assert done.num_images == 4
    frames = {(r["image_id"], r["file_name"], r["frame"], r["seconds"]) for r in done.results if "frame" in r}
    assert frames == {
        (2, "clip.mp4/000000", 0, 0.0),
        (3, "clip.mp4/000003", 3, 0.3),
        (4, "clip.mp4/000006", 6, 0.6),
    }
    still = {result["category_name"] for result in done.results if result["image_id"] == 1}
    assert {result["category_name"] for result in done.results if result["image_id"] == 2} == still
    assert done.pictures[1:] == [out / "clip.mp4" / f"{frame:06d}.png" for frame in (0, 3, 6)]
    clip.write_bytes(b"nothing")
    broken = predict(run, [clip], tmp_path / "other")
    assert [line.partition(": cannot be decoded")[0] for line in broken.unreadable] == [str(clip)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_prediction_leaves_whole_pictures_and_no_half_file(
    run: Detector, data: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    folder, out = tmp_path / "many", tmp_path / "out"
    folder.mkdir()
    for index in range(2000):
        os.link(data / "images" / "train_0.png", folder / f"{index:04d}.png")
    # A process that a shell started in the background ignores Ctrl-C, and so would its children.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    program += "from detector.cli import main; main()"
    command = [sys.executable, "-c", program, "predict", run.run.folder, folder, "--out", out]
    process = subprocess.Popen([str(word) for word in command], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 300  # a busy machine takes long to import torch
        while not (out / "0002.png").exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(number)
        _, messages = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == code, messages
    assert "Traceback" not in messages
    left = sorted(path.name for path in out.iterdir())
    assert left == [f"{index:04d}.png" for index in range(len(left))]
    assert 3 <= len(left) < 2000
    for name in left:
        with Image.open(out / name) as picture:
            picture.load()


def test_results_are_not_overwritten_silently(run: Detector, data: Path, tmp_path: Path) -> None:
    image = data / "images" / "train_0.png"
    predict(run, [image], tmp_path / "out")
    with pytest.raises(OutputExistsError, match="give --overwrite"):
        predict(run, [image], tmp_path / "out")
    predict(run, [image], tmp_path / "out", overwrite=True)
    with pytest.raises(DetectorError, match="does not exist; create it first"):
        predict(run, [image], tmp_path / "no" / "out")


def test_a_picture_shows_boxes_where_they_are_and_names_beside_them() -> None:
    pixels = np.full((60, 100, 3), 128, dtype=np.uint8)
    boxes = np.array([[20.0, 20.0, 50.0, 40.0]])
    picture = np.asarray(draw_detections(pixels, boxes, ["cat"], np.array([0.75]), np.array([3])))
    assert picture.shape == (480, 800, 3)
    colour = picture[160, 300]  # on the upper edge, 8 px for each of the image
    assert not np.array_equal(colour, [128, 128, 128])
    for row, column in ((319, 300), (240, 161), (240, 399)):
        assert np.array_equal(picture[row, column], colour)
    assert np.array_equal(picture[240, 280], [128, 128, 128])
    label = picture[120:160, 160:300]
    assert (label == colour).all(axis=2).mean() > 0.1
    assert len(np.unique(label.reshape(-1, 3), axis=0)) > 2  # letters on it


@pytest.mark.parametrize("side", [120, 500, 1500])
def test_letters_at_the_upper_edge_are_whole(side: int) -> None:
    pixels = np.full((side, side, 3), 128, dtype=np.uint8)
    labels = []
    for top in (0.0, side / 2):
        box = np.array([[side / 4, top, side * 0.9, top + side / 3]])
        picture = np.asarray(draw_detections(pixels, box, ["Agj|lT"], np.array([0.5]), np.array([3])))
        labels.append(int((picture.max(axis=2) < 100).sum()))  # dark ink on a bright label
    assert labels[0] == labels[1] > 20


def test_boxes_at_the_border_and_outside_are_drawn_all_the_same() -> None:
    pixels = np.zeros((500, 700, 3), dtype=np.uint8)
    boxes = np.array(
        [[0, 0, 700, 500], [690, 490, 720, 520], [5, 5, 5, 5], [0, 480, 30, 500]], dtype=np.float32
    )
    names = ["a very long name of a class that does not end before the border " * 2, "b", "c", "d"]
    picture = draw_detections(pixels, boxes, names, np.full(4, 0.5), np.arange(4))
    assert picture.size == (700, 500)
    assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 4


def test_a_detector_finds_the_colours_it_was_trained_on(run: Detector) -> None:
    assert set(run.class_names) == set(COLOURS)
