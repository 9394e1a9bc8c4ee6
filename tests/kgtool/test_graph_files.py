"""Graph files: both encodings hold the same, and a bad file gets one clear line."""

import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from graph_examples import INVALID, VALID, one_line, relation_graph, same_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kgtool.errors import GraphFormatError, KgtoolError, OutputExistsError
from kgtool.graph import Evidence, load_graph, make_graph, save_graph

SUFFIXES = (".npz", ".parquet")
both = pytest.mark.parametrize("suffix", SUFFIXES)
all_valid = pytest.mark.parametrize("name", VALID)


# --- round trips ---


@both
@all_valid
def test_loading_what_was_saved_gives_the_same_graph(name, suffix, tmp_path):
    save_graph(VALID[name], tmp_path / f"g{suffix}")
    assert same_graph(load_graph(tmp_path / f"g{suffix}"), VALID[name])


@all_valid
def test_a_graph_can_go_from_one_encoding_to_the_other_and_back(name, tmp_path):
    save_graph(VALID[name], tmp_path / "a.npz")
    save_graph(load_graph(tmp_path / "a.npz"), tmp_path / "b.parquet")
    save_graph(load_graph(tmp_path / "b.parquet"), tmp_path / "c.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "c.npz").read_bytes()


@st.composite
def graphs(draw):
    """Any relation graph: names, weights, counts and evidence of all kinds."""
    text = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=1, max_size=8)
    classes = draw(
        st.lists(text.filter(lambda t: t == t.strip() and "ackground" not in t), min_size=1, unique=True)
    )
    num = len(classes)
    upper = np.triu(draw(hnp.arrays(np.float32, (num, num), elements=st.floats(0, 2.0**100, width=32))))
    terms = sorted(
        draw(st.lists(st.text(st.characters(exclude_categories=("Cs",))), unique=True, max_size=5))
    )
    rows = st.tuples(st.integers(0, num - 1), st.integers(0, max(len(terms) - 1, 0)), st.integers(0, num - 1))
    index = sorted(draw(st.sets(rows, max_size=9 if terms else 0)))
    count = draw(hnp.arrays(np.int64, len(index), elements=st.integers(1, 2**62)))
    counts = draw(st.none() | hnp.arrays(np.int64, (num, num), elements=st.integers(0, 2**62)))
    return make_graph(
        classes=classes,
        synsets=[""] * num,
        weight=np.maximum(upper, upper.T),
        counts=counts,
        kind="relation",
        recipe={"name": "any"},
        dataset=draw(st.text(st.characters(exclude_categories=("Cs",)))),
        evidence=Evidence(
            tuple(terms),
            np.full(len(terms), 5, np.int64),
            np.array(index, np.int32).reshape(-1, 3),
            count,
        ),
    )


@given(graphs())
@settings(max_examples=40, deadline=None)
def test_any_graph_survives_both_encodings(tmp_path_factory, graph):
    folder = tmp_path_factory.mktemp("graphs")
    for suffix in SUFFIXES:
        save_graph(graph, folder / f"g{suffix}")
        assert same_graph(load_graph(folder / f"g{suffix}"), graph)


@both
def test_the_same_graph_gives_the_same_bytes(suffix, tmp_path):
    save_graph(relation_graph(), tmp_path / f"a{suffix}")
    save_graph(relation_graph(), tmp_path / f"another_name{suffix}")
    first = (tmp_path / f"a{suffix}").read_bytes()
    assert first == (tmp_path / f"another_name{suffix}").read_bytes()
    assert str(tmp_path).encode() not in first


@both
def test_the_encoding_is_told_by_the_first_bytes_not_by_the_suffix(suffix, tmp_path):
    save_graph(relation_graph(), tmp_path / f"g{suffix}")
    renamed = (tmp_path / f"g{suffix}").rename(tmp_path / "graph.bin")
    assert same_graph(load_graph(renamed), relation_graph())


