"""The relations of a COCO JSON as triples: `rel_annotations` between annotations."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kgtool.byte_source import sha256_of
from kgtool.coco import Dataset, load_dataset
from kgtool.errors import InputError
from kgtool.ids import position_of
from kgtool.triples import COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa


class CocoTriples:
    """Relations of one COCO file as tables. Iterate once.

    Attributes:
        ends: "synset" where all categories have one, else "text": the categories' names as they are.
        term_key: "text".
        dataset: for a graph's header.
        sources: what was read, once all is.

    Args:
        path: the file.
        kind: "relation"; a COCO file has no attributes.
    """

    term_key = "text"
    dataset = "COCO JSON"

    def __init__(self, path: Path, *, kind: str) -> None:
        if kind != "relation":
            raise InputError(f"{path}: found COCO JSON; expected attributes; a COCO file has none")
        self.ends = "text"
        self.sources: list[dict[str, Any]] = []
        self._path = path

    def __iter__(self) -> Iterator["pa.Table"]:
        """Give out one table of `image_id`, `subject`, `predicate` and `object`.

        Raises:
            InputError: the file is not COCO JSON, or has no relations.
        """
        import pyarrow as pa

        dataset = load_dataset(self._path)
        relations = dataset.relations
        if relations is None:
            raise InputError(
                f"{self._path}: found COCO JSON without rel_annotations; expected relations between boxes; "
                "for a graph from boxes alone use kgtool build-cooccurrence"
            )
        if all(category.synset for category in dataset.categories):
            self.ends = "synset"
        predicates = pa.array([category.name or None for category in dataset.rel_categories], pa.string())
        ids = np.array([category.id for category in dataset.rel_categories], dtype=np.int64)
        predicate = predicates.take(pa.array(position_of(ids, relations.predicate_id_N)))
        columns = [
            relations.image_id_N,
            _classes(dataset, relations.subject_id_N, self.ends),
            predicate.dictionary_encode(),
            _classes(dataset, relations.object_id_N, self.ends),
        ]
        yield pa.table(columns, names=["image_id", *COLUMNS["relation"]])
        source = {"name": self._path.name, "sha256": sha256_of(self._path), "records": len(dataset.images)}
        self.sources = [source]


def _classes(dataset: Dataset, annotation_ids: np.ndarray, ends: str) -> "pa.DictionaryArray":
    """The class of each annotation, as a dictionary-encoded string."""
    import pyarrow as pa

    texts = [category.synset if ends == "synset" else category.name for category in dataset.categories]
    category_ids = np.array([category.id for category in dataset.categories], dtype=np.int64)
    rows = dataset.annotations
    category = rows.category_id_N[position_of(rows.id_N, annotation_ids)]
    return (
        pa.array(texts, pa.string()).take(pa.array(position_of(category_ids, category))).dictionary_encode()
    )
