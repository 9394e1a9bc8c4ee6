"""Images that are left out: the graph is that of a file without them, in every form of the data."""

import json
from pathlib import Path
from typing import Any

import dirty_visual_genome as dirty
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kgtool.annotations import ReadOptions
from kgtool.build import Build, build_attribute_graph, build_relation_graph
from kgtool.classes import ClassTable
from kgtool.cli import group
from kgtool.cooccurrence import build_cooccurrence_graph
from kgtool.errors import InputError
from kgtool.graph import load_graph
from kgtool.image_lists import COCO, VISUAL_GENOME, ImageList, read_image_ids
from kgtool.triple_writing import TripleOptions, write_triples

REAL = Path(__file__).parents[3] / "shared" / "real_data"
needs_real_data = pytest.mark.skipif(
    not REAL.is_dir(), reason="shared/real_data is not beside the repository"
)
CLASSES = ClassTable(tuple(dirty.SYNSETS), tuple(dirty.SYNSETS))
fast = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
kinds = pytest.mark.parametrize("kind", ["relation", "attribute"])


def records(kind: str, seed: int) -> list[dict[str, Any]]:
    return (dirty.relationships if kind == "relation" else dirty.attributes)(seed)


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def build(kind: str, source: Path | str, **options: Any) -> Build:
    function = build_relation_graph if kind == "relation" else build_attribute_graph
    return function(source, **{"classes": CLASSES, **options})


def without(images: set[int], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in found if record["image_id"] not in images]


def leaving_out(images: set[int]) -> ReadOptions:
    return ReadOptions(excluded=ImageList("list.txt", np.array(sorted(images), dtype=np.int64)))


def assert_same_graph(found: Build, expected: Build) -> None:
    assert found.graph.graph_hash == expected.graph.graph_hash
    left_out = found.skipped["excluded image"]
    assert found.annotations == expected.annotations + left_out
    assert found.annotations == found.counted + sum(found.skipped.values())


@kinds
@fast
@given(seed=st.integers(0, 99), images=st.sets(st.integers(1, 40), min_size=1), by_objects=st.booleans())
def test_the_graph_is_that_of_a_file_without_the_images(
    kind: str, seed: int, images: set[int], by_objects: bool, tmp_path: Path
) -> None:
    found, objects = records(kind, seed), dirty.objects(seed)
    whole = {"source": write(tmp_path / "whole.json", found), "classes": CLASSES if seed % 2 else 4}
    rest = {"source": write(tmp_path / "rest.json", without(images, found)), "classes": whole["classes"]}
    if by_objects:
        whole["objects"] = write(tmp_path / "objects.json", objects)
        rest["objects"] = write(tmp_path / "rest_objects.json", without(images, objects))
    try:
        expected = build(kind, **rest)
    except InputError:  # no synset left
        with pytest.raises(InputError):
            build(kind, **whole, options=leaving_out(images))
        return
    assert_same_graph(build(kind, **whole, options=leaving_out(images)), expected)


@kinds
@pytest.mark.parametrize("form", ["triples", "triples made without", "csv"])
def test_triples_give_the_same_graph_as_the_json_without_the_images(
    kind: str, form: str, tmp_path: Path
) -> None:
    images = {2, 3, 5, 8, 13, 21, 99}
    source = write(tmp_path / "r.json", records(kind, 7))
    expected = build(kind, source, options=leaving_out(images))
    reading = leaving_out(images) if form == "triples made without" else ReadOptions()
    report = write_triples(source, tmp_path / "t", triples=TripleOptions(kind=kind), options=reading)
    if form == "triples made without":
        found = build(kind, tmp_path / "t")
        assert found.graph.graph_hash == expected.graph.graph_hash
        [made_from] = found.graph.header["sources"][0]["made_from"]
        assert made_from["skipped"] == {"excluded image": expected.skipped["excluded image"]}
        assert made_from["excluded_images"] == leaving_out(images).excluded.record()
        assert report.triples == expected.annotations - expected.skipped["excluded image"]
        return
    place = tmp_path / "t"
    if form == "csv":
        place = tmp_path / "t.csv"
        pq.read_table(tmp_path / "t" / "part-00000.parquet").to_pandas().to_csv(place, index=False)
    found = build(kind, place, options=leaving_out(images))
    assert found.graph.graph_hash == expected.graph.graph_hash
    assert found.skipped["excluded image"] == expected.skipped["excluded image"] > 0
    assert found.annotations == expected.annotations


def test_triples_without_images_cannot_leave_any_out(tmp_path: Path) -> None:
    text = write(tmp_path / "t.csv", "subject,predicate,object\ndog.n.01,on,car.n.01\n")
    expected = r"t\.csv: found no column image_id; expected it with --exclude-images"
    with pytest.raises(InputError, match=expected):
        build("relation", text, options=leaving_out({1}))
    with pytest.raises(InputError, match=expected):
        write_triples(text, tmp_path / "out", options=leaving_out({1}))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("ids", [["1", "5"], [1.0, 5.5]])
