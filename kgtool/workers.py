"""Where blocks of JSON records are decoded: in this process, or in worker processes.

A worker is a fresh interpreter that imports only what decoding needs. It finds its blocks in memory shared
with the parent, is told where by a message over a socket, and answers with columns. It ends when its socket
closes, so no worker outlives its parent, however that ends.
"""

import mmap
import os
import selectors
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from kgtool.decoding import TASK, BlockReader, DecodedBlock, DecoderSpec, receive, send
from kgtool.errors import KgtoolError

_PROGRAM = "from kgtool.decoding import serve; serve()"

#: The parent, which reads, hashes and cuts, can keep no more than so many busy.
_MOST_WORKERS = 8


def default_num_workers() -> int:
    """One worker a core that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_WORKERS)


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
        self.slots = [slot * slot_size for slot in range(2 * num_workers)]
        shared = _shared_file(len(self.slots) * slot_size)
        self.memory = mmap.mmap(shared, len(self.slots) * slot_size)
        self._local = spec.make()
        self._selector = selectors.DefaultSelector()
        self._workers: list[tuple[subprocess.Popen[bytes], socket.socket]] = []
        self._tasks: list[deque[Task]] = []
        self._result = msgspec.msgpack.Decoder(DecodedBlock)
        try:
            for number in range(num_workers):
                self._workers.append(_start_worker(spec, shared))
                self._tasks.append(deque())
                self._selector.register(self._workers[number][1], selectors.EVENT_READ, number)
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
            send(self._workers[task.reader][1], TASK.pack(task.begin, task.end, task.lines))
        except OSError:
            raise self._lost(task.reader) from None

    def wait_any(self) -> Sequence[Task]:
        """Wait for results; the tasks that have become ready, in each worker's order."""
        ready = []
        for key, _ in self._selector.select():
            try:
                message = receive(self._workers[key.data][1])
            except (EOFError, OSError):
                raise self._lost(key.data) from None
            task = self._tasks[key.data].popleft()
            task.result = self._result.decode(message)
            ready.append(task)
        return ready

    def close(self) -> None:
        """End the workers and give the memory back."""
        self._selector.close()
        for _, peer in self._workers:
            peer.close()
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


def _start_worker(spec: DecoderSpec, shared: int) -> "tuple[subprocess.Popen[bytes], socket.socket]":
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), str(shared)],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), shared),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            process_group=0,  # Ctrl-C is the parent's to handle
        )
    send(ours, spec.to_json())
    return process, ours