@both
def test_a_graph_is_not_overwritten_unless_asked(suffix, tmp_path):
    path = tmp_path / f"g{suffix}"
    save_graph(VALID["one class"], path)
    with pytest.raises(OutputExistsError, match="--overwrite"):
        save_graph(relation_graph(), path)
    assert same_graph(load_graph(path), VALID["one class"])
    save_graph(relation_graph(), path, overwrite=True)
    assert same_graph(load_graph(path), relation_graph())
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(GraphFormatError, match=r"found the suffix '.pkl'; expected .npz or .parquet"):
        save_graph(relation_graph(), tmp_path / "g.pkl")


def test_numpy_and_pandas_open_the_files_without_kgtool(tmp_path):
    import pandas as pd

    graph = relation_graph()
    save_graph(graph, tmp_path / "g.npz")
    with np.load(tmp_path / "g.npz", allow_pickle=False) as arrays:
        assert arrays["classes"].tolist() == list(graph.classes)
        assert np.array_equal(arrays["weight"], graph.weight)
        assert json.loads(str(arrays["meta"])) == graph.header
    save_graph(graph, tmp_path / "g.parquet")
    rows = pd.read_parquet(tmp_path / "g.parquet")
    edges = rows[rows.part == "edge"].astype({"source": str, "target": str})
    found = {(row.source, row.target, row.weight) for row in edges.itertuples() if row.weight > 0}
    places = np.argwhere(graph.weight)
    assert found == {(graph.classes[i], graph.classes[j], graph.weight[i, j]) for i, j in places}


def test_the_format_pages_python_and_sql_run(tmp_path, monkeypatch):
    import duckdb

    page = (Path(__file__).parents[2] / "docs/graph-format.md").read_text(encoding="utf-8")
    graph = relation_graph()
    monkeypatch.chdir(tmp_path)
    save_graph(graph, Path("relation.npz"))
    save_graph(graph, Path("relation.parquet"))
    names = {}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], names)
    assert names["header"] == graph.header
    assert names["classes"] == list(graph.classes)
    edges, terms = re.search(r"```sql\n(.*?)```", page, re.DOTALL)[1].strip().split("\n")
    strongest = graph.edges("dog", top=1)[0][1]
    assert ("dog", "frisbee", pytest.approx(strongest)) in duckdb.sql(edges).fetchall()
    by_term = duckdb.sql(terms.replace("dog.n.01", "dog")).fetchall()
    assert sorted(by_term) == [("catches", 5), ("on", 1), ("on top of", 7)]


# --- broken rules ---


