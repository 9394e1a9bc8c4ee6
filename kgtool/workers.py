"""Blocks of JSON records made into columns, here or in worker processes.

A worker is a fresh interpreter that imports only what decoding needs. It finds its blocks in memory shared
with the parent, is told where by a message over a socket, and answers with columns. It ends when its socket
closes, so no worker outlives its parent, however that ends.
"""

import gc
import mmap
import os
import struct
import sys
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from kgtool.errors import KgtoolError
from kgtool.record_ends import first_key, last_record_end

if TYPE_CHECKING:
    import subprocess
    from multiprocessing.connection import Connection

#: Where a block lies in the shared memory: first byte, byte after the last, whether its records are lines.
_TASK = struct.Struct("<QQ?")


#: Bytes of text that are parsed at a time; memory of more than 128 kB would come from the system each time.
_PIECE_SIZE = 96 << 10
#: What decoding raises; besides malformed JSON: bytes that are no UTF-8, huge ids, endless nesting.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, OverflowError, RecursionError)

#: The parent, which reads, hashes and cuts, can keep no more than so many busy.
_MOST_WORKERS = 8


def default_num_workers() -> int:
    """One worker a core that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_WORKERS)


class Interner(dict[Any, int]):
    """Values to small integers in the order they are first seen."""

    def __missing__(self, value: Any) -> int:
        self[value] = code = len(self)
        return code

    def codes(self, values: list[Any]) -> "array[int]":
        """The integer of each value."""
        return array("I", list(map(self.__getitem__, values)))


class BlockDecoder(Protocol):
    """What makes columns of records.

    Attributes:
        record_type: msgspec type of one record.
        codes: for each column of codes the vocabulary that they stand for.
        vocabularies: values seen so far, by name of the vocabulary.
    """

    @property
    def record_type(self) -> Any: ...  # noqa: D102
    @property
    def codes(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def vocabularies(self) -> Mapping[str, Interner]: ...  # noqa: D102

    def columns(self, records: list[Any]) -> dict[str, "array[Any]"]:
        """Columns of the records of one block."""


class DecodedBlock(msgspec.Struct):
    """What became of a block.

    Attributes:
        records: how many records it held.
        columns: type code (as in `array`) and bytes of each column.
        fresh: values that the decoder had not seen before, by vocabulary, in the order of their codes.
        error: empty, or why it could not be decoded.
    """

    records: int = 0
    columns: dict[str, tuple[str, bytes]] = {}
    fresh: dict[str, list[Any]] = {}
    error: str = ""


@dataclass(frozen=True)
class DecoderSpec:
    """A decoder by its name, so that a worker process can make its own: `module:class` and its options."""

    factory: type[Any]
    options: Mapping[str, Any]

    def make(self) -> "BlockReader":
        """A decoder with empty vocabularies."""
        return BlockReader(self.factory(**self.options))

    def to_json(self) -> bytes:
        """The spec as text for another process."""
        name = f"{self.factory.__module__}:{self.factory.__qualname__}"
        return msgspec.json.encode({"factory": name, "options": dict(self.options)})


def _spec_from_json(text: bytes) -> DecoderSpec:
    spec = msgspec.json.decode(text)
    module, name = spec["factory"].split(":")
    return DecoderSpec(getattr(import_module(module), name), spec["options"])


class BlockReader:
    """Parses blocks and makes their columns with one decoder."""

    def __init__(self, decoder: BlockDecoder) -> None:
        self._decoder = decoder
        record: Any = decoder.record_type
        self._read_array = msgspec.json.Decoder(list[record]).decode
        self._read_lines = msgspec.json.Decoder(record).decode_lines
        self._reported = dict.fromkeys(decoder.vocabularies, 0)

    def read(self, memory: mmap.mmap, begin: int, end: int, lines: bool) -> DecodedBlock:
        """Decode the records in memory[begin:end]; what cannot be decoded gives a result with `error`.

        The records are parsed in pieces, so that their objects stay in the processor's cache. Where a piece
        ends is a guess; a wrong one cannot be parsed, and then the block is parsed as a whole.
        """
        collecting = gc.isenabled()
        gc.disable()  # records are many short-lived objects and no cycles
        try:
            try:
                return self._read_pieces(memory, begin, end, _PIECE_SIZE, lines)
            except _UNREADABLE:
                return self._read_pieces(memory, begin, end, end - begin, lines)
        except _UNREADABLE as error:
            return DecodedBlock(error=str(error), fresh=self._fresh())
        finally:
            if collecting:
                gc.enable()

    def _read_pieces(self, memory: mmap.mmap, begin: int, end: int, size: int, lines: bool) -> DecodedBlock:
        key = None if lines else first_key(memory, begin, end)
        num_records = 0
        parts: dict[str, list[array[Any]]] = {}
        while begin < end or not parts:
            stop = following = end
            if begin + 2 * size <= end:
                stop, following = last_record_end(memory, begin, begin + size, key)
                if stop == begin:
                    stop = following = end
            records = self._parse(memory, begin, stop, lines)
            for name, column in self._decoder.columns(records).items():
                parts.setdefault(name, []).append(column)
            num_records += len(records)
            begin = following
        columns: dict[str, tuple[str, bytes]] = {
            name: (columns[0].typecode, b"".join(columns)) for name, columns in parts.items()
        }
        return DecodedBlock(num_records, columns, self._fresh())

    def _parse(self, memory: mmap.mmap, begin: int, end: int, lines: bool) -> list[Any]:
        with memoryview(memory) as whole, whole[begin:end] as text:
            return self._read_lines(text) if lines else self._read_array(b"".join((b"[", text, b"]")))

    def _fresh(self) -> dict[str, list[Any]]:
        fresh = {}
        for name, interner in self._decoder.vocabularies.items():
            fresh[name] = list(islice(interner, self._reported[name], None))
            self._reported[name] = len(interner)
        return fresh


@dataclass(eq=False)
class Task:
    """A block on its way: where it lies, and once it is there, what became of it.

    Attributes:
        memory: where the block's text lies.
        begin: its first byte there.
        end: the byte after its last.
        lines: whether its records are separated by white space instead of being an array.
        reader: number of the worker that decodes it.
        result: None until it is decoded.
    """

    memory: mmap.mmap
    begin: int
    end: int
    lines: bool
    reader: int = 0
    result: DecodedBlock | None = None

    def read(self, reader: BlockReader) -> DecodedBlock:
        """Decode the block in this process."""
        return reader.read(self.memory, self.begin, self.end, self.lines)


class LocalWorker:
    """Decodes in this process, one block at a time."""

    def __init__(self, spec: DecoderSpec, slot_size: int) -> None:
        self._reader = spec.make()
        self.memory = mmap.mmap(-1, slot_size)
        self.slots = [0]

    def submit(self, task: Task) -> None:
        """Decode a block at once."""
        task.result = task.read(self._reader)

    def wait_any(self) -> Sequence[Task]:
        """There is nothing to wait for."""
        return ()

    def close(self) -> None:
        """Give the memory back."""
        self.memory.close()


class WorkerPool:
    """Worker processes that decode blocks from shared memory.

    Args:
        spec: what decoder each worker makes.
        num_workers: how many processes.
        slot_size: bytes of one place for a block.

    Raises:
        KgtoolError: a worker cannot be started, or ended by itself.
    """

    def __init__(self, spec: DecoderSpec, num_workers: int, slot_size: int) -> None:
        self.slots = [slot * slot_size for slot in range(3 * num_workers)]
        shared = _shared_file(len(self.slots) * slot_size)
        self.memory = mmap.mmap(shared, len(self.slots) * slot_size)
        self._local = spec.make()
        self._workers: list[tuple[subprocess.Popen[bytes], Connection]] = []
        self._tasks: list[deque[Task]] = []
        self._result = msgspec.msgpack.Decoder(DecodedBlock)
        try:
            for _ in range(num_workers):
                self._workers.append(_start_worker(spec, shared))
                self._tasks.append(deque())
        except OSError as error:
            self.close()
            raise KgtoolError(f"cannot start a worker process ({error.strerror}); try --workers 1") from None
        finally:
            os.close(shared)

    def submit(self, task: Task) -> None:
        """Give a block to the worker with the fewest; one that lies outside `memory` is decoded here."""
        if task.memory is not self.memory:
            task.reader = len(self._workers)
            task.result = task.read(self._local)
            return
        task.reader = min(range(len(self._workers)), key=lambda number: len(self._tasks[number]))
        self._tasks[task.reader].append(task)
        try:
            self._workers[task.reader][1].send_bytes(_TASK.pack(task.begin, task.end, task.lines))
        except OSError:
            raise self._lost(task.reader) from None

    def wait_any(self) -> Sequence[Task]:
        """Wait for results; the tasks that have become ready, in each worker's order."""
        from multiprocessing.connection import wait

        number_by_socket = {worker[1]: number for number, worker in enumerate(self._workers)}
        ready = []
        for socket in wait([socket for socket, number in number_by_socket.items() if self._tasks[number]]):
            number = number_by_socket[socket]  # type: ignore[index]
            try:
                message = self._workers[number][1].recv_bytes()
            except (EOFError, OSError):
                raise self._lost(number) from None
            task = self._tasks[number].popleft()
            task.result = self._result.decode(message)
            ready.append(task)
        return ready

    def close(self) -> None:
        """End the workers and give the memory back."""
        for _, socket in self._workers:
            socket.close()
        for process, _ in self._workers:
            process.wait()
        self.memory.close()

    def _lost(self, number: int) -> KgtoolError:
        status = self._workers[number][0].wait()
        return KgtoolError(
            f"a worker process ended with status {status}, perhaps for lack of memory; try --workers 1"
        )


