"""The sample world keeps the promises its text makes, and the committed sample is what its seed gives."""

import contextlib
import hashlib
import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kgtool.cli import main
from kgtool.cli.sample import FAMILY_NAMES
from kgtool.coco import load_dataset
from kgtool.errors import InputError, OutputExistsError
from kgtool.sample_files import VG_FILES, save_sample
from kgtool.sample_images import COLOURS, IMAGE_SIZE, SHAPES, SMALLEST_SIDE, TEXTURES, Appearance, draw_object
from kgtool.sample_layout import OVERLAP_LIMIT, PREDICATES, place_boxes
from kgtool.sample_world import FAMILIES, SCENE_WORDS, WORDS_PER_SCENE, World

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "data" / "sample"


@pytest.fixture(scope="module")
def worlds() -> dict[str, World]:
    return {name: World(name, seed=0) for name in FAMILIES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sample") / "world"
    save_sample(World("mini", 5), out, train_images=30, test_images=10, corpus_images=25)
    return out


def bytes_by_name(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- the class system


@pytest.mark.parametrize("name", ["W", "L", "mini"])
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_homonyms_look_the_same_and_live_in_different_scene_types(name: str, seed: int) -> None:
    world = World(name, seed)
    classes_by_look: dict[Appearance, list[int]] = {}
    for label, look in enumerate(world.appearances):
        classes_by_look.setdefault(look, []).append(label)
    for members in classes_by_look.values():
        scene_types = world.scene_type_of_class[members]
        assert len(set(scene_types.tolist())) == len(members)
        assert len(members) == (1 if world.is_anchor[members[0]] else world.family.homonyms)
    family = world.family
    assert np.bincount(world.scene_type_of_class).tolist() == [family.classes_per_scene] * family.num_scenes
    anchors = np.bincount(world.scene_type_of_class[world.is_anchor])
    assert anchors.tolist() == [family.anchors_per_scene] * family.num_scenes


def test_families_are_those_of_the_published_table() -> None:
    table = {
        name: (
            f.num_scenes,
            f.classes_per_scene,
            f.num_classes,
            f.anchors_per_scene,
            f.homonyms,
            f.zipf,
            f.noise,
        )
        for name, f in FAMILIES.items()
    }
    assert table["W"] == (8, 12, 96, 3, 3, 1.0, 0.08)
    assert table["L"] == (10, 16, 160, 4, 4, 1.2, 0.05)
    for name in "WL":
        assert (FAMILIES[name].num_objects, FAMILIES[name].sizes) == ((4, 9), (9, 44))
    assert max(family.num_scenes for family in FAMILIES.values()) * WORDS_PER_SCENE <= len(set(SCENE_WORDS))
    assert set(FAMILY_NAMES) == set(FAMILIES)


def test_names_are_unique_and_have_a_synset_each(worlds: dict[str, World]) -> None:
    for world in worlds.values():
        assert len(set(world.names)) == world.family.num_classes == len(set(world.synsets))
        assert all(f"{name}.n.01" == synset for name, synset in zip(world.names, world.synsets, strict=True))
        assert not set(world.names) & (set(SCENE_WORDS) | set(SHAPES) | set(COLOURS) | set(TEXTURES))


def test_class_order_does_not_tell_the_scene_type(worlds: dict[str, World]) -> None:
    for world in worlds.values():
        neighbours_agree = np.diff(world.scene_type_of_class) == 0
        assert neighbours_agree.mean() < 2.5 / world.family.num_scenes


@pytest.mark.parametrize(
    ("family", "published"), [("W", (17, 66, 927)), ("L", (6, 35, 1072))], ids=["W", "L"]
)
def test_the_tail_is_as_long_as_in_the_published_table(
    worlds: dict[str, World], family: str, published: tuple[int, int, int]
) -> None:
    world = worlds[family]
    labels = [world.annotations("train", index).labels for index in range(world.family.train_images)]
    instances = np.bincount(np.concatenate(labels), minlength=len(world.names))
    fewest, median, most = instances.min(), np.median(instances), instances.max()
    assert published[0] / 2 <= fewest <= published[0] * 2
    assert median == pytest.approx(published[1], rel=0.1)
    assert most == pytest.approx(published[2], rel=0.2)


def test_stated_probabilities_are_those_of_what_is_drawn(worlds: dict[str, World]) -> None:
    world = worlds["mini"]
    labels = np.concatenate([world.annotations("corpus", index).labels for index in range(3000)])
    share = np.bincount(labels, minlength=len(world.names)) / len(labels)
    assert world.probability.sum() == pytest.approx(1.0)
    # Objects of one picture share a scene type, so a share varies more than for independent draws.
    np.testing.assert_allclose(share, world.probability, atol=0.012)


def test_most_relations_of_the_graph_join_classes_of_one_scene_type(worlds: dict[str, World]) -> None:
    world = worlds["W"]
    both = world.counts("corpus", 2000)
    both = both + both.T
    same = world.scene_type_of_class[:, None] == world.scene_type_of_class
    degree = both.sum(axis=1)
    weight = both / np.sqrt(np.outer(degree, degree))
    assert weight[same].sum() / weight.sum() == pytest.approx(0.87, abs=0.02)


# ---- pictures


def test_boxes_lie_inside_and_overlap_little_enough(worlds: dict[str, World]) -> None:
    for world in worlds.values():
        fewest, most = world.family.num_objects
        for index in range(200):
            boxes = world.annotations("train", index).boxes
            assert fewest <= len(boxes) <= most * (2 if world.family.partners else 1)
            assert boxes.min() >= 0
            assert boxes.max() <= IMAGE_SIZE
            for one, other in itertools.combinations(boxes.tolist(), 2):
                width = max(0, min(one[2], other[2]) - max(one[0], other[0]))
                height = max(0, min(one[3], other[3]) - max(one[1], other[1]))
                smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
                assert width * height <= OVERLAP_LIMIT * smaller


def test_sizes_are_log_uniform_within_the_familys_range() -> None:
    rng = np.random.default_rng(0)
    boxes = np.concatenate([place_boxes(4, (9, 44), rng) for _ in range(1000)])
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    size = np.sqrt(width * height)
    assert size.min() >= SMALLEST_SIDE
    assert np.log(size).mean() == pytest.approx((np.log(9) + np.log(44)) / 2, abs=0.03)
    assert np.log(size).std() == pytest.approx(np.log(44 / 9) / np.sqrt(12), abs=0.02)
    assert np.abs(np.log(width / height)[size > 30]).max() <= 0.15 + 0.04  # rounded to whole pixels


@given(
    shape=st.integers(0, len(SHAPES) - 1),
    colour=st.integers(0, len(COLOURS) - 1),
    texture=st.integers(0, len(TEXTURES) - 1),
    width=st.integers(SMALLEST_SIDE, 48),
    height=st.integers(SMALLEST_SIDE, 48),
    left=st.integers(0, 80),
    top=st.integers(0, 80),
)
@settings(max_examples=300, deadline=None)
def test_a_box_is_tight_around_what_is_painted(
    shape: int, colour: int, texture: int, width: int, height: int, left: int, top: int
) -> None:
    canvas = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), -1.0, dtype=np.float32)
    box = np.array([left, top, left + width, top + height])
    draw_object(canvas, box, Appearance(shape, colour, texture), np.zeros(3, dtype=np.float32))
    rows, columns = np.nonzero((canvas != -1.0).any(axis=2))
    assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == box.tolist()


