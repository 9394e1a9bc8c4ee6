"""What every data set promises, held to each function of kgtool.datasets that writes one.

A new data set needs an entry in EXAMPLES, and no new test for any of this.
"""

import inspect
import json
import pkgutil
import random
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import ade_examples as ade
import dirty_visual_genome as dirty
import pytest
import voc_examples as voc
from pycocotools.coco import COCO

from kgtool import datasets
from kgtool.annotations import ReadOptions
from kgtool.datasets.ade import BoxOptions, boxes_of_ade, split_ade
from kgtool.datasets.coco import split_coco
from kgtool.datasets.visual_genome import convert_visual_genome, split_visual_genome
from kgtool.datasets.voc import VocOptions, convert_voc, split_voc
from kgtool.errors import InputError, OutputExistsError
from kgtool.splits import ImageChoice
from kgtool.validation.coco_file import validate_file
from kgtool.wordnet import load_nouns

REAL = Path(__file__).parents[2] / "../shared/real_data"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="the real samples are not here")

Record = dict[str, Any]
#: Writes the input below a folder, with dirt, the same for a seed but for the order in which it is written.
Make = Callable[[Path, int, bool], None]
#: From the folder of the input to the output; overwrite, number of processes.
Run = Callable[..., Any]


# Input


def make_visual_genome(folder: Path, seed: int, backwards: bool) -> None:
    stream = random.Random(seed)
    objects = dirty.objects(seed)
    for record in objects:
        for place, thing in enumerate(record["objects"] or []):
            if thing:
                thing |= {
                    "object_id": 1000 * record["image_id"] + place,
                    "x": stream.randint(-9, 90),
                    "h": stream.randint(0, 40),
                }
    images = [
        {"image_id": n, "width": 80, "height": 60, "url": f"https://x/VG_100K/{n}.jpg", "coco_id": None}
        for n in range(1, 28)
    ]
    relationships = dirty.relationships(seed)
    for name, records in (("objects", objects), ("image_data", images), ("relationships", relationships)):
        ordered = records[::-1] if backwards else records
        text = json.dumps(ordered).replace("couch.n.01", "sofa.n.01")  # WordNet's name for it
        (folder / f"{name}.json").write_text(text)


def make_coco(folder: Path, seed: int, backwards: bool) -> None:
    """Two files; the boxes of a published file are taken as they are, so these have none that is wrong."""
    stream = random.Random(seed)
    categories = [{"id": n * 3, "name": name} for n, name in enumerate(("dog", "cat", "mouse"), start=1)]
    for number, name in enumerate(("train", "val")):
        images = [
            {"id": 100 * number + n, "file_name": f"{name}/{n}.jpg", "width": 64, "height": 48}
            for n in range(1, 9)
        ]
        boxes = []
        for row in range(20):
            x, y = stream.uniform(0, 50), stream.randint(0, 40)
            box = [x, y, stream.uniform(1, 64 - x), stream.randint(1, 48 - y)]
            boxes.append(
                {"id": 1000 * number + row + 1, "image_id": 100 * number + stream.randint(1, 8), "bbox": box}
            )
            boxes[-1] |= {
                "category_id": 3 * stream.randint(1, 3),
                "area": 5.5,
                "iscrowd": 0,
                "segmentation": [[1, 1, 9, 1, 9, 9]],
            }
        document = {"images": images, "annotations": boxes, "categories": categories}
        (folder / f"{name}.json").write_text(json.dumps(document))


def make_voc(folder: Path, seed: int, backwards: bool) -> None:
    stream = random.Random(seed)
    images = []
    for number in range(1, 13):
        things = [
            voc.thing(
                stream.choice(("dog", "cat", "person", "yak", "")),
                stream.randint(-3, 30),
                stream.choice((stream.randint(-3, 20), "", 4.25)),
                stream.randint(25, 70),
                stream.uniform(10, 50),
                difficult=stream.randint(0, 1),
            )
            for _ in range(stream.randint(0, 5))
        ]
        images.append(
            ((f"VOC{2007 if number < 9 else 2012}", f"{number:06}"), [voc.thing("dog", 1, 1, 9, 9), *things])
        )
    for (year, name), things in images[::-1] if backwards else images:
        voc.write_image(folder / year, name, things, photo=None if name == "000003" else voc.SIZE)
    voc.write_list(folder / "VOC2007", "trainval", [f"{n:06}" for n in range(1, 5)])
    voc.write_list(folder / "VOC2007", "test", [f"{n:06}" for n in range(5, 9)])
    voc.write_list(folder / "VOC2012", "trainval", [f"{n:06}" for n in range(9, 13)])


