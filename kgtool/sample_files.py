"""The sample world as files: pictures, COCO JSON, and Visual-Genome-shaped JSON of a corpus without pictures.

    DIR/train.json  DIR/test.json          COCO JSON with synsets, counts and relations (kgtool/coco.py)
    DIR/images/train_000000.jpg ...
    DIR/vg/relationships.json  attributes.json  objects.json  image_data.json

The corpus is drawn from streams of random numbers of its own and has no pictures, so `image_data.json` has
no addresses. Records are laid out as in Visual Genome 1.2 and 1.4, one image a line; an object without
attributes has no `attributes` key, as there.

Pictures are JPEG of quality 85: 7 KB each, against 12 KB at quality 95 and 40 KB as PNG, which spend the
difference on keeping the pixel noise.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from kgtool.coco import Annotations as BoxColumns
from kgtool.coco import Category, Dataset, Image, RelationCategory, Relations, save_dataset
from kgtool.errors import InputError
from kgtool.files import atomic_folder
from kgtool.sample_images import IMAGE_SIZE
from kgtool.sample_world import SPLITS, Annotations, World
from kgtool.splits import frequency

JPEG_QUALITY = 85
VG_FILES = ("relationships", "attributes", "objects", "image_data")
#: Image ids of the splits never meet: each has a million of its own.
IDS_PER_SPLIT = 1_000_000


@dataclass(frozen=True)
class SampleSummary:
    """What `save_sample` wrote; instances are boxes of a class in train: fewest, median, most."""

    family: str
    seed: int
    classes: int
    train_images: int
    test_images: int
    corpus_images: int
    instances_min: int
    instances_median: float
    instances_max: int


def save_sample(
    world: World,
    out: Path,
    *,
    train_images: int,
    test_images: int,
    corpus_images: int,
    overwrite: bool = False,
) -> SampleSummary:
    """Write a sample of a world; the folder appears complete or not at all.

    Args:
        world: where the pictures come from.
        out: the folder to write.
        train_images: pictures with annotations, 1 to 1,000,000.
        test_images: the same, drawn from another stream.
        corpus_images: annotations without pictures, from a third stream.
        overwrite: replace `out` when it is an earlier sample.

    Raises:
        InputError: a number out of range.
        OutputExistsError: `out` is there and `overwrite` is false, or it holds other things than a sample.
        KgtoolError: the folder to write into does not exist.
    """
    sizes = {"train": train_images, "test": test_images, "corpus": corpus_images}
    for split, size in sizes.items():
        if not 1 <= size <= IDS_PER_SPLIT:
            raise InputError(f"{split} images: found {size}; expected 1 to {IDS_PER_SPLIT}")
    with atomic_folder(out, ("train.json", "test.json", "images", "vg"), overwrite=overwrite) as part:
        (part / "images").mkdir()
        train = _save_pictures(world, "train", train_images, part / "images")
        test = _save_pictures(world, "test", test_images, part / "images")
        categories = _categories(world, train)
        save_dataset(_dataset(world, "train", train, categories), part / "train.json")
        save_dataset(_dataset(world, "test", test, categories), part / "test.json")
        _save_corpus(world, corpus_images, part / "vg")
    instances = np.array([category.instance_count for category in categories])
    return SampleSummary(
        family=world.family.name,
        seed=world.seed,
        classes=len(world.names),
        train_images=train_images,
        test_images=test_images,
        corpus_images=corpus_images,
        instances_min=int(instances.min()),
        instances_median=float(np.median(instances)),
        instances_max=int(instances.max()),
    )


def _image_id(split: str, index: int) -> int:
    return (SPLITS[split] - 1) * IDS_PER_SPLIT + index + 1


def _file_name(split: str, index: int) -> str:
    return f"{split}_{index:06d}.jpg"


def _save_pictures(world: World, split: str, num_images: int, folder: Path) -> list[Annotations]:
    from PIL import Image as Picture

    said = []
    for index in range(num_images):
        scene = world.scene(split, index)
        path = folder / _file_name(split, index)
        Picture.fromarray(scene.image).save(path, quality=JPEG_QUALITY, optimize=True)
        said.append(scene.annotations)
    return said


def _categories(world: World, train: list[Annotations]) -> tuple[Category, ...]:
    num_classes = len(world.names)
    images = np.bincount(np.concatenate([np.unique(said.labels) for said in train]), minlength=num_classes)
    instances = np.bincount(np.concatenate([said.labels for said in train]), minlength=num_classes)
    return tuple(
        Category(
            id=label + 1,
            name=world.names[label],
            synset=world.synsets[label],
            frequency=frequency(int(images[label])),
            image_count=int(images[label]),
            instance_count=int(instances[label]),
        )
        for label in range(num_classes)
    )


def _dataset(
    world: World, split: str, pictures: list[Annotations], categories: tuple[Category, ...]
) -> Dataset:
    """Put the annotations of a split, one picture after the other, into COCO's columns."""
    boxes = np.concatenate([said.boxes for said in pictures])
    boxes_xywh = np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    image_ids = np.array([_image_id(split, index) for index in range(len(pictures))])
    num_boxes = np.array([len(said.boxes) for said in pictures])
    first_id = np.cumsum(num_boxes) - num_boxes + 1
    relations = np.concatenate(
        [said.relations + np.array([first, 1, first]) for said, first in zip(pictures, first_id, strict=True)]
    )
    num_relations = [len(said.relations) for said in pictures]
    return Dataset(
        images=tuple(
            Image(id=int(image_id), file_name=_file_name(split, index), width=IMAGE_SIZE, height=IMAGE_SIZE)
            for index, image_id in enumerate(image_ids)
        ),
        categories=categories,
        annotations=BoxColumns(
            id_N=np.arange(1, len(boxes) + 1),
            image_id_N=np.repeat(image_ids, num_boxes),
            category_id_N=np.concatenate([said.labels for said in pictures]) + 1,
            boxes_xywh_N4=boxes_xywh,
            area_N=boxes_xywh[:, 2] * boxes_xywh[:, 3],
            crowd_N=np.zeros(len(boxes), dtype=np.int64),
        ),
        rel_categories=tuple(
            RelationCategory(number, name) for number, name in enumerate(world.predicates, start=1)
        ),
        relations=Relations(
            id_N=np.arange(1, len(relations) + 1),
            image_id_N=np.repeat(image_ids, num_relations),
            subject_id_N=relations[:, 0],
            predicate_id_N=relations[:, 1],
            object_id_N=relations[:, 2],
        ),
    )


