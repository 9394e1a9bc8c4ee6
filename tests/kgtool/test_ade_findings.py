"""What is wrong with ADE20K's files is reported, and costs no more than it must."""

import os
from pathlib import Path

import ade_examples as ade
import numpy as np
import pytest
from ade_examples import boxes, check_rest, kinds, with_good_image
from PIL import Image

from kgtool.datasets.ade import BoxOptions, find_images
from kgtool.errors import InputError


def test_a_text_with_fewer_lines_than_instances_loses_no_box(tmp_path: Path) -> None:
    root = with_good_image(tmp_path / "ade")
    ade.save_masks(root, "bad", ade.STREET)
    lines = ade.text_lines(ade.STREET)
    (root / "bad_atr.txt").write_text("\n".join(lines[:2]), encoding="utf-8")
    document, findings, _ = boxes(root, tmp_path / "out")
    check_rest(document)
    assert len(document["annotations"]) == 14
    assert [row[:4] for row in findings] == [
        ["bad", "instance without entry", "0", "3"],
        ["bad", "instance without entry", "0", "4"],
        ["bad", "instance without entry", "1", "1"],
        ["bad", "instance without entry", "1", "2"],
        ["bad", "instance without entry", "2", "1"],
    ]
    assert findings[0][6] == "an entry; there are 2 for 4 instances"
    person = document["annotations"][2]
    assert person["category_id"] == ade.NAMES.index(ade.PERSON) + 1
    assert "raw_name" not in person


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_text_is_a_text_with_no_lines(tmp_path: Path, text: str) -> None:
    root = with_good_image(tmp_path / "ade")
    ade.save_masks(root, "bad", ade.STREET[:4])
    (root / "bad_atr.txt").write_text(text)
    document, findings, _ = boxes(root, tmp_path / "out")
    check_rest(document)
    assert kinds(findings) == ["instance without entry"] * 4


def test_a_text_with_more_lines_than_instances_is_reported(tmp_path: Path) -> None:
    root = with_good_image(tmp_path / "ade")
    ade.save_2016(root, "bad", ade.STREET[:2])
    with (root / "bad_atr.txt").open("a", encoding="utf-8") as file:
        file.write('\n003 # 0 # 0 # dog # dog # ""\n002 # 0 # 0 # dog # dog # ""\nnot a line\n')
    document, findings, _ = boxes(root, tmp_path / "out")
    check_rest(document)
    assert kinds(findings) == ["entry cannot be read", "entry twice", "entry without instance"]
    assert findings[0][5] == "line 5: not a line"
    assert findings[2][4:6] == ["3", "dog"]


def test_a_text_that_counts_from_another_start_describes_nothing_wrongly(tmp_path: Path) -> None:
    """Every number is one too high: names disagree with the colours, and no attribute goes astray."""
    ade.save_masks(tmp_path / "ade", "bad", ade.STREET[:4])
    lines = [f"{number:03d}{line[3:]}" for number, line in enumerate(ade.text_lines(ade.STREET[:4]), start=2)]
    (tmp_path / "ade/bad_atr.txt").write_text("\n".join(lines), encoding="utf-8")
    options = BoxOptions(names=ade.save_names(tmp_path / "names.json"))
    document, findings, report = boxes(tmp_path / "ade", tmp_path / "out", options)
    assert [row["category_id"] for row in document["annotations"]] == [2, 3, 5, 3]
    assert kinds(findings) == ["instance without entry", "entry without instance"] + ["class differs"] * 3
    assert findings[2][5:] == ["sky (no place given)", f"{ade.CAR} (3), by the colours"]
    assert all("raw_name" not in row for row in document["annotations"])
    assert "3 of 3 entries name another class" in report["messages"][0]


