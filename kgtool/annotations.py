"""Annotations of one file as rows of codes, and which of them count for a list of classes.

Each annotation has one fate: it counts, or it is skipped for the first reason that applies. The counted and
the skipped add up to the annotations read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kgtool.decoding import DecoderSpec
from kgtool.errors import InputError
from kgtool.evidence import Counts, EvidenceCounter, RowSpool
from kgtool.image_lists import EXCLUDED, VISUAL_GENOME, ImageList, check_some_left
from kgtool.json_stream import Batch, Codes, ColumnStream, Progress, Vocabulary
from kgtool.object_synsets import ObjectSynsets
from kgtool.visual_genome import EMPTY, SEVERAL, only_synset

NO_SYNSET, SEVERAL_SYNSETS, NOT_IN_LIST = "no synset", "several synsets", "class not in list"

#: Rows that may wait before they are added up, if not more than that are added up already.
_WAITING_ROWS = 1 << 20


@dataclass(frozen=True)
class ReadOptions:
    """How annotations are read.

    Attributes:
        strict: make the first annotation that is skipped for dirt an error, instead of counting it. A class
            that is not in the list is not dirt.
        num_workers: processes that decode; 1 decodes in this process.
        on_progress: told how far it is.
        excluded: images whose annotations are left out of graphs and triples, as if they were not there.
    """

    strict: bool = False
    num_workers: int = 1
    on_progress: Progress | None = None
    excluded: ImageList | None = None


@dataclass(frozen=True, eq=False)
class Counted:
    """What annotations say about a list of classes.

    Attributes:
        terms: (T,) all terms of the file, most frequent first, ties by name.
        totals: (T,) how often each occurs in the file, whatever the classes.
        index: (N, 3) subject class, term, object class, or (N, 2) class, term; unique, ascending.
        count: (N,) annotations of each row.
        skipped: annotations that did not count, by reason.
    """

    terms: tuple[str, ...]
    totals: Counts
    index: npt.NDArray[np.int32]
    count: Counts
    skipped: dict[str, int]


class Annotations:
    """Annotations of one file, kept as rows of codes: synset and term, and of relations a second synset.

    Attributes:
        synsets: names of the synset codes; objects that are looked up share it.
        num_read: how many annotations were read.
        source: name, sha256 and number of records of the file, once it is read.

    Args:
        num_columns: 3 for relations, 2 for attributes.
        term_name: what term a raw value is; "" where it is none.
        empty: the reason to skip an annotation without a term.
    """

    def __init__(self, num_columns: int, term_name: Callable[[Any], str], empty: str) -> None:
        self.synsets = Vocabulary(only_synset, first=("", None))
        self.num_read = 0
        self.source: dict[str, Any] = {}
        self._terms = Vocabulary(term_name, first=("",))
        self._empty = empty
        self._num_columns = num_columns
        self._spool = RowSpool(num_columns)
        self._skipped_first: dict[str, int] = {}

    def read(
        self,
        path: Path | str,
        spec: DecoderSpec,
        rows_of: Callable[[Batch], tuple[list[Codes], npt.NDArray[Any]]],
        options: ReadOptions,
    ) -> None:
        """Read a file.

        Args:
            path: the file.
            spec: what decodes it; with ids where `options.excluded` is given.
            rows_of: columns of codes of a batch, and for each record how many rows there are up to its end.
            options: how.

        Raises:
            InputError: the file is not what it should be, or all of it is excluded; if `options.strict`, the
                first dirt.
        """
        excluded = options.excluded
        if excluded is not None:
            excluded.check_joins(VISUAL_GENOME, str(path))
            self._skipped_first = {EXCLUDED: 0}
        stream = ColumnStream(
            path,
            spec,
            {"synsets": self.synsets, "terms": self._terms},
            num_workers=options.num_workers,
            on_progress=options.on_progress,
        )
        for batch in stream:
            columns, ends = rows_of(batch)
            num_rows = len(columns[0])
            self.num_read += num_rows
            if excluded is not None:
                columns, ends = _without(excluded.contains(batch.columns["image"]), columns, ends)
                self._skipped_first[EXCLUDED] += num_rows - len(columns[0])
            if options.strict:
                self._check_clean(stream.name, batch, columns, ends)
            self._spool.add(*columns)
        check_some_left(self._skipped_first.get(EXCLUDED, 0), self.num_read, stream.name)
        self.source = {"name": stream.name, "sha256": stream.sha256, "records": stream.records}
        if stream.num_files > 1:
            self.source["files"] = stream.num_files
        if excluded is not None:
            self.source["excluded_images"] = excluded.record()

    def count_by_synset(self) -> dict[str, int]:
        """How many ends have exactly this one synset, over all annotations."""
        ends = (0, 2)[: self._num_columns - 1]
        total = sum(self._spool.totals(column, len(self.synsets)) for column in ends)
        named = list(zip(self.synsets.names(), np.asarray(total).tolist(), strict=True))
        return {name or "": number for name, number in named[SEVERAL + 1 :]}

    def count(self, synsets: Sequence[str], counter: EvidenceCounter) -> Counted:
        """Count the annotations of classes, all terms.

        Args:
            synsets: the synset of each class, or "".
            counter: what adds up.
        """
        terms, totals, rank = self._ranked_terms()
        class_of_synset = {synset: position for position, synset in enumerate(synsets) if synset}
        class_of = np.full(len(self.synsets), -1, dtype=np.int32)
        for code, name in enumerate(self.synsets.names()):
            class_of[code] = class_of_synset.get(name or "", -1)
        reasons = (self._empty, NO_SYNSET, SEVERAL_SYNSETS, NOT_IN_LIST)
        skipped = self._skipped_first | dict.fromkeys(reasons, 0)
        waiting = [(np.empty((0, self._num_columns), dtype=np.int32), np.empty(0, dtype=np.int64))]
        for columns, count in self._spool.runs():
            rows = [class_of[columns[0]], rank[columns[1]], *(class_of[codes] for codes in columns[2:])]
            kept = np.ones(len(count), dtype=bool)
            for reason, mask in [*self._dirt(columns), (NOT_IN_LIST, _any_end(rows, -1))]:
                skipped[reason] += int(count[kept & mask].sum())
                kept &= ~mask
            waiting.append((np.stack([codes[kept] for codes in rows], axis=1), count[kept]))
            if sum(len(rows) for rows, _ in waiting[1:]) > max(_WAITING_ROWS, len(waiting[0][0])):
                _add_up(waiting, counter)
        _add_up(waiting, counter)
        return Counted(terms, totals, *waiting[0], skipped)

    def close(self) -> None:
        """Remove the temporary file that holds the rows."""
        self._spool.close()

    def _ranked_terms(self) -> tuple[tuple[str, ...], Counts, Codes]:
        """Terms that occur, most frequent first, ties by name; their totals; the place of each code."""
        total = self._spool.totals(1, len(self._terms))
        names = [name or "" for name in self._terms.names()]
        number = total.tolist()
        seen = [code for code in range(EMPTY + 1, len(number)) if number[code]]
        order = sorted(seen, key=lambda code: (-number[code], names[code]))
        rank = np.full(len(names), -1, dtype=np.int32)
        rank[order] = np.arange(len(order))
        return tuple(names[code] for code in order), total[order], rank

    def _dirt(self, columns: list[Codes]) -> list[tuple[str, npt.NDArray[np.bool_]]]:
        """Reasons to skip a row whatever the classes, in the order they are asked; which rows have them."""
        return [
            (self._empty, columns[1] == EMPTY),
            (NO_SYNSET, _any_end(columns, EMPTY)),
            (SEVERAL_SYNSETS, _any_end(columns, SEVERAL)),
        ]

    def _check_clean(self, name: str, batch: Batch, columns: list[Codes], ends: npt.NDArray[Any]) -> None:
        reasons = self._dirt(columns)
        dirty = np.flatnonzero(np.any([mask for _, mask in reasons], axis=0))
        if len(dirty):
            row = int(dirty[0])
            record = int(np.searchsorted(ends, row, side="right"))
            reason = next(reason for reason, mask in reasons if mask[row])
            place = row - int(ends[record - 1]) if record else row
            raise InputError(
                f"{name}, record {batch.first_record + record}, annotation {place}: {reason}; "
                "expected none to skip with --strict; correct it, or leave --strict out to skip and count it"
            )


def relation_rows(batch: Batch, objects: ObjectSynsets | None) -> tuple[list[Codes], npt.NDArray[np.int64]]:
    """Rows (subject, term, object) of a batch of `RelationDecoder`, and where each record's rows end.

    Args:
        batch: decoded with ids where `objects` is given.
        objects: gives a synset to ends without one.
    """
    columns, rows = batch.columns, batch.columns["rows"]
    subject, object_ = columns["subject"], columns["object"]
    if objects is not None:
        image = np.repeat(columns["image"], rows)
        subject = _looked_up(subject, image, columns["subject_id"], objects)
        object_ = _looked_up(object_, image, columns["object_id"], objects)
    return [subject, columns["term"], object_], np.cumsum(rows, dtype=np.int64)


def attribute_rows(batch: Batch, objects: ObjectSynsets | None) -> tuple[list[Codes], npt.NDArray[np.int64]]:
    """Rows (object, term) of a batch of `AttributeDecoder`, and where each record's rows end.

    Args:
        batch: decoded with ids where `objects` is given.
        objects: gives a synset to objects without one.
    """
    columns, rows = batch.columns, batch.columns["rows"]
    synset, mentions = columns["object"], columns["mentions"]
    if objects is not None:
        image = np.repeat(columns["image"], rows)
        synset = _looked_up(synset, image, columns["object_id"], objects)
    mentions_before = np.concatenate([[0], np.cumsum(mentions, dtype=np.int64)])
    return [np.repeat(synset, mentions), columns["term"]], mentions_before[np.cumsum(rows)]


def _without(
    left_out: npt.NDArray[np.bool_], columns: list[Codes], ends: npt.NDArray[Any]
) -> tuple[list[Codes], npt.NDArray[Any]]:
    """Rows and where each record's rows end, without the rows of some records."""
    num_rows = np.diff(ends, prepend=0)
    kept = np.repeat(~left_out, num_rows)
    return [codes[kept] for codes in columns], np.cumsum(np.where(left_out, 0, num_rows))


def _looked_up(
    synset: Codes, image: npt.NDArray[np.int64], object_id: npt.NDArray[np.int64], objects: ObjectSynsets
) -> Codes:
    without = np.flatnonzero(synset == EMPTY)
    synset = synset.copy()
    synset[without] = objects.codes(image[without], object_id[without])
    return synset


def _any_end(columns: list[Codes], code: int) -> npt.NDArray[np.bool_]:
    """Rows of which an end has this code."""
    found: npt.NDArray[np.bool_] = columns[0] == code
    for codes in columns[2:]:
        found |= codes == code
    return found


def _add_up(waiting: list[tuple[npt.NDArray[np.int32], Counts]], counter: EvidenceCounter) -> None:
    """Put in place of all rows in the list the same rows, added up; no more is held than needed."""
    index = np.concatenate([index for index, _ in waiting])
    count = np.concatenate([count for _, count in waiting])
    waiting[:] = []
    waiting.append(counter.count(index, count))