def make_ade(folder: Path, seed: int, backwards: bool) -> None:
    stream = random.Random(seed)
    images = []
    for number in range(8):
        things = [
            ade.Thing(
                stream.choice(ade.NAMES[1:]),
                (stream.randint(0, 20), stream.randint(0, 15), *(stream.randint(1, 9) for _ in "wh")),
            )
            for _ in range(stream.randint(1, 6))
        ]
        images.append((("training", "validation")[number % 2], f"{number:08}", things))
    for part, name, things in images[::-1] if backwards else images:
        ade.save_2016(folder / part, f"ADE_{name}", things)
        if name.endswith("5"):  # fewer lines than instances
            text = folder / part / f"ADE_{name}_atr.txt"
            text.write_text("\n".join(text.read_text().splitlines()[:1]))


def make_ade_boxes(folder: Path, seed: int, backwards: bool) -> None:
    make_ade(folder / "in", seed, backwards)
    boxes_of_ade(folder / "in", folder / "out")


#: For each function that writes a data set: its input, and how it is called.
EXAMPLES: dict[str, tuple[Make, Run]] = {
    "ade.boxes_of_ade": (
        make_ade,
        lambda folder, out, workers, **more: boxes_of_ade(
            folder, out, options=BoxOptions(with_parts=True), num_workers=workers, **more
        ),
    ),
    "ade.split_ade": (
        make_ade_boxes,
        lambda folder, out, workers, **more: split_ade(
            folder / "out/instances.json", out, choice=ImageChoice(num_test=2), **more
        ),
    ),
    "coco.split_coco": (
        make_coco,
        lambda folder, out, workers, **more: split_coco(
            [folder / "train.json", folder / "val.json"], out, **more
        ),
    ),
    "visual_genome.convert_visual_genome": (
        make_visual_genome,
        lambda folder, out, workers, **more: convert_visual_genome(
            folder / "objects.json",
            folder / "image_data.json",
            out,
            options=ReadOptions(num_workers=workers),
            **more,
        ),
    ),
    "visual_genome.split_visual_genome": (
        make_visual_genome,
        lambda folder, out, workers, **more: split_visual_genome(
            folder / "objects.json",
            folder / "image_data.json",
            out,
            classes=5,
            relationships=folder / "relationships.json",
            options=ReadOptions(num_workers=workers),
            **more,
        ),
    ),
    "voc.convert_voc": (
        make_voc,
        lambda folder, out, workers, **more: convert_voc(
            folder, out, options=VocOptions(num_workers=workers), **more
        ),
    ),
    "voc.split_voc": (
        make_voc,
        lambda folder, out, workers, **more: split_voc(
            folder, out, options=VocOptions(num_workers=workers), **more
        ),
    ),
}


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(datasets.__path__):
        yield import_module(f"kgtool.datasets.{found.name}")


def writers(module: ModuleType) -> set[str]:
    """The public functions of a module that write an output."""
    return {
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and "out" in inspect.signature(function).parameters
    }


def test_no_data_set_is_missing_here() -> None:
    found = {module.__name__: writers(module) for module in modules()}
    assert len(found) >= 4
    assert all(found.values()), "a module of kgtool.datasets that writes none"
    assert set().union(*found.values()) == set(EXAMPLES)


# Promises


def check_file(path: Path) -> Record:
    """Ids, names, synsets and boxes of one COCO JSON."""
    with redirect_stdout(StringIO()):
        COCO(str(path))
    document: Record = json.loads(path.read_text(encoding="utf-8"))
    images, categories, boxes = (document[name] for name in ("images", "categories", "annotations"))
    for records in (images, categories, boxes, document.get("rel_annotations", [])):
        assert len({record["id"] for record in records}) == len(records)
        assert all(type(record["id"]) is int and record["id"] > 0 for record in records)
    for field in ("name", "synset"):
        values = [category[field] for category in categories if category.get(field)]
        assert len(set(values)) == len(values)
        assert field == "synset" or len(values) == len(categories)
    assert len({image["file_name"] for image in images}) == len(images)
    nouns = load_nouns()
    assert [
        category["synset"] for category in categories if category.get("synset", "dog.n.01") not in nouns
    ] == []
    size = {image["id"]: (image["width"], image["height"]) for image in images}
    known = {category["id"] for category in categories}
    for box in boxes:
        x, y, width, height = box["bbox"]
        assert box["category_id"] in known
        assert 0 <= x < x + width <= size[box["image_id"]][0] + 1e-6, box
        assert 0 <= y < y + height <= size[box["image_id"]][1] + 1e-6, box
        assert box["iscrowd"] in (0, 1)
    errors = [finding for finding in validate_file(path).findings if finding.severity == "error"]
    assert errors == []
    return document


