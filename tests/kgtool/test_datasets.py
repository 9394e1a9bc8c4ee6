"""Visual Genome as COCO JSON, from files to files, against a version in plain loops."""

import contextlib
import csv
import io
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from kgtool import object_boxes
from kgtool.annotations import ReadOptions
from kgtool.classes import ClassTable
from kgtool.cli.split import split as split_command
from kgtool.datasets.visual_genome import split_visual_genome
from kgtool.errors import InputError, KgtoolError, OutputExistsError
from kgtool.splits import ImageChoice

REAL = Path(__file__).parents[2] / "../shared/real_data/vg"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="the Visual Genome slices are not here")

Record = dict[str, Any]


def open_with_pycocotools(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


# A version in plain loops, written from the rules and not from the program.


def plain_objects(
    objects: list[Record], images: list[Record], synsets: list[str]
) -> tuple[Record, Counter[str]]:
    """The class and clipped box of each (image id, object id) that is kept; what became of every object."""
    size = {record["image_id"]: (record["width"], record["height"]) for record in images}
    kept: Record = {}
    fate: Record = {}
    reasons: Counter[str] = Counter()
    for record in objects:
        image = record["image_id"]
        for thing in record["objects"]:
            key = (image, thing["object_id"])
            found = thing.get("synsets", [])
            reason = "kept"
            box = None
            if len(found) == 0:
                reason = "object without a synset"
            elif len(found) > 1:
                reason = "object with several synsets"
            elif found[0] not in synsets:
                reason = "synset not in the class list"
            elif image not in size:
                reason = "image not in image_data"
            else:
                left, top = max(thing["x"], 0), max(thing["y"], 0)
                right = min(thing["x"] + thing["w"], size[image][0])
                bottom = min(thing["y"] + thing["h"], size[image][1])
                if right - left < 1 or bottom - top < 1:
                    reason = "no box, or less than a pixel of it inside the image"
                box = [left, top, right - left, bottom - top]
            if reason == "kept":
                kept[key] = (synsets.index(found[0]), box)
            fate[key] = reason
            for merged in thing.get("merged_object_ids", []):
                fate.setdefault((image, merged), (image, thing["object_id"]))
            reasons[reason] += 1
    return {"kept": kept, "fate": fate, "images": set(size)}, reasons


def plain_relations(relationships: list[Record], made: Record) -> tuple[list[tuple[Any, ...]], Counter[str]]:
    rows = []
    skipped: Counter[str] = Counter()
    for record in relationships:
        image = record["image_id"]
        for relationship in record["relationships"]:
            ends = []
            reason = "" if image in made["images"] else "image not in image_data"
            for side in ("subject", "object"):
                key = (image, relationship[side]["object_id"])
                fate = made["fate"].get(key, "object id not in objects")
                if isinstance(fate, tuple):
                    key, fate = fate, made["fate"][fate]
                ends.append(key)
                if fate != "kept" and not reason:
                    reason = fate
            predicate = " ".join(relationship["predicate"].casefold().split())
            if not predicate:
                reason = "relationship without a predicate"
            if reason:
                skipped[reason] += 1
            else:
                rows.append((ends[0], predicate, ends[1]))
    return sorted(rows), skipped


def boxes_of_file(document: Record) -> dict[int, tuple[int, int, list[int]]]:
    return {
        row["id"]: (row["image_id"], row["category_id"] - 1, row["bbox"]) for row in document["annotations"]
    }


def check_against_plain(
    folder: Path, objects: list[Record], images: list[Record], relationships: list[Record] | None
) -> Record:
    """Compare a written folder with the plain version; return its report."""
    report: Record = json.loads((folder / "report.json").read_text())
    files = {name: json.loads((folder / f"{name}.json").read_text()) for name in ("train", "test")}
    synsets = [category["synset"] for category in files["train"]["categories"]]
    made, reasons = plain_objects(objects, images, synsets)
    boxes = {name: boxes_of_file(document) for name, document in files.items()}
    got = sorted([*boxes["train"].values(), *boxes["test"].values()])
    assert got == sorted((key[0], *row) for key, row in made["kept"].items())
    assert report["objects"]["kept"] == reasons.pop("kept", 0) == len(got)
    assert report["objects"]["skipped"] == dict(reasons)
    assert report["objects"]["read"] == sum(len(record["objects"]) for record in objects)

    with_box = {key[0] for key in made["kept"]}
    listed = {name: {image["id"] for image in document["images"]} for name, document in files.items()}
    assert listed["train"] | listed["test"] == with_box
    assert not listed["train"] & listed["test"]
    assert not boxes["train"].keys() & boxes["test"].keys()
    for name in files:
        assert {row[0] for row in boxes[name].values()} == listed[name]
    if relationships is not None:
        rows, skipped = plain_relations(relationships, made)
        name_of = {row["id"]: row["name"] for row in files["train"]["rel_categories"]}
        every = {**boxes["train"], **boxes["test"]}
        got_relations = [
            (row["image_id"], every[row["subject_id"]], name_of[row["predicate_id"]], every[row["object_id"]])
            for document in files.values()
            for row in document["rel_annotations"]
        ]
        expected = [
            (a[0], (a[0], *made["kept"][a]), predicate, (b[0], *made["kept"][b])) for a, predicate, b in rows
        ]
        assert sorted(got_relations) == sorted(expected)
        assert report["relations"]["skipped"] == dict(skipped)
        assert report["relations"]["kept"] == len(rows)
    return report


# Made files


SYNSETS = [f"{word}.n.01" for word in ("dog", "cat", "tree", "man", "hat")]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Record], list[Record], list[Record]]:
    """objects.json, image_data.json and relationships.json with the dirt of the real ones."""
    ids = draw(st.lists(st.integers(1, 3000), unique=True, min_size=3, max_size=9))
    number = iter(range(10, 10**6))
    objects, images, relationships = [], [], []
    near = st.integers(-8, 40)
    for image in ids:
        things = []
        for _ in range(draw(st.integers(0, 5))):
            thing: Record = {"object_id": next(number), "names": ["thing"], "x": draw(near), "y": draw(near)}
            thing |= {"w": draw(st.integers(0, 30)), "h": draw(st.integers(-1, 30))}
            thing["synsets"] = draw(
                st.sampled_from([*([synset] for synset in SYNSETS), [], SYNSETS[:2], ["odd.n.01"]])
            )
            if draw(st.booleans()):
                thing["merged_object_ids"] = [next(number)]
            things.append(thing)
        known = [thing["object_id"] for thing in things]
        known += [merged for thing in things for merged in thing.get("merged_object_ids", [])]
        ends = st.sampled_from([*known, 5])
        mentions = [
            {
                "relationship_id": next(number),
                "predicate": draw(st.sampled_from(["ON", "on ", "has  a", "near", " "])),
                "synsets": [],
                "subject": {"object_id": draw(ends), "name": "thing", "synsets": []},
                "object": {"object_id": draw(ends), "name": "thing", "synsets": []},
            }
            for _ in range(draw(st.integers(0, 3)))
        ]
        objects.append({"image_id": image, "objects": things})
        relationships.append({"image_id": image, "relationships": mentions})
        if draw(st.integers(0, 9)):
            url = f"https://x.org/VG_100K/{image}.jpg"
            coco = draw(st.none() | st.integers(1, 99))
            images.append({"image_id": image, "url": url, "width": 32, "height": 24, "coco_id": coco})
    return objects, images, relationships