def _shared_file(size: int) -> int:
    """Descriptor of a file that lives in memory where the system can do that, and has no name."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("kgtool blocks")
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def _start_worker(spec: DecoderSpec, shared: int) -> "tuple[subprocess.Popen[bytes], Connection]":
    import subprocess
    from multiprocessing.connection import Pipe

    ours, theirs = Pipe()
    program = "from kgtool.workers import serve; serve()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(theirs.fileno()), str(shared)],
        stdin=subprocess.DEVNULL,
        pass_fds=(theirs.fileno(), shared),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        process_group=0,  # Ctrl-C is the parent's to handle
    )
    theirs.close()
    ours.send_bytes(spec.to_json())
    return process, ours


def serve() -> None:
    """Decode blocks until the parent closes the socket: the whole life of a worker process."""
    from multiprocessing.connection import Connection

    gc.disable()
    socket, shared = Connection(int(sys.argv[1])), int(sys.argv[2])
    encode = msgspec.msgpack.encode
    try:
        reader = _spec_from_json(socket.recv_bytes()).make()
        memory = mmap.mmap(shared, 0, prot=mmap.PROT_READ)
        while True:
            socket.send_bytes(encode(reader.read(memory, *_TASK.unpack(socket.recv_bytes()))))
    except (EOFError, OSError):  # the parent is done, or gone
        os._exit(0)  # without the time it takes to give every object back