def test_every_two_appearances_differ_in_many_pixels() -> None:
    """Else two classes meant to be told apart by their looks could not be."""
    looks = []
    for shape, colour, texture in itertools.product(
        range(len(SHAPES)), range(len(COLOURS)), range(len(TEXTURES))
    ):
        canvas = np.zeros((20, 20, 3), dtype=np.float32)
        draw_object(
            canvas,
            np.array([0, 0, 20, 20]),
            Appearance(shape, colour, texture),
            np.zeros(3, dtype=np.float32),
        )
        looks.append(canvas.ravel())
    table = np.array(looks)
    square = (table**2).sum(axis=1)
    gap = square[:, None] + square - 2 * table @ table.T
    np.fill_diagonal(gap, np.inf)
    # In units of the pixel noise: the best test between two of them errs less than once in a million.
    assert np.sqrt(gap.min()) / 0.06 > 10


def test_a_picture_shows_its_objects_at_their_boxes(worlds: dict[str, World]) -> None:
    """The colour in the middle of what is on top is that of its class, give or take jitter and noise."""
    world = worlds["W"]
    errors = []
    for index in range(60):
        scene = world.scene("train", index)
        left, top, right, bottom = scene.boxes[-1].tolist()
        look = world.appearances[int(scene.labels[-1])]
        clean = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), np.nan, dtype=np.float32)
        draw_object(clean, scene.boxes[-1], look, np.zeros(3, dtype=np.float32))
        seen = scene.image[top:bottom, left:right] / 255 - np.clip(clean[top:bottom, left:right], 0, 1)
        errors.append(np.nanmean(np.abs(seen)))
    assert max(errors) < 0.15


