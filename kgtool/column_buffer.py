"""Columns that grow batch by batch and are never held twice."""

import numpy as np
import numpy.typing as npt


class ColumnBuffer:
    """Named columns of numbers, appended to in place.

    A list of arrays that is joined at the end needs twice the memory; here a column grows where it lies.

    Args:
        types: NumPy type of each column.
    """

    def __init__(self, **types: npt.DTypeLike) -> None:
        self._types = {name: np.dtype(dtype) for name, dtype in types.items()}
        self._data = {name: bytearray() for name in types}

    def append(self, name: str, values: np.ndarray) -> None:
        """Add values to a column; a column of integers that gets a fraction becomes one of float64."""
        if values.dtype.kind == "f" and self._types[name].kind != "f":
            earlier = self.column(name).astype(np.float64)
            self._types[name] = np.dtype(np.float64)
            self._data[name] = bytearray(earlier.tobytes())
        self._data[name] += np.asarray(values, dtype=self._types[name]).tobytes()

    def column(self, name: str) -> np.ndarray:
        """A column so far; append nothing to it while the array is in use."""
        return np.frombuffer(self._data[name], dtype=self._types[name])