CLASSES = ClassTable(tuple(SYNSETS), tuple(SYNSETS))


def write_world(folder: Path, **files: list[Record]) -> dict[str, Path]:
    paths = {}
    for name, records in files.items():
        paths[name] = folder / f"{name}.json"
        paths[name].write_text(json.dumps(records))
    return paths


@settings(deadline=None, max_examples=60)
@given(world=worlds(), chunk_rows=st.sampled_from([1, 2, 3, 5, object_boxes.CHUNK_ROWS]))
def test_made_files_become_what_plain_loops_make_of_them(
    tmp_path_factory: pytest.TempPathFactory,
    world: tuple[list[Record], list[Record], list[Record]],
    chunk_rows: int,
) -> None:
    objects, images, relationships = world
    folder = tmp_path_factory.mktemp("world")
    paths = write_world(folder, objects=objects, image_data=images, relationships=relationships)
    made, _ = plain_objects(objects, images, SYNSETS)
    single = any(len(thing["synsets"]) == 1 for record in objects for thing in record["objects"])
    if not single or not made["kept"]:
        with pytest.raises(InputError, match=r"found no object with a synset|found no box of the 5 classes"):
            split_visual_genome(paths["objects"], paths["image_data"], folder / "out", classes=CLASSES)
        assert not (folder / "out").exists()
        return
    with mock.patch.object(object_boxes, "CHUNK_ROWS", chunk_rows):
        report = split_visual_genome(
            paths["objects"],
            paths["image_data"],
            folder / "out",
            classes=CLASSES,
            relationships=paths["relationships"],
        )
    assert check_against_plain(folder / "out", objects, images, relationships) == report
    for name in ("train", "test"):
        coco = open_with_pycocotools(folder / "out" / f"{name}.json")
        assert len(coco.anns) == report[name]["boxes"]
        for annotation in coco.anns.values():
            x, y, w, h = annotation["bbox"]
            assert x >= 0
            assert y >= 0
            assert w >= 1
            assert h >= 1
            assert x + w <= 32
            assert y + h <= 24
            assert annotation["area"] == w * h