def test_the_names_most_texts_agree_on_are_the_names(tmp_path: Path) -> None:
    for number in range(3):
        ade.save_2016(tmp_path / "ade", f"good{number}", ade.STREET[:2])
    ade.save_2016(tmp_path / "ade", "odd", ade.STREET[:2])
    path = tmp_path / "ade/odd_atr.txt"
    path.write_text(path.read_text().replace("# sky # sky", "# dog # dog"))
    document, findings, _ = boxes(tmp_path / "ade", tmp_path / "out")
    assert {row["name"] for row in document["categories"]} == {ade.SKY, ade.CAR}
    assert [row[:5] for row in findings] == [["odd", "class differs", "0", "1", "1"]]


def test_an_entry_of_another_class_than_its_colours_is_told(tmp_path: Path) -> None:
    ade.save_masks(tmp_path / "ade", "a", ade.STREET)
    objects = ade.json_objects("a", ade.STREET)
    objects[2] |= {"name": ade.DOG, "name_ndx": 7}
    ade.save_json(tmp_path / "ade", "a", objects)
    document, findings, report = boxes(tmp_path / "ade", tmp_path / "out")
    assert kinds(findings) == ["class without a name"]  # person is in no entry, so that nothing names it
    assert report["paired_by"]["outline of another class"] == 1
    options = BoxOptions(names=ade.save_names(tmp_path / "names.json"))
    document, findings, _ = boxes(tmp_path / "ade", tmp_path / "out", options, overwrite=True)
    assert findings == [
        ["a", "class differs", "0", "3", "20", "dog (7)", f"{ade.PERSON} (5), by the colours"]
    ]
    assert document["annotations"][2]["category_id"] == 5
    assert document["annotations"][2]["raw_name"] == "man"  # what lies there is still described


def test_entries_and_instances_that_have_no_counterpart_are_told(tmp_path: Path) -> None:
    ade.save_masks(tmp_path / "ade", "a", ade.STREET[:4])
    elsewhere = ade.Thing(ade.DOG, (0, 20, 3, 3))
    objects = ade.json_objects("a", (*ade.STREET[:3], elsewhere))
    ade.save_json(tmp_path / "ade", "a", [*objects, {"id": 99}, "what", {**objects[0], "name": "sky"}])
    document, findings, _ = boxes(tmp_path / "ade", tmp_path / "out")
    assert len(document["annotations"]) == 4
    assert [(row[1], row[3], row[4]) for row in findings] == [
        ("entry cannot be read", "", ""),
        ("entry cannot be read", "", ""),
        ("entry twice", "", "0"),
        ("instance without entry", "4", ""),
        ("entry without instance", "", "30"),
    ]


def test_a_mask_of_another_size_than_the_photograph_is_left_out(tmp_path: Path) -> None:
    root = with_good_image(tmp_path / "ade")
    ade.save_2016(root, "bad")
    Image.new("RGB", (ade.SIZE[0], ade.SIZE[1])).save(root / "bad.jpg")  # turned
    Image.new("RGB", (ade.SIZE[1], ade.SIZE[0])).save(root / "good.jpg")
    document, findings, report = boxes(root, tmp_path / "out")
    check_rest(document)
    assert [image["id"] for image in document["images"]] == [2]
    assert findings == [["bad", "mask of another size", "0", "", "", "32 x 24", "24 x 32"]]
    assert report["images"] == {"found": 2, "written": 1, "left_out": 1, "without_photo": 0}


def test_a_mask_of_another_size_than_the_json_says_is_left_out_unless_the_photograph_agrees(
    tmp_path: Path,
) -> None:
    root = with_good_image(tmp_path / "ade")
    ade.save_masks(root, "bad", ade.STREET)
    ade.save_json(root, "bad", ade.json_objects("bad", ade.STREET), size=(24, 64))
    document, findings, _ = boxes(root, tmp_path / "out")
    check_rest(document)
    assert findings == [["bad", "mask of another size", "0", "", "", "32 x 24", "64 x 24"]]
    Image.new("RGB", (32, 24)).save(root / "bad.jpg")
    document, findings, _ = boxes(root, tmp_path / "out", overwrite=True)
    assert len(document["images"]) == 2
    assert findings[0][5:] == ["64 x 24 in the JSON", "32 x 24 as mask and photograph"]


