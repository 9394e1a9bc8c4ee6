"""Named arrays as an NPZ file: the zip of NumPy's savez, with the same bytes for the same arrays.

NumPy opens the file as any other (`numpy.load`). It is written here because NumPy leaves the compression
level and the host's kind in the zip to chance, and read here because a header must be checked before the
memory it asks for is given.
"""

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from kgtool.errors import GraphFormatError
from kgtool.graph_arrays import check_total_size

#: Weights and counts are mostly zeros or mostly noise: more effort than this gains little.
_LEVEL = 2

#: Bytes of an array that are compressed to see whether it pays.
_SAMPLE = 1 << 16

#: What a damaged file makes zipfile and NumPy raise, besides ValueError and RuntimeError.
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, EOFError)


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays, in their order, with fixed time stamps and a fixed compression level."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED if _shrinks(array) else zipfile.ZIP_STORED
            info.create_system = 3  # whichever system writes it
            info.external_attr = 0o644 << 16
            info._compresslevel = _LEVEL  # type: ignore[attr-defined]
            with archive.open(info, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asarray(array, order="C"), allow_pickle=False)


def _shrinks(array: npt.NDArray[Any]) -> bool:
    """Whether compression takes away a quarter, judged by the middle of the array."""
    values = array.reshape(-1)
    sample = values[len(values) // 2 :][: _SAMPLE // array.itemsize].tobytes()
    return len(zlib.compress(sample, _LEVEL)) < 0.75 * len(sample)


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read all arrays, after every header was checked.

    Raises:
        GraphFormatError: the file is cut off or damaged, an array holds objects, or the arrays would take
            more memory than a graph of that many classes in a file of that size can.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            _check_sizes(archive, members, path.stat().st_size)
            return {name: _read_array(archive, info) for name, info in members.items()}
    except (*_DAMAGE, ValueError, RuntimeError) as error:
        raise GraphFormatError(
            f"found a damaged NPZ file ({error}); expected one that kgtool wrote; copy or build it again"
        ) from None


def _check_sizes(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], file_size: int) -> None:
    num_classes = 0
    for name, info in members.items():
        with archive.open(info) as stream:
            shape, _, dtype = _read_header(stream)
            declared = stream.tell() + math.prod(shape) * dtype.itemsize
        if dtype.hasobject:
            raise GraphFormatError(f"{name}: found Python objects; expected numbers or text")
        if declared != info.file_size:
            raise GraphFormatError(f"{name}: found {info.file_size} bytes; its header says {declared}")
        if name == "classes" and len(shape) == 1:
            num_classes = shape[0]
    check_total_size(sum(info.file_size for info in members.values()), num_classes, file_size)


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"array format {version}")


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> npt.NDArray[Any]:
    with archive.open(info) as stream:
        shape, fortran_order, dtype = _read_header(stream)
        data = bytearray(math.prod(shape) * dtype.itemsize)
        if stream.readinto(data) != len(data) or stream.read(1):  # type: ignore[attr-defined]
            raise EOFError(f"{info.filename} is cut off")
    array = np.frombuffer(data, dtype=dtype)
    return array.reshape(shape[::-1]).T if fortran_order else array.reshape(shape)
