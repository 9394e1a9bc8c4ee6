"""Columns of ids: where each is in a list, and one key made of two."""

import numpy as np

#: Ids up to this are looked up in a table (4 bytes an entry) instead of being searched for.
MAX_TABLE = 2**24


def position_of(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Find each wanted id in a list.

    Args:
        ids: (M,) unique, integer, in any order.
        wanted: (N,) integer, repeats allowed.

    Returns:
        (N,) the positions in `ids`, int32 or int64; -1 where an id is not there.
    """
    if len(ids) == 0 or len(wanted) == 0:
        return np.full(len(wanted), -1, dtype=np.int64)
    largest = int(max(ids.max(), wanted.max()))
    if min(ids.min(), wanted.min()) >= -1 and largest < MAX_TABLE:
        table = np.full(largest + 2, -1, dtype=np.int32)  # the last entry is for the id -1
        table[ids] = np.arange(len(ids))
        positions: np.ndarray = table[wanted]
        return positions
    order = np.argsort(ids)
    at = np.searchsorted(ids, wanted, sorter=order)
    at[at == len(ids)] = 0
    return np.where(ids[order[at]] == wanted, order[at], -1)


def fitting(*columns: np.ndarray) -> list[np.ndarray]:
    """The columns of ids as they are, or as ranks over all of them where 40 bits do not hold the ids."""
    if all(len(ids) == 0 or (ids.min() >= -1 and ids.max() < 2**40) for ids in columns):
        return list(columns)
    every = np.unique(np.concatenate(columns))
    return [np.searchsorted(every, ids) for ids in columns]


def joint_key(major: np.ndarray, minor: np.ndarray) -> np.ndarray:
    """One int64 that sorts by the first column (below 2**22), then by the second (from `fitting`)."""
    key = major.astype(np.int64)
    key <<= 41
    key += minor
    key += 1
    return key