def _save_corpus(world: World, num_images: int, folder: Path) -> None:
    """Write the four Visual Genome files side by side, one image at a time."""
    folder.mkdir()
    encode = msgspec.json.Encoder().encode
    with ExitStack() as stack:
        files = [stack.enter_context((folder / f"{name}.json").open("wb")) for name in VG_FILES]
        for index, records in enumerate(_iter_corpus(world, num_images)):
            for name, file in zip(VG_FILES, files, strict=True):
                file.write((b",\n" if index else b"[\n") + encode(records[name]))
        for file in files:
            file.write(b"\n]\n")


def _iter_corpus(world: World, num_images: int) -> Iterator[dict[str, dict[str, object]]]:
    """Yield, image by image, its record of each of the `VG_FILES`."""
    num_objects = num_relations = 0
    predicates = tuple(world.predicates.items())
    for index in range(num_images):
        said = world.annotations("corpus", index)
        image_id = _image_id("corpus", index)
        objects = _objects(world, said, num_objects + 1)
        relationships = [
            {
                "relationship_id": number,
                "predicate": predicates[predicate][0],
                "synsets": predicates[predicate][1],
                "subject": _end(objects[subject]),
                "object": _end(objects[other]),
            }
            for number, (subject, predicate, other) in enumerate(said.relations.tolist(), num_relations + 1)
        ]
        described = [
            entry | ({"attributes": words} if words else {})
            for entry, words in zip(objects, said.attributes, strict=True)
        ]
        yield {
            "relationships": {"image_id": image_id, "relationships": relationships},
            "attributes": {"image_id": image_id, "attributes": described},
            "objects": {"image_id": image_id, "objects": objects},
            "image_data": {
                "image_id": image_id,
                "url": None,
                "width": IMAGE_SIZE,
                "height": IMAGE_SIZE,
                "coco_id": None,
                "flickr_id": None,
            },
        }
        num_objects += len(objects)
        num_relations += len(relationships)


def _objects(world: World, said: Annotations, first_id: int) -> list[dict[str, object]]:
    return [
        {
            "object_id": first_id + number,
            "names": [world.names[label]],
            "synsets": [world.synsets[label]],
            "x": left,
            "y": top,
            "w": right - left,
            "h": bottom - top,
        }
        for number, (label, (left, top, right, bottom)) in enumerate(
            zip(said.labels.tolist(), said.boxes.tolist(), strict=True)
        )
    ]


def _end(entry: dict[str, object]) -> dict[str, object]:
    """An object as the subject or the object of a relation: `name`, where the object list has `names`."""
    names = entry["names"]
    assert isinstance(names, list)
    return {"name": names[0]} | {key: value for key, value in entry.items() if key != "names"}
