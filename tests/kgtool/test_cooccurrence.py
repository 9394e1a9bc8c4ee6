"""Graphs from a user's own COCO file, against loops, and their weights against the formulas."""

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slow_graphs
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slow_boxes import slow_counts

from kgtool.build import build_relation_graph
from kgtool.build_result import Build
from kgtool.classes import ClassTable
from kgtool.cli import group
from kgtool.cooccurrence import PairOptions, build_cooccurrence_graph
from kgtool.errors import ClassMatchError, InputError
from kgtool.graph import load_graph
from kgtool.merge import merge_graphs
from kgtool.weights import weights_from_counts

REAL = Path(__file__).parents[3] / "shared" / "real_data" / "coco" / "instances.json"
fast = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WEIGHTS = ("normalized", "npmi", "conditional")


def coco(seed: int, images: int = 12, classes: int = 5) -> dict[str, Any]:
    stream = random.Random(seed)
    annotations = []
    for image in range(1, images + 1):
        for _ in range(stream.randint(0, 7)):
            side = stream.choice([0, 3, 8, 20])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": stream.choice([3, 5, 8, 9, 11][:classes]),
                    "bbox": [stream.randint(0, 60), stream.randint(0, 60), side, stream.randint(1, 30)],
                    "iscrowd": int(stream.random() < 0.1),
                }
            )
    return {
        "images": [
            {"id": n, "file_name": f"{n}.jpg", "width": 99, "height": 99} for n in range(1, images + 1)
        ],
        "categories": [
            {"id": n, "name": name, "synset": f"{name}.n.01" if n != 9 else ""}
            for n, name in zip((3, 5, 8, 9, 11), ("dog", "Cat", "mat", "cup", "sky"), strict=True)
        ],
        "annotations": annotations,
    }


def build(folder: Path, document: Any, name: str = "i.json", **options: Any) -> Build:
    (folder / name).write_text(json.dumps(document), encoding="utf-8")
    return build_cooccurrence_graph(folder / name, **options)


def slow_evidence(document: dict[str, Any], pairs: PairOptions) -> dict[tuple[str, str, str], int]:
    names = {entry["id"]: entry["name"] for entry in document["categories"]}
    objects = []
    for row in document["annotations"]:
        x, y, w, h = row["bbox"]
        if not row["iscrowd"] and w > 0 and h > 0:
            objects.append((row["image_id"], names[row["category_id"]], (x, y, x + w, y + h)))
    return dict(slow_counts(objects, pairs.window, pairs.geometry, pairs.num_neighbours))


def slow_weight(name: str, counts: np.ndarray) -> np.ndarray:
    if name == "normalized":
        return slow_graphs.relation_paper(counts)
    result = np.zeros(counts.shape)
    both = counts + counts.T
    for i in range(len(counts)):
        for j in range(len(counts)):
            if name == "conditional" and counts[i].sum():
                result[i, j] = counts[i, j] / counts[i].sum()
            elif name == "npmi" and both[i, j]:
                p_ij = both[i, j] / both.sum()
                p_i, p_j = both[i].sum() / both.sum(), both[j].sum() / both.sum()
                npmi = 1.0 if p_ij == 1 else math.log(p_ij / (p_i * p_j)) / -math.log(p_ij)
                result[i, j] = max(0.0, npmi)
    return result


def evidence_of(made: Build) -> dict[tuple[str, str, str], int]:
    classes, known = made.graph.classes, made.graph.evidence
    rows = zip(known.index.tolist(), known.count.tolist(), strict=True)
    return {(classes[s], known.terms[t], classes[o]): n for (s, t, o), n in rows}


@fast
@given(
    seed=st.integers(0, 10**6),
    pairs=st.builds(PairOptions, st.sampled_from(["image", "near", "knn"]), st.booleans(), st.integers(1, 3)),
    weight=st.sampled_from(WEIGHTS),
)
def test_a_graph_counts_what_the_loops_count(
    seed: int, pairs: PairOptions, weight: str, tmp_path: Path
) -> None:
    document = coco(seed)
    made = build(tmp_path, document, pairs=pairs, weight=weight)
    expected = slow_evidence(document, pairs)
    assert evidence_of(made) == expected
    names = [entry["name"] for entry in document["categories"]]
    assert list(made.graph.classes) == names
    counts = np.zeros((5, 5), dtype=np.int64)
    for (subject, _, object_), number in expected.items():
        counts[names.index(subject), names.index(object_)] += number
    assert np.array_equal(made.graph.counts, counts)
    np.testing.assert_allclose(made.graph.weight, slow_weight(weight, counts), rtol=0, atol=1e-6)
    assert made.graph.header["directed"] == (weight == "conditional")
    assert made.graph.header["recipe"]["window"] == pairs.window


