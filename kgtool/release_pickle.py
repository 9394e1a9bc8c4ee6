"""The pickled matrices that published systems came with, read without unpickling anything.

A pickle is a program: loading one from elsewhere runs whatever it says. This reader knows the few opcodes
that a NumPy array of numbers is pickled with, by Python 2 and 3, protocols 0 to 5, NumPy 1 and 2, and the
few names such a pickle calls; it calls none of them but builds the array itself. All else is refused.
"""

import ast
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kgtool.errors import InputError

Matrix = npt.NDArray[np.float64]

#: What the pickle of an array may name, and what we take it for.
_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy.core.numeric", "_frombuffer"): "frombuffer",
    ("numpy._core.numeric", "_frombuffer"): "frombuffer",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
}
_KINDS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """One of the allowed names."""

    name: str


@dataclass
class _Type:
    """A NumPy type as the pickle describes it."""

    kind: str
    order: str = "="


@dataclass
class _Array:
    """An array as the pickle describes it."""

    values: npt.NDArray[Any] | None = None


class _Refused(Exception):
    """Something that the pickle of an array has not; the message says what was found."""


def read_release_pickle(path: Path) -> Matrix:
    """Read the matrix that a pickle holds, without running the pickle.

    Returns:
        Two-dimensional, as float64.

    Raises:
        InputError: the file cannot be read, is damaged, or holds anything but one matrix of numbers.
    """
    try:
        found = _Machine(path.read_bytes()).run()
        values = found.values if isinstance(found, _Array) else None
        if values is None:
            raise _Refused(f"an object of type {type(found).__name__.strip('_').lower()}")
        if values.ndim != 2:
            raise _Refused(f"an array of shape {values.shape}")
    except _Refused as error:
        raise InputError(
            f"{path}: found {error}; expected a pickle of one matrix of numbers and nothing else; "
            "nothing in it was run"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    return values.astype(np.float64)


def write_release_pickle(matrix: Matrix, path: Path) -> None:
    """Write a matrix as the published files are: pickle protocol 3, readable by NumPy 1 and 2.

    Args:
        matrix: two-dimensional.
        path: file to write.
    """
    rows, columns = matrix.shape
    data = np.ascontiguousarray(matrix, dtype="<f8").tobytes()
    path.write_bytes(
        b"\x80\x03cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85q\x02C\x01bq\x03"
        b"\x87q\x04Rq\x05(K\x01"
        + _short_int(rows)
        + _short_int(columns)
        + b"\x86q\x06cnumpy\ndtype\nq\x07X\x02\x00\x00\x00f8q\x08K\x00K\x01\x87q\x09Rq\x0a(K\x03X\x01\x00\x00"
        b"\x00<q\x0bNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0cb\x89B"
        + struct.pack("<I", len(data))
        + data
        + b"q\x0dtq\x0eb."
    )


def _short_int(value: int) -> bytes:
    """An integer in as few bytes as pickle takes."""
    if value < 256:
        return b"K" + struct.pack("<B", value)
    return b"M" + struct.pack("<H", value) if value < 65536 else b"J" + struct.pack("<i", value)


@dataclass
class _Machine:
    """A pickle being read: what is left of it, the stack, and the memo."""

    data: bytes
    at: int = 0
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self) -> Any:
        """Read up to the opcode that ends a pickle; return what is then on the stack."""
        while True:
            opcode = self.take(1)
            if opcode == b".":
                return self.pop()
            if opcode not in _OPCODES:
                raise _Refused(f"opcode {opcode!r} at byte {self.at - 1}")
            _OPCODES[opcode](self)

    def take(self, length: int) -> bytes:
        if length > len(self.data) - self.at:
            raise _Refused("a file that ends too early")
        self.at += length
        return self.data[self.at - length : self.at]

    def line(self) -> bytes:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise _Refused("a file that ends too early")
        found = self.data[self.at : end]
        self.at = end + 1
        return found

    def number(self, form: str) -> int:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return int(value)

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise _Refused(f"too little on the stack at byte {self.at}")
        return self.stack.pop()

    def pop_to_mark(self) -> tuple[Any, ...]:
        found = []
        while self.stack and self.stack[-1] is not _MARK:
            found.append(self.stack.pop())
        if not self.stack:
            raise _Refused(f"no mark on the stack at byte {self.at}")
        self.stack.pop()
        return tuple(reversed(found))

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_tuple(self, length: int) -> None:
        items = [self.pop() for _ in range(length)]
        self.push(tuple(reversed(items)))

    def keep(self, key: int) -> None:
        self.memo[key] = self.stack[-1] if self.stack else None

    def recall(self, key: int) -> None:
        if key not in self.memo:
            raise _Refused(f"a reference to nothing at byte {self.at}")
        self.push(self.memo[key])

    def push_name(self, module: Any, name: Any) -> None:
        key = (_text(module), _text(name))
        if key not in _NAMES:
            raise _Refused(f"the name {'.'.join(key)[:80]!r}, which a pickle of numbers has no use for")
        self.push(_Name(_NAMES[key]))

    def push_stack_name(self) -> None:
        name, module = self.pop(), self.pop()
        self.push_name(module, name)

    def push_call(self) -> None:
        arguments, called = self.pop(), self.pop()
        self.push(_called(called, arguments))

    def set_state(self) -> None:
        state, owner = self.pop(), self.pop()
        if isinstance(owner, _Type):
            owner.order = _text(_item(state, 1))
        elif isinstance(owner, _Array):
            _, shape, kind, by_columns, data = (_item(state, place) for place in range(5))
            owner.values = _values(data, kind, shape, "F" if by_columns else "C")
        else:
            raise _Refused("a state for something that has none")
        self.push(owner)

    def push_text_integer(self) -> None:
        text = self.line()
        if text in (b"00", b"01"):  # how old protocols write False and True
            self.push(text == b"01")
            return
        digits = text.rstrip(b"L")
        if not digits.removeprefix(b"-").isdigit() or len(digits) > 20:
            raise _Refused(f"{text[:20]!r} in place of a number")
        self.push(int(digits))

    def push_quoted(self) -> None:
        text = self.line()
        try:
            value = ast.literal_eval("b" + text.decode("latin-1"))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = None
        if not isinstance(value, bytes):
            raise _Refused(f"{text[:20]!r} in place of a quoted string")
        self.push(value)


