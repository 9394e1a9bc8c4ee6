"""Boxes of ADE20K: classes, names, sizes, strictness, processes, and the command."""

import json
import subprocess
import sys
from pathlib import Path

import ade_examples as ade
import numpy as np
import pytest
from ade_examples import PARTS, boxes, with_good_image

from kgtool.ade20k.names import load_names
from kgtool.datasets.ade import BoxOptions, boxes_of_ade
from kgtool.errors import InputError, OutputExistsError


def test_strict_makes_the_first_finding_an_error_and_writes_nothing(tmp_path: Path) -> None:
    root = with_good_image(tmp_path / "ade")
    ade.save_2016(root, "bad")
    (root / "bad_atr.txt").write_text("\n".join(ade.text_lines(ade.STREET)[:-1]))
    with pytest.raises(InputError, match=r"^bad, level 2, instance 1: instance without entry: found class 6"):
        boxes_of_ade(root, tmp_path / "out", options=PARTS, strict=True)
    assert not (tmp_path / "out").exists()
    boxes_of_ade(root, tmp_path / "out", strict=True)  # the objects alone are as they should be
    path = root / "bad_atr.txt"
    path.write_text("\n".join(ade.text_lines(ade.STREET)).replace("# person, individual #", "# dog #"))
    options = BoxOptions(names=ade.save_names(tmp_path / "names.json"))
    with pytest.raises(InputError, match="bad, instance 3, entry 3: class differs: found dog"):
        boxes_of_ade(root, tmp_path / "out2", options=options, strict=True)
    assert not (tmp_path / "out2").exists()


def test_small_masks_are_left_out_and_counted(tmp_path: Path) -> None:
    ade.save_2021(tmp_path / "ade", "a")
    document, _, report = boxes(tmp_path / "ade", tmp_path / "out", BoxOptions(True, min_area=17))
    assert [row["area"] for row in document["annotations"]] == [282, 128, 50, 80]
    assert report["instances"]["left_out"] == {"area below 17": 3}
    assert report["instances"]["read"] == 7
    document, _, _ = boxes(tmp_path / "ade", tmp_path / "out2", BoxOptions(True, min_area=16))
    assert document["annotations"][-1]["part_of"] == 2


def test_a_part_whose_whole_is_left_out_is_a_part_of_nothing(tmp_path: Path) -> None:
    ade.save_2021(tmp_path / "ade", "a")
    (tmp_path / "classes.txt").write_text("wheel\n")
    options = BoxOptions(True, classes=str(tmp_path / "classes.txt"))
    document, _, _ = boxes(tmp_path / "ade", tmp_path / "out", options)
    assert [row["part_level"] for row in document["annotations"]] == [1, 1]
    assert not any("part_of" in row for row in document["annotations"])


def test_a_class_list_chooses_by_name_or_by_one_word_of_it(tmp_path: Path) -> None:
    ade.save_2021(tmp_path / "ade", "a")
    (tmp_path / "classes.csv").write_text(
        "name,synset\nindividual,person.n.01\nAutomobile,car.n.01\nzebra,\n"
    )
    options = BoxOptions(True, classes=str(tmp_path / "classes.csv"))
    document, _, report = boxes(tmp_path / "ade", tmp_path / "out", options)
    assert document["categories"] == [
        {"id": 1, "name": "individual", "synset": "person.n.01"},
        {"id": 2, "name": "Automobile", "synset": "car.n.01"},
        {"id": 3, "name": "zebra"},
    ]
    assert [row["category_id"] for row in document["annotations"]] == [2, 1, 2]
    assert report["instances"]["left_out"] == {"class not asked for": 4}
    assert report["messages"] == ["class 'zebra' stays without boxes: ADE20K has no such name"]


def test_a_word_of_several_names_is_no_class(tmp_path: Path) -> None:
    names = ["screen, CRT screen", "screen, crt screen", "screen, silver screen", "door, screen door"]
    (tmp_path / "names.txt").write_text("\n".join(names))
    (tmp_path / "classes.txt").write_text("screen\ncrt screen\nsilver screen\ndoor\n")
    ade.save(np.full((2, 2, 3), (0, 1, 9), dtype=np.uint8), tmp_path / "ade/a_seg.png")
    options = BoxOptions(classes=str(tmp_path / "classes.txt"), names=tmp_path / "names.txt")
    document, _, report = boxes(tmp_path / "ade", tmp_path / "out", options)
    assert report["messages"] == [
        "class 'screen' stays without boxes: write which name is meant "
        "(screen, CRT screen; screen, crt screen; screen, silver screen)"
    ]
    assert [row["category_id"] for row in document["annotations"]] == [2]  # two spellings are one name


