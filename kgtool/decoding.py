"""Blocks of JSON records made into columns: what runs in a worker process, and nothing else.

A worker starts in as much time as this module and the decoder take to import, so both import little.
"""

import gc
import mmap
import os
import struct
import sys
from array import array
from collections.abc import Mapping
from importlib import import_module
from itertools import islice
from socket import socket
from typing import Any, Protocol

import msgspec

from kgtool.record_ends import first_key, last_record_end

#: Where a block lies in the shared memory: first byte, byte after the last, whether its records are lines.
TASK = struct.Struct("<QQ?")

#: Bytes of text that are parsed at a time; memory of more than 128 kB would come from the system each time.
_PIECE_SIZE = 96 << 10
#: What decoding raises; besides malformed JSON: bytes that are no UTF-8, huge ids, endless nesting.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, OverflowError, RecursionError)

_LENGTH = struct.Struct("<Q")


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


class DecoderSpec(msgspec.Struct, frozen=True):
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
            newest_first = islice(reversed(interner), len(interner) - self._reported[name])
            fresh[name] = list(newest_first)[::-1]
            self._reported[name] = len(interner)
        return fresh


def send(peer: socket, message: bytes) -> None:
    """Send a message with its length before it."""
    peer.sendall(_LENGTH.pack(len(message)) + message)


def receive(peer: socket) -> bytes:
    """The next message.

    Raises:
        EOFError: the other side has closed the socket, or ended.
    """
    return _receive_bytes(peer, *_LENGTH.unpack(_receive_bytes(peer, _LENGTH.size)))


def _receive_bytes(peer: socket, size: int) -> bytes:
    parts = []
    while size:
        part = peer.recv(min(size, 1 << 20))
        if not part:
            raise EOFError("the other side of the socket has gone")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def serve() -> None:
    """Decode blocks until the parent closes the socket: the whole life of a worker process."""
    gc.disable()
    peer, shared = socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    encode = msgspec.msgpack.encode
    try:
        reader = _spec_from_json(receive(peer)).make()
        memory = mmap.mmap(shared, 0, prot=mmap.PROT_READ)
        while True:
            send(peer, encode(reader.read(memory, *TASK.unpack(receive(peer)))))
    except (EOFError, OSError):  # the parent is done, or gone
        os._exit(0)  # without the time it takes to give every object back
