"""`kgtool check` and `kgtool show`, run as a person runs them."""

import json
from dataclasses import replace

import pytest
from graph_examples import VALID, relation_graph, with_header

from kgtool.cli import main
from kgtool.graph import make_graph, save_graph
from kgtool.graph_arrays import json_text


@pytest.fixture
def graph_path(tmp_path):
    save_graph(relation_graph(), tmp_path / "g.npz")
    return tmp_path / "g.npz"


@pytest.fixture
def kgtool(capsys):
    """Run a command; return exit code, stdout and stderr."""

    def run(*args):
        with pytest.raises(SystemExit) as caught:
            main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return run


def test_check_says_valid_and_the_hash(kgtool, graph_path):
    code, out, err = kgtool("check", graph_path)
    assert code == 0
    assert "valid, relation graph of 4 classes" in out
    assert relation_graph().graph_hash in out
    assert err == ""


def test_check_prints_one_json_document(kgtool, graph_path):
    code, out, _ = kgtool("check", graph_path, "--json")
    assert code == 0
    assert json.loads(out) == {"valid": True, "graph_hash": relation_graph().graph_hash, "num_classes": 4}


def test_check_of_a_damaged_file_is_one_line_and_exit_code_3(kgtool, graph_path):
    graph_path.write_bytes(graph_path.read_bytes()[:500])
    code, out, err = kgtool("check", graph_path)
    assert (code, out) == (3, "")
    assert err.startswith(f"kgtool: {graph_path}: found a damaged NPZ file")
    assert err.count("\n") == 1


def test_check_of_a_damaged_file_is_one_json_document_as_well(kgtool, graph_path):
    graph_path.write_bytes(b"hello")
    code, out, err = kgtool("check", graph_path, "--json")
    document = json.loads(out)
    assert code == 3
    assert document["valid"] is False
    assert document["error"] in err


def test_check_of_another_version_says_which_version_is_read(kgtool, tmp_path, monkeypatch):
    newer = with_header(relation_graph(), version="2.0")
    monkeypatch.setattr("kgtool.graph.check_graph", lambda graph: None)  # a later kgtool would write it
    save_graph(newer, tmp_path / "new.npz")
    monkeypatch.undo()
    code, _, err = kgtool("check", tmp_path / "new.npz")
    assert code == 3
    assert "found version '2.0'; expected 1.x" in err


def test_check_of_a_missing_file_is_exit_code_3(kgtool, tmp_path):
    code, _, err = kgtool("check", tmp_path / "missing.npz")
    assert code == 3
    assert "missing.npz: cannot be read (No such file" in err


def test_show_prints_header_size_and_strongest_edges(kgtool, graph_path):
    code, out, _ = kgtool("show", graph_path)
    assert code == 0
    for words in (
        "kind            relation",
        "classes         4",
        "edges           1 (16.7 % of all pairs), and 1 self loops",
        "isolated        2: grass, ice cream",
        "dog -- frisbee  catches 5/2, on 1/0",
        '"name": "relationships.json"',
    ):
        assert words in out


@pytest.mark.parametrize("name", VALID)
def test_show_works_for_every_valid_graph(kgtool, tmp_path, name):
    save_graph(VALID[name], tmp_path / "g.parquet")
    code, out, _ = kgtool("show", tmp_path / "g.parquet", "--json")
    assert code == 0
    assert json_text(json.loads(out)["header"]) == json_text(VALID[name].header)
    assert kgtool("show", tmp_path / "g.parquet")[0] == 0


def test_show_class_prints_its_edges_with_their_evidence(kgtool, graph_path):
    code, out, _ = kgtool("show", graph_path, "--class", "frisbee", "--json")
    assert code == 0
    document = json.loads(out)
    assert document["class"] == "frisbee"
    (edge,) = document["edges"]
    assert edge["target"] == "dog"
    assert edge["reasons"][0] == {"term": "catches", "count": 2, "other_count": 5}
    code, out, _ = kgtool("show", graph_path, "--class", "ice cream")
    assert (code, out.strip()) == (0, "none")


def test_show_of_an_unknown_class_is_exit_code_4_with_near_names(kgtool, graph_path):
    code, out, err = kgtool("show", graph_path, "--class", "frisbees")
    assert (code, out) == (4, "")
    assert err == "kgtool: class 'frisbees': not one of the graph's 4; did you mean frisbee?\n"


@pytest.mark.parametrize("command", ["check", "show"])
def test_help_has_an_example(kgtool, command):
    code, out, _ = kgtool(command, "--help")
    assert code == 0
    assert f"Example: kgtool {command} relation.npz" in out


def test_words_of_a_graph_cannot_steer_the_terminal(kgtool, tmp_path):
    graph = relation_graph()
    words = replace(graph.evidence, terms=("\x1b[31mcatches", "on", "on top of"))
    graph = make_graph(
        classes=graph.classes,
        synsets=graph.synsets,
        weight=graph.weight,
        counts=graph.counts,
        kind=graph.kind,
        recipe=graph.header["recipe"],
        dataset="made\x1b[2J by hand",
        sources=[],
        normalization=graph.header["normalization"],
        evidence=words,
    )
    save_graph(graph, tmp_path / "g.npz")
    for options in ((), ("--class", "dog")):
        code, out, _ = kgtool("show", tmp_path / "g.npz", *options)
        assert code == 0
        assert "\x1b" not in out
        assert r"\x1b[31mcatches 5/2" in out


def test_words_of_a_file_cannot_steer_the_terminal_from_a_message(kgtool, tmp_path):
    image = {"id": 1, "file_name": "a\x1b[2J.jpg", "width": 9, "height": 9}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "area": 25, "iscrowd": 0}
    data = {"images": [image], "categories": [{"id": 1, "name": "cup"}], "annotations": [box]}
    (tmp_path / "coco.json").write_text(json.dumps(data))
    out = tmp_path / "grid.png"
    code, _, err = kgtool("preview", tmp_path / "coco.json", "--images", tmp_path, "--out", out)
    assert code == 3
    assert "\x1b" not in err
    assert r"a\x1b[2J.jpg" in err