def test_images_known_by_other_than_whole_numbers_cannot_be_left_out(ids: Any, tmp_path: Path) -> None:
    rows = {"image_id": ids, "subject": ["a"] * 2, "predicate": ["on"] * 2, "object": ["b"] * 2}
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"column image_id: found .*; expected whole numbers with --exclude"):
        build("relation", tmp_path / "t.parquet", options=leaving_out({1}))


@kinds
def test_a_graph_without_any_image_left_is_refused_in_every_form(kind: str, tmp_path: Path) -> None:
    """It would be a graph without edges, and nothing would say so."""
    found = records(kind, 1)
    source, options = write(tmp_path / "r.json", found), leaving_out({row["image_id"] for row in found})
    with pytest.raises(InputError, match=r"r\.json: found all \d+ annotations to be of excluded images"):
        build(kind, source, options=options)
    write_triples(source, tmp_path / "triples", triples=TripleOptions(kind=kind))
    with pytest.raises(InputError, match=r"triples: found all \d+ annotations to be of excluded images"):
        build(kind, tmp_path / "triples", options=options)


def test_a_coco_file_without_any_image_left_is_refused(tmp_path: Path) -> None:
    document = {
        "images": [{"id": 7, "file_name": "7.jpg", "width": 64, "height": 64}],
        "categories": [{"id": 1, "name": "cup"}],
        "annotations": [
            {"id": number, "image_id": 7, "category_id": 1, "bbox": [1, 1, 5, 5]} for number in (1, 2)
        ],
    }
    path = write(tmp_path / "i.json", document)
    everything = ReadOptions(excluded=read_image_ids(path))
    with pytest.raises(InputError, match=r"i\.json: found all 2 annotations to be of excluded images"):
        build_cooccurrence_graph(path, options=everything)


def test_boxes_of_excluded_images_make_no_pairs(tmp_path: Path) -> None:
    boxes = [(1, 1, 1), (2, 1, 2), (3, 2, 1), (4, 2, 2), (5, 2, 2)]
    document = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 9, "height": 9} for n in (1, 2)],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"id": n, "image_id": image, "category_id": c, "bbox": [0, 0, 2, 2]} for n, image, c in boxes
        ],
    }
    source = write(tmp_path / "i.json", document)
    made = build_cooccurrence_graph(source, options=leaving_out({2}))
    assert made.graph.counts.tolist() == [[0, 1], [1, 0]]
    [header] = made.graph.header["sources"]
    assert header["boxes"] == 5
    assert header["skipped_boxes"]["excluded image"] == 3
    assert header["excluded_images"] == leaving_out({2}).excluded.record()


def test_a_header_tells_a_graph_with_images_left_out_from_one_without(tmp_path: Path) -> None:
    source = write(tmp_path / "r.json", records("relation", 3))
    plain = build("relation", source).graph
    some = build("relation", source, options=leaving_out({1, 2, 3})).graph
    none = build("relation", source, options=leaving_out({999})).graph
    assert plain.graph_hash != some.graph_hash
    assert plain.graph_hash == none.graph_hash  # the hash names the counts, and these are the same
    headers = [graph.header["sources"][0] for graph in (plain, some, none)]
    assert "excluded_images" not in headers[0]
    assert headers[1]["skipped"]["excluded image"] > headers[2]["skipped"]["excluded image"] == 0
    assert headers[1]["excluded_images"]["images"] == 3
    assert headers[1]["excluded_images"]["sha256"] != headers[2]["excluded_images"]["sha256"]


def test_strict_does_not_look_at_what_is_left_out(tmp_path: Path) -> None:
    clean, dirt = {"synsets": ["dog.n.01"]}, {"synsets": []}
    rows = [{"predicate": "on", "subject": clean, "object": end} for end in (clean, dirt)]
    images = [{"image_id": n, "relationships": rows[n - 1 : n]} for n in (1, 2)]
    source = write(tmp_path / "r.json", [images[1], images[0], images[1] | {"image_id": 3}])
    with pytest.raises(InputError, match=r"record 2, annotation 0: no synset"):
        build("relation", source, options=ReadOptions(True, excluded=leaving_out({2}).excluded))
    strict = ReadOptions(True, excluded=leaving_out({2, 3}).excluded)
    assert build("relation", source, options=strict).counted == 1


def coco(*images: tuple[int, str]) -> dict[str, Any]:
    return {"images": [{"id": n, "file_name": name} for n, name in images], "annotations": []}


IMAGE_DATA = [
    {"image_id": n, "coco_id": known, "width": 9, "height": 9, "url": f"https://x/VG_100K/{n}.jpg"}
    for n, known in ((1, None), (2, 30), (3, 31), (4, 30))
]


