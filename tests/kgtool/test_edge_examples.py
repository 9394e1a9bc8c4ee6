"""Images behind edges: exactly those of annotations that counted, whatever form these come in."""

import json
import re
from collections import defaultdict
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import pytest

import kgtool.image_examples
from kgtool.annotations import ReadOptions
from kgtool.box_relations import iter_image_relations, iter_relation_counts
from kgtool.build import build_attribute_graph, build_relation_graph
from kgtool.classes import ClassTable
from kgtool.cli import main
from kgtool.cooccurrence import PairOptions, build_cooccurrence_graph
from kgtool.edge_examples import find_examples
from kgtool.errors import InputError
from kgtool.graph import save_graph
from kgtool.graph_summary import selected_terms
from kgtool.image_examples import MOST, ExampleCollector, pair_key
from kgtool.image_lists import read_image_ids
from kgtool.triple_writing import TripleOptions, write_triples
from kgtool.visual_genome import fold_text

CLASSES = ClassTable(("dog", "frisbee", "grass"), ("dog.n.01", "frisbee.n.01", "grass.n.01"))


def relation(subject, predicate, object_):
    ends = {"subject": subject, "object": object_}
    return {"predicate": predicate, **{end: {"synsets": synsets} for end, synsets in ends.items()}}


def write(path, document):
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.fixture
def relationships(tmp_path):
    """Two images in which a dog and a frisbee are related by what counts, three in which they are not."""
    dog, frisbee, grass = ["dog.n.01"], ["frisbee.n.01"], ["grass.n.01"]
    images = {
        9: [relation(dog, "Catches", frisbee), relation(dog, "catches", frisbee)],
        4: [relation(frisbee, "catches ", dog), relation(dog, "on", grass)],
        5: [relation(dog, "rare", frisbee)],  # not among the two most frequent predicates
        6: [relation([*dog, *grass], "catches", frisbee)],  # not exactly one synset
        7: [relation(dog, "", frisbee)],
        1: [relation(dog, "on", grass)],
        2: [relation(dog, "on", grass)],
        3: [relation(grass, "on", grass), relation(dog, "on", grass)],
    }
    records = [{"image_id": image, "relationships": rows} for image, rows in images.items()]
    return write(tmp_path / "relationships.json", records)


def by_pair(graph, examples):
    size = len(graph.classes)
    found = {
        (graph.classes[i], graph.classes[j]): examples.of(pair_key(i, j, size))
        for i, j in combinations_with_replacement(range(size), 2)
    }
    return {pair: images for pair, images in found.items() if images}


EXPECTED = {("dog", "frisbee"): [4, 9], ("dog", "grass"): [1, 2, 3], ("grass", "grass"): [3]}


def test_examples_are_images_of_annotations_that_counted_the_smallest_ids_first(relationships):
    graph = build_relation_graph(relationships, classes=CLASSES, num_terms=2).graph
    assert by_pair(graph, find_examples(graph, [relationships])) == EXPECTED


def test_the_same_examples_come_from_shards_of_the_same_annotations(relationships, tmp_path):
    write_triples(relationships, tmp_path / "triples")
    graph = build_relation_graph(tmp_path / "triples", classes=CLASSES, num_terms=2).graph
    assert by_pair(graph, find_examples(graph, [tmp_path / "triples"])) == EXPECTED
    assert by_pair(graph, find_examples(graph, [relationships])) == EXPECTED
    direct = build_relation_graph(relationships, classes=CLASSES, num_terms=2).graph
    assert by_pair(direct, find_examples(direct, [tmp_path / "triples"])) == EXPECTED


def test_text_triples_have_examples_where_they_say_of_which_image_they_are(tmp_path):
    with_images = tmp_path / "with.csv"
    with_images.write_text(
        "subject,predicate,object,image_id,count\n"
        "dog,ON,grass,8,2\ndog,on,grass,6,0\ngrass,on,dog,,1\nfrisbee,on,grass,3,1\n"
    )
    names = ClassTable(CLASSES.names, ("", "", ""))
    graph = build_relation_graph(with_images, classes=names).graph
    expected = {("dog", "grass"): [8], ("frisbee", "grass"): [3]}
    assert by_pair(graph, find_examples(graph, [with_images])) == expected
    without = tmp_path / "without.csv"
    without.write_text("subject,predicate,object\ndog,on,grass\n")
    graph = build_relation_graph(without, classes=names).graph
    with pytest.raises(InputError, match="no column image_id"):
        find_examples(graph, [without])


