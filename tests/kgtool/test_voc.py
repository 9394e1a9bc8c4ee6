"""Pascal VOC as COCO JSON: boxes, flags, dirt, and the protocols."""

import csv
import json
import tracemalloc
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from voc_examples import SIZE, Thing, image_xml, thing, thing_xml, write_devkit, write_image, write_list

from kgtool.cli import group, main
from kgtool.datasets.voc import VocOptions, convert_voc, split_voc
from kgtool.errors import InputError, OutputExistsError
from kgtool.pascal_voc.annotation import read_annotation
from kgtool.splits import ImageChoice

REAL = Path(__file__).parents[2] / "../shared/real_data/bccd"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="the VOC-style sample is not here")


def convert(
    root: Path, out: Path, **options: Any
) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, str]]]:
    """Report, instances.json and the rows of report.csv."""
    report = convert_voc(root, out, options=VocOptions(**options), overwrite=True)
    assert report == json.loads((out / "report.json").read_text())
    with (out / "report.csv").open(newline="", encoding="utf-8") as file:
        findings = list(csv.DictReader(file))
    return report, json.loads((out / "instances.json").read_text()), findings


def one_image(
    tmp_path: Path, *things: Thing, **files: Any
) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, str]]]:
    write_image(tmp_path / "in", "a", things, **files)
    return convert(tmp_path / "in", tmp_path / "out")


# Boxes


def test_corners_count_from_one_and_belong_to_the_box(tmp_path: Path) -> None:
    _, coco, _ = one_image(tmp_path, thing("dog", 1, 1, *SIZE), thing("dog", 3, 5, 3, 5))
    assert [row["bbox"] for row in coco["annotations"]] == [[0, 0, *SIZE], [2, 4, 1, 1]]
    assert [row["area"] for row in coco["annotations"]] == [SIZE[0] * SIZE[1], 1]