@settings(deadline=None, max_examples=25)
@given(world=worlds(), data=st.data())
def test_the_order_of_records_objects_and_relationships_changes_no_byte(
    tmp_path_factory: pytest.TempPathFactory,
    world: tuple[list[Record], list[Record], list[Record]],
    data: st.DataObject,
) -> None:
    objects, images, relationships = world
    if not plain_objects(objects, images, SYNSETS)[0]["kept"]:
        return
    folder = tmp_path_factory.mktemp("world")
    shuffled = [
        [
            {**record, rows: data.draw(st.permutations(record[rows]))}
            for record in data.draw(st.permutations(records))
        ]
        for records, rows in ((objects, "objects"), (relationships, "relationships"))
    ]
    orders = ((objects, images, relationships), (shuffled[0], images[::-1], shuffled[1]))
    for name, (some_objects, some_images, some_relationships) in zip("ab", orders, strict=True):
        (folder / name).mkdir()
        paths = write_world(
            folder / name, objects=some_objects, image_data=some_images, relationships=some_relationships
        )
        split_visual_genome(
            paths["objects"],
            paths["image_data"],
            folder / name / "out",
            classes=CLASSES,
            relationships=paths["relationships"],
        )
    for file in ("train.json", "test.json", "classes.csv"):
        assert (folder / "a/out" / file).read_bytes() == (folder / "b/out" / file).read_bytes(), file
    reports = [json.loads((folder / name / "out/report.json").read_text()) for name in "ab"]
    assert [report.pop("sources")[0]["name"] for report in reports] == ["objects.json"] * 2
    assert reports[0] == reports[1]


def one_image(*things: Record, **size: Any) -> tuple[list[Record], list[Record]]:
    full = [
        {"object_id": number, "synsets": ["dog.n.01"], "x": 0, "y": 0, "w": 9, "h": 9} | thing
        for number, thing in enumerate(things, start=1)
    ]
    image = {"image_id": 2, "url": "https://x/y/VG_100K/2.jpg", "width": 20, "height": 20, "coco_id": None}
    return [{"image_id": 2, "objects": full}], [image | size]


def run_one(folder: Path, world: tuple[list[Record], list[Record]], **options: Any) -> tuple[Record, Record]:
    """Report and train.json of a world of one image."""
    paths = write_world(folder, objects=world[0], image_data=world[1])
    options = {"classes": ClassTable(("dog",), ("dog.n.01",)), "overwrite": True, **options}
    report = split_visual_genome(paths["objects"], paths["image_data"], folder / "out", **options)
    return report, json.loads((folder / "out/train.json").read_text())


def test_the_same_object_twice_is_one_box_and_equal_boxes_of_two_objects_are_two(tmp_path: Path) -> None:
    world = one_image({}, {"object_id": 1}, {"object_id": 3}, {"object_id": 4, "w": 8})
    with mock.patch.object(object_boxes, "CHUNK_ROWS", 1):
        report, train = run_one(tmp_path, world)
    assert [row["id"] for row in train["annotations"]] == [1, 3, 4]
    assert report["objects"]["skipped"] == {"the same object twice": 1}
    assert report["objects"]["equal_boxes"] == 1