def test_of_the_sample_every_relation_example_is_one_and_none_is_left_out():
    """By plain loops over the file, with few predicates selected."""
    path = Path(__file__).parents[2] / "data/sample/vg/relationships.json"
    graph = build_relation_graph(path, classes=24, num_terms=3).graph
    wanted = set(selected_terms(graph))
    images = defaultdict(set)
    for record in json.loads(path.read_text()):
        for row in record["relationships"]:
            ends = [row[end]["synsets"] for end in ("subject", "object")]
            if fold_text(row["predicate"]) in wanted and all(len(synsets) == 1 for synsets in ends):
                images[tuple(sorted(synsets[0] for synsets in ends))].add(record["image_id"])
    examples = by_pair(graph, find_examples(graph, [path]))
    found = {tuple(sorted(pair)): kept for pair, kept in examples.items()}
    assert found == {pair: sorted(of_pair)[:MOST] for pair, of_pair in images.items()}
    assert len(found) > 50
    assert {len(kept) for kept in found.values()} == {1, 2, 3}


def test_of_the_sample_every_attribute_example_is_one_and_none_is_left_out():
    path = Path(__file__).parents[2] / "data/sample/vg/attributes.json"
    graph = build_attribute_graph(path, classes=24, num_terms=5).graph
    terms = selected_terms(graph)
    images = defaultdict(set)
    for record in json.loads(path.read_text()):
        for row in record["attributes"]:
            for text in row.get("attributes", ()):
                if fold_text(text) in terms and len(row["synsets"]) == 1:
                    images[row["synsets"][0], fold_text(text)].add(record["image_id"])
    examples = find_examples(graph, [path])
    for at, name in enumerate(graph.classes):
        for code, term in enumerate(terms):
            expected = sorted(images[name, term])[:MOST]
            assert examples.of(pair_key(at, code, len(terms))) == expected


@pytest.mark.parametrize("window", ["image", "near", "knn"])
def test_images_of_pairs_of_boxes_are_those_that_are_counted(window):
    """Summed over images, they give the counts that a graph is made from."""
    rng = np.random.default_rng(0)
    image_N, class_N = rng.integers(100, 130, 400), rng.integers(0, 6, 400)
    corner_N2, size_N2 = rng.integers(0, 90, (400, 2)), rng.integers(1, 40, (400, 2))
    boxes_N4 = np.concatenate([corner_N2, corner_N2 + size_N2], axis=1).astype(float)
    counted, seen = np.zeros((6, 6), int), np.zeros((6, 6), int)
    rows = image_N, class_N, boxes_N4
    for found in iter_relation_counts(*rows, window=window, num_neighbours=2):
        np.add.at(counted, (found.subject, found.object), found.count)
    triples = set()
    for image, subject, object_ in iter_image_relations(*rows, window=window, num_neighbours=2):
        np.add.at(seen, (subject, object_), 1)
        triples |= set(zip(image.tolist(), subject.tolist(), object_.tolist(), strict=True))
    assert counted.any()
    assert np.array_equal(seen, counted)
    for image, subject, object_ in triples:
        there = class_N[image_N == image].tolist()
        assert there.count(subject) > (subject == object_)
        assert object_ in there


def coco(tmp_path, objects_by_image):
    boxes = [(image, category) for image, objects in objects_by_image.items() for category in objects]
    document = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 64} for i in objects_by_image],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES.names)],
        "annotations": [
            {
                "id": n,
                "image_id": image,
                "category_id": category,
                "bbox": [n, n, 5, 5],
                "area": 25,
                "iscrowd": 0,
            }
            for n, (image, category) in enumerate(boxes, start=1)
        ],
    }
    return write(tmp_path / "train.json", document)


def test_boxes_of_a_coco_file_have_examples_too_and_left_out_images_stay_out(tmp_path):
    path = coco(tmp_path, {30: [1, 2], 10: [2, 1, 1], 20: [1, 3], 40: [2]})
    graph = build_cooccurrence_graph(path).graph
    expected = {("dog", "frisbee"): [10, 30], ("dog", "dog"): [10], ("dog", "grass"): [20]}
    assert by_pair(graph, find_examples(graph, [path])) == expected
    (tmp_path / "out.txt").write_text("10\n")
    options = ReadOptions(excluded=read_image_ids(tmp_path / "out.txt"))
    thinner = build_cooccurrence_graph(path, options=options, pairs=PairOptions("knn", True, 1)).graph
    kept = by_pair(thinner, find_examples(thinner, [path], options=options))
    assert kept == {("dog", "frisbee"): [30], ("dog", "grass"): [20]}
    with pytest.raises(InputError, match=r"1 images were left out .* --exclude-images"):
        find_examples(thinner, [path])