def test_a_name_that_is_there_twice_is_one_category(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("sky\ncar\nsky\n")
    pixels = np.zeros((2, 4, 3), dtype=np.uint8)
    pixels[:, :2], pixels[:, 2:] = (0, 1, 100), (0, 3, 255)
    ade.save(pixels, tmp_path / "ade/a_seg.png")
    document, _, _ = boxes(tmp_path / "ade", tmp_path / "out", BoxOptions(names=tmp_path / "names.txt"))
    assert document["categories"] == [{"id": 1, "name": "sky"}]
    assert [row["category_id"] for row in document["annotations"]] == [1, 1]


def test_names_come_from_matlab_json_or_lines(tmp_path: Path) -> None:
    from scipy.io import savemat

    names = np.array(ade.NAMES, dtype=object)
    savemat(tmp_path / "row.mat", {"index": {"objectnames": names.reshape(1, -1), "wordnet": 3}})
    savemat(tmp_path / "column.mat", {"index": {"objectnames": names.reshape(-1, 1)}})
    ade.save_names(tmp_path / "names.json")
    (tmp_path / "names.txt").write_text("\n".join(ade.NAMES))
    expected = {place: name for place, name in enumerate(ade.NAMES, start=1) if name != "-"}
    for name in ("row.mat", "column.mat", "names.json", "names.txt"):
        assert load_names(tmp_path / name) == expected, name


def test_a_list_of_names_that_is_none_gets_one_line(tmp_path: Path) -> None:
    from scipy.io import savemat

    savemat(tmp_path / "other.mat", {"something": 1})
    (tmp_path / "broken.mat").write_bytes(b"MATLAB 7.3 MAT-file" + bytes(200))
    (tmp_path / "names.json").write_text('{"a": 1}')
    (tmp_path / "names.txt").write_text("")
    for name in ("other.mat", "broken.mat", "names.json", "names.txt", "missing.txt"):
        with pytest.raises(InputError, match=name) as error:
            load_names(tmp_path / name)
        assert "\n" not in str(error.value)


def test_a_folder_without_masks_gets_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        boxes_of_ade(tmp_path / "nothing", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"found no NAME_seg\.png"):
        boxes_of_ade(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "empty/a_seg.png").write_bytes(b"")
    with pytest.raises(InputError, match="none of 1 masks can be used; a: mask cannot be read"):
        boxes_of_ade(tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    ade.save_2016(tmp_path / "ade", "a")
    boxes_of_ade(tmp_path / "ade", tmp_path / "out")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        boxes_of_ade(tmp_path / "ade", tmp_path / "out")
    boxes_of_ade(tmp_path / "ade", tmp_path / "out", overwrite=True)


def test_processes_and_repetition_give_the_same_bytes(tmp_path: Path) -> None:
    for number in range(34):
        (ade.save_2016, ade.save_2021)[number % 2](tmp_path / f"ade/{number % 3}", f"image{number}")
    (tmp_path / "ade/0/image0_seg.png").write_bytes(b"")
    told: list[tuple[int, int]] = []
    boxes_of_ade(tmp_path / "ade", tmp_path / "one", options=PARTS, on_progress=lambda *at: told.append(at))
    boxes_of_ade(tmp_path / "ade", tmp_path / "two", options=PARTS, num_workers=2)
    assert told == [(number, 34) for number in range(1, 35)]
    for name in ("instances.json", "report.csv", "report.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert ade.load(tmp_path / "two")[2]["images"]["written"] == 33


def run(*args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kgtool", "boxes", "ade", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_prints_the_report_and_exits_with_3_where_a_mask_is_left_out(tmp_path: Path) -> None:
    root = with_good_image(tmp_path / "ade")
    done = run(root, "--parts", "--out", tmp_path / "out", "--json")
    assert done.returncode == 0
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert report["out"] == str(tmp_path / "out")
    assert report["instances"]["written"] == 7
    ade.save_2016(root, "bad")
    (root / "bad_seg.png").write_bytes(b"")
    done = run(root, "--out", tmp_path / "out", "--overwrite")
    assert done.returncode == 3
    assert "4 boxes of 3 classes in 1 images" in done.stdout
    assert "1 of 2 images have no mask that can be used" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert ade.load(tmp_path / "out")[2]["images"]["written"] == 1
    done = run(root, "--out", tmp_path / "out", "--overwrite", "--strict")
    assert done.returncode == 3
    assert done.stderr.startswith("kgtool: bad: mask cannot be read: found no image; expected an RGB PNG")
    assert ade.load(tmp_path / "out")[2]["images"]["written"] == 1  # as it was
