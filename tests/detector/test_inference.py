"""The Python interface: `load(run)(images)`."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_data import write_data

from detector import Detector, load
from detector.errors import InputError, MissingResourceError
from detector.overrides import override
from detector.recipes import load_recipe
from detector.train import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("inference") / "data", train=4, test=2)


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    config = override(load_recipe("faster_rcnn_sample"), {"train.epochs": 3, "train.batch_size": 2})
    train(config, data, data.parent / "run", quiet=True)
    return data.parent / "run"


@pytest.fixture(scope="module")
def detect(run: Path) -> Detector:
    return load(run, threshold=0.01, device="cpu")


def test_paths_pictures_arrays_and_tensors_give_the_same(detect: Detector, data: Path) -> None:
    path = data / "images" / "test_0.png"
    picture = Image.open(path)
    array = np.asarray(picture.convert("RGB"))
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    kinds = [str(path), path, picture, array, array / np.float32(255), tensor, tensor / 255]
    first, *others = detect(kinds)
    assert len(first) > 0
    assert first.boxes.shape == (len(first), 4)
    assert first.boxes.dtype == first.scores.dtype == np.float32
    assert set(first.names) <= set(detect.class_names)
    assert first.masks is None
    assert list(first.scores) == sorted(first.scores, reverse=True)
    for other in others:
        assert other.names == first.names
        assert np.allclose(other.boxes, first.boxes, atol=1e-4)
        assert np.allclose(other.scores, first.scores, atol=1e-6)


def test_grey_arrays_and_generators_of_images_work(detect: Detector) -> None:
    grey = np.arange(64 * 48, dtype=np.uint8).reshape(64, 48)
    one, other = detect(image for image in (grey, Image.fromarray(grey)))
    assert np.array_equal(one.boxes, other.boxes)
    assert detect([]) == []
    batch = torch.zeros(2, 3, 64, 64)
    assert len(detect(batch)) == 2


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("photo.jpg", r"found one str; expected a list: detect\(\[image\]\)"),
        (torch.zeros(3, 8, 8), "found one Tensor"),
        (["nowhere.jpg"], "nowhere.jpg: no such image"),
        ([np.zeros((3, 8, 8), np.uint8)], r"found Tensor of shape \(8, 3, 8\)"),
        ([np.zeros((8, 8, 3), np.int64)], "expected a path, a Pillow image"),
        ([torch.full((3, 8, 8), 255.0)], "found numbers from 255 to 255; expected 0..1, or uint8"),
        ([torch.full((3, 8, 8), float("nan"))], "found numbers from nan to nan"),
        ([None], "found NoneType"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(detect: Detector, images: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        detect(images)


def test_what_cannot_be_loaded_says_so(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a run folder"):
        load(tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises(MissingResourceError, match="no CUDA device"):
            load(run, device="cuda")


def test_importing_the_package_is_cheap_and_knows_what_it_offers() -> None:
    program = (
        "import sys, detector\n"
        "assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)\n"
        "assert not hasattr(detector, 'lode')\n"
        "from detector import load, Detector, ImageDetections\n"
        "assert load.__module__ == 'detector.inference'"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_example_of_the_readme_runs(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(from detector import .*?)```", readme, re.DOTALL)
    (tmp_path / "run").symlink_to(run)
    Image.open(data / "images" / "train_0.png").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exec(example.replace("0.3", "0.01"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(re.fullmatch(r"(red|green|blue) 0\.\d+ \[.*\]", line) for line in lines)
