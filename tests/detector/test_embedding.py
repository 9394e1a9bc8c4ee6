"""Objects as points: the features are the head's own, and the number is made in them, not in the picture."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from run_folders import write_run
from tiny_data import change_json, write_data
from tiny_models import ARMS, head_inputs, random_regions, tiny_model

import detector.embedding as embedding
from detector.annotations import load_annotations
from detector.cli import main
from detector.data import load_image
from detector.embed import embed_run
from detector.embedding import chance_agreement, join_parts, neighbour_agreement, project, spread_of
from detector.errors import InputError
from detector.head_views import EnrichingHead
from detector.interfaces import HeadConfig
from detector.rcnn import build_model
from detector.reasoning.relation_networks import RelationConfig
from detector.recipes import load_recipe
from detector.region_features import region_features

RELATION = RelationConfig(width=16, heads=4, key_width=4)


def rng_features(count: int = 40, width: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, width)).astype(np.float32)
    return features, rng.integers(0, 4, count), rng.integers(0, 9, count)


def slow_agreement(features: np.ndarray, labels: np.ndarray, images: np.ndarray, count: int) -> float:
    """One object after the other, from the definition."""
    shares = []
    for at in range(len(features)):
        others = [other for other in range(len(features)) if images[other] != images[at]]
        others.sort(key=lambda other: float(np.linalg.norm(features[other].astype(float) - features[at])))
        shares.append(np.mean([labels[other] == labels[at] for other in others[:count]]))
    return float(np.mean(shares))


@pytest.mark.parametrize("count", [1, 5, 100])
def test_agreement_is_the_share_of_near_objects_of_other_images(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, labels, images = rng_features()
    monkeypatch.setattr(embedding, "_BLOCK", 7)
    expected = slow_agreement(features, labels, images, count)
    assert neighbour_agreement(features, labels, images, count) == pytest.approx(expected)
    everyone = slow_agreement(features, labels, images, len(features))
    assert chance_agreement(labels, images) == pytest.approx(everyone)


def test_objects_of_the_same_image_do_not_count_as_neighbours() -> None:
    """Every object's twin is in its own image; in other images only other classes are near."""
    features = np.repeat(np.arange(6, dtype=np.float32)[:, None], 2, axis=0)
    labels = np.repeat(np.arange(6), 2)
    assert neighbour_agreement(features, labels, image_N=labels, count=1) == 0
    assert neighbour_agreement(features, labels, image_N=np.arange(12), count=1) == 1


def test_of_parts_side_by_side_the_one_of_small_numbers_is_heard_as_well() -> None:
    features, labels, images = rng_features()
    told_apart = np.eye(4, dtype=np.float32)[labels] * 1e-6
    joined = join_parts([features, told_apart])
    assert spread_of(joined[:, :6]) == pytest.approx(spread_of(joined[:, 6:])) == pytest.approx(1)
    alone = neighbour_agreement(np.concatenate([features, told_apart], axis=1), labels, images)
    assert neighbour_agreement(joined, labels, images) > alone + 0.3
    assert np.isfinite(join_parts([features, np.ones_like(features)])).all()


def test_points_are_those_of_the_seed_and_clusters_stay_apart() -> None:
    pytest.importorskip("sklearn", reason="no scikit-learn: pip install 'kgtool-detector[embed]'")
    features, _, _ = rng_features(60)
    label = np.arange(60) % 3
    features[:, 0] += 30 * label
    points = project(features, "tsne", seed=1)
    assert points.shape == (60, 2)
    assert np.array_equal(points, project(features, "tsne", seed=1))
    assert neighbour_agreement(points.astype(np.float32), label, np.arange(60)) == 1
    assert not project(np.ones((7, 3), dtype=np.float32), "tsne", seed=0).any()
    assert project(features[:5], "tsne", seed=0).shape == (5, 2)


