"""Parquet that is not laid out as a graph gets one clear line."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from graph_examples import VALID, one_line, relation_graph, same_graph

from kgtool.errors import GraphFormatError
from kgtool.graph import load_graph, save_graph


def _rewrite(path, change):
    table = pq.read_table(path, read_dictionary=["part", "source", "term", "target", "synset"])
    pq.write_table(change(table), path)


def _shape(name, shape):
    def change(table):
        shapes = json.loads(table.schema.metadata[b"kgtool.arrays"]) | {name: shape}
        return table.replace_schema_metadata(
            {b"kgtool": table.schema.metadata[b"kgtool"], b"kgtool.arrays": json.dumps(shapes)}
        )

    return change


def _part(name):
    return lambda table: table.filter(pc.not_equal(table["part"].cast("string"), name))


def _nulled(column, part):
    def change(table):
        place = table.schema.get_field_index(column)
        chosen = pc.equal(table["part"].cast("string"), part)
        kept = pc.if_else(chosen, pa.scalar(None, pa.string()), table[column].cast("string"))
        return table.set_column(place, table.schema.field(place), kept.cast(table.schema.field(place).type))

    return change


PARQUET = {
    "no metadata": (lambda t: t.replace_schema_metadata({}), "without the metadata kgtool"),
    "shapes that are no JSON": (
        lambda t: t.replace_schema_metadata({b"kgtool": b"{}", b"kgtool.arrays": b"{"}),
        "expected a shape for each array",
    ),
    "a shape that is text": (_shape("counts", "big"), "expected a shape for each array"),
    "a negative shape": (_shape("counts", [-1, 4]), "negative length"),
    "a shape without end": (_shape("counts", [2**62, 2**62]), "made to fill the memory"),
    "more classes than rows": (_shape("classes", [5]), r"found 4 classes; expected \(5,\)"),
    "another version": (
        lambda t: t.replace_schema_metadata(
            t.schema.metadata | {b"kgtool": t.schema.metadata[b"kgtool"].replace(b'"1.0"', b'"2.0"')}
        ),
        "found version '2.0'; expected 1.x",
    ),
    "a column less": (
        lambda t: t.drop_columns(["weight"]),
        "found the columns part, source, term, target, count, synset",
    ),
    "a weight column of text": (
        lambda t: t.set_column(4, "weight", t["weight"].cast("string")),
        "found columns of other types",
    ),
    "no class rows": (_part("class"), "found 0 classes"),
    "no term rows": (_part("term"), "a name that no class or term row has"),
    "no edge rows": (_part("edge"), r"expected True|expected False|sum of its evidence"),
    "an edge twice": (
        lambda t: pa.concat_tables([t, t.slice(4, 1)]),
        "column weight: found two values for one place",
    ),
    "an edge to nowhere": (_nulled("target", "edge"), "column target: found null"),
    "a class without a name": (_nulled("source", "class"), "column source: found null in 4 rows"),
    "a row of another part": (_nulled("part", "edge"), "a row that is none of class, edge, attribute"),
    "rows of evidence out of order": (
        lambda t: pa.concat_tables(
            [t.slice(0, t.num_rows - 2), t.slice(t.num_rows - 1), t.slice(t.num_rows - 2, 1)]
        ),
        "rows not in order",
    ),
}


@pytest.mark.parametrize("name", PARQUET)
def test_parquet_that_is_not_laid_out_as_a_graph_is_refused_in_one_line(name, tmp_path):
    change, words = PARQUET[name]
    save_graph(relation_graph(), tmp_path / "g.parquet")
    _rewrite(tmp_path / "g.parquet", change)
    with pytest.raises(GraphFormatError, match=words):
        load_graph(tmp_path / "g.parquet")
    one_line(tmp_path / "g.parquet")


@pytest.mark.parametrize("shape", [[3, 1], [2, 2], [3], [3, 2, 1], []])
def test_parquet_with_attributes_outside_of_the_shape_is_refused(shape, tmp_path):
    save_graph(VALID["attribute with distribution"], tmp_path / "g.parquet")
    _rewrite(tmp_path / "g.parquet", _shape("distribution", shape))
    assert "found a number outside of the shape" in one_line(tmp_path / "g.parquet")


def test_a_table_written_again_by_another_tool_still_loads(tmp_path):
    save_graph(relation_graph(), tmp_path / "g.parquet")
    _rewrite(tmp_path / "g.parquet", lambda table: table)
    assert same_graph(load_graph(tmp_path / "g.parquet"), relation_graph())


def test_a_table_that_would_fill_the_memory_is_refused_before_it_is_read(tmp_path):
    save_graph(relation_graph(), tmp_path / "g.parquet")
    table = pq.read_table(
        tmp_path / "g.parquet", read_dictionary=["part", "source", "term", "target", "synset"]
    )
    same = table.take(pa.array(np.zeros(3_000_000, np.int64)))
    pq.write_table(same, tmp_path / "bad.parquet", compression="zstd", use_dictionary=True)
    assert (tmp_path / "bad.parquet").stat().st_size < 10**5
    assert "made to fill the memory" in one_line(tmp_path / "bad.parquet")
