"""What other tools get of a graph: the same classes and edges, read back with their own readers."""

import csv
import json

import networkx as nx
import numpy as np
import pytest
from graph_examples import VALID, plain_graph, relation_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kgtool.class_names import ClassName
from kgtool.cli import main
from kgtool.errors import InputError, OutputExistsError
from kgtool.exports import FORMATS, export_graph
from kgtool.graph import save_graph
from kgtool.neighbours import keep_top, top_neighbours
from kgtool.release_import import import_release
from kgtool.wordnet import load_nouns

NAMES = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Cn", "Co", "Z"]), min_size=1, max_size=8
).filter(lambda name: name.strip() == name and name.casefold().strip("_-<>[]()") != "background")
WEIGHTS = st.one_of(st.just(0.0), st.floats(0, 1e3, width=32))


@st.composite
def graphs(draw):
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    weight = draw(hnp.arrays(np.float32, (len(names), len(names)), elements=WEIGHTS))
    directed = draw(st.booleans())
    return plain_graph(names, weight if directed else np.maximum(weight, weight.T), directed=directed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exports")


def exported(graph, folder, form, **options):
    path = folder / f"graph.{form}"
    export_graph(graph, path, form, overwrite=True, **options)
    return path


def read_csv(path, directed):
    """Classes by name and the matrix over them in their order, from the table alone."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = list(dict.fromkeys(row[end] for row in rows for end in ("source", "target") if row[end]))
    weight = np.zeros((len(names), len(names)), dtype=np.float32)
    for row in rows:
        if row["target"]:
            i, j = names.index(row["source"]), names.index(row["target"])
            weight[i, j] = row["weight"]
            if not directed:
                weight[j, i] = row["weight"]
    return names, weight


def in_order(names, weight, classes):
    take = [names.index(name) for name in classes]
    return weight[np.ix_(take, take)]


@settings(deadline=None)
@given(graphs())
def test_a_csv_read_back_is_the_graph(folder, graph):
    names, weight = read_csv(exported(graph, folder, "csv"), graph.header["directed"])
    assert sorted(names) == sorted(graph.classes)
    assert in_order(names, weight, graph.classes).tobytes() == graph.weight.tobytes()


@settings(deadline=None)
@given(graphs(), st.sampled_from(["graphml", "gexf"]))
def test_graphml_and_gexf_read_back_are_the_graph(folder, graph, form):
    path = exported(graph, folder, form)
    read = nx.read_graphml(path) if form == "graphml" else nx.read_gexf(path)
    assert read.is_directed() == graph.header["directed"]
    weight = nx.to_numpy_array(read, nodelist=graph.classes, dtype=np.float32)
    assert weight.tobytes() == graph.weight.tobytes()


@settings(deadline=None)
@given(graphs())
def test_a_release_pickle_read_back_is_the_graph(folder, graph):
    path = exported(graph, folder, "release-pickle")
    names = [ClassName(name) for name in graph.classes]
    done = import_release(path, names, load_nouns(), kind="attribute")
    assert done.had_background
    assert done.graph.classes == graph.classes
    assert done.graph.weight.tobytes() == graph.weight.tobytes()


@settings(deadline=None)
@given(graphs(), st.sampled_from(["npz", "json"]))
def test_pyg_has_every_edge_in_both_directions(folder, graph, suffix):
    path = folder / f"graph.{suffix}"
    export_graph(graph, path, "pyg", overwrite=True)
    found = json.loads(path.read_text()) if suffix == "json" else np.load(path)
    weight = np.zeros_like(graph.weight)
    first, second = np.array(found["edge_index"], dtype=np.int64)
    weight[first, second] = found["edge_weight"]
    assert weight.tobytes() == graph.weight.tobytes()
    assert list(found["classes"]) == list(graph.classes)


def test_counts_and_synsets_go_along(folder):
    graph = relation_graph()
    with exported(graph, folder, "csv").open(newline="") as stream:
        rows = {(row["source"], row["target"]): row for row in csv.DictReader(stream)}
    assert rows["dog", "frisbee"]["count"] == "8"
    assert rows["grass", "grass"]["count"] == "3"
    assert rows["ice cream", ""]["source_synset"] == "ice_cream.n.01"
    read = nx.read_graphml(exported(graph, folder, "graphml"))
    assert read.edges["dog", "frisbee"]["count"] == 8
    assert read.nodes["dog"]["synset"] == "dog.n.01"
    assert json.loads(read.graph["recipe"]) == graph.header["recipe"]


def test_dot_quotes_names(folder):
    graph = plain_graph(['the "dog"', "back\\slash"], [[0, 0.5], [0, 0]], directed=True)
    assert exported(graph, folder, "dot").read_text() == (
        'digraph classes {\n  "the \\"dog\\"";\n  "back\\\\slash";\n'
        '  "the \\"dog\\"" -> "back\\\\slash" [weight=0.5];\n}\n'
    )


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", VALID)
def test_every_graph_has_every_format_with_the_same_bytes_each_time(tmp_path, name, form):
    for file in ("one", "other"):
        export_graph(VALID[name], tmp_path / file, form)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert b"lastmodified" not in (tmp_path / "one").read_bytes()


@pytest.mark.parametrize("form", ["graphml", "gexf"])
def test_a_character_that_xml_cannot_hold_is_one_line(tmp_path, form):
    with pytest.raises(InputError, match="which XML cannot hold"):
        export_graph(plain_graph(["a\uffff", "b"]), tmp_path / "g", form)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_silently(tmp_path):
    (tmp_path / "g.csv").write_text("mine")
    with pytest.raises(OutputExistsError):
        export_graph(relation_graph(), tmp_path / "g.csv", "csv")
    assert (tmp_path / "g.csv").read_text() == "mine"


@settings(deadline=None)
@given(hnp.arrays(np.float32, (6, 6), elements=st.sampled_from([0, 0.25, 0.5, 1])), st.integers(1, 7))
def test_top_neighbours_are_those_of_a_full_sort(weight, top):
    for at, near in enumerate(top_neighbours(weight, top)):
        ranked = sorted((-weight[at, j], j) for j in range(6) if j != at and weight[at, j])
        assert near.tolist() == [j for _, j in ranked[:top]]


def test_top_keeps_an_edge_that_is_among_the_strongest_of_one_end():
    weight = np.zeros((4, 4))
    weight[0, 1:] = weight[1:, 0] = [1, 2, 3]
    weight[1, 2] = weight[2, 1] = 0.5
    weight[3, 3] = 9
    graph = plain_graph(list("abcd"), weight)
    kept = keep_top(graph, 1)
    assert np.array_equal(kept, kept.T)
    assert np.argwhere(np.triu(kept)).tolist() == [[0, 1], [0, 2], [0, 3], [3, 3]]


def test_the_command_says_how_many_edges_it_wrote(tmp_path, capsys):
    save_graph(relation_graph(), tmp_path / "g.npz")
    arguments = ["export", str(tmp_path / "g.npz"), "--to", "csv", "--out", str(tmp_path / "g.csv"), "--json"]
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0
    assert json.loads(capsys.readouterr().out)["edges"] == 2