@pytest.mark.parametrize(
    "config",
    [*ARMS["printed"], *ARMS["working"], *ARMS["sgrn"], RELATION],
    ids=["printed", "working", "sgrn", "relation"],
)
def test_the_parts_are_what_the_head_returns(config: HeadConfig) -> None:
    head = config.build(head_inputs(width=10)).eval()
    assert isinstance(head, EnrichingHead)
    pooled, regions = torch.rand(6, 6, 3, 3), random_regions([0, 1, 1, 0, 1, 0], 2, width=10)
    with torch.no_grad():
        features, _ = head(pooled, regions)
        first, second = head.feature_parts(pooled, regions).values()
    if isinstance(config, RelationConfig):
        assert torch.equal(second, features)
        assert first.shape == second.shape
        assert not torch.equal(first, second)
    else:
        assert torch.equal(torch.cat([first, second], dim=1), features)
        assert torch.equal(first, head.region(pooled, regions)[0])


def test_relation_features_before_the_last_modules_are_those_of_a_head_without_them() -> None:
    head = RELATION.build(head_inputs(width=10)).eval()
    without = RelationConfig(width=16, heads=4, key_width=4, r2=0).build(head_inputs(width=10)).eval()
    without.load_state_dict({n: t for n, t in head.state_dict().items() if not n.startswith("relations7")})
    pooled, regions = torch.rand(3, 6, 3, 3), random_regions([0, 0, 0], 1, width=10)
    with torch.no_grad():
        before, _ = head.feature_parts(pooled, regions).values()
        torch.testing.assert_close(before, without(pooled, regions)[0])


@pytest.mark.parametrize("arm", ["faster", "stacked", "working"])
def test_each_object_has_the_features_of_the_region_that_is_its_box(arm: str, tmp_path: Path) -> None:
    """By the stages alone, on the annotated boxes: without other regions these give the same features."""
    data = write_data(tmp_path / "data", train=3, test=1)
    annotations = load_annotations(data, "train")
    model = tiny_model(*ARMS[arm]).eval()
    found = region_features(model, annotations)
    assert len(found.class_N) == annotations.usable_N.sum()
    for image in range(annotations.num_images):
        rows = np.flatnonzero(found.image_N == image)
        first, end = annotations.offsets[image : image + 2]
        assert found.class_N[rows].tolist() == annotations.class_N[first:end].tolist()
        pixels = load_image(annotations.image_path(image)).float() / 255
        with torch.no_grad():
            batch, _ = model.transform([pixels])
            proposed, _ = model.proposals(batch, model.backbone(batch.tensors), None)
            boxes = torch.from_numpy(found.boxes_N4[rows])
            alone = proposed[torch.zeros(len(rows), dtype=torch.int64)]
            alone.boxes_R4[:] = boxes  # images of 64 px stay as they are
            features = model.walk(alone)[1][-1].features_RD
        got = torch.from_numpy(np.concatenate(list(found.parts.values()), axis=1)[rows])
        torch.testing.assert_close(got, features, rtol=1e-4, atol=1e-5)
    assert found.joined == (arm == "working")


