"""Masks: boxes, areas and run-length codes equal pycocotools and a slow loop; broken files get one line."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage

from kgtool.errors import InputError
from kgtool.masks import (
    BLACK,
    compress_counts,
    find_colour_masks,
    find_masks,
    read_colours,
    read_indices,
    split_components,
)

REAL_ADE = Path(__file__).parents[2] / "../shared/real_data/ade"
REAL_MASKS = (
    "full2021/ADE_train_00016900_seg.png",
    "full2021/ADE_train_00016964_parts_1.png",
    "ADE_train_00000970_raw.png",
)

few_values = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12), elements=st.integers(0, 3)
)


def box_by_where(mask_HW: npt.NDArray[np.bool_]) -> list[int]:
    """The usual way: where the mask is, and how far that goes."""
    rows, columns = np.where(mask_HW)
    left, top = columns.min(), rows.min()
    return [int(left), int(top), int(columns.max() - left + 1), int(rows.max() - top + 1)]


def check_against_coco(values_HW: npt.NDArray[np.unsignedinteger], background: int = 0) -> int:
    masks = find_masks(values_HW, background=background)
    assert masks.value_N.tolist() == [v for v in np.unique(values_HW).tolist() if v != background]
    codes = masks.rle()
    for row, value in enumerate(masks.value_N):
        mask_HW = values_HW == value
        expected = coco_mask.encode(np.asfortranarray(mask_HW))
        assert codes[row] == expected["counts"].decode()
        assert ((masks.numbered() == row + 1) == mask_HW).all()
        assert masks.boxes_xywh_N4[row].tolist() == coco_mask.toBbox(expected).tolist()
        assert masks.boxes_xywh_N4[row].tolist() == box_by_where(mask_HW)
        assert masks.area_N[row] == coco_mask.area(expected) == mask_HW.sum()
    return len(masks)


@given(few_values)
@settings(max_examples=200, deadline=None)
def test_boxes_areas_and_codes_equal_pycocotools_on_any_image(values_HW: npt.NDArray[np.uint8]) -> None:
    check_against_coco(values_HW)


@given(
    hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8)),
    st.sampled_from([0, 1, 65535]),
)
@settings(max_examples=50, deadline=None)
def test_any_value_may_be_background(values_HW: npt.NDArray[np.uint16], background: int) -> None:
    check_against_coco(values_HW, background)


@given(few_values, st.integers(0, 4))
@settings(max_examples=50, deadline=None)
def test_masks_without_the_first_are_the_others(values_HW: npt.NDArray[np.uint8], count: int) -> None:
    masks = find_masks(values_HW)
    count = min(count, len(masks))
    rest = masks.without_first(count)
    assert rest.value_N.tolist() == masks.value_N[count:].tolist()
    assert rest.boxes_xywh_N4.tolist() == masks.boxes_xywh_N4[count:].tolist()
    assert rest.area_N.tolist() == masks.area_N[count:].tolist()
    assert rest.rle() == masks.rle()[count:]


@given(st.lists(st.lists(st.integers(0, 2**28), min_size=1, max_size=7), min_size=1, max_size=4))
def test_counts_of_any_size_survive_pycocotools(codes: list[list[int]]) -> None:
    ends_N = np.cumsum([len(counts) for counts in codes])
    written = compress_counts(np.concatenate(codes), ends_N)
    for counts, text in zip(codes, written, strict=True):
        area = coco_mask.area({"size": [1, sum(counts)], "counts": text.encode()})
        assert area == sum(counts[1::2])
    apart = [
        compress_counts(np.array(counts, dtype=np.int64), np.array([len(counts)]))[0] for counts in codes
    ]
    assert written == apart


def test_an_image_of_one_value_is_one_mask_and_of_background_is_none() -> None:
    full = find_masks(np.full((3, 5), 7, dtype=np.uint8))
    assert full.boxes_xywh_N4.tolist() == [[0, 0, 5, 3]]
    assert full.rle() == [coco_mask.encode(np.ones((3, 5), np.uint8, order="F"))["counts"].decode()]
    none = find_masks(np.zeros((3, 5), dtype=np.uint8))
    assert len(none) == 0
    assert none.rle() == []
    assert none.boxes_xywh_N4.shape == (0, 4)


def test_many_more_masks_than_blue_has_values() -> None:
    values_HW = np.arange(300 * 250, dtype=np.uint32).reshape(300, 250)
    masks = find_masks(values_HW)
    assert len(masks) == 300 * 250 - 1  # more than 16 bits hold, each of one pixel
    rows, columns = np.divmod(masks.value_N.astype(int), 250)
    assert (masks.boxes_xywh_N4 == np.stack([columns, rows, rows * 0 + 1, rows * 0 + 1], axis=1)).all()


@pytest.mark.parametrize("name", REAL_MASKS)
def test_real_masks_equal_pycocotools(name: str) -> None:
    if not (REAL_ADE / name).is_file():
        pytest.skip("the ADE20K samples are not on this machine")
    image = read_colours(REAL_ADE / name)
    colours_HW = image.rows(0, image.size[0])
    assert check_against_coco(colours_HW, BLACK) > 5
    assert find_colour_masks(image).rle() == find_masks(colours_HW, background=BLACK).rle()


@given(few_values)
@settings(max_examples=100, deadline=None)
def test_components_are_those_of_each_value_alone(values_HW: npt.NDArray[np.uint8]) -> None:
    numbers_HW, value_L = split_components(values_HW)
    assert ((numbers_HW > 0) == (values_HW > 0)).all()
    for value in np.unique(values_HW[values_HW > 0]):
        expected_HW, num_expected = ndimage.label(values_HW == value, structure=np.ones((3, 3)))
        assert (value_L == value).sum() == num_expected
        for number in range(1, num_expected + 1):
            inside = numbers_HW[expected_HW == number]
            assert (inside == inside[0]).all()
            assert (numbers_HW == inside[0]).sum() == len(inside)


def test_components_touch_at_corners() -> None:
    numbers_HW, value_L = split_components(np.array([[5, 0, 5], [0, 5, 0], [0, 0, 2]], dtype=np.uint8))
    assert value_L.tolist() == [2, 5]
    assert numbers_HW.tolist() == [[2, 0, 2], [0, 2, 0], [0, 0, 1]]


def test_colours_are_read_as_red_green_blue_from_the_lowest_byte(tmp_path: Path) -> None:
    pixels = np.array([[[1, 2, 3], [0, 0, 0]], [[255, 254, 253], [0, 0, 1]]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "colours.png")
    expected = [
        [BLACK + 1 + (2 << 8) + (3 << 16), BLACK],
        [BLACK + 255 + (254 << 8) + (253 << 16), BLACK + (1 << 16)],
    ]
    image = read_colours(tmp_path / "colours.png")
    assert image.size == (2, 2)
    assert image.rows(0, 2).tolist() == expected
    assert image.rows(1, 2).tolist() == expected[1:]
    assert image.blue().tolist() == [[3, 0], [253, 1]]
    assert find_colour_masks(image).value_N.tolist() == sorted({*expected[0], *expected[1]} - {BLACK})


def test_bands_of_rows_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are looked through in bands; whatever their height, the masks are those of the whole."""
    values_HW = np.random.default_rng(0).integers(0, 3, (41, 17), dtype=np.uint8)
    values_HW[:, 5:9] = 2
    whole = find_masks(values_HW)
    for rows in (0, 1, 2, 3, 20, 40, 41):
        monkeypatch.setattr("kgtool.masks._BAND_PIXELS", rows * 17)
        assert find_masks(values_HW).rle() == whole.rle()


