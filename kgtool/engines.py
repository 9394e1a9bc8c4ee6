"""Engines that run the count: DuckDB inside this process, or Spark.

The count is one ibis expression (`kgtool.evidence`); an engine gives it a table to stand on and brings the
result back as Arrow. DuckDB is embedded, bounded in memory, and spills to disk what does not fit. Spark is
for input larger than a machine: `spark` is the session already running, or a local one; `spark://HOST:PORT`
is a cluster, whose executors must see the files under the same names.
"""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kgtool.errors import InputError, KgtoolError, MissingResourceError
from kgtool.triples import Shards

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

#: What DuckDB may hold before it spills, in MB; the result of a count is not part of it.
DUCKDB_MEMORY_MB = 1000

_VIEW, _IDS_VIEW = "kgtool_triples", "kgtool_images"
_INSTALL_SPARK = "install it with: pip install 'kgtool-detector[spark]'"
_INSTALL_JAVA = "install Java 17 (Debian: apt-get install openjdk-17-jre-headless), or set JAVA_HOME"


@dataclass(frozen=True)
class Engine:
    """An open engine.

    Attributes:
        name: "duckdb" or "spark".
        backend: the ibis backend, connected.
        session: of Spark; None of DuckDB.
    """

    name: str
    backend: Any
    session: Any = None

    def table(self, shards: Shards) -> Any:
        """The ibis table of all rows of some shards."""
        with _quiet(), _failing_in_one_line(self.name):
            if self.session is not None:
                self.session.read.parquet(*shards.urls).createOrReplaceTempView(_VIEW)
            elif shards.filesystem is None:
                self.backend.read_parquet(list(shards.files), table_name=_VIEW)
            else:
                import pyarrow.dataset

                found = pyarrow.dataset.dataset(
                    list(shards.files), filesystem=shards.filesystem, format="parquet"
                )
                self.backend.con.register(_VIEW, found)
            return self.backend.table(_VIEW)

    def table_of_ids(self, image_ids: "npt.NDArray[Any]") -> Any:
        """An ibis table with one column, `image_id`."""
        import pyarrow as pa

        with _quiet(), _failing_in_one_line(self.name):
            if self.session is not None:
                rows = [(image_id,) for image_id in image_ids.tolist()]
                self.session.createDataFrame(rows, "image_id long").createOrReplaceTempView(_IDS_VIEW)
            else:
                self.backend.con.register(_IDS_VIEW, pa.table({"image_id": image_ids}))
            return self.backend.table(_IDS_VIEW)

    def iter_batches(self, expression: Any) -> Iterator["pa.RecordBatch"]:
        """Run an expression and yield its rows, in no particular order.

        Raises:
            KgtoolError: the engine failed; the first line of what it said.
        """
        import pyarrow as pa

        with _failing_in_one_line(self.name):
            with _quiet():
                query = self.backend.compile(expression)
                # ibis' own way to Arrow is not taken: for Spark it goes through pandas, which pyspark 4 and
                # pandas 3 do not agree on; for DuckDB it calls methods that version 2 has not.
                if self.session is not None:
                    batches = self.backend.raw_sql(query).toArrow().to_batches()
                else:
                    batches = pa.RecordBatchReader.from_stream(self.backend.con.sql(query))
            schema = expression.schema().to_pyarrow()  # a sum of DuckDB's is a decimal of 38 digits
            for batch in batches:
                columns = [
                    column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)


@contextmanager
def open_engine(
    spec: str = "duckdb", *, memory_mb: int = DUCKDB_MEMORY_MB, num_threads: int = 1
) -> Iterator[Engine]:
    """Open the engine that `--engine` names, and close what was opened.

    Args:
        spec: `duckdb`; `spark`, the running session or else a local one; or a Spark master, such as
            `spark://HOST:7077` or `local[2]`.
        memory_mb: what DuckDB may hold in memory before it spills; Spark is configured by its own means.
        num_threads: of DuckDB.

    Raises:
        InputError: there is no such engine.
        MissingResourceError: pyspark or Java is not installed.
        KgtoolError: Spark does not start.
    """
    if spec == "duckdb":
        with _duckdb(memory_mb, num_threads) as engine:
            yield engine
    elif spec == "spark" or spec.startswith(("spark://", "local[")):
        with _spark(spec) as engine:
            yield engine
    else:
        raise InputError(f"--engine: found {spec!r}; expected duckdb, spark, or spark://HOST:PORT")


@contextmanager
def _duckdb(memory_mb: int, num_threads: int) -> Iterator[Engine]:
    import ibis

    with tempfile.TemporaryDirectory(prefix="kgtool-spill-") as spill:
        with _quiet():
            backend = ibis.duckdb.connect(
                threads=num_threads,
                memory_limit=f"{memory_mb}MB",
                temp_directory=spill,
                preserve_insertion_order=False,
            )
        try:
            yield Engine("duckdb", backend)
        finally:
            backend.disconnect()


@contextmanager
def _spark(spec: str) -> Iterator[Engine]:
    with _quiet(), _failing_in_one_line(spec):
        try:
            import ibis.backends.pyspark

            SparkSession = import_module("pyspark.sql").SparkSession
        except ImportError:
            raise MissingResourceError(
                f"--engine {spec}: found no pyspark; expected version 4 or newer; {_INSTALL_SPARK}"
            ) from None
        running = SparkSession.getActiveSession() if spec == "spark" else None
        if running is None and not _has_java():
            raise MissingResourceError(f"--engine {spec}: found no java; expected Java 17; {_INSTALL_JAVA}")
        session = running or _new_session(SparkSession, spec)
        backend = ibis.pyspark.connect(session)
    try:
        yield Engine("spark", backend, session)
    finally:
        with _failing_in_one_line(spec):
            if running is None:
                session.stop()
            else:
                session.catalog.dropTempView(_VIEW)
                session.catalog.dropTempView(_IDS_VIEW)


def _has_java() -> bool:
    home = os.environ.get("JAVA_HOME")
    return shutil.which("java", path=os.path.join(home, "bin") if home else None) is not None  # noqa: PTH118


def _new_session(session_class: Any, spec: str) -> Any:
    """A session that is silent but for errors; without a master given, spark-submit's or local[*]."""
    builder = session_class.builder.appName("kgtool")
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
    }
    if spec != "spark":
        builder = builder.master(spec)
    for key, value in settings.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


@contextmanager
def _quiet() -> Iterator[None]:
    """Warnings of the packages below about each other's versions are not the user's business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@contextmanager
def _failing_in_one_line(name: str) -> Iterator[None]:
    """Turn what an engine raises into one line."""
    try:
        yield
    except Exception as error:
        package = type(error).__module__.split(".")[0].lstrip("_")
        if package not in ("duckdb", "pyspark", "py4j", "ibis", "pyarrow"):
            raise
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise KgtoolError(f"--engine {name}: {first_line}") from None