def _called(called: Any, arguments: Any) -> Any:
    """What the call of an allowed name would give."""
    match called:
        case _Name("dtype"):
            return _Type(_text(_item(arguments, 0)))
        case _Name("reconstruct"):
            return _Array()
        case _Name("frombuffer"):
            data, kind, shape, order = (_item(arguments, place) for place in range(4))
            return _Array(_values(data, kind, shape, _text(order)))
        case _Name("encode"):
            if _text(_item(arguments, 1)) not in ("latin1", "latin-1"):
                raise _Refused("text in an unknown encoding")
            return _text(_item(arguments, 0)).encode("latin-1", errors="replace")
    raise _Refused("a call of something that is no function")


def _values(data: Any, kind: Any, shape: Any, order: str) -> npt.NDArray[Any]:
    """The array that raw bytes are."""
    if not isinstance(kind, _Type):
        raise _Refused("an array without a type")
    if kind.kind not in _KINDS:
        raise _Refused(f"an array of type {kind.kind!r:.40}")
    if not isinstance(data, bytes) or kind.order not in ("<", ">", "=", "|") or order not in ("C", "F"):
        raise _Refused("an array that is not described as NumPy does")
    if not isinstance(shape, tuple) or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise _Refused("an array without a shape")
    order_and_kind = kind.kind if kind.order == "|" else kind.order + kind.kind
    dtype = np.dtype(order_and_kind)
    if not data or len(shape) > 32 or math.prod(shape) * dtype.itemsize != len(data):
        raise _Refused(f"{len(data)} bytes for an array of shape {shape!s:.40}")
    return np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if order == "F" else "C")


