"""Visual Genome as a detection data set: class list, train and test sets as COCO JSON.

    objects.json       {"image_id": 1, "objects": [{"object_id": 1058498, "synsets": ["clock.n.01"],
                        "names": ["clock"], "x": 421, "y": 91, "w": 79, "h": 339, "merged_object_ids": []}]}
    image_data.json    {"image_id": 1, "url": ".../VG_100K_2/1.jpg", "width": 800, "height": 600,
                        "coco_id": null, "flickr_id": null}

The boxes follow the rules of `kgtool.object_boxes`, the relations those of `kgtool.object_relations`, the
sets those of `kgtool.splits`.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from kgtool.annotations import ReadOptions
from kgtool.classes import ClassTable, most_frequent_classes, resolve_names
from kgtool.coco import Dataset, Image, RelationCategory, Relations, file_name_of_url
from kgtool.column_buffer import ColumnBuffer
from kgtool.dataset_folders import write_dataset
from kgtool.decoding import DecoderSpec
from kgtool.errors import InputError
from kgtool.files import atomic_folder
from kgtool.json_stream import ColumnStream, Vocabulary
from kgtool.object_boxes import (
    NO_AREA,
    NO_IMAGE,
    REASONS,
    TWICE,
    Boxes,
    ObjectRows,
    boxes_of_classes,
    categories_of,
    count_synsets,
)
from kgtool.object_relations import RelationRows, relations_of_boxes
from kgtool.splits import SPLIT_FILES, ImageChoice, save_split, split_by_lists, split_by_seed
from kgtool.visual_genome import ImageDecoder, ObjectDecoder, RelationDecoder, fold_text, only_synset

#: What `strict` makes an error of; the other reasons are what the selection is about.
DIRT = (NO_IMAGE, NO_AREA, TWICE)


BY_SEED = ImageChoice()
DEFAULTS = ReadOptions()


def split_visual_genome(
    objects: Path,
    image_data: Path,
    out: Path,
    *,
    classes: int | ClassTable,
    relationships: Path | None = None,
    choice: ImageChoice = BY_SEED,
    options: ReadOptions = DEFAULTS,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the folder `out` with train.json, test.json, classes.csv and report.json.

    Args:
        objects: objects.json of Visual Genome 1.2 or 1.4 (1.0 has no synsets).
        image_data: image_data.json.
        out: a folder that does not exist, or is empty.
        classes: the number of the most frequent synsets, by objects with exactly one, or a class list.
        relationships: relationships.json; its relationships become `rel_annotations`.
        choice: which images go where.
        options: how the files are read; strict makes the first unknown image, box without area or repeated
            object an error.
        overwrite: replace the folder if it is there.

    Returns:
        The report, as in report.json: what was read, kept, and left out for which reason.

    Raises:
        OutputExistsError: `out` is there, is not empty, and `overwrite` is false.
        KgtoolError: the folder to write into does not exist.
        InputError: an input that cannot be read or used, or dirt where `options` are strict.
    """
    with atomic_folder(out, SPLIT_FILES, overwrite=overwrite) as part:
        dataset, report = _read_dataset(objects, image_data, classes, relationships, options)
        if choice.train_list or choice.test_list:
            split = split_by_lists(dataset, train_list=choice.train_list, test_list=choice.test_list)
            lists = {"train_list": choice.train_list, "test_list": choice.test_list}
            report["choice"] = {name: path.name for name, path in lists.items() if path}
        else:
            split = split_by_seed(dataset, num_test=choice.num_test, seed=choice.seed)
            report["choice"] = {"seed": choice.seed}
        report["images"] = {"read": len(dataset.images), "skipped": split.images_dropped}
        for name, made in (("train", split.train), ("test", split.test)):
            report[name] = {"images": len(made.images), "boxes": len(made.annotations)}
            if made.relations is not None:
                report[name]["relations"] = len(made.relations)
        report["messages"] += split.messages
        save_split(split, part, report)
    return report