@settings(max_examples=40, deadline=None)
@given(
    corners=st.tuples(
        *[st.one_of(st.integers(-5, 70), st.floats(-5, 70, width=32)) for _ in range(4)],
    )
)
def test_every_object_is_kept_inside_the_image_or_reported(
    corners: tuple[float, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("voc")
    anchor = thing("cat", 1, 1, 2, 2)
    report, coco, findings = one_image(folder, thing("dog", *corners), anchor)
    left, top = max(corners[0] - 1, 0), max(corners[1] - 1, 0)
    width, height = min(corners[2], SIZE[0]) - left, min(corners[3], SIZE[1]) - top
    boxes = [row for row in coco["annotations"] if row["category_id"] == 12]
    usable = corners[2] >= corners[0] and corners[3] >= corners[1] and width >= 1 and height >= 1
    if boxes:
        assert boxes[0]["bbox"] == pytest.approx([left, top, width, height])
        x, y, w, h = boxes[0]["bbox"]
        assert 0 <= x < x + w <= SIZE[0] + 1e-9
        assert 0 <= y < y + h <= SIZE[1] + 1e-9
    elif not usable:
        assert next(row["kind"] for row in findings) in ("box without area", "box outside the image")
    assert usable == bool(boxes) or min(abs(width - 1), abs(height - 1)) < 1e-5
    assert report["objects"]["written"] == 1 + len(boxes)


def test_what_an_object_says_besides_is_kept(tmp_path: Path) -> None:
    parts = [thing("head", 5, 6, 9, 10), thing("hand", "", 6, 9, 10)]
    person = thing("person", 3, 4, 30, 35, pose="Left", truncated=1, occluded=0, difficult=1, parts=parts)
    plain = thing("dog", 1, 1, 5, 5, pose="Unspecified", truncated="", difficult="", score="0.5")
    report, coco, findings = one_image(tmp_path, person, plain)
    first, second = coco["annotations"]
    assert {
        key: first[key] for key in ("iscrowd", "ignore", "difficult", "pose", "truncated", "occluded")
    } == {
        "iscrowd": 1,
        "ignore": 1,
        "difficult": 1,
        "pose": "Left",
        "truncated": 1,
        "occluded": 0,
    }
    assert first["parts"] == [{"name": "head", "bbox": [4, 5, 5, 5]}]
    assert set(second) == {"id", "image_id", "category_id", "bbox", "area", "iscrowd"}
    assert second["iscrowd"] == 0
    assert report["objects"] == {"written": 2, "difficult": 1, "skipped": {}}
    assert [(row["kind"], row["object"], row["found"]) for row in findings] == [
        ("part cannot be read", "1", "hand, xmin nothing, ymin 6, xmax 9, ymax 10")
    ]
    assert report["tags_left_out"] == {"score": 1}


def test_cocos_evaluation_neither_asks_for_difficult_objects_nor_punishes_them(tmp_path: Path) -> None:
    things = [thing("dog", 1, 1, 10, 10), thing("dog", 31, 21, 50, 40, difficult=1)]
    one_image(tmp_path, *things)
    with redirect_stdout(StringIO()):
        truth = COCO(str(tmp_path / "out/instances.json"))
        for boxes in ([[0, 0, 10, 10]], [[0, 0, 10, 10], [30, 20, 20, 20]]):
            rows = [
                {"image_id": 1, "category_id": 12, "bbox": box, "score": number / 2}
                for number, box in enumerate(reversed(boxes), start=1)
            ]
            evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            assert evaluation.stats[0] == pytest.approx(1)


# Names and ids


def test_the_twenty_classes_keep_their_order_and_other_names_come_after_them(tmp_path: Path) -> None:
    report, coco, findings = one_image(
        tmp_path, thing("yak", 1, 1, 5, 5), thing("dog", 1, 1, 5, 5), thing("axe", 1, 1, 5, 5)
    )
    names = [category["name"] for category in coco["categories"]]
    assert len(names) == 22
    assert (names[0], names[11], names[19:]) == ("aeroplane", "dog", ["tvmonitor", "axe", "yak"])
    assert coco["categories"][11]["synset"] == "dog.n.01"
    assert [(row["kind"], row["found"]) for row in findings] == [
        ("class is none of VOC's", "axe"),
        ("class is none of VOC's", "yak"),
    ]
    assert report["objects"]["written"] == 3


def test_a_class_list_keeps_its_classes_and_counts_the_rest(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("yak\nunicorn\n")
    write_image(tmp_path / "in", "a", [thing("yak", 1, 1, 5, 5), thing("dog", 1, 1, 5, 5)])
    report, coco, findings = convert(tmp_path / "in", tmp_path / "out", classes=str(tmp_path / "list.txt"))
    assert [category["name"] for category in coco["categories"]] == ["yak", "unicorn"]
    assert report["objects"] == {"written": 1, "difficult": 0, "skipped": {"class 'dog' not asked for": 1}}
    assert findings == []
    assert report["messages"] == ["class 'unicorn' stays without boxes: no object has this name"]


def test_a_class_list_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("yak\ndog\nyak\n")
    write_image(tmp_path / "in", "a", [thing("yak", 1, 1, 5, 5)])
    with pytest.raises(InputError, match="found name 'yak' again, after class 1"):
        convert(tmp_path / "in", tmp_path / "out", classes=str(tmp_path / "list.txt"))
    assert not (tmp_path / "out").exists()


def test_image_ids_are_the_digits_of_the_names_else_numbers(tmp_path: Path) -> None:
    _, coco, _ = convert(write_devkit(tmp_path / "in"), tmp_path / "out")
    assert [image["id"] for image in coco["images"]] == [1, 2, 5, 7, 9, 2007000027, 2008000002, 2011000003]
    assert coco["images"][2]["file_name"] == "VOC2007/JPEGImages/000005.jpg"
    write_image(tmp_path / "in/VOC2012", "mine")
    _, coco, _ = convert(tmp_path / "in", tmp_path / "out")
    assert [image["id"] for image in coco["images"]] == list(range(1, 10))


def test_any_folder_above_the_annotations_will_do(tmp_path: Path) -> None:
    write_devkit(tmp_path / "in" / "VOCdevkit")
    names = {}
    for root in ("in", "in/VOCdevkit", "in/VOCdevkit/VOC2007"):
        _, coco, _ = convert(tmp_path / root, tmp_path / "out")
        names[root] = [image["file_name"] for image in coco["images"]]
        assert all((tmp_path / root / name).is_file() for name in names[root])
    assert {root: len(found) for root, found in names.items()} == {
        "in": 8,
        "in/VOCdevkit": 8,
        "in/VOCdevkit/VOC2007": 5,
    }


# Dirt


@pytest.mark.parametrize(
    ("dirt", "kind"),
    [
        (thing("dog", "", 2, 3, 4), "box cannot be read"),
        (thing("dog", 1, 2, "nan", 4), "box cannot be read"),
        (thing("dog"), "box cannot be read"),
        (thing("", 1, 2, 3, 4), "object without a name"),
        (thing("dog", 9, 2, 3, 4), "box without area"),
        (thing("dog", 90, 2, 99, 4), "box outside the image"),
    ],
)
def test_an_object_that_cannot_be_used_is_reported_and_the_others_stay(
    tmp_path: Path, dirt: Thing, kind: str
) -> None:
    report, coco, findings = one_image(tmp_path, thing("cat", 1, 1, 5, 5), dirt)
    assert len(coco["annotations"]) == 1
    assert [(row["image"], row["kind"], row["object"], row["name"]) for row in findings] == [
        ("a", kind, "2", dirt["name"])
    ]
    assert report["findings"] == {kind: 1}
    with pytest.raises(
        InputError, match=rf"a, object 2 \({dirt['name']}\): {kind}: found .*leave out --strict"
    ):
        convert(tmp_path / "in", tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict").exists()


def laughs() -> str:
    """The billion laughs: expanded, three gigabytes."""
    entities = '<!ENTITY l0 "lol">'
    for number in range(1, 10):
        entities += f'<!ENTITY l{number} "{f"&l{number - 1};" * 10}">'
    return f"<?xml version='1.0'?><!DOCTYPE a [{entities}]><annotation><object>&l9;</object></annotation>"


@pytest.mark.parametrize(
    ("xml", "found"),
    [
        ("", "no XML (no element found"),
        ("<annotation><object>", "no XML (no element found"),
        ("<html></html>", "the tag 'html'"),
        ("<a>" * 200_000, "tags nested deeper than 64"),
        (laughs(), "a document type (DOCTYPE)"),
        ('<!DOCTYPE a SYSTEM "http://localhost/x.dtd"><annotation/>', "a document type (DOCTYPE)"),
        (image_xml([]).encode("latin-1") + b"\xff", "no XML (junk after document element"),
    ],
)
def test_an_annotation_that_cannot_be_used_leaves_the_others_and_exits_3(
    tmp_path: Path, xml: str | bytes, found: str
) -> None:
    write_image(tmp_path / "in", "a", xml=xml)
    write_image(tmp_path / "in", "b", [thing("dog", 1, 1, 5, 5)])
    tracemalloc.start()
    result = CliRunner().invoke(
        group, ["convert", "voc", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    )
    assert tracemalloc.get_traced_memory()[1] < 1e8
    tracemalloc.stop()
    assert isinstance(result.exception, InputError)
    assert "1 of 2 annotations cannot be used" in str(result.exception)
    coco = json.loads((tmp_path / "out/instances.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["JPEGImages/b.jpg"]
    with (tmp_path / "out/report.csv").open(newline="") as file:
        (finding,) = csv.DictReader(file)
    assert finding["kind"] == "annotation cannot be read"
    assert finding["found"].startswith(found)


def test_an_entity_is_never_expanded() -> None:
    """The standard library's reader would: this is what the refusal is for."""
    text = '<!DOCTYPE a [<!ENTITY e "dog">]><annotation><object><name>&e;</name></object></annotation>'
    assert ElementTree.fromstring(text).findtext("object/name") == "dog"
    with pytest.raises(InputError, match="document type"):
        read_annotation(text.encode())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1", "declared"])
def test_text_in_other_encodings_is_read(tmp_path: Path, encoding: str) -> None:
    xml = image_xml([thing("chaise caf\xe9", 1, 1, 5, 5)])
    data = (
        xml.encode(encoding)
        if encoding != "declared"
        else f'<?xml version="1.0" encoding="latin-1"?>{xml}'.encode("latin-1")
    )
    _, coco, findings = one_image(tmp_path, xml=data)
    assert coco["categories"] == [{"id": 1, "name": "chaise caf\xe9"}]
    assert [row["kind"] for row in findings] == (["text is not UTF-8"] if encoding == "latin-1" else [])


@pytest.mark.parametrize("declared", ["gbk", "shift_jis", "no-such-encoding"])
def test_a_declared_encoding_that_the_parser_lacks_is_tried_as_utf_8_and_latin_1(declared: str) -> None:
    """Annotation tools write the encoding of the machine they ran on, mostly above plain ASCII."""
    head = f'<?xml version="1.0" encoding="{declared}"?>'
    found = read_annotation((head + image_xml([thing("caf\xe9", 1, 1, 5, 5)])).encode())
    assert (found.things[0].name, found.is_latin) == ("caf\xe9", False)
    found = read_annotation((head + image_xml([thing("\xb9\xb7", 1, 1, 5, 5)])).encode("latin-1"))
    assert (found.things[0].name, found.is_latin) == ("\xb9\xb7", True)
    with pytest.raises(InputError, match="found no XML"):
        read_annotation(head.encode() + b"<annotation>")


def test_the_size_is_the_photographs_where_the_two_differ(tmp_path: Path) -> None:
    dog = thing("dog", 1, 1, 60, 40)
    for xml_size, photo, size, kinds in (
        (SIZE, SIZE, SIZE, []),
        ((80, 80), SIZE, SIZE, ["size differs"]),
        (None, SIZE, SIZE, ["no size"]),
        ((0, 0), SIZE, SIZE, ["no size"]),
        (SIZE, (50, 40), (50, 40), ["size differs", "box cut at the edge"]),
    ):
        _, coco, findings = one_image(tmp_path, xml=image_xml([dog], xml_size), photo=photo)
        assert (coco["images"][0]["width"], coco["images"][0]["height"]) == size
        assert coco["annotations"][0]["bbox"] == [0, 0, *size]
        assert [row["kind"] for row in findings] == kinds


def test_missing_photographs_and_annotations_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_image(folder, "a", [thing("dog", 1, 1, 5, 5)], photo=None)
    write_image(folder, "b", xml=image_xml([], None), photo=None)
    write_image(folder, "c")
    write_image(folder, "d")
    (folder / "Annotations/c.xml").unlink()
    (folder / "JPEGImages/d.jpg").write_bytes(b"no image")
    report, coco, findings = convert(folder, tmp_path / "out")
    assert [image["file_name"] for image in coco["images"]] == ["JPEGImages/a.jpg", "JPEGImages/d.jpg"]
    assert [(row["image"], row["kind"]) for row in findings] == [
        ("a", "no photograph"),
        ("b", "no photograph"),
        ("b", "no size"),
        ("d", "photograph cannot be read"),
    ]
    assert report["images"] == {"found": 3, "written": 2, "left_out": 1}
    assert report["messages"] == ["1 photographs have no annotation and are left out, such as c"]


def test_folders_that_are_none_of_voc_get_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "none/Annotations").mkdir(parents=True)
    write_image(tmp_path / "bad", "a", xml="<")
    for name, message in (
        ("missing", "no such folder"),
        ("empty", "found no Annotations"),
        ("none", "found no XML"),
        ("bad", "none of 1 annotations can be used; a: annotation cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            convert_voc(tmp_path / name, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_silently(tmp_path: Path) -> None:
    write_image(tmp_path / "in", "a")
    for name in ("out", "out.json"):
        convert_voc(tmp_path / "in", tmp_path / name)
        with pytest.raises(OutputExistsError):
            convert_voc(tmp_path / "in", tmp_path / name)
    assert (tmp_path / "out/instances.json").read_bytes() == (tmp_path / "out.json").read_bytes()


def test_processes_change_nothing(tmp_path: Path) -> None:
    for number in range(40):
        dirt = thing("dog", 1, 1, 70, 5) if number % 3 else thing("cat", 5, 5, 1, 1)
        write_image(tmp_path / "in", f"{number:06}", [dirt, thing("dog", 1, 1, 5, 5)], photo=None)
    for workers in (1, 2):
        convert(tmp_path / "in", tmp_path / str(workers), num_workers=workers)
    for name in ("instances.json", "report.csv", "report.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


# Sets


def ids(folder: Path, name: str) -> list[int]:
    return [image["id"] for image in json.loads((folder / f"{name}.json").read_text())["images"]]


@pytest.mark.parametrize(
    ("protocol", "train", "test"),
    [
        ("07+12", [2, 5, 2007000027, 2011000003], [1, 7, 9]),
        ("07", [2, 5], [1, 7, 9]),
        ("12", [2007000027], [2011000003]),
    ],
)
def test_the_protocols_follow_the_official_lists(
    tmp_path: Path, protocol: str, train: list[int], test: list[int]
) -> None:
    root = write_devkit(tmp_path / "in")
    report = split_voc(root, tmp_path / "out", protocol=protocol)
    assert (ids(tmp_path / "out", "train"), ids(tmp_path / "out", "test")) == (train, test)
    assert report["images"]["skipped"] == {"in neither set": 8 - len(train) - len(test)}
    if protocol != "12":
        assert report["test"] == {"images": 3, "boxes": 3, "images without a box": 1}


def test_a_year_alone_is_enough_for_its_protocol(tmp_path: Path) -> None:
    root = write_devkit(tmp_path / "in")
    split_voc(root / "VOC2007", tmp_path / "out", protocol="07")
    assert ids(tmp_path / "out", "train") == [2, 5]
    with pytest.raises(InputError, match=r"found no VOC2012/ImageSets/Main/trainval.txt, which 07\+12 needs"):
        split_voc(root / "VOC2007", tmp_path / "both")


def test_a_listed_image_without_annotation_is_an_error(tmp_path: Path) -> None:
    root = write_devkit(tmp_path / "in")
    write_list(root / "VOC2007", "test", ["000001", "000008"])
    with pytest.raises(
        InputError, match=r"test.txt: found '000008' \(1 such lines\), which has no annotation"
    ):
        split_voc(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_lists_and_a_seed_replace_the_protocol(tmp_path: Path) -> None:
    root = write_devkit(tmp_path / "in")
    (tmp_path / "test.txt").write_text("000005 -1\nVOC2007/JPEGImages/000007.jpg\n")
    split_voc(root, tmp_path / "a", choice=ImageChoice(test_list=tmp_path / "test.txt"))
    assert ids(tmp_path / "a", "test") == [5, 7]
    assert len(ids(tmp_path / "a", "train")) == 6
    split_voc(root, tmp_path / "b", choice=ImageChoice(num_test=2))
    assert len(ids(tmp_path / "b", "test")) == 2
    assert len(ids(tmp_path / "b", "train")) == 5  # one of eight images has no box


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_commands_say_what_became_of_the_objects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_devkit(tmp_path / "in")
    assert run("convert", "voc", root, "--out", tmp_path / "out") == 0
    assert (
        capsys.readouterr().out == f"{tmp_path / 'out'}: 10 boxes (1 difficult) of 20 classes in 8 images\n"
    )
    assert run("split", "voc", root, "--out", tmp_path / "s", "--json") == 0
    assert json.loads(capsys.readouterr().out)["train"]["images"] == 4
    assert run("split", "voc", root, "--out", tmp_path / "t", "--protocol", "07", "--test-images", "1") == 2
    (tmp_path / "empty.txt").write_text("")
    assert run("split", "voc", root, "--out", tmp_path / "t", "--test-list", tmp_path / "empty.txt") == 3
    assert "empty.txt: found an empty list" in capsys.readouterr().err


def test_an_annotation_in_no_set_because_it_cannot_be_read_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_devkit(tmp_path / "in")
    write_image(root / "VOC2007", "000003", xml="<")  # in no list of the protocol
    assert run("split", "voc", root, "--out", tmp_path / "a") == 0
    assert run("split", "voc", root, "--out", tmp_path / "b", "--test-images", "2") == 3
    assert "1 of 9 annotations cannot be used and are in no set" in capsys.readouterr().err
    assert len(ids(tmp_path / "b", "test")) == 2


@needs_real_data
def test_real_annotations_of_another_data_set_are_converted_whole(tmp_path: Path) -> None:
    report, coco, findings = convert(REAL, tmp_path / "out", strict=True)
    objects = [
        (
            path.stem,
            node.findtext("name"),
            *(int(node.findtext(f"bndbox/{side}") or 0) for side in ("xmin", "ymin", "xmax", "ymax")),
        )
        for path in sorted((REAL / "Annotations").glob("*.xml"))
        for node in ElementTree.parse(path).iterfind("object")
    ]
    stem = {image["id"]: Path(image["file_name"]).stem for image in coco["images"]}
    name = {category["id"]: category["name"] for category in coco["categories"]}
    got = [
        (stem[row["image_id"]], name[row["category_id"]], x + 1, y + 1, x + w, y + h)
        for row in coco["annotations"]
        for x, y, w, h in [row["bbox"]]
    ]
    assert got == objects
    assert list(name.values()) == ["Platelets", "RBC", "WBC"]
    assert report["images"] == {"found": 60, "written": 60, "left_out": 0}
    assert findings == []


def test_made_xml_is_read_by_the_standard_library_the_same_way() -> None:
    """So that the examples of this file are what they say."""
    node = ElementTree.fromstring(thing_xml(thing("dog", 1, 2, 3.5, 4, difficult=1)))
    assert node.findtext("bndbox/xmax") == "3.5"
    assert node.findtext("difficult") == "1"