def test_a_list_is_ids_or_coco_json(tmp_path: Path) -> None:
    text = read_image_ids(write(tmp_path / "l.txt", "\ufeff7\n\n 3 \n7\n"))
    assert (text.ids_N.tolist(), text.dataset, text.text()) == ([3, 7], "", "3\n7\n")
    assert read_image_ids(write(tmp_path / "again.txt", text.text())).record() == text.record()
    own = read_image_ids(write(tmp_path / "own.json", coco((5, "a.jpg"), (2, "000000000002.jpg"))))
    assert (own.ids_N.tolist(), own.dataset) == ([2, 5], "")
    for name in ("000000000030.jpg", "val2017/000000000030.jpg", "COCO_val2014_000000000030.jpg"):
        assert read_image_ids(write(tmp_path / "c.json", coco((30, name)))).dataset == COCO
    found = read_image_ids(write(tmp_path / "v.json", coco((1, "VG_100K/1.jpg"), (2, "VG_100K_2/2.jpg"))))
    assert found.dataset == VISUAL_GENOME


@pytest.mark.parametrize("text", ["5\n2\n", json.dumps({"images": [{"id": 5}, {"id": 2}]})])
def test_a_byte_order_mark_changes_no_list(text: str, tmp_path: Path) -> None:
    (tmp_path / "l").write_text(text, encoding="utf-8-sig")
    assert read_image_ids(tmp_path / "l").ids_N.tolist() == [2, 5]


def test_image_data_turns_ids_of_coco_into_those_of_visual_genome(tmp_path: Path) -> None:
    image_data = write(tmp_path / "image_data.json", IMAGE_DATA)
    for source in (coco((30, "000000000030.jpg"), (99, "000000000099.jpg")), "30\n99\n"):
        found = read_image_ids(write(tmp_path / "val", source), image_data=image_data)
        assert (found.ids_N.tolist(), found.dataset) == ([2, 4], VISUAL_GENOME)


def test_ids_of_coco_are_never_taken_for_those_of_visual_genome(tmp_path: Path) -> None:
    excluded = read_image_ids(write(tmp_path / "val.json", coco((30, "000000000030.jpg"))))
    source = write(tmp_path / "r.json", records("relation", 1))
    options = ReadOptions(excluded=excluded)
    write_triples(source, tmp_path / "t")
    expected = "val.json: found COCO's image ids; expected Visual Genome's, as in .*--image-data"
    for place in (source, tmp_path / "t"):
        with pytest.raises(InputError, match=expected):
            build("relation", place, options=options)
    with pytest.raises(InputError, match=expected):
        write_triples(source, tmp_path / "u", options=options)
    own = write(tmp_path / "own.json", coco((1, "VG_100K/1.jpg")))
    with pytest.raises(InputError, match="found Visual Genome's images; expected COCO's with --image-data"):
        read_image_ids(own, image_data=write(tmp_path / "image_data.json", IMAGE_DATA))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\ntwo\n", "line 2: found 'two'; expected one image id a line"),
        ("9" * 5000, "line 1: found '9999"),
        ("-1\n", "line 1: found '-1'"),
        ("", "found no image"),
        ('{"images": []}', "found no image"),
        ('{"annotations": []}', "missing required field `images`"),
        ('{"images": [{"id": "a"}]}', "expected COCO JSON with images"),
        ('{"images": [{"id": -4}]}', "found the image id -4"),
        ("99999999999999999999\n", "found the image id 99999999999999999999; expected 64 bits"),
    ],
)
def test_a_bad_list_is_one_line_with_its_place(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"bad\.txt") as raised:
        read_image_ids(write(tmp_path / "bad.txt", text))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_image_data_without_coco_ids_is_an_error_and_not_an_empty_list(tmp_path: Path) -> None:
    image_data = write(tmp_path / "image_data.json", [{"image_id": 1, "coco_id": None}])
    with pytest.raises(InputError, match=r"image_data.json: found no coco_id"):
        read_image_ids(write(tmp_path / "l.txt", "1\n"), image_data=image_data)


@needs_real_data
def test_the_commands_leave_images_out_of_real_files(tmp_path: Path) -> None:
    folder = REAL / "vg" / "v1_2"
    listed = write(tmp_path / "l.txt", "1\n2\n50\n")
    for kind, name in (("relation", "relationships.json"), ("attribute", "attributes.json")):
        out = tmp_path / f"{kind}.npz"
        command = [
            f"build-{kind}",
            str(folder / name),
            "--classes",
            "100",
            "--out",
            str(out),
            "--workers",
            "1",
        ]
        result = CliRunner().invoke(group, [*command, "--exclude-images", str(listed), "--json"])
        assert result.exit_code == 0, result.output
        report = json.loads(result.stdout)
        found = without({1, 2, 50}, json.loads((folder / name).read_text()))
        expected = build(kind, write(tmp_path / name, found), classes=100)
        assert report["graph_hash"] == expected.graph.graph_hash == load_graph(out).graph_hash
        assert report["annotations"] == expected.annotations + report["skipped"]["excluded image"]
    result = CliRunner().invoke(group, [*command, "--image-data", str(folder / "image_data.json")])
    assert result.exit_code == 2
    assert "--image-data goes with --exclude-images" in result.stderr