def test_indices_are_read_from_grey_and_from_palettes(tmp_path: Path) -> None:
    indices = np.array([[0, 1, 150], [7, 255, 3]], dtype=np.uint8)
    grey = Image.fromarray(indices)
    grey.save(tmp_path / "grey.png")
    palette = grey.copy()
    palette.putpalette([value for colour in range(256) for value in (colour, 0, 255 - colour)])
    palette.save(tmp_path / "palette.png")
    with Image.open(tmp_path / "palette.png") as image:
        assert image.mode == "P"
    for name in ("grey.png", "palette.png"):
        assert read_indices(tmp_path / name).tolist() == indices.tolist()


def test_a_broken_png_is_one_line_that_says_where(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    path = tmp_path / "mask.png"
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    damaged = {
        "truncated in the data": whole[: len(whole) // 2],
        "truncated in the header": whole[:20],
        "empty": b"",
        "not a PNG": b"hello, world",
        "a byte changed": whole[:1000] + bytes([whole[1000] ^ 255]) + whole[1001:],
    }
    for what, content in damaged.items():
        path.write_bytes(content)
        with pytest.raises(
            InputError, match=r"mask\.png: (cannot be decoded \(.*\)|found no image); expected an index PNG"
        ) as error:
            read_indices(path)
        assert "\n" not in str(error.value), what
        assert str(error.value).count(str(tmp_path)) == 1, what
    with pytest.raises(InputError, match=r"other\.png: no such file"):
        read_indices(tmp_path / "other.png")
    with pytest.raises(InputError, match=f"{tmp_path.name}.*cannot be decoded"):
        read_indices(tmp_path)


def test_the_wrong_kind_of_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.new("RGB", (4, 4)).save(path)
    with pytest.raises(InputError, match=r"mask\.png: found PNG, mode RGB; expected an index PNG"):
        read_indices(path)
    Image.new("L", (4, 4)).save(path)
    with pytest.raises(InputError, match=r"mask\.png: found PNG, mode L; expected an RGB PNG"):
        read_colours(path)
    Image.new("RGB", (4, 4)).save(path, format="JPEG")
    with pytest.raises(InputError, match="found JPEG, mode RGB"):
        read_colours(path)


def test_an_image_too_large_to_be_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (64, 64)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match=r"bomb\.png: .*4096 pixels"):
        read_indices(tmp_path / "bomb.png")