def test_objects_without_an_id_are_numbered_and_never_taken_for_one(tmp_path: Path) -> None:
    world = one_image({}, {}, {"w": 5})
    for thing in world[0][0]["objects"]:
        del thing["object_id"]
    report, train = run_one(tmp_path, world)
    assert [row["id"] for row in train["annotations"]] == [1, 2, 3]
    assert report["objects"]["equal_boxes"] == 1


def test_an_object_id_with_two_boxes_keeps_both_under_numbers(tmp_path: Path) -> None:
    _, train = run_one(tmp_path, one_image({"object_id": 70}, {"object_id": 70, "x": 3}))
    assert [(row["id"], row["bbox"]) for row in train["annotations"]] == [
        (1, [0, 0, 9, 9]),
        (2, [3, 0, 9, 9]),
    ]


def test_boxes_with_fractions_keep_them(tmp_path: Path) -> None:
    report, train = run_one(
        tmp_path, one_image({"x": -0.5, "w": 10.25}, {"x": 15.1, "w": 0.7}, {"x": 0.1, "w": 0.2 + 1})
    )
    assert [row["bbox"] for row in train["annotations"]] == [[0, 0, 9.75, 9], [0.1, 0, 1.2, 9]]
    assert report["objects"]["clipped"] == 1
    assert report["objects"]["skipped"] == {"no box, or less than a pixel of it inside the image": 1}


def test_the_area_of_a_box_in_a_huge_image_is_exact(tmp_path: Path) -> None:
    huge = one_image({"w": 90_000, "h": 90_000}, width=100_000, height=100_000)
    _, train = run_one(tmp_path, huge)
    assert train["annotations"][0]["area"] == 90_000**2


def test_an_object_without_a_box_is_counted(tmp_path: Path) -> None:
    report, train = run_one(tmp_path, one_image({"x": None}, {}))
    assert len(train["annotations"]) == 1
    assert report["objects"]["skipped"] == {"no box, or less than a pixel of it inside the image": 1}


def test_ids_beyond_forty_bits_still_join(tmp_path: Path) -> None:
    big = 2**62
    objects, images = one_image({"object_id": big}, {"object_id": big + 1, "merged_object_ids": [7]})
    end = {"name": "dog", "synsets": []}
    rows = [{"predicate": "By", "subject": {**end, "object_id": 7}, "object": {**end, "object_id": big}}]
    paths = write_world(
        tmp_path, objects=objects, image_data=images, relationships=[{"image_id": 2, "relationships": rows}]
    )
    _, train = run_one(tmp_path, (objects, images), relationships=paths["relationships"])
    assert [row["id"] for row in train["annotations"]] == [big, big + 1]
    relation = train["rel_annotations"][0]
    assert (relation["subject_id"], relation["object_id"]) == (big + 1, big)
    assert train["rel_categories"] == [{"id": 1, "name": "by"}]


def test_an_id_that_is_an_object_and_merged_into_another_means_the_object(tmp_path: Path) -> None:
    objects, images = one_image({"merged_object_ids": [2]}, {}, {"object_id": 2, "synsets": []})
    end = {"name": "dog", "synsets": []}
    rows = [{"predicate": "by", "subject": {**end, "object_id": 2}, "object": {**end, "object_id": 1}}]
    paths = write_world(tmp_path, relationships=[{"image_id": 2, "relationships": rows}])
    report, train = run_one(tmp_path, (objects, images), relationships=paths["relationships"])
    assert [(row["subject_id"], row["object_id"]) for row in train["rel_annotations"]] == [(2, 1)]
    assert report["relations"] == {"read": 1, "kept": 1, "skipped": {}}


def test_the_file_name_is_the_end_of_the_url_and_coco_ids_are_kept(tmp_path: Path) -> None:
    _, train = run_one(tmp_path, one_image({}, coco_id=139))
    assert train["images"] == [
        {"id": 2, "file_name": "VG_100K/2.jpg", "width": 20, "height": 20, "coco_id": 139}
    ]
    _, train = run_one(tmp_path, one_image({}, url=None))
    assert train["images"] == [{"id": 2, "file_name": "2.jpg", "width": 20, "height": 20}]


