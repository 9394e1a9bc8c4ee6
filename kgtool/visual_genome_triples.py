"""Annotations of Visual Genome as triples: one row each, nothing dropped."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kgtool.annotations import ReadOptions, attribute_rows, relation_rows
from kgtool.decoding import DecoderSpec
from kgtool.json_stream import ColumnStream, Vocabulary
from kgtool.object_synsets import read_object_synsets
from kgtool.triples import COLUMNS
from kgtool.visual_genome import (
    AttributeDecoder,
    EndKey,
    RelationDecoder,
    TermKey,
    first_synset,
    fold_text,
    only_synset,
)

if TYPE_CHECKING:
    import pyarrow as pa


class VisualGenomeTriples:
    """Rows of relationships.json or attributes.json as tables. Iterate once.

    Attributes:
        ends: what ends are: "synset" or "name".
        term_key: what terms are: "text" or "synset".
        dataset: for a graph's header.
        sources: what was read, once all is.

    Args:
        path: the file, as `ColumnStream` takes it.
        kind: "relation" or "attribute".
        ends: an end is its one synset, else null; or its folded name.
        term_key: a predicate is its folded text, or its first synset.
        objects: objects.json, which gives a synset to ends without one.
        options: how files are read.
    """

    dataset = "Visual Genome"

    def __init__(
        self,
        path: Path | str,
        *,
        kind: str,
        ends: EndKey,
        term_key: TermKey,
        objects: Path | str | None,
        options: ReadOptions,
    ) -> None:
        self.ends = ends
        self.term_key = term_key
        self.sources: list[dict[str, Any]] = []
        self._path = path
        self._kind = kind
        self._objects = objects
        self._options = options

    def __iter__(self) -> Iterator["pa.Table"]:
        """Give out tables of `image_id` and the columns of the kind, strings dictionary-encoded.

        Raises:
            InputError: an input is not what it should be.
        """
        import pyarrow as pa

        workers, progress = self._options.num_workers, self._options.on_progress
        ends = Vocabulary(only_synset, first=("", None))
        terms = Vocabulary(first_synset if self.term_key == "synset" else fold_text, first=("",))
        known = None
        if self._objects is not None:
            known = read_object_synsets(
                self._objects,
                ends,
                num_workers=workers,
                on_progress=progress,
                excluded=self._options.excluded,
            )
        stream = ColumnStream(
            self._path,
            self._decoder(),
            {"synsets": ends, "terms": terms},
            num_workers=workers,
            on_progress=progress,
        )
        rows_of = relation_rows if self._kind == "relation" else attribute_rows
        texts = _Texts(ends), _Texts(terms), _Texts(ends)
        for batch in stream:
            columns, rows_before = rows_of(batch, known)
            image = np.repeat(batch.columns["image"], np.ediff1d(rows_before, to_begin=rows_before[:1]))
            arrays = [column.array(codes) for column, codes in zip(texts, columns, strict=False)]
            yield pa.table(
                [pa.array(image, mask=image < 0), *arrays], names=["image_id", *COLUMNS[self._kind]]
            )
        source = {"name": stream.name, "sha256": stream.sha256, "records": stream.records}
        self.sources = [source, *([known.source] if known else [])]

    def _decoder(self) -> DecoderSpec:
        options: dict[str, Any] = {"with_ids": True, "end_key": self.ends}
        if self._kind == "attribute":
            return DecoderSpec(AttributeDecoder, options)
        return DecoderSpec(RelationDecoder, {**options, "term_key": self.term_key})


class _Texts:
    """The names of a vocabulary as Arrow, kept while it grows."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._names: list[str | None] = []

    def array(self, codes: npt.NDArray[np.int32]) -> "pa.DictionaryArray":
        """Codes as dictionary-encoded strings; null where there is none, or several."""
        import pyarrow as pa

        if len(self._names) < len(self._vocabulary):
            self._names = [name or None for name in self._vocabulary.names()]
        used, place = np.unique(codes, return_inverse=True)
        names = pa.array([self._names[code] for code in used.tolist()], pa.string())
        return names.take(pa.array(place.astype(np.int32))).dictionary_encode()
