"""Pickled matrices are read as Python reads them, and pickles of anything else run nothing."""

import pickle
import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kgtool.errors import InputError
from kgtool.release_pickle import read_release_pickle, write_release_pickle

KINDS = ["<f8", ">f8", "<f4", "<f2", "<i8", ">i4", "u1", "?"]
matrices = st.sampled_from(KINDS).flatmap(
    lambda kind: hnp.arrays(kind, st.tuples(st.integers(1, 4), st.integers(1, 4)))
)


def read(data, folder):
    path = folder / "m.pkl"
    path.write_bytes(data)
    return read_release_pickle(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pickles")


@settings(deadline=None)
@given(matrices, st.integers(0, 5), st.booleans())
def test_every_protocol_and_type_is_read_as_python_reads_it(folder, matrix, protocol, by_columns):
    matrix = np.asfortranarray(matrix) if by_columns else matrix
    found = read(pickle.dumps(matrix, protocol=protocol), folder)
    assert found.dtype == np.float64
    assert np.array_equal(found, matrix.astype(np.float64), equal_nan=True)


@settings(deadline=None)
@given(matrices, st.integers(0, 5))
def test_the_names_of_numpy_1_are_those_of_numpy_2(folder, matrix, protocol):
    data = pickle.dumps(matrix, protocol=protocol)
    if protocol < 4:
        data = data.replace(b"numpy._core.", b"numpy.core.")
    else:
        data = data.replace(b"\x16numpy._core.multiarray", b"\x15numpy.core.multiarray")
        data = data.replace(b"\x13numpy._core.numeric", b"\x12numpy.core.numeric")
    assert b"_core" not in data
    assert np.array_equal(read(data, folder), matrix.astype(np.float64), equal_nan=True)


def python_2(matrix, *, binary):
    """What Python 2 writes: strings of bytes, as text with escapes or with a length."""

    def text(value):
        if not binary:
            return b"S'" + b"".join(b"\\x%02x" % byte for byte in value) + b"'\n"
        return (
            b"U" + bytes([len(value)]) + value
            if len(value) < 256
            else b"T" + struct.pack("<I", len(value)) + value
        )

    rows, columns = matrix.shape
    return b"".join(
        [
            b"\x80\x02" if binary else b"",
            b"cnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntp3\n"
            + text(b"b")
            + b"tR",
            b"(I1\n(I%d\nI%d\ntcnumpy\ndtype\n(" % (rows, columns) + text(b"f8") + b"I0\nI1\ntR",
            b"(I3\n" + text(b"<") + b"NNNI-1\nI-1\nI0\ntbI00\n" + text(matrix.tobytes()) + b"tb.",
        ]
    )


@pytest.mark.parametrize("binary", [False, True])
def test_pickles_of_python_2_are_read(folder, binary):
    matrix = np.random.default_rng(0).random((9, 7)) - 0.5
    data = python_2(matrix, binary=binary)
    assert np.array_equal(pickle.loads(data, encoding="latin1"), matrix)
    assert np.array_equal(read(data, folder), matrix)


@settings(deadline=None)
@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 5))))
@example(np.zeros((1, 300)))
@example(np.zeros((1, 70_000)))
def test_what_is_written_python_and_this_reader_read(folder, matrix):
    path = folder / "w.pkl"
    write_release_pickle(matrix, path)
    with path.open("rb") as stream:
        assert np.array_equal(pickle.load(stream), matrix, equal_nan=True)
    assert np.array_equal(read_release_pickle(path), matrix, equal_nan=True)


class Evil:
    """An object whose pickle writes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


REFUSED = {
    "a dictionary": ({"graph": np.eye(2)}, "opcode"),
    "a list": ([np.eye(2)], "opcode"),
    "a number": (3, "an object of type int"),
    "text": ("graph", "an object of type str"),
    "a vector": (np.zeros(3), r"an array of shape \(3,\)"),
    "an empty matrix": (np.zeros((0, 3)), "0 bytes for an array"),
    "an array of objects": (np.array([["a", None]], dtype=object), "found"),
    "an array of text": (np.array([["a"]]), "an array of type 'U1'"),
    "complex numbers": (np.eye(2) * 1j, "an array of type 'c16'"),
    "a set": ({1}, "found"),
    "a class of Python": (print, "the name '(builtins|__builtin__).print'"),
}


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", REFUSED)
def test_anything_but_one_matrix_of_numbers_is_refused_in_one_line(folder, name, protocol):
    value, words = REFUSED[name]
    with pytest.raises(InputError, match=f"found.*{words}|found the name|found opcode") as caught:
        read(pickle.dumps(value, protocol=protocol), folder)
    assert "\n" not in str(caught.value)
    assert "nothing in it was run" in str(caught.value)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_do_something_does_nothing(folder, protocol):
    trace = folder / f"trace{protocol}"
    with pytest.raises(InputError, match=r"found the name '(_?io|builtins|__builtin__).open'"):
        read(pickle.dumps(Evil(trace), protocol=protocol), folder)
    assert not trace.exists()


def message_of(data, folder):
    """What is said of bytes that are refused; nothing of a matrix."""
    try:
        assert read(data, folder).ndim == 2
    except InputError as error:
        return str(error)
    return ""


GOOD = pickle.dumps(np.arange(6.0).reshape(2, 3), protocol=3)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_damage_is_an_error_of_one_line_or_another_matrix(folder, changes):
    data = bytearray(GOOD)
    for place, value in changes:
        data[place] = value
    assert "\n" not in message_of(bytes(data), folder)


@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from([0, 5, len(GOOD) // 2]))
def test_any_bytes_are_read_or_refused(folder, data, kept):
    assert "\n" not in message_of(GOOD[:kept] + data, folder)


def frombuffer(data, kind):
    """The pickle of a call that makes an array of shape (1, 1) of these bytes and of whatever type."""
    return (
        b"\x80\x04cnumpy.core.numeric\n_frombuffer\n(C"
        + bytes([len(data)])
        + data
        + kind
        + b"K\x01K\x01\x86X\x01\0\0\0CtR."
    )


F8 = b"cnumpy\ndtype\n(X\x02\0\0\0f8tR"


@pytest.mark.parametrize(
    ("pickled", "words"),
    [
        (frombuffer(bytes(7), F8), r"7 bytes for an array of shape \(1, 1\)"),
        (frombuffer(bytes(8), b")" + b"\x85" * 20_000), "an array without a type"),
        (frombuffer(bytes(8), b"K\x01"), "an array without a type"),
    ],
)
def test_bytes_and_types_that_do_not_fit_are_refused_in_one_line(folder, pickled, words):
    assert read(frombuffer(bytes(8), F8), folder) == 0
    with pytest.raises(InputError, match=words):
        read(pickled, folder)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_release_pickle(tmp_path / "none.pkl")
