"""A class graph from the user's own boxes: which classes are together in a COCO file, and how.

Which pairs of boxes are related, by window and by geometry, is `kgtool.box_relations`: each image counts once
for a (subject class, predicate, object class). Those rows are counted as all triples are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kgtool.annotations import NOT_IN_LIST, ReadOptions
from kgtool.box_relations import PREDICATES, iter_relation_counts
from kgtool.build_result import Build, Output, check_first
from kgtool.byte_source import sha256_of
from kgtool.classes import ClassTable, check_some_known, most_frequent_classes
from kgtool.coco import Dataset, load_dataset
from kgtool.errors import InputError
from kgtool.ids import position_of
from kgtool.image_lists import EXCLUDED, ImageList, check_some_left, dataset_of
from kgtool.triple_build import build_from_shards, build_from_triples, temporary_shards
from kgtool.triple_writing import TripleOptions, form_of
from kgtool.triples import is_parquet_place

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class PairOptions:
    """Which pairs of boxes are related.

    Attributes:
        window: "image", "near" or "knn" (`kgtool.box_relations`).
        geometry: name relations by geometry instead of by window.
        num_neighbours: k of the window "knn".
    """

    window: str = "image"
    geometry: bool = False
    num_neighbours: int = 5


_DEFAULT_READ = ReadOptions()


def build_cooccurrence_graph(
    source: Path | str,
    *,
    classes: int | ClassTable | None = None,
    pairs: PairOptions | None = None,
    weight: str = "normalized",
    engine: str = "duckdb",
    options: ReadOptions = _DEFAULT_READ,
    output: Output | None = None,
) -> Build:
    """Build a graph of which classes are together in a COCO file, or of the ends of triples.

    Boxes of crowds, boxes of no width or height, and boxes of no class of the list are left out; the header's
    source says how many.

    Args:
        source: a COCO JSON with boxes; or triples, of which every row is a pair (`build_from_triples`).
        classes: a class list, matched by name and else by synset; or a number: so many of the classes with
            most boxes, ties by name. None: all categories of the file, in its order.
        pairs: which pairs of boxes count; by default all of an image. Triples are pairs already.
        weight: how counts become weights: "normalized", "npmi" or "conditional" (`kgtool.weights`).
        engine: what counts, as `kgtool.engines.open_engine` takes it.
        options: how triples are read.
        output: where to write the graph; None writes nothing.

    Raises:
        InputError: the source is not what it should be.
        ClassMatchError: it has none of the classes of the list.
        OutputExistsError: the output is there and is not to be overwritten.
    """
    check_first("cooccurrence", weight, output)
    recipe: dict[str, Any] = {"name": weight, "num_terms": 0}
    if is_parquet_place(source) or form_of(source) == "triples as text":
        if classes is None:
            raise InputError(f"{source}: found triples, which have no class list; give --classes")
        if pairs is not None:
            raise InputError(
                f"{source}: found triples; expected no --window or --geometry: those are of boxes"
            )
        return build_from_triples(
            "cooccurrence",
            source,
            classes=classes,
            recipe=recipe,
            triples=TripleOptions(),
            options=options,
            engine=engine,
            output=output,
        )
    pairs = pairs or PairOptions()
    recipe |= {"window": pairs.window, "geometry": pairs.geometry}
    if pairs.window == "knn":
        recipe["num_neighbours"] = pairs.num_neighbours
    boxes = load_boxes(Path(source), classes, options.excluded)
    with temporary_shards(_PairTriples(boxes, pairs)) as shards:
        return build_from_shards(
            "cooccurrence",
            shards,
            classes=boxes.table,
            recipe=recipe,
            sources=shards.sources,
            options=replace(options, excluded=None),  # their boxes are no more there
            engine=engine,
            output=output,
        )


@dataclass(frozen=True, eq=False)
class Boxes:
    """The boxes of classes, one row a box, and what was read.

    Attributes:
        table: the classes.
        image_N: image ids.
        class_N: positions in `table`.
        boxes_N4: xyxy px.
        source: the file, for a graph's header.
    """

    table: ClassTable
    image_N: npt.NDArray[np.int64]
    class_N: npt.NDArray[np.int64]
    boxes_N4: npt.NDArray[np.float64]
    source: dict[str, Any]


def load_boxes(path: Path, classes: int | ClassTable | None, excluded: ImageList | None) -> Boxes:
    """Read the boxes of classes from a COCO JSON.

    Args:
        path: the file.
        classes: as `build_cooccurrence_graph` takes them.
        excluded: images that are left out.

    Raises:
        InputError: the file is not what it should be, or all its boxes are in excluded images.
        ClassMatchError: it has none of the classes of the list.
    """
    dataset = load_dataset(path)
    rows = dataset.annotations
    source: dict[str, Any] = {"name": path.name, "sha256": sha256_of(path), "records": len(dataset.images)}
    skipped = {}
    num_boxes = len(rows)
    if excluded is not None:
        excluded.check_joins(dataset_of(dataset.images), path.name)
        rows = rows.take(~excluded.contains(rows.image_id_N))
        skipped[EXCLUDED] = num_boxes - len(rows)
        check_some_left(skipped[EXCLUDED], num_boxes, path.name)
        source["excluded_images"] = excluded.record()
    category_ids = np.array([category.id for category in dataset.categories], dtype=np.int64)
    category_N = position_of(category_ids, rows.category_id_N)
    crowd_N = rows.crowd_N != 0
    flat_N = (rows.boxes_xywh_N4[:, 2:] <= 0).any(axis=1)
    usable = ~crowd_N & ~flat_N
    if isinstance(classes, ClassTable):
        seen = [text for category in dataset.categories for text in (category.name, category.synset)]
        check_some_known(classes, seen, path.name)
    table = _choose_classes(dataset, np.bincount(category_N[usable], minlength=len(category_ids)), classes)
    class_N = _class_of_category(dataset, table)[category_N]
    kept = usable & (class_N >= 0)
    skipped |= {
        "crowd": int(crowd_N.sum()),
        "no width or height": int((flat_N & ~crowd_N).sum()),
        NOT_IN_LIST: int((usable & (class_N < 0)).sum()),
    }
    corner_N4 = np.concatenate(
        [rows.boxes_xywh_N4[:, :2], rows.boxes_xywh_N4[:, :2] + rows.boxes_xywh_N4[:, 2:]], 1
    )
    return Boxes(
        table,
        rows.image_id_N[kept],
        class_N[kept],
        corner_N4[kept].astype(np.float64),
        {**source, "boxes": num_boxes, "skipped_boxes": skipped},
    )


def _choose_classes(
    dataset: Dataset, boxes_C: npt.NDArray[np.int64], classes: int | ClassTable | None
) -> ClassTable:
    if isinstance(classes, ClassTable):
        return classes
    synset_by_name = {category.name: category.synset for category in dataset.categories}
    names = tuple(synset_by_name)
    if classes is not None:
        names = most_frequent_classes(classes, dict(zip(names, boxes_C.tolist(), strict=True))).names
    return ClassTable(names, tuple(synset_by_name[name] for name in names))


def _class_of_category(dataset: Dataset, table: ClassTable) -> npt.NDArray[np.int64]:
    """The class of each category: that of its name, else that of its synset; -1 for none."""
    by_synset = {synset: place for place, synset in enumerate(table.synsets) if synset}
    by_name = {name: place for place, name in enumerate(table.names)}
    places = [by_name.get(entry.name, by_synset.get(entry.synset, -1)) for entry in dataset.categories]
    return np.array(places, dtype=np.int64)


class _PairTriples:
    """Pairs of boxes as tables of triples with a `count`; ends are class names. Iterate once."""

    ends = "class"
    term_key = "text"
    dataset = "COCO JSON"

    def __init__(self, boxes: Boxes, pairs: PairOptions) -> None:
        self.sources = [boxes.source]
        self._boxes = boxes
        self._pairs = pairs

    def __iter__(self) -> Iterator["pa.Table"]:
        import pyarrow as pa

        names, predicates = pa.array(self._boxes.table.names), pa.array(PREDICATES)
        for rows in iter_relation_counts(
            self._boxes.image_N,
            self._boxes.class_N,
            self._boxes.boxes_N4,
            window=self._pairs.window,
            geometry=self._pairs.geometry,
            num_neighbours=self._pairs.num_neighbours,
        ):
            columns = {
                "subject": names.take(pa.array(rows.subject)).dictionary_encode(),
                "predicate": predicates.take(pa.array(rows.predicate)).dictionary_encode(),
                "object": names.take(pa.array(rows.object)).dictionary_encode(),
                "count": pa.array(rows.count),
            }
            yield pa.table(columns)
