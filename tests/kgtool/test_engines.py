"""The same graph from every engine: DuckDB and a real local Spark."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dirty_visual_genome as dirty
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kgtool.annotations import ReadOptions
from kgtool.build import build_attribute_graph, build_relation_graph
from kgtool.classes import ClassTable
from kgtool.cooccurrence import PairOptions, build_cooccurrence_graph
from kgtool.engines import open_engine
from kgtool.errors import InputError, KgtoolError, MissingResourceError
from kgtool.evidence import count_expression
from kgtool.image_lists import ImageList
from kgtool.triple_counts import TripleCounts
from kgtool.triple_writing import TripleOptions, write_triples
from kgtool.triples import find_shards

CLASSES = ClassTable(tuple(dirty.SYNSETS), tuple(dirty.SYNSETS))
needs_spark = pytest.mark.skipif(
    find_spec("pyspark") is None or shutil.which("java") is None,
    reason="Spark needs pyspark (pip install 'kgtool-detector[spark]') and Java 17 on the path",
)


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    """A running session, as `--engine spark` finds it on a cluster; starting one takes seconds."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = builder.config("spark.sql.shuffle.partitions", "3").getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


def shards(folder: Path, kind: str, seed: int, shard_rows: int = 100) -> Path:
    records = (dirty.relationships if kind == "relation" else dirty.attributes)(seed, images=40)
    (folder / "records.json").write_text(json.dumps(records), encoding="utf-8")
    write_triples(
        folder / "records.json", folder / "triples", triples=TripleOptions(kind=kind), shard_rows=shard_rows
    )
    return folder / "triples"


@needs_spark
@pytest.mark.parametrize("kind", ["relation", "attribute"])
def test_spark_and_duckdb_give_the_same_graph(spark: Any, kind: str, tmp_path: Path) -> None:
    build = build_relation_graph if kind == "relation" else build_attribute_graph
    folder = shards(tmp_path, kind, seed=1)
    expected = build(tmp_path / "records.json", classes=CLASSES)
    for source in (folder, f"{folder}/part-0*.parquet", tmp_path / "records.json"):
        found = build(source, classes=CLASSES, engine="spark")
        assert found.graph.graph_hash == expected.graph.graph_hash
        assert found.graph.header["graph_hash"] == expected.graph.graph_hash
        assert found.annotations == expected.annotations
    for classes in (4, ClassTable(("dog", "man"), ("", ""))):
        found = build(folder, classes=classes, engine="spark")
        assert found.graph.graph_hash == build(folder, classes=classes).graph.graph_hash
    assert spark.sparkContext._jsc is not None  # the user's session is not stopped


@needs_spark
def test_spark_leaves_the_same_images_out(spark: Any, tmp_path: Path) -> None:
    folder = shards(tmp_path, "relation", seed=7)
    options = ReadOptions(excluded=ImageList("list.txt", np.array([2, 3, 5], dtype=np.int64)))
    expected = build_relation_graph(tmp_path / "records.json", classes=CLASSES, options=options)
    found = build_relation_graph(folder, classes=CLASSES, options=options, engine="spark")
    assert found.graph.graph_hash == expected.graph.graph_hash
    assert found.skipped["excluded image"] == expected.skipped["excluded image"] > 0


@needs_spark
def test_spark_reads_paths_with_blanks_and_counted_text(spark: Any, tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "t.csv").write_text("subject,predicate,object,count\ndog,Straße,cat,7\ndog,STRASSE ,cat,1\n")
    write_triples(folder / "t.csv", folder / "some triples")
    table = ClassTable(("cat", "dog"), ("", ""))
    for source in (folder / "t.csv", folder / "some triples"):
        graph = build_relation_graph(source, classes=table, engine="spark").graph
        assert graph.counts.tolist() == [[0, 0], [8, 0]]
        assert graph.evidence.terms == ("strasse",)


@needs_spark
def test_spark_and_duckdb_give_the_same_graph_of_boxes(spark: Any, tmp_path: Path) -> None:
    stream = random.Random(0)
    annotations = [
        {"id": n, "image_id": stream.randint(1, 9), "category_id": stream.randint(1, 4), "iscrowd": 0}
        | {"bbox": [stream.randint(0, 50), stream.randint(0, 50), stream.randint(1, 40), 9]}
        for n in range(80)
    ]
    document = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 99, "height": 99} for n in range(1, 10)],
        "categories": [{"id": n, "name": f"class {n}"} for n in range(1, 5)],
        "annotations": annotations,
    }
    (tmp_path / "i.json").write_text(json.dumps(document))
    pairs = PairOptions("near", geometry=True)
    graphs = [
        build_cooccurrence_graph(tmp_path / "i.json", pairs=pairs, weight="npmi", engine=engine).graph
        for engine in ("duckdb", "spark")
    ]
    assert graphs[0].graph_hash == graphs[1].graph_hash
    assert graphs[0].counts.sum() > 0