def test_parts_of_another_size_or_broken_or_missing_leave_the_objects(tmp_path: Path) -> None:
    root = with_good_image(tmp_path / "ade")
    for name in ("size", "broken", "missing"):
        ade.save_2021(root, name)
    ade.save(np.zeros((5, 5, 3), dtype=np.uint8), root / "size_parts_1.png")
    (root / "broken_parts_1.png").write_bytes((root / "broken_parts_1.png").read_bytes()[:60])
    (root / "missing_parts_1.png").unlink()
    document, findings, _ = boxes(root, tmp_path / "out")
    check_rest(document)
    assert [row[:3] for row in findings] == [
        ["broken", "mask cannot be read", "1"],
        ["missing", "no parts mask", "1"],
        ["size", "mask of another size", "1"],
    ]
    assert findings[1][5:] == ["2 entries of this level", "missing_parts_1.png"]
    for image in document["images"]:
        rows = [row for row in document["annotations"] if row["image_id"] == image["id"]]
        levels = [row.get("part_level", 0) for row in rows]
        assert levels == ([0] * 4 + [1, 1, 2] if image["file_name"] == "good.jpg" else [0] * 4 + [2])


def test_damaged_masks_are_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    root = with_good_image(tmp_path / "ade")
    for name in ("cut", "empty", "index", "noise"):
        ade.save_2016(root, name)
    whole = (root / "cut_seg.png").read_bytes()
    (root / "cut_seg.png").write_bytes(whole[: len(whole) // 2])
    (root / "empty_seg.png").write_bytes(b"")
    (root / "noise_seg.png").write_bytes(b"<html>not found</html>")
    ade.save(np.zeros(ade.SIZE, dtype=np.uint8), root / "index_seg.png")
    document, findings, report = boxes(root, tmp_path / "out")
    check_rest(document)
    assert kinds(findings) == ["mask cannot be read"] * 4
    assert findings[2][5] == "PNG, mode L"
    assert findings[2][6].startswith("an RGB PNG")
    assert report["images"]["left_out"] == 4
    assert str(tmp_path) not in (tmp_path / "out/report.csv").read_text()


def test_an_rgb_mask_among_index_masks_is_left_out(tmp_path: Path) -> None:
    ade.save(np.ones(ade.SIZE, dtype=np.uint8), tmp_path / "ade/good.png")
    ade.save(np.ones((*ade.SIZE, 3), dtype=np.uint8), tmp_path / "ade/rgb.png")
    document, findings, report = boxes(tmp_path / "ade", tmp_path / "out", BoxOptions())
    assert [image["file_name"] for image in document["images"]] == ["good.jpg"]
    assert [row[:2] for row in findings] == [["rgb", "mask cannot be read"]]
    assert findings[0][5:] == ["PNG, mode RGB", "an index PNG, one byte a pixel"]
    assert report["images"]["left_out"] == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"annotation": {}}', '{"annotation": {"object": 3}}', ""])
def test_a_broken_json_leaves_the_boxes_without_description(tmp_path: Path, text: str) -> None:
    root = with_good_image(tmp_path / "ade")
    ade.save_masks(root, "bad", ade.STREET)
    (root / "bad.json").write_text(text)
    document, findings, _ = boxes(root, tmp_path / "out")
    check_rest(document)
    assert len(document["annotations"]) == 14
    assert kinds(findings) == ["text or JSON cannot be read"]


def test_a_mask_alone_becomes_boxes_named_by_the_list(tmp_path: Path) -> None:
    ade.save_masks(tmp_path / "ade", "a", ade.STREET[:4])
    document, findings, _ = boxes(tmp_path / "ade", tmp_path / "out")
    assert [row["name"] for row in document["categories"]] == ["class 2", "class 3", "class 5"]
    assert kinds(findings) == ["no text and no JSON"] + ["class without a name"] * 4
    options = BoxOptions(names=ade.save_names(tmp_path / "names.json"))
    document, findings, _ = boxes(tmp_path / "ade", tmp_path / "out", options, overwrite=True)
    assert [(row["id"], row["name"]) for row in document["categories"]] == [
        (2, ade.SKY),
        (3, ade.CAR),
        (5, ade.PERSON),
    ]
    assert kinds(findings) == ["no text and no JSON"]


def test_one_blue_of_two_classes_is_two_boxes_and_told(tmp_path: Path) -> None:
    pixels = ade.paint(ade.STREET[:2])
    pixels[20:23, 20:30] = ade.colour(7, 255)  # the blue of the car
    for layout in ("2016", "2021"):
        folder = tmp_path / layout
        (ade.save_2016 if layout == "2016" else ade.save_2021)(folder, "a", ade.STREET[:2])
        ade.save(pixels, folder / "a_seg.png")
        options = BoxOptions(names=ade.save_names(tmp_path / "names.json"))
        document, findings, _ = boxes(folder, tmp_path / f"out{layout}", options)
        assert [row["bbox"] for row in document["annotations"]] == [
            [0, 0, 32, 10],
            [2, 8, 14, 12],
            [20, 20, 10, 3],
        ]
        assert [row.get("raw_name") for row in document["annotations"]] == ["sky", "taxi", None]
        assert kinds(findings) == ["one blue, several classes", "instance without entry"]


def test_a_class_without_a_blue_value_is_told(tmp_path: Path) -> None:
    ade.save_2016(tmp_path / "ade", "a", ade.STREET[:2])
    pixels = ade.paint(ade.STREET[:2])
    pixels[20:23, 20:30] = ade.colour(7, 0)
    pixels[23, 20:30] = ade.colour(4, 0)
    ade.save(pixels, tmp_path / "ade/a_seg.png")
    document, findings, _ = boxes(tmp_path / "ade", tmp_path / "out")
    assert len(document["annotations"]) == 2
    assert findings == [
        [
            "a",
            "class without instance",
            "0",
            "",
            "",
            "40 coloured pixels whose blue is 0",
            "black, or blue above 0",
        ]
    ]


def test_a_name_without_a_place_is_still_a_class(tmp_path: Path) -> None:
    """Red and green are 0, and the text knows what it is: the box is kept, under the text's name."""
    pixels = ade.paint(ade.STREET[:2])
    pixels[pixels[:, :, 2] == 255, :2] = 0
    ade.save_2016(tmp_path / "ade", "a", ade.STREET[:2])
    ade.save(pixels, tmp_path / "ade/a_seg.png")
    document, findings, _ = boxes(tmp_path / "ade", tmp_path / "out")
    assert document["categories"] == [{"id": 2, "name": ade.SKY}, {"id": 3, "name": ade.CAR}]
    assert document["annotations"][1]["raw_name"] == "taxi"
    assert kinds(findings) == ["class without a name"]


def test_a_name_that_is_not_utf_8_gets_one_line(tmp_path: Path) -> None:
    root = with_good_image(tmp_path / "ade")
    with open(bytes(root) + b"/caf\xe9_seg.png", "wb") as file:  # noqa: PTH123
        file.write((root / "good_seg.png").read_bytes())
    with pytest.raises(InputError, match="found a name that is not UTF-8") as error:
        boxes(root, tmp_path / "out")
    str(error.value).encode()


def test_a_folder_that_cannot_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = with_good_image(tmp_path / "ade")
    (root / "locked").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("locked"):  # permissions do not keep an administrator out
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"locked: folder cannot be read \(Permission denied\)"):
        find_images(root)