def test_the_background_does_not_tell_the_scene_type(worlds: dict[str, World]) -> None:
    world = worlds["mini"]
    scenes = [world.scene("train", index) for index in range(300)]
    corners = np.array([np.median(scene.image[:8, :8], axis=(0, 1)) for scene in scenes])
    scene_type = np.array([scene.annotations.scene_type for scene in scenes])
    between = [corners[scene_type == one].mean(axis=0) for one in range(world.family.num_scenes)]
    assert np.ptp(between, axis=0).max() < 4 * corners.std() / np.sqrt(np.bincount(scene_type).min())


def test_each_object_is_related_to_its_two_nearest(worlds: dict[str, World]) -> None:
    world = worlds["L"]
    predicates = []
    for index in range(100):
        said = world.annotations("corpus", index)
        centre = (said.boxes[:, :2] + said.boxes[:, 2:]) / 2
        assert said.relations[:, 0].tolist() == np.repeat(np.arange(len(centre)), 2).tolist()
        for subject, one, other in zip(
            range(len(centre)), said.relations[::2, 2], said.relations[1::2, 2], strict=True
        ):
            gap = np.hypot(*(centre - centre[subject]).T)
            assert sorted(gap[[one, other]]) == pytest.approx(sorted(np.delete(gap, subject))[:2])
            assert subject not in (one, other)
            assert one != other
        predicates += said.relations[:, 1].tolist()
    assert set(predicates) == set(range(len(PREDICATES)))


def test_attributes_follow_looks_and_company(worlds: dict[str, World]) -> None:
    """Mentions of the right colour, and of the words of the right scene type, far outnumber the others."""
    world = worlds["W"]
    right = wrong = of_scene_type = of_another = without = objects = 0
    for index in range(500):
        said = world.annotations("corpus", index)
        for label, words in zip(said.labels.tolist(), said.attributes, strict=True):
            objects += 1
            without += not words
            colour = world.appearances[label].words[1]
            right += colour in words
            wrong += bool(set(words) & (set(COLOURS) - {colour}))
            of_scene_type += bool(set(words) & set(world.scene_words[said.scene_type]))
            of_another += bool(set(words) & (set(SCENE_WORDS) - set(world.scene_words[said.scene_type])))
    assert right / objects == pytest.approx(0.6 * (1 - 0.05 * 11 / 12), abs=0.03)
    assert wrong / objects == pytest.approx(0.6 * 0.05 * 11 / 12, abs=0.015)
    assert of_scene_type / objects == pytest.approx(0.5 * (1 - 0.08 * 7 / 8), abs=0.03)
    assert of_another / objects == pytest.approx(0.5 * 0.08 * 7 / 8, abs=0.015)
    assert without / objects == pytest.approx(0.7 * 0.4 * 0.7 * 0.5, abs=0.02)


# ---- partners


def test_classes_that_look_alike_have_one_partner_on_opposite_sides(worlds: dict[str, World]) -> None:
    world = worlds["S"]
    seen: dict[int, set[tuple[int, int]]] = {label: set() for label in range(len(world.names))}
    for index in range(1500):
        said = world.annotations("corpus", index)
        rows = iter(range(len(said.labels)))
        for row in rows:
            partner = int(world.partner_of[said.labels[row]])
            if partner < 0:
                continue
            assert said.labels[next(rows)] == partner
            below = said.boxes[row + 1, 1] >= said.boxes[row, 3]
            assert below or said.boxes[row + 1, 3] <= said.boxes[row, 1]
            seen[int(said.labels[row])].add((partner, int(below)))
    by_look: dict[Appearance, list[int]] = {}
    for label, look in enumerate(world.appearances):
        by_look.setdefault(look, []).append(label)
    pairs = [members for members in by_look.values() if len(members) > 1]
    assert len(pairs) == 8 * (12 - 4) / 2
    for one, other in pairs:
        assert world.partner_of[one] == world.partner_of[other]
        assert world.is_anchor[world.partner_of[one]]
        assert len(set(world.scene_type_of_class[[one, other, world.partner_of[one]]])) == 1
        assert len(seen[one]) == len(seen[other]) == 1
        assert seen[one] != seen[other]


