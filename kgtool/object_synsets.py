"""The synset of an object by image and object id, for annotations that carry no synset themselves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kgtool.decoding import DecoderSpec
from kgtool.image_lists import EXCLUDED, ImageList
from kgtool.json_stream import Codes, ColumnStream, Progress, Vocabulary
from kgtool.visual_genome import EMPTY, SEVERAL, ObjectDecoder

Ids = npt.NDArray[np.int64]

_ID_BITS = 31


@dataclass(frozen=True, eq=False)
class ObjectSynsets:
    """Objects with exactly one synset, as sorted columns of numbers: 12 bytes an object.

    An id that was merged into an object leads to that object, unless it is still an object of its own. An id
    that leads to different synsets leads to none.

    Attributes:
        key: ascending; image id and object id of an object in one number.
        synset: code of the synset of each.
        count: how many objects have exactly one synset, by synset code.
        source: what was read, for a graph's header.
    """

    key: Ids
    synset: Codes
    count: Ids
    source: dict[str, Any]

    def codes(self, image: Ids, object_id: Ids) -> Codes:
        """Synset codes of objects; EMPTY where the object is not known or has not exactly one synset.

        Args:
            image: (N,) image ids, -1 where unknown.
            object_id: (N,) object ids, -1 where unknown.
        """
        wanted = _pack(image, object_id)
        if not len(self.key):
            return np.full(len(wanted), EMPTY, dtype=np.int32)
        place = np.minimum(np.searchsorted(self.key, wanted), len(self.key) - 1)
        return np.where(self.key[place] == wanted, self.synset[place], np.int32(EMPTY))


def read_object_synsets(
    path: Path | str,
    synsets: Vocabulary,
    *,
    num_workers: int = 1,
    on_progress: Progress | None = None,
    excluded: ImageList | None = None,
) -> ObjectSynsets:
    """Read objects.json of Visual Genome 1.2 or 1.4.

    Args:
        path: the file.
        synsets: where synsets are numbered.
        num_workers: processes that decode.
        on_progress: told how far it is.
        excluded: images whose objects are left out.

    Raises:
        InputError: the file is not what it should be.
    """
    stream = ColumnStream(
        path,
        DecoderSpec(ObjectDecoder, {}),
        {"synsets": synsets},
        num_workers=num_workers,
        on_progress=on_progress,
    )
    own, merged = [_NO_ROWS], [_NO_ROWS]
    num_objects = num_excluded = 0
    for batch in stream:
        synset = batch.columns["synset"]
        num_objects += len(synset)
        image = np.repeat(batch.columns["image"], batch.columns["rows"])
        only = synset > SEVERAL
        if excluded is not None:
            left_out = excluded.contains(image)
            num_excluded += int(left_out.sum())
            only &= ~left_out
        own.append((_pack(image, batch.columns["object_id"])[only], synset[only]))
        owner = np.repeat(np.arange(len(image)), batch.columns["merged"])
        of_only = only[owner]
        merged.append((_pack(image[owner], batch.columns["merged_id"])[of_only], synset[owner][of_only]))
    count = np.bincount(np.concatenate([codes for _, codes in own]), minlength=len(synsets))
    key, code = _agreed(own)
    alias, alias_code = _agreed(merged)
    fresh = ~np.isin(alias, key)
    key, code = np.concatenate([key, alias[fresh]]), np.concatenate([code, alias_code[fresh]])
    order = np.argsort(key)
    source: dict[str, Any] = {
        "name": stream.name,
        "sha256": stream.sha256,
        "records": stream.records,
        "objects": num_objects,
        "skipped": {"not exactly one synset": num_objects - num_excluded - int(count.sum())},
    }
    if excluded is not None:
        source["skipped"][EXCLUDED] = num_excluded
        source["excluded_images"] = excluded.record()
    return ObjectSynsets(key[order], code[order], count, source)


_NO_ROWS: tuple[Ids, Codes] = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32))


def _pack(image: Ids, object_id: Ids) -> Ids:
    """Both ids in one number; -1 where one of them is unknown or out of range."""
    fits = (image >= 0) & (image < 1 << _ID_BITS) & (object_id >= 0) & (object_id < 1 << _ID_BITS)
    return np.where(fits, (image << _ID_BITS) | object_id, np.int64(-1))


def _agreed(rows: list[tuple[Ids, Codes]]) -> tuple[Ids, Codes]:
    """Sorted unique keys and their codes, without keys that have several codes, and without the key -1."""
    key = np.concatenate([keys for keys, _ in rows])
    code = np.concatenate([codes for _, codes in rows])
    order = np.lexsort((code, key))
    key, code = key[order], code[order]
    fresh = np.ones(len(key), dtype=bool)
    fresh[1:] = (key[1:] != key[:-1]) | (code[1:] != code[:-1])
    key, code = key[fresh], code[fresh]
    alone = np.ones(len(key), dtype=bool)
    alone[1:] &= key[1:] != key[:-1]
    alone[:-1] &= key[1:] != key[:-1]
    alone &= key >= 0
    return key[alone], code[alone]