def arrays_of(graph, folder):
    save_graph(graph, folder / "good.npz")
    with np.load(folder / "good.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("name", INVALID)
def test_a_file_that_breaks_a_rule_is_refused_in_one_line(name, tmp_path):
    change, words = INVALID[name]
    arrays = arrays_of(relation_graph(), tmp_path)
    header = json.loads(str(arrays["meta"]))
    before = json.dumps(header)
    change(arrays, header)
    if json.dumps(header) != before:
        arrays["meta"] = np.array(json.dumps(header))
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(GraphFormatError, match=words):
        load_graph(tmp_path / "bad.npz")
    one_line(tmp_path / "bad.npz")


def test_the_broken_rules_start_from_a_file_that_loads(tmp_path):
    np.savez(tmp_path / "same.npz", **arrays_of(relation_graph(), tmp_path))
    assert same_graph(load_graph(tmp_path / "same.npz"), relation_graph())


def test_arrays_in_column_order_are_read_as_well(tmp_path):
    arrays = arrays_of(VALID["directed"], tmp_path)
    arrays["weight"] = np.asfortranarray(arrays["weight"])
    np.savez_compressed(tmp_path / "columns.npz", **arrays)
    assert np.array_equal(load_graph(tmp_path / "columns.npz").weight, VALID["directed"].weight)


# --- files that are something else, or damaged ---


@pytest.mark.parametrize(
    "content", [b"", b"P", b"hello", b"\x80\x04\x95pickle", b"{}", b"PK\x03\x04", b"PAR1"]
)
def test_a_file_of_another_kind_is_refused_in_one_line(content, tmp_path):
    (tmp_path / "x").write_bytes(content)
    one_line(tmp_path / "x")


def test_a_missing_file_and_a_folder_are_refused_in_one_line(tmp_path):
    assert "No such file" in one_line(tmp_path / "missing.npz")
    one_line(tmp_path)


@both
@pytest.mark.parametrize("name", ["relation with evidence", "attribute with distribution"])
def test_a_file_cut_off_anywhere_is_refused_in_one_line(name, suffix, tmp_path):
    save_graph(VALID[name], tmp_path / f"g{suffix}")
    content = (tmp_path / f"g{suffix}").read_bytes()
    for length in range(0, len(content), 53):
        (tmp_path / "cut").write_bytes(content[:length])
        one_line(tmp_path / "cut")


@both
@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_file_is_refused_in_one_line_or_loads_as_it_was(seed, suffix, tmp_path):
    graph = relation_graph()
    save_graph(graph, tmp_path / f"g{suffix}")
    content = bytearray((tmp_path / f"g{suffix}").read_bytes())
    rng = np.random.default_rng(seed)
    for position in rng.integers(4, len(content), 1 + seed % 3):
        content[position] ^= 1 << rng.integers(8)
    (tmp_path / "damaged").write_bytes(content)
    try:
        loaded = load_graph(tmp_path / "damaged")
    except GraphFormatError:
        one_line(tmp_path / "damaged")
    else:  # the damage was in a time stamp, a statistic or another place that nothing is read from
        assert loaded.graph_hash == graph.graph_hash


def test_python_objects_are_never_unpickled(tmp_path):
    class Boom:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    arrays = arrays_of(relation_graph(), tmp_path) | {"classes": np.array([Boom()] * 4, dtype=object)}
    np.savez(tmp_path / "bad.npz", **arrays)
    assert "classes: found Python objects" in one_line(tmp_path / "bad.npz")


def _npz(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def _npy(shape, dtype, data=b""):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    )
    return stream.getvalue() + data


def test_an_array_that_claims_more_than_it_has_is_refused_before_memory_is_given(tmp_path):
    _npz(tmp_path / "bad.npz", weight=_npy((10**6, 10**6), "<f4", b"\0" * 64))
    assert "its header says 4000000" in one_line(tmp_path / "bad.npz")


def test_an_array_that_would_fill_the_memory_is_refused_before_it_is_unpacked(tmp_path):
    zeros = bytes(150_000_000)
    _npz(tmp_path / "bad.npz", classes=_npy((2,), "<U1", bytes(8)), weight=_npy((150_000_000,), "u1", zeros))
    assert (tmp_path / "bad.npz").stat().st_size < 10**6
    assert "made to fill the memory" in one_line(tmp_path / "bad.npz")


def test_an_error_while_writing_leaves_no_file(tmp_path):
    with pytest.raises(KgtoolError, match="does not exist; create it first"):
        save_graph(relation_graph(), tmp_path / "missing" / "g.npz")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_of_vg_size_saves_and_loads_in_seconds(tmp_path):

    rng = np.random.default_rng(0)
    num, num_terms = 1000, 10_000
    index = np.unique(rng.integers(0, [num, num_terms, num], (200_000, 3)), axis=0).astype(np.int32)
    count = rng.integers(1, 9, len(index))
    counts = np.zeros((num, num), np.int64)
    np.add.at(counts, (index[:, 0], index[:, 2]), count)
    graph = make_graph(
        classes=[f"class {i}" for i in range(num)],
        synsets=[""] * num,
        weight=counts + counts.T,
        counts=counts,
        kind="relation",
        recipe={"name": "any", "num_terms": 0},
        dataset="noise",
        evidence=Evidence(
            tuple(f"{i:05}" for i in range(num_terms)), np.full(num_terms, 1, np.int64), index, count
        ),
    )
    for suffix in SUFFIXES:
        save_graph(graph, tmp_path / f"g{suffix}")
        assert same_graph(load_graph(tmp_path / f"g{suffix}"), graph)