@given(
    counts=st.lists(
        st.lists(st.sampled_from([0, 0, 1, 3, 400]), min_size=4, max_size=4), min_size=4, max_size=4
    )
)
def test_weights_follow_their_formulas_and_stay_in_range(counts: list[list[int]]) -> None:
    table = np.array(counts, dtype=np.int64)
    for name in WEIGHTS:
        weight = weights_from_counts("cooccurrence", name, table)
        np.testing.assert_allclose(weight, slow_weight(name, table), rtol=1e-9, atol=1e-12)
        assert weight.min() >= 0
        assert weight.max() <= 1
    npmi = weights_from_counts("cooccurrence", "npmi", table)
    assert np.array_equal(npmi, npmi.T)
    rows = weights_from_counts("cooccurrence", "conditional", table).sum(axis=1)
    np.testing.assert_allclose(rows, table.any(axis=1).astype(float))


def test_npmi_is_0_for_chance_and_1_for_classes_only_met_together() -> None:
    independent = np.full((4, 4), 5)
    assert not weights_from_counts("cooccurrence", "npmi", independent).any()
    pairs_of_friends = np.array([[0, 7, 0, 0], [7, 0, 0, 0], [0, 0, 0, 2], [0, 0, 2, 0]])
    weight = weights_from_counts("cooccurrence", "npmi", pairs_of_friends)
    np.testing.assert_allclose(weight, (pairs_of_friends > 0).astype(float), atol=1e-12)
    only_pair = np.array([[0, 3], [0, 0]])
    assert weights_from_counts("cooccurrence", "npmi", only_pair)[0, 1] == 1.0


@fast
@given(seed=st.integers(0, 10**6), window=st.sampled_from(["image", "near", "knn"]))
def test_the_order_of_everything_in_the_file_decides_nothing_but_the_order_of_classes(
    seed: int, window: str, tmp_path: Path
) -> None:
    document = coco(seed)
    stream = random.Random(seed)
    shuffled = {key: stream.sample(rows, len(rows)) for key, rows in document.items()}
    pairs = PairOptions(window, geometry=True, num_neighbours=2)
    first = build(tmp_path, document, pairs=pairs).graph
    second = build(tmp_path, shuffled, pairs=pairs).graph
    order = [first.classes.index(name) for name in second.classes]
    assert first.permuted(order).graph_hash == second.graph_hash


@fast
@given(seed=st.integers(0, 10**6), cut=st.integers(1, 11))
def test_images_built_apart_merge_to_the_whole(seed: int, cut: int, tmp_path: Path) -> None:
    document = coco(seed)
    parts = []
    for number, keep in enumerate((lambda n: n <= cut, lambda n: n > cut)):
        part = {
            "images": [image for image in document["images"] if keep(image["id"])],
            "categories": document["categories"],
            "annotations": [row for row in document["annotations"] if keep(row["image_id"])],
        }
        parts.append(build(tmp_path, part, f"part{number}.json", weight="npmi").graph)
    whole = build(tmp_path, document, weight="npmi").graph
    assert merge_graphs(parts).graph_hash == whole.graph_hash


def test_boxes_that_are_left_out_are_counted_by_reason(tmp_path: Path) -> None:
    document = coco(3, images=40)
    table = ClassTable(("cup", "a dog"), ("cup.n.01", "dog.n.01"))  # by name; by synset
    made = build(tmp_path, document, classes=table)
    boxes = document["annotations"]
    source = made.graph.header["sources"][0]
    flat = [row for row in boxes if min(row["bbox"][2:]) == 0 and not row["iscrowd"]]
    kept = [row for row in boxes if min(row["bbox"][2:]) > 0 and not row["iscrowd"]]
    assert source["boxes"] == len(boxes)
    assert source["skipped_boxes"] == {
        "crowd": sum(row["iscrowd"] for row in boxes),
        "no width or height": len(flat),
        "class not in list": sum(row["category_id"] not in (3, 9) for row in kept),
    }
    full = build(tmp_path, document).graph
    rows = [full.classes.index("cup"), full.classes.index("dog")]
    assert np.array_equal(made.graph.counts, full.counts[np.ix_(rows, rows)])


