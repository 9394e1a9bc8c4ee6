"""`kgtool preview`: boxes are where the file puts them, in the class's colour; the seed chooses."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from kgtool.box_pictures import CELL_SIZE, DrawnBox, colour_of, draw_cell, free_spot, grid_of
from kgtool.coco import Annotations, Category, Dataset, Image, load_dataset, save_dataset
from kgtool.coco_preview import choose_images, save_preview
from kgtool.errors import ClassMatchError, InputError, OutputExistsError

ROOT = Path(__file__).parents[2]
REAL_COCO = ROOT / "../shared/real_data/coco/instances.json"
SAMPLE = ROOT / "data/sample"

Boxes = list[tuple[int, int, tuple[int, int, int, int]]]


def make_data(folder: Path, boxes: Boxes, *, sizes: tuple[tuple[int, int], ...] = ((480, 360),)) -> Path:
    """Black images and a COCO file; boxes as image id, category id and x, y, width, height."""
    for number, size in enumerate(sizes, 1):
        Picture.new("RGB", size).save(folder / f"{number}.png")
    xywh = np.array([box for _, _, box in boxes], dtype=np.int64).reshape(-1, 4)
    rows = Annotations(
        id_N=np.arange(1, len(boxes) + 1),
        image_id_N=np.array([image for image, _, _ in boxes], dtype=np.int64),
        category_id_N=np.array([category for _, category, _ in boxes], dtype=np.int64),
        boxes_xywh_N4=xywh,
        area_N=xywh[:, 2] * xywh[:, 3],
        crowd_N=np.zeros(len(boxes), dtype=np.int64),
    )
    images = tuple(Image(number, f"{number}.png", *size) for number, size in enumerate(sizes, 1))
    categories = (Category(1, "dog"), Category(2, "cat"))
    save_dataset(Dataset(images, categories, rows), folder / "a.json")
    return folder / "a.json"


def test_a_box_of_the_largest_numbers_there_are_is_drawn_up_to_the_edge() -> None:
    picture = Picture.new("RGB", (60, 45))
    box = DrawnBox((-1e308, 10, 1.7e308, 1.7e308), "", 0)
    beyond = DrawnBox((10, 10, 1.7e308, 1.7e308), "", 0)
    cell = np.asarray(draw_cell(picture, (60, 45), [box, beyond], ""))
    grey = (cell[: CELL_SIZE[1]] == colour_of(beyond)).all(axis=2)
    rows, columns = np.nonzero(grey)
    assert (columns.min(), columns.max()) == (0, CELL_SIZE[0] - 1)
    assert (rows.min(), rows.max()) == (80, CELL_SIZE[1] - 1)


def pixels_of(path: Path) -> np.ndarray:
    with Picture.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_a_box_is_drawn_where_the_file_puts_it_in_the_colour_of_its_class(tmp_path: Path) -> None:
    path = make_data(tmp_path, [(1, 2, (100, 50, 200, 150))])
    preview = save_preview(path, tmp_path, tmp_path / "grid.png")
    assert (preview.file_names, preview.boxes, preview.messages) == (("1.png",), 1, ())
    pixels = pixels_of(tmp_path / "grid.png")
    rows, columns = np.nonzero((pixels == colour_of(DrawnBox((0, 0, 1, 1), "cat", 1))).all(axis=2))
    gap = 6
    assert columns.min() - gap == 100
    assert columns.max() - gap == 300
    assert rows.max() - gap == 200
    assert 30 < rows.min() - gap < 50  # the label stands on the box


def test_a_large_image_is_made_smaller_with_its_boxes(tmp_path: Path) -> None:
    path = make_data(tmp_path, [(1, 1, (960, 480, 480, 480))], sizes=((1920, 1440),))
    save_preview(path, tmp_path, tmp_path / "grid.png")
    pixels = pixels_of(tmp_path / "grid.png")
    _, columns = np.nonzero((pixels == colour_of(DrawnBox((0, 0, 1, 1), "dog", 0))).all(axis=2))
    assert (columns.min() - 6, columns.max() - 6) == (240, 360)


def test_boxes_of_other_classes_are_grey_and_images_without_the_class_are_left_out(tmp_path: Path) -> None:
    boxes = [(1, 1, (10, 10, 50, 50)), (1, 2, (200, 200, 50, 50)), (2, 2, (10, 10, 50, 50))]
    path = make_data(tmp_path, boxes, sizes=((480, 360), (480, 360)))
    preview = save_preview(path, tmp_path, tmp_path / "grid.png", class_name="dog")
    assert preview.file_names == ("1.png",)
    assert preview.boxes == 1
    pixels = pixels_of(tmp_path / "grid.png")
    assert not (pixels == colour_of(DrawnBox((0, 0, 1, 1), "cat", 1))).all(axis=2).any()
    assert (pixels[200 + 6, 200 + 6] == colour_of(DrawnBox((0, 0, 1, 1), "", 1))).all()


@settings(deadline=None)
@given(
    boxes=st.lists(st.tuples(*[st.floats(0, 479)] * 2, *[st.floats(0, 359)] * 2), min_size=1, max_size=30),
    label=st.tuples(st.floats(5, 200), st.floats(5, 20)),
)
def test_labels_cover_no_label_and_stay_on_the_picture(
    boxes: list[tuple[float, float, float, float]], label: tuple[float, float]
) -> None:
    taken: list[tuple[float, float, float, float]] = []
    for left, right, top, bottom in boxes:
        box = min(left, right), min(top, bottom), max(left, right), max(top, bottom)
        spot = free_spot(box, label, (480, 360), taken)
        if spot is not None:
            assert 0 <= spot[0] < spot[2] <= 480 + 1e-9
            assert 0 <= spot[1] < spot[3] <= 360 + 1e-9
            for other in taken:
                apart = (
                    spot[2] <= other[0] or other[2] <= spot[0] or spot[3] <= other[1] or other[3] <= spot[1]
                )
                assert apart
            taken.append(spot)
    assert taken


@settings(deadline=None, max_examples=25)
@given(
    box=st.tuples(*[st.floats(-1e6, 1e6)] * 2, *[st.floats(0, 1e6)] * 2),
    size=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
)
def test_any_box_on_any_image_can_be_drawn(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> None:
    cell = draw_cell(
        Picture.new("RGB", (8, 8)), size, [DrawnBox(box, "dog" * 50, 3)], "a/very/long/name" * 20
    )
    assert cell.size == (CELL_SIZE[0], CELL_SIZE[1] + 22)


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (5, (2, 3)), (12, (4, 3)), (100, (11, 10))])
def test_a_grid_has_room_for_all_and_is_wider_than_high(count: int, shape: tuple[int, int]) -> None:
    grid = grid_of([Picture.new("RGB", (30, 20), (255, 0, 0))] * count)
    assert grid.size == (shape[0] * 36 + 6, shape[1] * 26 + 6)
    assert (np.asarray(grid) == (255, 0, 0)).all(axis=2).sum() == count * 600


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 300), seed=st.integers(0, 2**32))
def test_the_seed_chooses_images_that_have_boxes(count: int, seed: int) -> None:
    dataset = load_dataset(SAMPLE / "train.json")
    shown = dataset.annotations.category_id_N == 3
    with_class = {image for image, one in zip(dataset.annotations.image_id_N, shown, strict=True) if one}
    chosen = choose_images(dataset, shown, count, seed)
    assert len(set(chosen.tolist())) == len(chosen) == min(count, len(with_class))
    assert {dataset.images[row].id for row in chosen} <= with_class
    assert chosen.tolist() == choose_images(dataset, shown, count, seed).tolist() == sorted(chosen.tolist())


def test_seeds_differ_and_a_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        save_preview(SAMPLE / "train.json", SAMPLE / "images", tmp_path / f"{name}.png", count=4, seed=seed)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "c.png").read_bytes()
    with pytest.raises(OutputExistsError):
        save_preview(SAMPLE / "train.json", SAMPLE / "images", tmp_path / "a.png")


def test_an_image_of_another_size_is_told_and_one_turned_by_exif_is_turned(tmp_path: Path) -> None:
    path = make_data(tmp_path, [(1, 1, (0, 0, 9, 9)), (2, 1, (0, 0, 9, 9))], sizes=((40, 30), (40, 30)))
    Picture.new("RGB", (80, 60)).save(tmp_path / "1.png")
    exif = Picture.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    stored = Picture.new("RGB", (30, 40))
    stored.paste((0, 0, 255), (0, 0, 30, 20))  # the upper half, which is shown at the right
    stored.save(tmp_path / "2.png", exif=exif)
    preview = save_preview(path, tmp_path, tmp_path / "grid.png")
    assert len(preview.messages) == 1
    assert "1.png: the image has 80 x 60, a.json says 40 x 30" in preview.messages[0]
    pixels = pixels_of(tmp_path / "grid.png")
    second = (
        pixels[6 : 6 + CELL_SIZE[1], 12 + CELL_SIZE[0] :] if pixels.shape[1] > 900 else pixels[394:754, 6:]
    )
    assert second[300, 100].tolist() == [0, 0, 0]
    assert second[300, 400].tolist() == [0, 0, 255]


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    path = make_data(tmp_path, [(1, 1, (0, 0, 9, 9))])
    with pytest.raises(
        ClassMatchError, match="found no class 'Dog'; expected one of its 2; did you mean 'dog'"
    ):
        save_preview(path, tmp_path, tmp_path / "grid.png", class_name="Dog")
    with pytest.raises(InputError, match="found no box of 'cat'"):
        save_preview(path, tmp_path, tmp_path / "grid.png", class_name="cat")
    with pytest.raises(InputError, match=r"found the ending '\.jpg'"):
        save_preview(path, tmp_path, tmp_path / "grid.jpg")
    (tmp_path / "1.png").write_bytes(b"GIF89a")
    with pytest.raises(InputError, match=r"1.png: found no image that can be read"):
        save_preview(path, tmp_path, tmp_path / "grid.png")
    (tmp_path / "1.png").unlink()
    with pytest.raises(InputError, match=r"1.png: found no such image; .* `kgtool validate"):
        save_preview(path, tmp_path, tmp_path / "grid.png")
    assert not (tmp_path / "grid.png").exists()


@pytest.mark.skipif(not REAL_COCO.exists(), reason="the COCO sample is not here")
def test_real_coco_images_are_drawn_by_the_command(tmp_path: Path) -> None:
    out = tmp_path / "grid.png"
    command = [sys.executable, "-m", "kgtool", "preview", str(REAL_COCO), "--images"]
    command += [str(REAL_COCO.parent / "images"), "--out", str(out), "--count", "6", "--class", "person"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(report["file_names"]) == 6
    assert report["boxes"] >= 6
    assert report["messages"] == []
    assert pixels_of(out).shape == (2 * 388 + 6, 3 * 486 + 6, 3)