def test_behind_a_dense_head_objects_have_the_nearest_predicted_box(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", train=2, test=1)
    annotations = load_annotations(data, "train")
    torch.manual_seed(0)
    model = build_model(load_recipe("reasoning_retinanet_sample").model, 3, torch.ones(3, 3)).eval()
    found = region_features(model, annotations)
    assert list(found.parts) == ["f", "f'"]
    assert len(found.parts["f"]) == annotations.usable_N.sum()
    alone = build_model(load_recipe("retinanet_sample").model, 3, None).eval()
    with pytest.raises(InputError, match="without region stages"):
        region_features(alone, annotations)


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def with_groups(path: Path, groups: dict[str, str]) -> None:
    def change(document: dict) -> None:
        for category in document["categories"]:
            category["supercategory"] = groups[category["name"]]

    change_json(path, change)


@pytest.fixture
def reasoning_run(tmp_path: Path) -> tuple[Path, Path]:
    data = write_data(tmp_path / "data", train=1, test=4)
    run = tmp_path / "run"
    names = ("red", "green", "blue")
    write_run(run, load_recipe("reasoning_rcnn_sample"), data, graph_CC=torch.ones(3, 3), names=names)
    return run, data


def test_the_command_writes_numbers_a_table_and_a_picture(
    reasoning_run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = reasoning_run
    out = tmp_path / "points"
    arguments = ("embed", run, "--data", data, "--out", out)
    assert call(*arguments, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((out / "embedding.json").read_text())
    assert document["coloured_by"] == "class"
    assert [row["name"] for row in document["features"]] == ["f", "f'", "[f; f']"]
    assert [row["width"] for row in document["features"]] == [128, 64, 192]
    assert "same_group" not in document["chance"]
    with (out / "embedding.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    truth = json.loads((data / "test.json").read_text())
    assert len(rows) == document["objects"] == len(truth["annotations"])
    names = {category["id"]: category["name"] for category in truth["categories"]}
    expected = Counter(
        (f"test_{box['image_id'] - 100}.png", names[box["category_id"]], f"{box['bbox'][0]:.2f}")
        for box in truth["annotations"]
    )
    assert Counter((row["image"], row["class"], row["left"]) for row in rows) == expected
    columns = [f"{axis}_{place}" for place in ("before", "after", "both") for axis in "xy"]
    assert all(np.isfinite(float(row[column])) for row in rows for column in columns)
    with Image.open(out / "embedding.png") as picture:
        assert picture.size[0] > 2 * picture.size[1]
    table = (out / "embedding.csv").read_bytes()
    assert call(*arguments) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert call(*arguments, "--overwrite", "--no-pictures") == 0
    assert "any object" in capsys.readouterr().out
    assert (out / "embedding.csv").read_bytes() == table
    assert not (out / "embedding.png").exists()


def test_groups_are_supercategories_where_these_say_something(
    reasoning_run: tuple[Path, Path], tmp_path: Path
) -> None:
    run, data = reasoning_run
    with_groups(data / "test.json", {"red": "warm", "green": "cold", "blue": "cold"})
    document = embed_run(run, data, tmp_path / "two", pictures=False)
    assert document["coloured_by"] == "supercategory"
    assert document["chance"]["same_group"] > document["chance"]["same_class"]
    assert all(0 <= row["same_class"] <= row["same_group"] <= 1 for row in document["features"])
    with (tmp_path / "two" / "embedding.csv").open(newline="") as file:
        assert {(row["class"], row["group"]) for row in csv.DictReader(file)} == {
            ("red", "warm"),
            ("green", "cold"),
            ("blue", "cold"),
        }
    with_groups(data / "test.json", dict.fromkeys(("red", "green", "blue"), "none"))
    assert embed_run(run, data, tmp_path / "one", pictures=False)["coloured_by"] == "class"


def test_what_is_missing_is_said_in_one_line(
    reasoning_run: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, data = reasoning_run
    arguments = ("embed", run, "--data", data, "--split", "train", "--out", tmp_path / "points")
    assert call(*arguments, "--no-pictures") == 3  # one image
    assert "two or more images" in capsys.readouterr().err
    monkeypatch.setattr("detector.embedding.find_spec", lambda name: None)
    for method, extra in (("tsne", "embed"), ("umap", "umap")):
        assert call(*arguments, "--method", method) == 5
        assert f"kgtool-detector[{extra}]" in capsys.readouterr().err
    assert not (tmp_path / "points").exists()


def test_umap_gives_points_too() -> None:
    pytest.importorskip("umap", reason="no umap-learn: pip install 'kgtool-detector[umap]'")
    features, _, _ = rng_features(40)
    points = project(features, "umap", seed=1)
    assert points.shape == (40, 2)
    assert np.array_equal(points, project(features, "umap", seed=1))
