"""Reports and verdicts: what is wrong with a graph is found, and nothing else is."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from graph_examples import VALID, attribute_graph, plain_graph, relation_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import kgtool
from kgtool.classes import parse_class_spec
from kgtool.cli import main
from kgtool.coco import load_dataset
from kgtool.graph import make_graph, save_graph
from kgtool.report import doubtful_synsets, report_graph, smoothness
from kgtool.report_page import report_page
from kgtool.verdict import judge
from kgtool.weights import relation_release
from kgtool.wordnet import load_nouns

COCO = f"{next(iter(kgtool.__path__))}/curated/coco.csv"
ISOLATED = ["bird", "dog", "cow", "tv", "microwave", "kite", "zebra", "fork", "clock", "toaster", "snowboard"]


def as_released():
    """A COCO graph with the defects of the published one: made like it, named in the wrong order."""
    table = parse_class_spec(COCO)
    rng = np.random.default_rng(1)
    counts = np.triu((rng.random((80, 80)) < 0.12) * rng.integers(1, 40, (80, 80)), 1)
    for name in ISOLATED:
        counts[table.names.index(name)] = counts[:, table.names.index(name)] = 0
    apple, couch = sorted((table.names.index("apple"), table.names.index("couch")))
    counts[:, [apple, couch]] = counts[[apple, couch]] = 0
    counts[apple, couch] = 2213
    counts[apple, -1] = counts[couch, -1] = 3
    return make_graph(
        classes=table.names,
        synsets=table.synsets,
        weight=relation_release(counts),
        counts=counts,
        kind="relation",
        recipe={"name": "release"},
        dataset="as released",
    )


def test_the_defects_of_the_released_coco_graph_are_found():
    report = report_graph(as_released(), load_nouns())
    assert sorted(report.isolated) == sorted(ISOLATED)
    strongest = report.strongest[0]
    assert {strongest.source, strongest.target} == {"apple", "couch"}
    texts = {finding.check: finding.text for finding in judge(report).findings}
    assert texts["connected"].startswith("11 of 80 classes are isolated")
    assert "dog" in texts["connected"]
    assert "the class order is in doubt" in texts["order"]
    assert "couch -- apple" in texts["order"] or "apple -- couch" in texts["order"]
    evidence = [f.text for f in judge(report).findings if f.check == "evidence"]
    assert any("apple" in text and "has 2213 of the" in text for text in evidence)


def test_a_sound_graph_has_no_finding():
    ring = np.roll(np.eye(12), 1, axis=1)
    names = [f"class {i}" for i in range(12)]
    report = report_graph(plain_graph(names, ring + ring.T, counts=9 * ring, kind="relation"), load_nouns())
    verdict = judge(report)
    assert verdict.findings == ()
    assert verdict.checks.keys() == {"connected", "whole", "distinct", "evidence"}
    assert verdict.score > 90


def test_sizes_are_those_of_the_graph():
    report = report_graph(relation_graph(), load_nouns())
    assert (report.num_classes, report.num_edges, report.components) == (4, 1, (2, 1, 1))
    assert report.isolated == ("grass", "ice cream")
    assert report.degrees == (0, 0, 0, 1, 1)
    assert [hub.name for hub in report.hubs] == ["dog", "frisbee"]
    assert [hub.share for hub in report.hubs] == [1, 1]
    assert (report.most_counted.first, report.most_counted.count, report.most_counted.total) == ("dog", 8, 8)


@settings(deadline=None)
@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(2, 6)).map(lambda s: (*s, *s)), elements=st.floats(0, 1, width=32)
    )
)
def test_smoothness_is_the_mean_cosine_of_rows_of_powers(weight):
    weight = weight + np.float32(0.125) * np.eye(len(weight), dtype=np.float32)
    step = weight.astype(float) / weight.astype(float).sum(axis=1, keepdims=True)
    for hops, found in enumerate(smoothness(weight), start=1):
        rows = np.linalg.matrix_power(step, hops)
        cosines = [
            a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            for i, a in enumerate(rows)
            for j, b in enumerate(rows)
            if i != j
        ]
        assert found == pytest.approx(np.mean(cosines), abs=1e-9)


def test_a_graph_where_all_classes_have_the_same_row_is_over_smoothed():
    report = report_graph(plain_graph(list("abc"), np.ones((3, 3))), load_nouns())
    assert report.smoothness == pytest.approx((1, 1, 1, 1))
    assert [f.check for f in judge(report).findings] == ["distinct"]


def test_hops_make_classes_more_alike_until_they_are_the_same():
    rng = np.random.default_rng(0)
    found = smoothness(rng.random((20, 20)).astype(np.float32) ** 4)
    assert list(found) == sorted(found)
    assert found[-1] > 0.99


def test_a_name_that_is_no_lemma_of_its_synset_is_doubtful():
    names = ["dog", "TV", "potted plant", "Ice-Cream", "mouse", "glasses", "dog.n.02"]
    synsets = ["dog.n.01", "television.n.01", "bus.n.01", "ice_cream.n.01", "", "glass.n.01", "frump.n.01"]
    graph = replace(plain_graph(names, np.zeros((7, 7))), synsets=tuple(synsets))
    assert doubtful_synsets(graph, load_nouns()) == {
        "potted plant": "bus.n.01",
        "dog.n.02": "frump.n.01",
    }


def test_edges_on_few_annotations_are_thin_and_classes_with_no_other_are_named():
    counts = np.array([[0, 5, 1], [0, 0, 0], [1, 0, 0]])
    graph = plain_graph(list("abc"), relation_release(counts), counts=counts, kind="relation")
    thin = report_graph(graph, load_nouns(), thin=3).thin
    assert (thin.num_edges, thin.classes) == (1, ("c",))
    assert report_graph(graph, load_nouns(), thin=2).thin.num_edges == 0
    assert report_graph(graph, load_nouns(), thin=6).thin.num_edges == 2
    assert report_graph(plain_graph(), load_nouns()).thin is None
    attributes = report_graph(attribute_graph(), load_nouns(), thin=5).thin
    assert (attributes.num_edges, attributes.classes) == (1, ("apple", "leaf"))


def a_data_set(folder):
    categories = [
        {"id": 1, "name": "hound", "synset": "dog.n.01", "frequency": "f"},
        {"id": 2, "name": "grass", "frequency": "r"},
        {"id": 3, "name": "spoon", "frequency": "r"},
        {"id": 4, "name": "frisbee"},
    ]
    path = folder / "data.json"
    path.write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "1.jpg", "width": 9, "height": 9}],
                "categories": categories,
                "annotations": [{"id": 1, "image_id": 1, "category_id": 4, "bbox": [0, 0, 3, 3]}],
            }
        )
    )
    return path


def test_coverage_goes_by_frequency_and_finds_classes_by_synset_or_name(tmp_path):
    report = report_graph(relation_graph(), load_nouns(), data=load_dataset(a_data_set(tmp_path)))
    assert [(band.frequency, band.num_classes, band.connected) for band in report.coverage] == [
        ("f", 1, 1),
        ("r", 3, 1),  # a class of one image is rare
    ]
    assert report.coverage[1].isolated == ("grass",)
    assert report.coverage[1].missing == ("spoon",)
    assert judge(report).checks["coverage"] == 0.5
    assert "1 of 3 rare classes are not in the graph: spoon" in {f.text for f in judge(report).findings}


def test_a_frequency_that_is_none_of_lvis_is_that_of_the_images(tmp_path):
    path = a_data_set(tmp_path)
    document = json.loads(path.read_text())
    for category, frequency in zip(document["categories"], ("", "often", "c", "f"), strict=True):
        category["frequency"] = frequency
    path.write_text(json.dumps(document))
    report = report_graph(relation_graph(), load_nouns(), data=load_dataset(path))
    assert {band.frequency: band.num_classes for band in report.coverage} == {"f": 1, "c": 1, "r": 2}
    assert all("other classes" not in finding.text for finding in judge(report).findings)


@pytest.mark.parametrize("name", VALID)
def test_every_valid_graph_has_a_report_a_page_and_a_score(name):
    report = report_graph(VALID[name], load_nouns())
    verdict = judge(report)
    assert 0 <= verdict.score <= 100
    assert all(0 <= share <= 1 for share in verdict.checks.values())
    HTMLParser().feed(report_page(VALID[name], report, verdict))


def test_the_page_escapes_names_and_needs_no_network():
    graph = plain_graph(["<script>alert(1)</script>", "b&c"])
    report = report_graph(graph, load_nouns())
    page = report_page(graph, report, judge(report))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page


@pytest.fixture
def kgtool_report(tmp_path, capsys):
    save_graph(relation_graph(), tmp_path / "g.npz")

    def run(*args):
        with pytest.raises(SystemExit) as end:
            main(["report", str(tmp_path / "g.npz"), *map(str, args)])
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    return run


def test_the_command_prints_text_json_or_html(kgtool_report, tmp_path):
    code, text, _ = kgtool_report()
    assert code == 0
    assert "2 of 4 classes are isolated" in text
    code, document, _ = kgtool_report("--json", "--data", a_data_set(tmp_path))
    assert code == 0
    assert json.loads(document)["report"]["isolated"] == ["grass", "ice cream"]
    code, page, _ = kgtool_report("--html")
    assert code == 0
    assert page.startswith("<!doctype html>")


def test_names_of_the_data_cannot_steer_the_terminal(kgtool_report, tmp_path):
    path = a_data_set(tmp_path)
    path.write_text(path.read_text().replace("spoon", "sp\\u001b[2Joon"))
    code, text, _ = kgtool_report("--data", path)
    assert code == 0
    assert "\x1b" not in text
    assert r"sp\x1b[2Joon" in text


def test_a_score_below_the_gate_is_exit_code_6(kgtool_report):
    code, _, err = kgtool_report("--fail-under", 99.5)
    assert code == 6
    assert "expected at least 99.5; the lowest check is" in err
    assert kgtool_report("--fail-under", 1)[0] == 0


def test_attributes_of_the_visual_genome_slice_are_in_wordnets_order():
    folder = Path(__file__).parents[2] / "../shared/real_data/vg/v1_2"
    if not folder.is_dir():
        pytest.skip(f"no Visual Genome slice in {folder}")
    from kgtool.build import build_attribute_graph

    graph = build_attribute_graph(str(folder / "attributes.json"), classes=150).graph
    report = report_graph(graph, load_nouns())
    assert not report.order.in_doubt
    names = graph.synsets[1:] + graph.synsets[:1]
    moved = replace(graph, classes=names, synsets=names)
    assert report_graph(moved, load_nouns()).order.in_doubt
