"""Triples in Parquet to a relation graph: DuckDB and Spark through `kgtool build-relation`, and plain NumPy.

Run: python bench/triples_engines.py [--triples 1e7] [--sides duckdb-1 duckdb-2 numpy] [--rounds 1] [--quick]

Shards of made triples are written to a folder (--folder, by default a temporary one that is removed): 8,000
synsets and 36,000 predicates with frequencies like 1/rank. People say the same things again and again, so
triples are drawn from --facts different ones, these too with frequencies like 1/rank; --facts 0 draws ends
and predicate apart, which makes more different combinations than real data have and is the hard case.

Sides: duckdb-N is N threads; spark-N is a local Spark of N cores, which needs pyspark and Java; numpy is a
script on one core that reads row group by row group and keeps the counts alone, without the evidence that
kgtool writes with them. All sides are whole processes, run in turns, and must give the same counts.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from side_by_side import run

NUM_SYNSETS, NUM_PREDICATES = 8_000, 36_000
SHARD_ROWS, ROW_GROUP = 10_000_000, 1_000_000
SYNSETS = [f"noun{rank}.n.01" for rank in range(NUM_SYNSETS)]
PREDICATES = [f"predicate {rank}" for rank in range(NUM_PREDICATES)]
NUM_SELECTED = 200
COLUMNS = ["subject", "predicate", "object"]


def write_shards(folder: Path, num_triples: int, num_facts: int) -> None:
    """Write triples, the same for the same numbers: each row group has its own random stream."""
    drawn = Facts(num_facts)
    for shard, first in enumerate(range(0, num_triples, SHARD_ROWS)):
        stop = min(first + SHARD_ROWS, num_triples)
        starts = range(first, stop, ROW_GROUP)
        groups = (_row_group(drawn, start, min(ROW_GROUP, stop - start)) for start in starts)
        table = next(groups)
        path = folder / f"part-{shard:05d}.parquet"
        with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
            writer.write_table(table)
            for table in groups:
                writer.write_table(table)


class Facts:
    """Codes of subject, predicate and object: rows of a table of facts, or drawn apart without one."""

    def __init__(self, num_facts: int) -> None:
        synset = 1 / np.arange(1, NUM_SYNSETS + 1)
        predicate = 1 / np.arange(1, NUM_PREDICATES + 1) ** 1.2
        self._columns = [np.cumsum(weight) / weight.sum() for weight in (synset, predicate, synset)]
        self._facts = None
        if num_facts:
            self._facts = self._apart(np.random.default_rng(1), num_facts)
            weight = 1 / np.arange(1, num_facts + 1)
            self._rank = np.cumsum(weight) / weight.sum()

    def draw(self, stream: np.random.Generator, rows: int) -> list[np.ndarray]:
        """Three columns of codes."""
        if self._facts is None:
            return self._apart(stream, rows)
        fact = np.searchsorted(self._rank, stream.random(rows)).clip(max=len(self._rank) - 1)
        return [column[fact] for column in self._facts]

    def _apart(self, stream: np.random.Generator, rows: int) -> list[np.ndarray]:
        return [
            np.searchsorted(cdf, stream.random(rows)).clip(max=len(cdf) - 1).astype(np.int32)
            for cdf in self._columns
        ]


def _row_group(facts: Facts, first: int, rows: int) -> pa.Table:
    columns: dict[str, object] = {"image_id": (first + np.arange(rows)) // 21}
    codes = facts.draw(np.random.default_rng([0, first]), rows)
    for name, column, names in zip(COLUMNS, codes, (SYNSETS, PREDICATES, SYNSETS), strict=True):
        columns[name] = pa.DictionaryArray.from_arrays(column, names)
    return pa.table(columns)


def numpy_counts(folder: Path, classes: list[str], out: Path) -> None:
    """Counts of the selected predicates, the way a careful script does it."""
    class_of = {name: place for place, name in enumerate(classes)}
    code_of: dict[str, int] = {}
    totals = np.zeros(0, dtype=np.int64)
    keys, counts = [], []
    for path in sorted(folder.glob("*.parquet")):
        file = pq.ParquetFile(path, read_dictionary=COLUMNS)
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=COLUMNS).combine_chunks()
            subject, predicate, end = (table[name].chunk(0) for name in COLUMNS)
            words = predicate.dictionary.to_pylist()
            codes = np.array(
                [code_of.setdefault(" ".join(w.casefold().split()), len(code_of)) for w in words]
            )
            term = codes[np.asarray(predicate.indices)]
            totals = np.pad(totals, (0, len(code_of) - len(totals)))
            totals += np.bincount(term, minlength=len(code_of))
            ends = [
                np.array([class_of.get(name, -1) for name in column.dictionary.to_pylist()])[
                    np.asarray(column.indices)
                ]
                for column in (subject, end)
            ]
            kept = (ends[0] >= 0) & (ends[1] >= 0)
            key = (term[kept] * len(classes) + ends[0][kept]) * len(classes) + ends[1][kept]
            key.sort()
            starts = np.flatnonzero(np.diff(key, prepend=-1))
            keys.append(key[starts])
            counts.append(np.diff(starts, append=len(key)))
    names = list(code_of)
    order = sorted(range(len(names)), key=lambda code: (-totals[code], names[code]))[:NUM_SELECTED]
    selected = np.zeros(len(names), dtype=bool)
    selected[order] = True
    result = np.zeros(len(classes) ** 2, dtype=np.int64)
    for key, count in zip(keys, counts, strict=True):
        term, pair = np.divmod(key, len(classes) ** 2)
        np.add.at(result, pair[selected[term]], count[selected[term]])
    np.savez(out, counts=result.reshape(len(classes), len(classes)))


def command_of(side: str, folder: Path, classes: Path, out: Path) -> list[str]:
    """The process of one side."""
    if side == "numpy":
        return [sys.executable, __file__, "--numpy", str(folder), str(classes), str(out)]
    engine, _, number = side.partition("-")
    command = [sys.executable, "-m", "kgtool", "build-relation", str(folder), "--classes", str(classes)]
    command += ["--predicates", str(NUM_SELECTED), "--out", str(out), "--overwrite", "--workers", number]
    return [*command, "--engine", "duckdb" if engine == "duckdb" else f"local[{number}]"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--triples", type=float, default=1e7)
    parser.add_argument("--facts", type=float, default=2e6, help="different triples; 0: no such limit")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--sides", nargs="+", default=["numpy", "duckdb-1", "duckdb-2"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep the shards here; used as they are if there")
    parser.add_argument("--quick", action="store_true", help="200,000 triples, two sides")
    parser.add_argument("--numpy", nargs=3, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.numpy:
        numpy_counts(args.numpy[0], args.numpy[1].read_text().split("\n"), args.numpy[2])
        return
    if args.quick:
        args.triples, args.sides = 2e5, ["numpy", "duckdb-1"]
    with tempfile.TemporaryDirectory(prefix="kgtool-bench-") as scratch:
        folder = args.folder or Path(scratch, "triples")
        if not folder.exists():
            folder.mkdir(parents=True)
            start = time.perf_counter()
            write_shards(folder, int(args.triples), int(args.facts))
            print(f"{args.triples:.0e} triples written in {time.perf_counter() - start:.0f} s", flush=True)
        compare(args.sides, args.rounds, folder, args.classes, Path(scratch))


def compare(sides: list[str], rounds: int, folder: Path, num_classes: int, scratch: Path) -> None:
    """Run all sides in turns and print each run."""
    classes = scratch / "classes.txt"
    classes.write_text("\n".join(SYNSETS[:num_classes]))
    paths = list(folder.glob("*.parquet"))
    triples = sum(pq.ParquetFile(path).metadata.num_rows for path in paths)
    size = sum(path.stat().st_size for path in paths)
    print(f"{triples} triples in {len(paths)} shards, {size / 1e6:.0f} MB")
    for number in range(1, rounds + 1):
        for side in sides:
            took = run(command_of(side, folder, classes, scratch / f"{side}.npz"))
            print(
                f"round {number}, {side:9}: {took.wall_s:7.1f} s wall, {took.cpu_s:7.1f} s processor, "
                f"{triples / took.wall_s / 1e6:5.1f} M triples/s, {took.anonymous_mb:5.0f} MB anonymous, "
                f"others used {took.foreign_cores:.2f} cores",
                flush=True,
            )
    found = [np.load(scratch / f"{side}.npz", allow_pickle=False)["counts"] for side in sides]
    assert all(np.array_equal(counts, found[0]) for counts in found)
    print(f"the same {found[0].sum()} counted in all: {', '.join(sides)}")


if __name__ == "__main__":
    main()