def test_a_class_without_boxes_stays_in_the_list_and_is_told(tmp_path: Path) -> None:
    table = ClassTable(("yeti", "Dog"), ("", ""))
    report, train = run_one(tmp_path, one_image({}), classes=table)
    assert [(row["name"], row.get("synset", "")) for row in train["categories"]] == [
        ("yeti", ""),
        ("Dog", "dog.n.01"),
    ]
    assert [row["image_count"] for row in train["categories"]] == [0, 1]
    assert any("'yeti' stays without evidence" in message for message in report["messages"])
    assert "1 of 2 classes have no training image" in report["messages"]


@pytest.mark.parametrize(
    ("thing", "size", "message"),
    [
        ({"w": 0}, {}, "image 2, object 2: no box, or less than a pixel"),
        ({"object_id": 1}, {}, "image 2, object 1: the same object twice"),
        ({}, {"image_id": 3}, "image 2, object 1: image not in image_data"),
    ],
)
def test_strict_makes_the_first_dirt_an_error(
    tmp_path: Path, thing: Record, size: Record, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run_one(tmp_path, one_image({}, thing, **size), options=ReadOptions(strict=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"image_id": 2, "url": "a"}], "record 0: found no image_id, width and height"),
        (
            [{"image_id": 2, "width": 5, "height": 5}, {"image_id": 2, "width": 6, "height": 5}],
            "record 0: found image 2, which another record has",
        ),
    ],
)
def test_image_data_that_cannot_be_trusted_is_refused(
    tmp_path: Path, records: list[Record], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run_one(tmp_path, (one_image({})[0], records))


def test_release_1_0_is_refused_because_it_has_no_synsets(tmp_path: Path) -> None:
    objects, images = one_image({"names": ["dog"]})
    del objects[0]["objects"][0]["synsets"]
    with pytest.raises(InputError, match=r"release 1\.0 has names only"):
        run_one(tmp_path, (objects, images))


def test_a_file_cut_off_leaves_nothing_behind(tmp_path: Path) -> None:
    paths = write_world(tmp_path, objects=one_image({})[0], image_data=one_image({})[1])
    paths["objects"].write_text(paths["objects"].read_text()[:-20])
    with pytest.raises(InputError, match=r"objects\.json"):
        split_visual_genome(paths["objects"], paths["image_data"], tmp_path / "out", classes=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image_data.json", "objects.json"]


# Real files


@needs_real_data
@pytest.mark.parametrize("num_classes", [1, 100, 395])
def test_release_1_2_agrees_with_plain_loops(tmp_path: Path, num_classes: int) -> None:
    paths = {name: REAL / "v1_2" / f"{name}.json" for name in ("objects", "image_data", "relationships")}
    records = {name: json.loads(path.read_text()) for name, path in paths.items()}
    report = split_visual_genome(
        paths["objects"],
        paths["image_data"],
        tmp_path / "out",
        classes=num_classes,
        relationships=paths["relationships"],
    )
    check_against_plain(tmp_path / "out", records["objects"], records["image_data"], records["relationships"])
    counts = Counter(
        thing["synsets"][0]
        for record in records["objects"]
        for thing in record["objects"]
        if len(thing["synsets"]) == 1
    )
    expected = sorted(counts, key=lambda synset: (-counts[synset], synset))[:num_classes]
    with (tmp_path / "out/classes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["synset"] for row in rows] == expected
    images: dict[str, set[int]] = defaultdict(set)
    for record in records["objects"]:
        for thing in record["objects"]:
            if len(thing["synsets"]) == 1:
                images[thing["synsets"][0]].add(record["image_id"])
    for row in rows:
        if len(images[row["synset"]]) > 1:
            assert int(row["train_image_count"]) > 0, row
    assert report["test"]["images"] == (2 if num_classes > 1 else 1)


@needs_real_data
@pytest.mark.parametrize("relations_of", ["v1_2", "v1_4"])
def test_release_1_4_agrees_with_plain_loops_and_follows_merged_objects(
    tmp_path: Path, relations_of: str
) -> None:
    objects, images = REAL / "v1_4/objects.json", REAL / "v1_2/image_data.json"
    relationships = REAL / relations_of / "relationships.json"
    records = [json.loads(path.read_text()) for path in (objects, images, relationships)]
    report = split_visual_genome(
        objects,
        images,
        tmp_path / "out",
        classes=60,
        relationships=relationships,
        choice=ImageChoice(num_test=2),
    )
    check_against_plain(tmp_path / "out", *records)
    known = {record["image_id"] for record in records[0]}
    left_out = report["relations"]["skipped"]["object id not in objects"]
    elsewhere = sum(len(record["relationships"]) for record in records[2] if record["image_id"] not in known)
    assert elsewhere < left_out <= elsewhere + 36


@needs_real_data
def test_real_files_give_the_same_bytes_twice_whatever_the_number_of_processes(tmp_path: Path) -> None:
    for name, workers in (("a", 1), ("b", 2)):
        split_visual_genome(
            REAL / "v1_2/objects.json",
            REAL / "v1_2/image_data.json",
            tmp_path / name,
            classes=50,
            relationships=REAL / "v1_2/relationships.json",
            options=ReadOptions(num_workers=workers),
        )
    for file in ("train.json", "test.json", "classes.csv", "report.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


# The command


def vg_command(folder: Path, *more: str) -> list[str]:
    world = one_image({}, {"x": 4, "synsets": ["cat.n.01"]}, {"synsets": []})
    images = [{**world[1][0], "image_id": number, "url": f"VG_100K/{number}.jpg"} for number in range(1, 41)]
    objects = [
        {
            "image_id": number,
            "objects": [
                {**thing, "object_id": 10 * number + thing["object_id"]} for thing in world[0][0]["objects"]
            ],
        }
        for number in range(1, 41)
    ]
    paths = write_world(folder, objects=objects, image_data=images)
    common = [
        "vg",
        "--classes",
        "2",
        "--objects",
        str(paths["objects"]),
        "--image-data",
        str(paths["image_data"]),
    ]
    return [*common, "--out", str(folder / "out"), *more]


def test_the_command_prints_one_json_document(tmp_path: Path) -> None:
    done = CliRunner().invoke(split_command, vg_command(tmp_path, "--json"))
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["objects"] == {
        "read": 120,
        "kept": 80,
        "clipped": 0,
        "equal_boxes": 0,
        "skipped": {"object without a synset": 40},
    }
    assert report["choice"] == {"seed": 0}
    assert report["train"] == {"images": 38, "boxes": 76}
    assert report["test"] == {"images": 2, "boxes": 4}
    assert report["out"] == str(tmp_path / "out")


def test_the_command_tells_in_words_what_it_left_out(tmp_path: Path) -> None:
    done = CliRunner().invoke(split_command, vg_command(tmp_path, "--test-images", "7", "--seed", "3"))
    assert "2 classes" in done.stdout
    assert "train: 33 images, 66 boxes" in done.stdout
    assert "left out: 40 objects: object without a synset" in done.stdout


def test_lists_and_a_seed_together_are_a_mistake_in_use(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("1\n2\n3\n")
    arguments = vg_command(tmp_path, "--test-list", str(tmp_path / "test.txt"))
    assert CliRunner().invoke(split_command, [*arguments, "--seed", "1"]).exit_code == 2
    done = CliRunner().invoke(split_command, arguments)
    assert "test: 3 images, 6 boxes" in done.stdout


def test_nothing_is_overwritten_silently(tmp_path: Path) -> None:
    arguments = vg_command(tmp_path)
    assert CliRunner().invoke(split_command, arguments).exit_code == 0
    again = CliRunner().invoke(split_command, arguments)
    assert isinstance(again.exception, OutputExistsError)
    assert CliRunner().invoke(split_command, [*arguments, "--overwrite"]).exit_code == 0


def test_a_folder_that_is_not_there_is_told_before_the_work(tmp_path: Path) -> None:
    arguments = vg_command(tmp_path)
    arguments[arguments.index("--out") + 1] = str(tmp_path / "no/out")
    assert isinstance(CliRunner().invoke(split_command, arguments).exception, KgtoolError)