def check_folder(folder: Path) -> None:
    """Each file; and of train and test set that they share categories and no image, box or id."""
    documents = {
        path.stem: check_file(path) for path in sorted(folder.glob("*.json")) if path.stem != "report"
    }
    report = json.loads((folder / "report.json").read_text())
    assert next(iter(report)) == "dataset"
    assert documents.keys() in ({"instances"}, {"train", "test"})
    if "train" in documents:
        train, test = documents["train"], documents["test"]
        assert train["categories"] == test["categories"]
        for name in ("images", "annotations"):
            both = [{record["id"] for record in document[name]} for document in (train, test)]
            assert all(both)
            assert not both[0] & both[1]
        assert (folder / "classes.csv").read_text().startswith("name,synset,train_image_count")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(params=sorted(EXAMPLES))
def example(request: pytest.FixtureRequest) -> tuple[Make, Run]:
    return EXAMPLES[request.param]


@pytest.mark.parametrize("seed", range(3))
def test_what_is_written_can_be_relied_on(example: tuple[Make, Run], seed: int, tmp_path: Path) -> None:
    make, run = example
    (tmp_path / "in").mkdir()
    make(tmp_path / "in", seed, False)
    run(tmp_path / "in", tmp_path / "out", 1)
    check_folder(tmp_path / "out")
    boxes = [json.loads(path.read_text()).get("annotations") for path in (tmp_path / "out").glob("*.json")]
    assert sum(map(len, filter(None, boxes))) > 3  # the examples are not so dirty that nothing is left


def test_the_same_input_gives_the_same_bytes(example: tuple[Make, Run], tmp_path: Path) -> None:
    """Twice, elsewhere, written in another order, and with two processes."""
    make, run = example
    found = []
    for name, backwards, workers in (("a", False, 1), ("b", False, 1), ("elsewhere", True, 2)):
        (tmp_path / name / "in").mkdir(parents=True)
        make(tmp_path / name / "in", 0, backwards)
        run(tmp_path / name / "in", tmp_path / name / "out", workers)
        found.append(contents(tmp_path / name / "out"))
    assert found[0] == found[1]
    for made in found:  # of a JSON list in another order the report has another checksum
        report = json.loads(made["report.json"])
        made["report.json"] = b""
        assert not [source for source in report.get("sources", []) if "/" in source["name"]]
    assert found[0] == found[2]


def test_nothing_is_overwritten_silently_and_a_failure_leaves_nothing(
    example: tuple[Make, Run], tmp_path: Path
) -> None:
    make, run = example
    (tmp_path / "in").mkdir()
    make(tmp_path / "in", 0, False)
    with pytest.raises(InputError):
        run(tmp_path / "none", tmp_path / "out", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    run(tmp_path / "in", tmp_path / "out", 1)
    before = contents(tmp_path / "out")
    with pytest.raises(OutputExistsError):
        run(tmp_path / "in", tmp_path / "out", 1)
    with pytest.raises(InputError):
        run(tmp_path / "none", tmp_path / "out", 1, overwrite=True)
    assert contents(tmp_path / "out") == before
    run(tmp_path / "in", tmp_path / "out", 1, overwrite=True)
    assert contents(tmp_path / "out") == before


# Real files


def real_ade_boxes(out: Path) -> None:
    boxes_of_ade(REAL / "ade/datumaro2017_synthetic", out.with_name("boxes"))
    split_ade(out.with_name("boxes") / "instances.json", out)


VG = REAL / "vg/v1_2"
REAL_RUNS: dict[str, Callable[[Path], Any]] = {
    "ade.boxes_of_ade": lambda out: boxes_of_ade(
        REAL / "ade/full2021", out, options=BoxOptions(with_parts=True)
    ),
    "ade.split_ade": real_ade_boxes,
    "coco.split_coco": lambda out: split_coco([REAL / "coco/instances.json"], out, classes="coco"),
    "visual_genome.convert_visual_genome": lambda out: convert_visual_genome(
        VG / "objects.json", VG / "image_data.json", out
    ),
    "visual_genome.split_visual_genome": lambda out: split_visual_genome(
        REAL / "vg/v1_4/objects.json",
        VG / "image_data.json",
        out,
        classes=40,
        relationships=REAL / "vg/v1_4/relationships.json",
    ),
    "voc.convert_voc": lambda out: convert_voc(REAL / "bccd", out),
    "voc.split_voc": lambda out: split_voc(REAL / "bccd", out, choice=ImageChoice(num_test=10)),
}


@needs_real_data
@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_real_samples_keep_the_same_promises(name: str, tmp_path: Path) -> None:
    REAL_RUNS[name](tmp_path / "out")
    check_folder(tmp_path / "out")
    first = contents(tmp_path / "out")
    (tmp_path / "again").mkdir()
    REAL_RUNS[name](tmp_path / "again/out")
    assert contents(tmp_path / "again/out") == first