def test_relations_of_partners_are_named_by_their_place(worlds: dict[str, World]) -> None:
    world = worlds["S"]
    named = {"above": 0, "below": 0}
    for index in range(300):
        said = world.annotations("corpus", index)
        for subject, predicate, other in said.relations.tolist():
            name = list(world.predicates)[predicate]
            up = said.boxes[subject, [1, 3]].sum() < said.boxes[other, [1, 3]].sum()
            if name in named:
                assert up == (name == "above")
                named[name] += 1
    assert min(named.values()) > 300


@pytest.mark.parametrize(
    ("family", "expected"),
    [("W", "9a8c91a3624a9ce1"), ("L", "0617b33082f82a48"), ("mini", "ebe5517c12fdefeb")],
)
def test_worlds_stay_what_they_have_been(family: str, expected: str) -> None:
    """Figures in the documents are of these worlds: a new family must not move them."""
    digest = hashlib.sha256()
    for seed in (0, 1):
        world = World(family, seed)
        digest.update(repr((world.names, world.scene_words, world.appearances)).encode())
        for split, index in itertools.product(("train", "test", "corpus"), range(20)):
            said = world.annotations(split, index)
            rows = (said.boxes.tolist(), said.labels.tolist(), said.relations.tolist(), said.attributes)
            digest.update(repr((said.scene_type, *rows)).encode())
    assert digest.hexdigest()[:16] == expected


# ---- seeds


def test_the_same_seed_gives_the_same_scene_and_another_does_not() -> None:
    once, again, other = World("W", 7), World("W", 7), World("W", 8)
    assert once.names == again.names != other.names
    assert (once.scene("test", 3).image == again.scene("test", 3).image).all()
    assert (once.scene("test", 3).image != other.scene("test", 3).image).any()
    assert (once.scene("test", 3).boxes == once.annotations("test", 3).boxes).all()
    assert once.scene("test", 3).annotations.attributes == once.annotations("test", 3).attributes


def test_splits_share_no_scene(worlds: dict[str, World]) -> None:
    world = worlds["mini"]
    seen = {
        split: {world.annotations(split, index).boxes.tobytes() for index in range(300)}
        for split in ("train", "test", "corpus")
    }
    assert all(len(found) == 300 for found in seen.values())
    assert len(set.union(*seen.values())) == 900


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_one_clear_line(seed: int) -> None:
    with pytest.raises(InputError, match=f"seed: found {seed}; expected 0 to 4294967295"):
        World("W", seed)


def test_an_unknown_family_is_one_clear_line() -> None:
    with pytest.raises(InputError, match="family: found 'X'; expected one of W, L, S, mini"):
        World("X", 0)


# ---- files


def test_the_same_command_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    save_sample(World("mini", 5), tmp_path / "again", train_images=30, test_images=10, corpus_images=25)
    assert bytes_by_name(tmp_path / "again") == bytes_by_name(folder)


def test_a_smaller_sample_is_the_beginning_of_a_larger_one(folder: Path, tmp_path: Path) -> None:
    save_sample(World("mini", 5), tmp_path / "part", train_images=12, test_images=4, corpus_images=9)
    small, large = bytes_by_name(tmp_path / "part"), bytes_by_name(folder)
    pictures = [name for name in small if name.endswith(".jpg")]
    assert len(pictures) == 16
    assert all(small[name] == large[name] for name in pictures)
    for name in VG_FILES:
        few, many = (json.loads(files[f"vg/{name}.json"]) for files in (small, large))
        assert few == many[:9]
    for split, keys in (("train", ("images", "annotations", "rel_annotations")), ("test", ("images",))):
        few, many = (json.loads(files[f"{split}.json"]) for files in (small, large))
        for key in keys:
            assert few[key] == many[key][: len(few[key])]