def test_images_that_were_left_out_of_relations_are_no_examples(relationships, tmp_path):
    (tmp_path / "out.txt").write_text("1\n4\n")
    options = ReadOptions(excluded=read_image_ids(tmp_path / "out.txt"))
    graph = build_relation_graph(relationships, classes=CLASSES, num_terms=2, options=options).graph
    kept = by_pair(graph, find_examples(graph, [relationships], options=options))
    assert kept == {("dog", "frisbee"): [9], ("dog", "grass"): [2, 3], ("grass", "grass"): [3]}
    with pytest.raises(InputError, match="2 images were left out"):
        find_examples(graph, [relationships])
    write_triples(relationships, tmp_path / "triples", triples=TripleOptions(), options=options)
    shards = build_relation_graph(tmp_path / "triples", classes=CLASSES, num_terms=2).graph
    assert by_pair(shards, find_examples(shards, [tmp_path / "triples"])) == kept


def test_ends_without_a_synset_are_looked_up_again_in_the_same_objects(tmp_path):
    bare = {"subject": {"object_id": 1}, "object": {"object_id": 2}, "predicate": "on"}
    source = write(tmp_path / "r.json", [{"image_id": 8, "relationships": [bare]}])
    objects = [{"object_id": 1, "synsets": ["dog.n.01"]}, {"object_id": 2, "synsets": ["grass.n.01"]}]
    known = write(tmp_path / "objects.json", [{"image_id": 8, "objects": objects}])
    graph = build_relation_graph(source, classes=CLASSES, objects=known).graph
    expected = {("dog", "grass"): [8]}
    assert by_pair(graph, find_examples(graph, [source], objects=known)) == expected
    with pytest.raises(InputError, match=r"built with objects\.json, .* give it with --objects"):
        find_examples(graph, [source])
    write_triples(source, tmp_path / "triples", triples=TripleOptions(objects=known))
    assert by_pair(graph, find_examples(graph, [tmp_path / "triples"])) == expected


def test_another_file_than_the_graph_was_built_from_is_refused(relationships, tmp_path):
    graph = build_relation_graph(relationships, classes=CLASSES).graph
    other = write(tmp_path / "other.json", [*json.loads(relationships.read_text()), {"relationships": []}])
    with pytest.raises(InputError, match=r"no source of the graph.*relationships\.json"):
        find_examples(graph, [other])


def test_the_smallest_ids_are_kept_whatever_order_and_pieces_they_come_in(monkeypatch):
    rng = np.random.default_rng(1)
    key_N, image_N = rng.integers(0, 40, 3000), rng.integers(0, 500, 3000)
    expected = {key: sorted(set(image_N[key_N == key].tolist()))[:MOST] for key in range(40)}
    monkeypatch.setattr(kgtool.image_examples, "_WAITING_ROWS", 100)
    collector = ExampleCollector()
    for rows in np.array_split(rng.permutation(3000), 23):
        collector.add(key_N[rows], image_N[rows])
    assert {key: collector.examples().of(key) for key in range(40)} == expected
    assert collector.examples().of(40) == ExampleCollector().examples().of(0) == []


def test_the_command_names_images_and_says_what_goes_with_what(relationships, tmp_path, capsys):
    save_graph(build_relation_graph(relationships, classes=CLASSES, num_terms=2).graph, tmp_path / "g.npz")

    def call(*more):
        with pytest.raises(SystemExit) as end:
            main(
                [
                    "explore",
                    *map(str, (tmp_path / "g.npz", "--out", tmp_path / "g.html", "--workers", 1, *more)),
                ]
            )
        return end.value.code

    def content():
        return json.loads(re.search(r'id="graph">(.*?)</script>', (tmp_path / "g.html").read_text(), re.S)[1])

    assert call("--examples", relationships) == 0
    page = content()
    assert dict(zip(page["near"][0], page["images"][0], strict=True)) == {1: [4, 9], 2: [1, 2, 3]}
    assert call("--overwrite") == 0
    assert "images" not in content()
    capsys.readouterr()
    assert call("--overwrite", "--objects", relationships) == 2
    assert "go with --examples" in capsys.readouterr().err