def convert_visual_genome(
    objects: Path,
    image_data: Path,
    out: Path,
    *,
    classes: int | ClassTable | None = None,
    relationships: Path | None = None,
    options: ReadOptions = DEFAULTS,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write all images, with a box or without, as one COCO JSON.

    Args:
        objects: objects.json of Visual Genome 1.2 or 1.4.
        image_data: image_data.json.
        out: a .json file; or a folder, which gets instances.json and report.json.
        classes: as of `split_visual_genome`; None: every synset, the most frequent first.
        relationships: as of `split_visual_genome`.
        options: as of `split_visual_genome`.
        overwrite: replace the output if it is there.

    Returns:
        The report, as in report.json.

    Raises:
        OutputExistsError: `out` is there and `overwrite` is false.
        KgtoolError: the folder to write into does not exist.
        InputError: as of `split_visual_genome`.
    """

    def make() -> tuple[Dataset, tuple[dict[str, Any], str]]:
        dataset, report = _read_dataset(objects, image_data, classes, relationships, options)
        with_box = len(np.unique(dataset.annotations.image_id_N))
        report["images"] = {"written": len(dataset.images), "without a box": len(dataset.images) - with_box}
        return dataset, (report, "")

    return write_dataset(out, make, overwrite=overwrite)


def _read_dataset(
    objects: Path,
    image_data: Path,
    classes: int | ClassTable | None,
    relationships: Path | None,
    options: ReadOptions,
) -> tuple[Dataset, dict[str, Any]]:
    """All images and the boxes of the classes, and what became of what was read."""
    with ThreadPoolExecutor(max_workers=1) as beside:  # objects are decoded by other processes meanwhile
        images_read = beside.submit(read_images, image_data)
        rows, object_source = read_objects(objects, options, with_merged=relationships is not None)
        images, image_source = images_read.result()
    counts = count_synsets(rows)
    if not any(counts.values()):
        raise InputError(
            f"{objects}: found no object with a synset; expected objects.json of release 1.2 or 1.4 "
            "(release 1.0 has names only)"
        )
    if classes is None:
        classes = sum(map(bool, counts.values()))
    table = most_frequent_classes(classes, counts) if isinstance(classes, int) else classes
    table, messages = resolve_names(table, counts)
    boxes = boxes_of_classes(rows, images, table)
    if options.strict:
        _check_clean(rows, boxes, objects)
    report: dict[str, Any] = {
        "dataset": "visual_genome",
        "num_classes": len(table),
        "sources": [object_source, image_source],
        "messages": messages,
        "objects": _account(boxes),
    }
    predicates: tuple[RelationCategory, ...] = ()
    relations: Relations | None = None
    if relationships:
        mentions, relation_source = read_relations(relationships, options)
        predicates, relations, skipped = relations_of_boxes(mentions, rows, boxes, images)
        report["sources"].append(relation_source)
        report["relations"] = {"read": len(mentions.predicate_L), "kept": len(relations), "skipped": skipped}
    return Dataset(images, categories_of(table), boxes.annotations, predicates, relations), report


def _stream(
    path: Path, spec: DecoderSpec, vocabularies: dict[str, Vocabulary], options: ReadOptions
) -> ColumnStream:
    return ColumnStream(
        path,
        spec,
        vocabularies,
        num_workers=options.num_workers,
        on_progress=options.on_progress,
    )


def _source(stream: ColumnStream) -> dict[str, Any]:
    """What a report says of an input that was read to its end."""
    return {"name": stream.name, "sha256": stream.sha256, "records": stream.records}


def read_images(path: Path) -> tuple[tuple[Image, ...], dict[str, Any]]:
    """Read image_data.json: the images in ascending order of their ids, and what the file was.

    The file name of an image is the last two parts of its url ("VG_100K_2/1.jpg"), or its id and ".jpg".

    Raises:
        InputError: the file cannot be read, a record lacks its id, width or height, or two records of one
            image disagree.
    """
    urls = Vocabulary(lambda url: url)
    stream = ColumnStream(path, DecoderSpec(ImageDecoder, {}), {"urls": urls})
    batches = [batch.columns for batch in stream]
    columns = {
        name: np.concatenate([batch[name] for batch in batches]) if batches else np.empty(0, dtype=np.int64)
        for name in ("image", "width", "height", "coco_id", "url")
    }
    broken = np.flatnonzero((columns["image"] < 0) | (columns["width"] < 1) | (columns["height"] < 1))
    if len(broken):
        raise InputError(
            f"{path}, record {broken[0]}: found no image_id, width and height; expected image_data.json"
        )
    file_names = [file_name_of_url(url or "") for url in urls.names()]
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    images = [
        Image(
            image_id, file_names[url] or f"{image_id}.jpg", width, height, coco_id if coco_id >= 0 else None
        )
        for image_id, width, height, coco_id, url in rows
    ]
    image_by_id = {image.id: image for image in images}
    if len(image_by_id) < len(images):
        for record, image in enumerate(images):
            if image != image_by_id[image.id]:
                raise InputError(
                    f"{path}, record {record}: found image {image.id}, which another record has with other "
                    "values; expected it once"
                )
    return tuple(image_by_id[image_id] for image_id in sorted(image_by_id)), _source(stream)


def read_objects(path: Path, options: ReadOptions, *, with_merged: bool) -> tuple[ObjectRows, dict[str, Any]]:
    """Read objects.json into columns, and what the file was.

    Args:
        path: objects.json.
        options: how it is read.
        with_merged: whether to read which objects were merged into others; only relationships need it.

    Raises:
        InputError: the file cannot be read, or is not what objects.json should be.
    """
    synsets = Vocabulary(only_synset, first=("", None))
    spec = DecoderSpec(ObjectDecoder, {"with_boxes": True, "with_merged": with_merged})
    buffer = ColumnBuffer(
        image=np.int64,
        object_id=np.int64,
        synset=np.int32,
        box=np.int32,
        merged_row=np.int64,
        merged_id=np.int64,
    )
    num_rows = 0
    stream = _stream(path, spec, {"synsets": synsets}, options)
    for batch in stream:
        columns = batch.columns
        buffer.append("image", np.repeat(columns["image"], columns["rows"]))
        buffer.append("object_id", columns["object_id"])
        buffer.append("synset", columns["synset"])
        buffer.append("box", _boxes(*(columns[name] for name in "xywh")))
        if with_merged:
            owners = np.flatnonzero(columns["merged"])
            buffer.append("merged_row", np.repeat(owners + num_rows, columns["merged"][owners]))
            buffer.append("merged_id", columns["merged_id"])
        num_rows += len(columns["synset"])
    rows = ObjectRows(
        image_id_N=buffer.column("image"),
        object_id_N=buffer.column("object_id"),
        synset_N=buffer.column("synset"),
        boxes_xywh_N4=buffer.column("box").reshape(-1, 4),
        synsets=tuple(synsets.names()),
        merged_row_M=buffer.column("merged_row"),
        merged_id_M=buffer.column("merged_id"),
    )
    return rows, _source(stream)


def _boxes(*columns: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) of columns in which NaN means unknown: int32 where all numbers are whole and fit."""
    boxes = np.stack(columns, axis=1)
    boxes[np.isnan(boxes).any(axis=1)] = 0
    whole = (np.abs(boxes) < 2**30).all() and (boxes == np.trunc(boxes)).all()
    return boxes.astype(np.int32) if whole else boxes


def read_relations(path: Path, options: ReadOptions) -> tuple[RelationRows, dict[str, Any]]:
    """Read relationships.json into columns, and what the file was.

    Raises:
        InputError: the file cannot be read, or is not what relationships.json should be.
    """
    predicates = Vocabulary(fold_text)
    spec = DecoderSpec(RelationDecoder, {"with_ids": True})
    vocabularies = {"synsets": Vocabulary(only_synset), "terms": predicates}
    buffer = ColumnBuffer(image=np.int64, subject_id=np.int64, term=np.int32, object_id=np.int64)
    stream = _stream(path, spec, vocabularies, options)
    for batch in stream:
        buffer.append("image", np.repeat(batch.columns["image"], batch.columns["rows"]))
        for name in ("subject_id", "term", "object_id"):
            buffer.append(name, batch.columns[name])
    rows = RelationRows(
        image_id_L=buffer.column("image"),
        subject_id_L=buffer.column("subject_id"),
        predicate_L=buffer.column("term"),
        object_id_L=buffer.column("object_id"),
        predicates=tuple(name or "" for name in predicates.names()),
    )
    return rows, _source(stream)


def _check_clean(rows: ObjectRows, boxes: Boxes, path: Path) -> None:
    dirty = np.flatnonzero(np.isin(boxes.status_N, DIRT))
    if len(dirty):
        image_id, object_id = rows.image_id_N[dirty[0]], rows.object_id_N[dirty[0]]
        raise InputError(
            f"{path}, image {image_id}, object {object_id}: {REASONS[int(boxes.status_N[dirty[0]])]} "
            f"({len(dirty)} such objects); correct or remove them, or leave out --strict"
        )


def _account(boxes: Boxes) -> dict[str, Any]:
    """What became of every object: `read` is `kept` and all that were `skipped`."""
    counts = np.bincount(boxes.status_N, minlength=len(REASONS) + 1).tolist()
    return {
        "read": len(boxes.status_N),
        "kept": counts[0],
        "clipped": boxes.num_clipped,
        "equal_boxes": boxes.num_equal,
        "skipped": {reason: counts[status] for status, reason in REASONS.items() if counts[status]},
    }