def test_coco_files_say_what_the_world_drew(folder: Path) -> None:
    world = World("mini", 5)
    for split, num_images in (("train", 30), ("test", 10)):
        dataset = load_dataset(folder / f"{split}.json")
        assert [category.name for category in dataset.categories] == list(world.names)
        assert [category.synset for category in dataset.categories] == list(world.synsets)
        rows = dataset.annotations
        assert dataset.relations is not None
        for index, image in enumerate(dataset.images):
            said = world.annotations(split, index)
            here = rows.take(rows.image_id_N == image.id)
            assert image.file_name == f"{split}_{index:06d}.jpg"
            assert (here.category_id_N == said.labels + 1).all()
            assert (here.boxes_xywh_N4[:, :2] == said.boxes[:, :2]).all()
            assert (here.boxes_xywh_N4[:, :2] + here.boxes_xywh_N4[:, 2:] == said.boxes[:, 2:]).all()
            relations = dataset.relations.take(dataset.relations.image_id_N == image.id)
            assert (here.id_N[said.relations[:, 0]] == relations.subject_id_N).all()
            assert (here.id_N[said.relations[:, 2]] == relations.object_id_N).all()
            assert (said.relations[:, 1] + 1 == relations.predicate_id_N).all()
            with Image.open(folder / "images" / image.file_name) as picture:
                assert picture.size == (image.width, image.height) == (IMAGE_SIZE, IMAGE_SIZE)
        assert len(dataset.images) == num_images
    assert len(list((folder / "images").iterdir())) == 40


def test_category_counts_are_those_of_train(folder: Path) -> None:
    train = json.loads((folder / "train.json").read_text())
    for category in train["categories"]:
        boxes = [a for a in train["annotations"] if a["category_id"] == category["id"]]
        images = {a["image_id"] for a in boxes}
        assert (category["instance_count"], category["image_count"]) == (len(boxes), len(images))
        expected = "r" if len(images) <= 10 else "c" if len(images) <= 100 else "f"
        assert category["frequency"] == expected
    assert json.loads((folder / "test.json").read_text())["categories"] == train["categories"]


def test_pycocotools_loads_both_files_and_scores_the_truth_as_perfect(folder: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "test.json"))
        found = truth.loadRes(
            [
                {
                    "image_id": a["image_id"],
                    "category_id": a["category_id"],
                    "bbox": list(a["bbox"]),
                    "score": 1.0,
                }
                for a in truth.dataset["annotations"]
            ]
        )
        scores = COCOeval(truth, found, "bbox")
        scores.evaluate()
        scores.accumulate()
        scores.summarize()
        assert len(COCO(str(folder / "train.json")).getImgIds()) == 30
    assert scores.stats[0] == pytest.approx(1.0)


def test_visual_genome_files_have_the_official_layout(folder: Path) -> None:
    world = World("mini", 5)
    files = {name: json.loads((folder / "vg" / f"{name}.json").read_text()) for name in VG_FILES}
    coco_ids = {
        image["id"]
        for split in ("train", "test")
        for image in json.loads((folder / f"{split}.json").read_text())["images"]
    }
    ids = [record["image_id"] for record in files["image_data"]]
    assert len(set(ids)) == 25
    assert not set(ids) & coco_ids
    object_ids, relationship_ids = [], []
    for index, image_id in enumerate(ids):
        said = world.annotations("corpus", index)
        objects = files["objects"][index]["objects"]
        described = files["attributes"][index]["attributes"]
        relationships = files["relationships"][index]["relationships"]
        assert {files[name][index]["image_id"] for name in VG_FILES} == {image_id}
        object_ids += [entry["object_id"] for entry in objects]
        relationship_ids += [entry["relationship_id"] for entry in relationships]
        assert [(e["x"], e["y"], e["x"] + e["w"], e["y"] + e["h"]) for e in objects] == [
            tuple(box) for box in said.boxes.tolist()
        ]
        assert [entry["names"] for entry in objects] == [[world.names[label]] for label in said.labels]
        assert [entry["synsets"] for entry in objects] == [[world.synsets[label]] for label in said.labels]
        for entry, plain, words in zip(described, objects, said.attributes, strict=True):
            assert {key: value for key, value in entry.items() if key != "attributes"} == plain
            assert entry.get("attributes", []) == list(words)
            assert entry.get("attributes") != []
        object_by_id = {entry["object_id"]: entry for entry in objects}
        for entry, (subject, predicate, other) in zip(relationships, said.relations, strict=True):
            assert entry["predicate"] == tuple(PREDICATES)[predicate]
            assert entry["synsets"] == list(PREDICATES[entry["predicate"]])
            for end, position in (("subject", subject), ("object", other)):
                plain = object_by_id[entry[end]["object_id"]]
                assert plain is objects[position]
                assert entry[end]["name"] == plain["names"][0]
                assert all(entry[end][key] == plain[key] for key in ("synsets", "x", "y", "w", "h"))
    assert object_ids == list(range(1, len(object_ids) + 1))
    assert relationship_ids == list(range(1, len(relationship_ids) + 1))