def _item(sequence: Any, place: int) -> Any:
    if not isinstance(sequence, tuple) or place >= len(sequence):
        raise _Refused("a call or state that NumPy does not write")
    return sequence[place]


def _text(value: Any) -> str:
    """Text, which Python 2 pickles as bytes."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if not isinstance(value, str):
        raise _Refused("something else in place of text")
    return value


def _unicode(data: bytes, encoding: str = "utf-8") -> str:
    try:
        return data.decode(encoding, "surrogatepass" if encoding == "utf-8" else "strict")
    except UnicodeDecodeError:
        raise _Refused("text that is not Unicode") from None


def _key(text: bytes) -> int:
    if not text.isdigit() or len(text) > 12:
        raise _Refused(f"{text[:20]!r} in place of a number")
    return int(text)


def _sized(form: str) -> Callable[[_Machine], bytes]:
    return lambda machine: machine.take(machine.number(form))


def _push(read: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(read(machine))


#: What each opcode does, by Python's names for them.
_OPCODES: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda m: m.take(1),  # PROTO
    b"\x95": lambda m: m.take(8),  # FRAME
    b"(": _push(lambda m: _MARK),  # MARK
    b"0": lambda m: m.pop(),  # POP
    b"N": _push(lambda m: None),  # NONE
    b"\x88": _push(lambda m: True),  # NEWTRUE
    b"\x89": _push(lambda m: False),  # NEWFALSE
    b"I": _Machine.push_text_integer,  # INT
    b"L": _Machine.push_text_integer,  # LONG
    b"J": _push(lambda m: m.number("<i")),  # BININT
    b"K": _push(lambda m: m.number("<B")),  # BININT1
    b"M": _push(lambda m: m.number("<H")),  # BININT2
    b"\x8a": _push(lambda m: int.from_bytes(_sized("<B")(m), "little", signed=True)),  # LONG1
    b"S": _Machine.push_quoted,  # STRING
    b"T": _push(_sized("<I")),  # BINSTRING
    b"U": _push(_sized("<B")),  # SHORT_BINSTRING
    b"B": _push(_sized("<I")),  # BINBYTES
    b"C": _push(_sized("<B")),  # SHORT_BINBYTES
    b"\x8e": _push(_sized("<Q")),  # BINBYTES8
    b"\x96": _push(_sized("<Q")),  # BYTEARRAY8
    b"V": _push(lambda m: _unicode(m.line(), "raw-unicode-escape")),  # UNICODE
    b"X": _push(lambda m: _unicode(_sized("<I")(m))),  # BINUNICODE
    b"\x8c": _push(lambda m: _unicode(_sized("<B")(m))),  # SHORT_BINUNICODE
    b"\x8d": _push(lambda m: _unicode(_sized("<Q")(m))),  # BINUNICODE8
    b")": lambda m: m.push_tuple(0),  # EMPTY_TUPLE
    b"\x85": lambda m: m.push_tuple(1),  # TUPLE1
    b"\x86": lambda m: m.push_tuple(2),  # TUPLE2
    b"\x87": lambda m: m.push_tuple(3),  # TUPLE3
    b"t": _push(_Machine.pop_to_mark),  # TUPLE
    b"c": lambda m: m.push_name(m.line(), m.line()),  # GLOBAL
    b"\x93": _Machine.push_stack_name,  # STACK_GLOBAL
    b"R": _Machine.push_call,  # REDUCE
    b"b": _Machine.set_state,  # BUILD
    b"p": lambda m: m.keep(_key(m.line())),  # PUT
    b"q": lambda m: m.keep(m.number("<B")),  # BINPUT
    b"r": lambda m: m.keep(m.number("<I")),  # LONG_BINPUT
    b"\x94": lambda m: m.keep(len(m.memo)),  # MEMOIZE
    b"g": lambda m: m.recall(_key(m.line())),  # GET
    b"h": lambda m: m.recall(m.number("<B")),  # BINGET
    b"j": lambda m: m.recall(m.number("<I")),  # LONG_BINGET
}