@needs_spark
def test_a_failure_of_spark_is_one_line(spark: Any, tmp_path: Path) -> None:
    folder = shards(tmp_path, "relation", seed=3)
    found = find_shards(str(folder))
    shutil.rmtree(folder)
    with open_engine("spark") as engine, pytest.raises(KgtoolError, match="--engine spark: ") as raised:
        TripleCounts(found, engine, "relation").evidence(CLASSES)
    assert "\n" not in str(raised.value)


@needs_spark
def test_the_command_starts_spark_itself_and_stdout_is_data_alone(tmp_path: Path) -> None:
    folder, out = shards(tmp_path, "relation", seed=4), tmp_path / "g.npz"
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join(dirty.SYNSETS))
    command = [sys.executable, "-W", "error", "-m", "kgtool", "build-relation", str(folder), "--json"]
    command += ["--classes", str(classes), "--out", str(out), "--engine", "local[1]"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    expected = build_relation_graph(folder, classes=CLASSES).graph.graph_hash
    assert json.loads(done.stdout)["graph_hash"] == expected


def test_order_of_shards_and_number_of_threads_change_nothing(tmp_path: Path) -> None:
    folder = shards(tmp_path, "relation", seed=5, shard_rows=30)
    expected = build_relation_graph(tmp_path / "records.json", classes=CLASSES).graph.graph_hash
    paths = sorted(folder.iterdir())
    assert len(paths) > 3
    names = [f"{n}.parquet" for n in range(len(paths))]
    random.Random(0).shuffle(names)
    for path, name in zip(paths, names, strict=True):
        path.rename(folder / name)
    for threads in (1, 2, 4):
        options = ReadOptions(num_workers=threads)
        found = build_relation_graph(folder, classes=CLASSES, options=options)
        assert found.graph.graph_hash == expected


def test_what_does_not_fit_in_memory_goes_to_disk_and_counts_the_same(tmp_path: Path) -> None:
    """Half a million different combinations of long strings in 80 MB; without room on disk it fails."""
    numbers = np.arange(500_000)
    long = [f"{'a long name ' * 8}{n}" for n in range(1000)]
    table = pa.table(
        {
            "subject": pa.DictionaryArray.from_arrays(numbers // 1000 % 500, long),
            "predicate": pa.array([f"{'predicate ' * 8}{n}" for n in numbers]),
            "object": pa.DictionaryArray.from_arrays(numbers % 1000, long),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=50_000)
    keys = ["subject", "predicate", "object"]
    with open_engine("duckdb", memory_mb=80) as engine:
        rows = engine.table(find_shards(str(tmp_path / "t.parquet"))).mutate(count=1)
        batches = engine.iter_batches(count_expression(rows, keys))
        assert sum(int(np.asarray(batch.column("count")).sum()) for batch in batches) == 500_000
    with open_engine("duckdb", memory_mb=80) as engine:
        engine.backend.raw_sql("set max_temp_directory_size = '1MB'")
        rows = engine.table(find_shards(str(tmp_path / "t.parquet"))).mutate(count=1)
        with pytest.raises(KgtoolError, match="--engine duckdb: "):
            list(engine.iter_batches(count_expression(rows, keys)))


def test_an_unknown_engine_is_bad_input() -> None:
    with (
        pytest.raises(InputError, match=r"--engine: found 'flink'; expected duckdb, spark, or spark://"),
        open_engine("flink"),
    ):
        pass


def test_spark_without_pyspark_or_java_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("pyspark") is not None:
        monkeypatch.setenv("PATH", "")
        monkeypatch.setenv("JAVA_HOME", "/nowhere")
        with (
            pytest.raises(MissingResourceError, match=r"found no java; expected Java 17.*openjdk"),
            open_engine("spark://master:7077"),
        ):
            pass
    for name in [name for name in sys.modules if name.split(".")[0] == "pyspark" or "pyspark" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyspark", None)  # as where it is not installed
    with (
        pytest.raises(MissingResourceError, match=r"found no pyspark; .*pip install .*\[spark\]") as raised,
        open_engine("spark"),
    ):
        pass
    assert raised.value.exit_code == 5