def test_counts_are_those_of_the_files(folder: Path) -> None:
    world = World("mini", 5)
    counts = np.zeros((len(world.names), len(world.names)), dtype=np.int64)
    for record in json.loads((folder / "vg" / "relationships.json").read_text()):
        for relation in record["relationships"]:
            ends = (world.names.index(relation[end]["name"]) for end in ("subject", "object"))
            counts[tuple(ends)] += 1
    assert (world.counts("corpus", 25) == counts).all()


def test_a_failed_run_leaves_nothing_and_overwrite_replaces_only_samples(tmp_path: Path) -> None:
    world, sizes = World("mini", 1), {"train_images": 2, "test_images": 1, "corpus_images": 1}
    with pytest.raises(InputError, match="test images: found 0; expected 1 to 1000000"):
        save_sample(world, tmp_path / "w", **(sizes | {"test_images": 0}))
    save_sample(world, tmp_path / "w", **sizes)
    before = bytes_by_name(tmp_path / "w")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        save_sample(World("mini", 2), tmp_path / "w", **sizes)
    assert bytes_by_name(tmp_path / "w") == before
    save_sample(World("mini", 2), tmp_path / "w", overwrite=True, **sizes)
    assert bytes_by_name(tmp_path / "w") != before
    (tmp_path / "w" / "thesis.tex").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"thesis\.tex"):
        save_sample(world, tmp_path / "w", overwrite=True, **sizes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w"]


# ---- the command, and the sample that is committed


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["sample", *args])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_the_command_prints_one_json_document(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    args = ("--seed", "3", "--images", "4", "--test-images", "2", "--corpus", "3", "--json")
    code, out, err = run(capsys, *args, "--out", str(tmp_path / "w"))
    assert (code, err) == (0, "")
    printed = json.loads(out)
    assert (printed["family"], printed["seed"], printed["classes"]) == ("mini", 3, 24)
    assert (printed["train_images"], printed["test_images"], printed["corpus_images"]) == (4, 2, 3)
    code, out, err = run(capsys, *args, "--out", str(tmp_path / "w"))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert run(capsys, *args, "--family", "Z", "--out", str(tmp_path / "v"))[0] == 2


def test_the_committed_sample_is_what_its_command_writes(tmp_path: Path) -> None:
    """Annotations byte for byte; pictures within what another JPEG coder or NumPy build may change."""
    command = next(
        line.split()[1:]
        for line in (ROOT / "data" / "README.md").read_text(encoding="utf-8").splitlines()
        if line.strip().startswith("kgtool sample ")
    )
    assert command[-2:] == ["--out", "data/sample"]
    with pytest.raises(SystemExit) as end:
        main([*command[:-1], str(tmp_path / "sample")])
    assert not end.value.code
    fresh, committed = bytes_by_name(tmp_path / "sample"), bytes_by_name(SAMPLE)
    assert set(fresh) == set(committed)
    for name in fresh:
        if name.endswith(".json"):
            assert fresh[name] == committed[name], name
            continue
        one, other = (
            np.asarray(Image.open(io.BytesIO(data)), dtype=np.float32)
            for data in (fresh[name], committed[name])
        )
        assert np.abs(one - other).mean() < 2, name
    assert sum(map(len, committed.values())) < 4_000_000
