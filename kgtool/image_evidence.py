"""How many annotations each image has behind it, in any source of a graph."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kgtool.annotation_counts import AnnotationCountDecoder
from kgtool.annotations import ReadOptions
from kgtool.byte_source import sha256_of
from kgtool.coco import load_dataset
from kgtool.decoding import DecoderSpec
from kgtool.errors import InputError
from kgtool.image_lists import VISUAL_GENOME, ImageList, dataset_of
from kgtool.json_stream import ColumnStream
from kgtool.triple_build import header_sources
from kgtool.triple_writing import TripleOptions, form_of, triple_source
from kgtool.triples import find_shards, is_parquet_place

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ImageEvidence:
    """Annotations by image of one source.

    Attributes:
        count_by_image: annotations of each image that has any; -1 is an unknown image.
        sha256: what names the source, or the files that it was made from, in a graph's header.
    """

    count_by_image: dict[int, int] = field(default_factory=dict)
    sha256: set[str] = field(default_factory=set)

    def add(self, image_N: Ids, count_N: Ids) -> None:
        """Add annotations: of which image (N,), and how many (N,)."""
        ids, place = np.unique(image_N, return_inverse=True)
        totals = np.bincount(place, weights=count_N, minlength=len(ids)).astype(np.int64)
        for image, count in zip(ids.tolist(), totals.tolist(), strict=True):
            if count:
                self.count_by_image[image] = self.count_by_image.get(image, 0) + count


def read_evidence(
    source: Path | str, kind: str, validation: ImageList, options: ReadOptions
) -> ImageEvidence:
    """Count the annotations of each image in whatever a build command takes.

    Args:
        source: annotations of Visual Genome, triples, or a COCO JSON, of which boxes count.
        kind: of triples: "relation" or "attribute".
        validation: a list that these images will be compared with.
        options: how it is read.

    Raises:
        InputError: the source is not what it should be, or the list has another data set's ids.
    """
    evidence = ImageEvidence()
    if is_parquet_place(source):
        _read_shards(str(source), kind, validation, evidence)
        return evidence
    form = form_of(source)
    if form == "visual genome":
        _read_visual_genome(source, validation, options, evidence)
    elif form == "COCO JSON":
        dataset = load_dataset(Path(source))
        validation.check_joins(dataset_of(dataset.images), str(source))
        rows = dataset.annotations
        evidence.add(rows.image_id_N, np.ones(len(rows), dtype=np.int64))
        evidence.sha256.add(sha256_of(source))
    else:
        tables = triple_source(source, TripleOptions(kind=kind), options)
        for table in tables:
            _add_table(table, str(source), evidence)
        evidence.sha256.update(str(found["sha256"]) for found in tables.sources)
    return evidence


def _read_visual_genome(
    source: Path | str, validation: ImageList, options: ReadOptions, evidence: ImageEvidence
) -> None:
    validation.check_joins(VISUAL_GENOME, str(source))
    stream = ColumnStream(
        source,
        DecoderSpec(AnnotationCountDecoder, {}),
        {},
        num_workers=options.num_workers,
        on_progress=options.on_progress,
    )
    num_known = 0
    for batch in stream:
        evidence.add(batch.columns["image"], batch.columns["annotations"])
        num_known += int(batch.columns["known"].sum())
    if stream.records and not num_known:
        raise InputError(f"{source}: found no relationships, attributes or objects; expected annotations")
    evidence.sha256.add(stream.sha256)


def _read_shards(place: str, kind: str, validation: ImageList, evidence: ImageEvidence) -> None:
    import pyarrow.dataset

    shards = find_shards(place, kind=kind)
    if shards.header is not None:
        validation.check_joins(shards.header.dataset, place)
    columns = [name for name in ("image_id", "count") if name in shards.columns]
    files = pyarrow.dataset.dataset(list(shards.files), filesystem=shards.filesystem, format="parquet")
    for batch in files.to_batches(columns=columns):
        _add_table(batch, place, evidence)
    for source in header_sources(place, shards):
        evidence.sha256.update(str(found["sha256"]) for found in (source, *source["made_from"]))


def _add_table(table: Any, place: str, evidence: ImageEvidence) -> None:
    """Add rows of triples, as a table or batch of Arrow; a row without an image is of no image."""
    if "image_id" not in table.schema.names:
        raise InputError(f"{place}: found no column image_id; expected it to tell images apart")
    image_N = whole_numbers(table, "image_id", -1, place)
    count_N = np.ones(len(image_N), dtype=np.int64)
    if "count" in table.schema.names:
        count_N = whole_numbers(table, "count", 1, place)
    evidence.add(image_N, count_N)


def whole_numbers(table: Any, name: str, if_null: int, place: str) -> Ids:
    """A column of whole numbers of a table or batch of Arrow.

    Args:
        table: what has the column.
        name: of the column.
        if_null: what stands for a missing value.
        place: begins the message.

    Raises:
        InputError: it has something else.
    """
    import pyarrow as pa

    column = table.column(name)
    try:
        if pa.types.is_integer(column.type) or pa.types.is_null(column.type):
            return np.asarray(column.cast("int64").fill_null(if_null))
    except pa.ArrowInvalid:  # beyond 64 bits with a sign
        pass
    raise InputError(f"{place}, column {name}: found {column.type}; expected whole numbers as int64")