def test_a_number_takes_the_classes_with_most_boxes(tmp_path: Path) -> None:
    document = coco(5, images=30)
    number: dict[str, int] = {}
    names = {entry["id"]: entry["name"] for entry in document["categories"]}
    for row in document["annotations"]:
        if not row["iscrowd"] and min(row["bbox"][2:]) > 0:
            name = names[row["category_id"]]
            number[name] = number.get(name, 0) + 1
    expected = sorted(number, key=lambda name: (-number[name], name))[:3]
    graph = build(tmp_path, document, classes=3).graph
    assert list(graph.classes) == expected
    synsets = {entry["name"]: entry["synset"] for entry in document["categories"]}
    assert list(graph.synsets) == [synsets[name] for name in expected]


def test_triples_are_pairs_already(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("subject,predicate,object\ndog,on,mat\ndog,on,mat\ncat,near,dog\n")
    table = ClassTable(("dog", "cat", "mat"), ("", "", ""))
    made = build_cooccurrence_graph(tmp_path / "t.csv", classes=table, weight="conditional")
    assert made.graph.kind == "cooccurrence"
    assert made.graph.counts.tolist() == [[0, 0, 2], [1, 0, 0], [0, 0, 0]]
    assert made.graph.weight.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]
    relation = build_relation_graph(tmp_path / "t.csv", classes=table)
    normalized = build_cooccurrence_graph(tmp_path / "t.csv", classes=table)
    assert np.array_equal(normalized.graph.weight, relation.graph.weight)
    with pytest.raises(InputError, match="give --classes"):
        build_cooccurrence_graph(tmp_path / "t.csv")
    with pytest.raises(InputError, match="expected no --window or --geometry"):
        build_cooccurrence_graph(tmp_path / "t.csv", classes=table, pairs=PairOptions())


def test_a_file_without_boxes_gives_a_graph_without_edges(tmp_path: Path) -> None:
    made = build(tmp_path, {**coco(1), "annotations": []})
    assert not made.graph.weight.any()
    assert len(made.no_evidence) == 5


def test_a_class_list_of_other_data_is_refused(tmp_path: Path) -> None:
    other = ClassTable(("zebra", "gnu"), ("zebra.n.01", ""))
    with pytest.raises(ClassMatchError, match="found none of the 2 classes of the list, such as 'zebra'"):
        build(tmp_path, coco(1), classes=other)


@pytest.mark.skipif(not REAL.is_file(), reason="shared/real_data is not beside the repository")
def test_real_coco_images_give_the_slow_graph(tmp_path: Path) -> None:
    document = json.loads(REAL.read_text())
    for row in document["annotations"]:
        row.setdefault("iscrowd", 0)
    for pairs in (PairOptions(), PairOptions("near", geometry=True), PairOptions("knn")):
        made = build_cooccurrence_graph(REAL, pairs=pairs)
        assert evidence_of(made) == slow_evidence(document, pairs)


def test_the_command_reports_and_refuses(tmp_path: Path) -> None:
    source, out = tmp_path / "i.json", tmp_path / "g.npz"
    source.write_text(json.dumps(coco(1)))
    command = ["build-cooccurrence", str(source), "--out", str(out)]
    done = CliRunner().invoke(group, [*command, "--window", "knn", "--neighbours", "2", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["graph_hash"] == load_graph(out).graph_hash
    assert report["recipe"]["num_neighbours"] == 2
    done = CliRunner().invoke(group, [*command, "--overwrite", "--weight", "npmi"])
    assert done.exit_code == 0, done.output
    assert "cooccurrence graph of 5 classes" in done.stdout
    done = CliRunner().invoke(group, [*command, "--overwrite", "--neighbours", "2"])
    assert done.exit_code == 2
    source.write_text('[{"image_id": 1, "relationships": []}]')
    done = CliRunner().invoke(group, [*command, "--overwrite"])
    assert isinstance(done.exception, InputError)
    assert "in a COCO JSON file" in str(done.exception)
