"""Columns of huge JSON files in bounded memory, decoded in parallel.

The parent reads the input (decompressing and hashing as it goes) and cuts it into blocks of about a megabyte;
workers parse the blocks and answer with columns of integers. Blocks come out in the order of the input, and
their strings, whichever worker saw them, are numbered in one vocabulary.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kgtool.decoding import DecoderSpec, Interner
from kgtool.errors import InputError
from kgtool.joined_source import open_source
from kgtool.record_cutter import SINGLE, Block, RecordCutter
from kgtool.workers import LocalWorker, Task, WorkerPool

BLOCK_SIZE = 1 << 22
#: Files up to this size are done before a worker process would have started.
SMALL_FILE = 4 << 20

Codes = npt.NDArray[np.int32]
#: Told the name of an input, the bytes of it that were read, and how many it has (None: unknown).
Progress = Callable[[str, int, int | None], None]


class Vocabulary:
    """Names numbered in the order they are first seen.

    Args:
        name_of: the name that a raw value of the input stands for; values of one name share its number.
        first: names that have the first numbers, whether they are seen or not.
    """

    def __init__(self, name_of: Callable[[Any], str | None], first: Sequence[str | None] = ()) -> None:
        self._name_of = name_of
        self._interner = Interner()
        for name in first:
            self._interner[name]

    def __len__(self) -> int:
        return len(self._interner)

    def names(self) -> list[str | None]:
        """All names, in the order of their numbers."""
        return list(self._interner)

    def codes(self, values: Sequence[Any]) -> Codes:
        """The number of each raw value, int32."""
        return np.array([self._interner[self._name_of(value)] for value in values], dtype=np.int32)


@dataclass(frozen=True, eq=False)
class Batch:
    """Columns of consecutive records.

    Attributes:
        first_record: number of the first record in the input, from 0.
        records: how many records.
        columns: arrays by name, as the decoder describes them; codes are numbers in the vocabularies.
    """

    first_record: int
    records: int
    columns: dict[str, npt.NDArray[Any]]


class ColumnStream:
    """The records of one input as batches of columns, in order. Iterate once.

    Attributes:
        name: of the input, without its folder.
        num_files: how many files it is.
        records: how many have been given out.
        sha256: of the decompressed content, once all is read.

    Args:
        path: a plain, gzip or zip file, "-" for standard input, or a folder or glob of JSON files.
        spec: what decodes the blocks.
        vocabularies: for each vocabulary of the decoder, where its values are numbered.
        num_workers: processes that decode; 1 decodes in this process, as small files are anyway.
        on_progress: told how far it is.
        block_size: bytes of text in a block.
    """

    def __init__(
        self,
        path: Path | str,
        spec: DecoderSpec,
        vocabularies: Mapping[str, Vocabulary],
        *,
        num_workers: int = 1,
        on_progress: Progress | None = None,
        block_size: int = BLOCK_SIZE,
    ) -> None:
        self.name = ""
        self.num_files = 1
        self.records = 0
        self.sha256 = ""
        self._path = path
        self._spec = spec
        self._vocabularies = vocabularies
        self._num_workers = num_workers
        self._on_progress = on_progress or (lambda name, done, total: None)
        self._block_size = block_size

    def __iter__(self) -> Iterator[Batch]:
        """Give out the batches.

        Raises:
            InputError: the input is cut off, malformed, or a field of a record has a wrong type.
            KgtoolError: a worker process ended by itself.
        """
        with ExitStack() as stack:
            source = stack.enter_context(closing(open_source(self._path)))
            self.name, self.num_files = source.name, source.num_files
            cutter = RecordCutter(source)
            small = source.size is not None and source.size <= SMALL_FILE
            workers: LocalWorker | WorkerPool
            if self._num_workers == 1 or small:
                workers = LocalWorker(self._spec, self._block_size)
            else:
                workers = WorkerPool(self._spec, self._num_workers, self._block_size)
            stack.callback(workers.close)
            stack.callback(source.finish_hash)
            pipeline = _Pipeline(source.where, cutter, workers, _Translation(self._spec, self._vocabularies))
            while (decoded := pipeline.next_decoded(self.records, self._block_size)) is not None:
                records, columns = decoded
                yield Batch(self.records, records, columns)
                self.records += records
                self._on_progress(self.name, source.position(), source.size)
            self.sha256 = source.sha256()


class _Translation:
    """The numbers that each reader gave to values, as numbers in the vocabularies."""

    def __init__(self, spec: DecoderSpec, vocabularies: Mapping[str, Vocabulary]) -> None:
        self._vocabulary_by_column = spec.factory.codes
        self._vocabularies = vocabularies
        self._codes: dict[tuple[int, str], Codes] = {}

    def learn(self, task: Task) -> None:
        """Number the values that a reader saw for the first time; in the order of its results."""
        assert task.result is not None
        for name, values in task.result.fresh.items():
            known = self._codes.get((task.reader, name), np.empty(0, dtype=np.int32))
            if values or (task.reader, name) not in self._codes:
                fresh = self._vocabularies[name].codes(values)
                self._codes[task.reader, name] = np.concatenate([known, fresh])

    def columns(self, task: Task) -> dict[str, npt.NDArray[Any]]:
        """The columns of a decoded block."""
        assert task.result is not None
        columns = {}
        for name, (typecode, data) in task.result.columns.items():
            column = np.frombuffer(data, dtype=typecode)
            vocabulary = self._vocabulary_by_column.get(name)
            columns[name] = column if vocabulary is None else self._codes[task.reader, vocabulary][column]
        return columns


@dataclass(frozen=True, eq=False)
class _Pending:
    block: Block
    task: Task
    slot: int


class _Pipeline:
    """Blocks between cutter and consumer: several in work, given out in order, cut anew on failure."""

    def __init__(
        self,
        where: Callable[[int, int], str],
        cutter: RecordCutter,
        workers: LocalWorker | WorkerPool,
        translation: _Translation,
    ) -> None:
        self._where = where
        self._cutter = cutter
        self._workers = workers
        self._translation = translation
        self._free = deque(workers.slots)
        self._pending: deque[_Pending] = deque()
        self._ended = False
        self._failure: InputError | None = None  # of cutting; raised after the blocks before it

    def next_decoded(self, records: int, size: int) -> tuple[int, dict[str, npt.NDArray[Any]]] | None:
        """Number of records and columns of the next block; None at the end.

        Args:
            records: how many records came before.
            size: bytes of a block.
        """
        while True:
            self._fill(size)
            if not self._pending:
                if self._failure is not None:
                    raise self._failure
                return None
            first = self._pending[0]
            self._wait_for(first.task)
            assert first.task.result is not None
            if not first.task.result.error:
                self._free.append(self._pending.popleft().slot)
                return first.task.result.records, self._translation.columns(first.task)
            if first.block.cut == SINGLE:
                raise InputError(
                    f"{self._where(first.block.offset, records)}: {_plain(first.task.result.error)}; "
                    "correct the record or leave it out"
                )
            self._cut_anew(records)

    def _fill(self, size: int) -> None:
        while self._free and not self._ended:
            try:
                block = self._cutter.next_block(self._workers.memory, self._free[0], size)
            except InputError as error:
                self._failure, block = error, None
            if block is None:
                self._ended = True
                return
            task = Task(block.memory, block.begin, block.end, self._cutter.lines)
            self._pending.append(_Pending(block, task, self._free.popleft()))
            self._workers.submit(task)
            if task.result is not None:
                self._translation.learn(task)

    def _wait_for(self, task: Task) -> None:
        while task.result is None:
            for done in self._workers.wait_any():
                self._translation.learn(done)

    def _cut_anew(self, records: int) -> None:
        """Give all blocks back to the cutter, which will find the ends of their records exactly."""
        for pending in self._pending:
            self._wait_for(pending.task)
        self._cutter.push_back([pending.block for pending in self._pending], records)
        self._free.extend(pending.slot for pending in self._pending)
        self._pending.clear()
        self._ended, self._failure = False, None


def _plain(error: str) -> str:
    """A decoder's message without the position in its block, which says nothing to the reader of a file."""
    return re.sub(r"\$\[\d+\]\.?", "", error).replace(" - at ``", "").replace("`", '"')
