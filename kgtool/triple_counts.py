"""Triples counted by an engine: shards in, evidence for a list of classes out.

The engine runs the one count expression over all rows; what comes back is one row for each combination of
classes and predicate, and nothing here grows with the number of triples.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import numpy.typing as npt

from kgtool.annotations import NOT_IN_LIST
from kgtool.classes import ClassTable, check_some_known, is_synset, most_frequent_classes, resolve_names
from kgtool.engines import Engine
from kgtool.errors import InputError
from kgtool.evidence import EvidenceCounter, count_expression, row_keys
from kgtool.graph import Evidence
from kgtool.image_lists import EXCLUDED, ImageList
from kgtool.json_stream import Vocabulary
from kgtool.triples import Shards
from kgtool.visual_genome import fold_text

#: What stands for an end that is no class of the list; the empty string itself is read as no end.
_OTHER = ""
_EMPTY_TERM = {"relation": "empty predicate", "attribute": "empty attribute"}


class TripleCounts:
    """The rows of some shards, counted on demand.

    Attributes:
        num_read: annotations that `evidence` has read.
        skipped: annotations that it did not count, by reason; known after `evidence`.

    Args:
        shards: what to count.
        engine: what counts.
        kind: "relation" or "attribute".
        excluded: images whose rows are left out; the shards have `image_id` then.
    """

    def __init__(self, shards: Shards, engine: Engine, kind: str, excluded: ImageList | None = None) -> None:
        self.num_read = 0
        self.skipped: dict[str, int] = {}
        self._shards = shards
        self._engine = engine
        self._kind = kind
        self._ends = None if shards.header is None else shards.header.ends
        table = engine.table(shards)
        self._left_out: Any = None
        if excluded is not None:
            _check_image_ids(table, shards)
            listed = engine.table_of_ids(excluded.ids_N)
            self._left_out = _rows(table.semi_join(listed, "image_id"), shards, kind)
            table = table.anti_join(listed, "image_id")
        self._rows = _rows(table, shards, kind)

    def choose_classes(self, classes: int | ClassTable) -> tuple[ClassTable, list[str]]:
        """The class list, with synsets where the triples have them, and messages about it.

        Args:
            classes: a list, or a number: so many of the most frequent ends, ties by name.
        """
        if isinstance(classes, ClassTable) and (self._ends in ("name", "class") or all(classes.synsets)):
            return classes, []
        count_by_end = self._count_by_end()
        if isinstance(classes, int):
            names = most_frequent_classes(classes, count_by_end).names
            return ClassTable(names, tuple(name if is_synset(name) else "" for name in names)), []
        if any(is_synset(end) for end in count_by_end):
            return resolve_names(classes, {end: n for end, n in count_by_end.items() if is_synset(end)})
        return classes, []

    def evidence(self, table: ClassTable) -> Evidence:
        """Count the triples whose ends are classes, all terms.

        Raises:
            KgtoolError: the engine failed.
        """
        texts, position = texts_of_classes(table, self._ends)
        keys = ["subject", "term", "object"][: 3 if self._kind == "relation" else 2]
        terms = Vocabulary(fold_text if self._folds_terms() else str, first=("",))
        totals = np.zeros(1, dtype=np.int64)
        reasons = np.zeros(4, dtype=np.int64)
        kept = [(np.empty((0, len(keys)), dtype=np.int32), np.empty(0, dtype=np.int64))]
        for batch in self._engine.iter_batches(count_expression(self._of_classes(texts), keys)):
            count = np.asarray(batch.column("count"))
            if count.min(initial=0) < 0:
                raise InputError(f"{self._shards.files[0]}, count: found a negative number; expected counts")
            term = _codes(batch.column("term"), terms)
            totals = np.concatenate([totals, np.zeros(len(terms) - len(totals), dtype=np.int64)])
            np.add.at(totals, term, count)
            reason = _reasons(batch, term)
            np.add.at(reasons, reason, count)
            ends = [_positions(batch.column(key), texts, position) for key in keys[::2]]
            rows = np.stack([ends[0], term, *ends[1:]], axis=1)
            counted = (reason == 0) & (count > 0)
            kept.append((rows[counted], count[counted]))
        names = (_EMPTY_TERM[self._kind], self._no_end(), NOT_IN_LIST)
        self.skipped = self._count_left_out() | dict(zip(names, reasons[1:].tolist(), strict=True))
        self.num_read = int(reasons[0]) + sum(self.skipped.values())
        return _ranked(terms, totals, kept)

    def check_has_class(self, table: ClassTable, place: str) -> None:
        """Check that an end of a triple is one of the classes.

        Raises:
            ClassMatchError: there are triples, and none has a class of the list.
        """
        seen = self._count_by_end()
        if not seen.keys() & set(texts_of_classes(table, self._ends)[0]):
            check_some_known(table, seen, place)

    def _count_by_end(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for end in ("subject", "object")[: 2 if self._kind == "relation" else 1]:
            rows = self._rows.select(end=self._rows[end], count=self._rows["count"])
            for batch in self._engine.iter_batches(count_expression(rows, ["end"])):
                for name, count in zip(
                    batch.column("end").to_pylist(), batch.column("count").to_pylist(), strict=True
                ):
                    if name:
                        total[name] = total.get(name, 0) + count
        return total

    def _count_left_out(self) -> dict[str, int]:
        """How many annotations are of excluded images, where there are such."""
        if self._left_out is None:
            return {}
        import ibis

        rows = self._left_out.select(group=ibis.literal(0), count=self._left_out["count"])
        batches = self._engine.iter_batches(count_expression(rows, ["group"]))
        return {EXCLUDED: sum(sum(batch.column("count").to_pylist()) for batch in batches)}

    def _of_classes(self, texts: Sequence[str]) -> Any:
        """The rows, with ends only where all are classes: fewer combinations to count, the same totals."""
        import ibis

        rows = self._rows
        ends = [rows[name] for name in ("subject", "object")[: 2 if self._kind == "relation" else 1]]
        missing, other = ends[0].isnull(), ~ends[0].isin(list(texts))
        for end in ends[1:]:
            missing, other = missing | end.isnull(), other | ~end.isin(list(texts))
        nothing = ibis.literal(None, type="string")
        kept = [ibis.ifelse(missing, nothing, ibis.ifelse(other, _OTHER, end)) for end in ends]
        return rows.mutate(**{end.get_name(): value for end, value in zip(ends, kept, strict=True)})

    def _folds_terms(self) -> bool:
        header = self._shards.header
        return header is None or header.term_key == "text"

    def _no_end(self) -> str:
        return "not exactly one synset" if self._ends == "synset" else "no name"


def texts_of_classes(table: ClassTable, ends: str | None) -> tuple[list[str], npt.NDArray[np.int32]]:
    """What the ends of each class say, and the class of each such text.

    Args:
        table: the classes.
        ends: what ends of triples are: "synset", "name" (folded) or "class"; anything else: a synset or name.

    Raises:
        InputError: two classes would be found by the same text.
    """
    pairs: dict[str, int] = {}
    for place, (name, synset) in enumerate(zip(table.names, table.synsets, strict=True)):
        by_ends = {"synset": [synset], "name": [fold_text(name)], "class": [name]}
        for text in filter(None, by_ends.get(ends or "", [synset, name])):
            if pairs.setdefault(text, place) != place:
                raise InputError(
                    f"class {name!r}: found by {text!r}, as class {table.names[pairs[text]]!r} is; "
                    "expected classes that the triples tell apart; rename one"
                )
    return list(pairs), np.array(list(pairs.values()), dtype=np.int32)


def _check_image_ids(table: Any, shards: Shards) -> None:
    kind = table["image_id"].type()
    if not kind.is_integer():
        raise InputError(
            f"{shards.files[0]}, column image_id: found {kind}; expected whole numbers with --exclude-images"
        )


def _rows(table: Any, shards: Shards, kind: str) -> Any:
    """Columns subject, term, object and count of the table of some shards; an empty end is none."""
    import ibis

    term = "predicate" if kind == "relation" else "attribute"
    columns = {"subject": table["subject"].cast("string").nullif(""), "term": table[term].cast("string")}
    if kind == "relation":
        columns["object"] = table["object"].cast("string").nullif("")
    one = ibis.literal(1, "int64")
    count = table["count"].cast("int64").coalesce(one) if "count" in shards.columns else one
    return table.select(**columns, count=count)


def _codes(column: Any, vocabulary: Vocabulary) -> npt.NDArray[np.int32]:
    """Numbers of texts in a vocabulary, each distinct text looked at once."""
    encoded = column.fill_null("").dictionary_encode()
    codes: npt.NDArray[np.int32] = vocabulary.codes(encoded.dictionary.to_pylist())
    return np.take(codes, np.asarray(encoded.indices))


def _reasons(batch: Any, term: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """0 where a row counts, else the first that applies: 1 no term, 2 no end, 3 not classes."""
    subject = batch.column("subject")
    other = np.asarray(subject.fill_null("?").to_numpy(zero_copy_only=False) == _OTHER)
    missing = np.asarray(subject.is_null().to_numpy(zero_copy_only=False))
    return np.select([term == 0, missing, other], [1, 2, 3], 0)


def _positions(column: Any, texts: Sequence[str], position: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.index_in(column, pa.array(texts, column.type)).fill_null(0)
    return np.take(position, np.asarray(found))


def _ranked(
    terms: Vocabulary,
    totals: npt.NDArray[np.int64],
    kept: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]],
) -> Evidence:
    """Evidence with the terms most frequent first, ties by name; rows that folding made equal added up."""
    names: Mapping[int, str] = {code: name or "" for code, name in enumerate(terms.names())}
    seen = [code for code in np.flatnonzero(totals).tolist() if code != 0]
    order = sorted(seen, key=lambda code: (-int(totals[code]), names[code]))
    rank = np.full(len(names), -1, dtype=np.int32)
    rank[order] = np.arange(len(order))
    index, count = (np.concatenate(columns) for columns in zip(*kept, strict=True))
    kept.clear()  # the one thing here that may be large: not held twice
    index[:, 1] = rank[index[:, 1]]
    rows = _ordered(index, count)
    return Evidence(tuple(names[code] for code in order), totals[order], *rows)


def _ordered(
    index: npt.NDArray[np.int32], count: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Rows in ascending order; those that folding made equal are added up, which is rare."""
    key = row_keys(list(index.T))
    order = np.argsort(key)
    if (np.diff(key[order]) > 0).all():
        return index[order], count[order]
    with closing(EvidenceCounter(index.shape[1])) as counter:
        return counter.count(index, count)
