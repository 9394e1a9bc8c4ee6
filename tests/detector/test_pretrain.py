"""Pre-training: what is learned, what is averaged, measured and saved, and that a detector takes it."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from random_weights import random_map, randomised
from safetensors.torch import load_file
from torch import nn

from detector.backbone import build_backbone
from detector.backbone_recipes import BACKBONES, load_backbone
from detector.checkpoint import save_weights
from detector.classifier import build_classifier
from detector.cli import main
from detector.config import BackboneConfig, TrainConfig
from detector.errors import ClassMatchError, ConfigError, InputError, OutputExistsError, TrainingError
from detector.image_folder import SquareImages, iter_squares, load_labelled_images
from detector.overrides import override
from detector.pretrain import PretrainConfig, evaluate_classifier, normalised, pretrain
from detector.weight_average import WeightAverage

COLOURS = {"blue": (0, 0, 200), "green": (0, 200, 0), "red": (200, 0, 0)}
SCHEDULE = TrainConfig(epochs=4, batch_size=6, optimizer="adamw", lr=5e-3, schedule="onecycle")


def write_pictures(folder: Path, count: int, seed: int) -> None:
    """Noise with the colour of the class in it, 80 x 96 px."""
    generator = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name / "deeper").mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 55, (80, 96, 3)) + np.array(colour)
            place = folder / name / "deeper" if number % 2 else folder / name
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "pictures" / "train", 6, seed=0)
    write_pictures(tmp_path / "pictures" / "val", 3, seed=1)
    return tmp_path / "pictures"


def tiny(**changes: object) -> PretrainConfig:
    config = PretrainConfig(BACKBONES["glore_tiny"], SCHEDULE, image_size=64)
    return override(config, changes)


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return int(exit_.value.code or 0)


def test_a_classifier_learns_and_a_detector_starts_from_it(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole path by the commands, with an ablation of VCRNet set."""
    out = tmp_path / "classifier"
    arguments = ["--epochs", 6, "--batch-size", 6, "--image-size", 64, "--set", "train.workers=0", "--json"]
    arguments += ["--set", "train.optimizer=adamw", "--set", "train.lr=0.005"]
    arguments += ["--set", "backbone.blocks.0.sampler=static", "--set", "backbone.blocks.0.edges=none"]
    assert call("pretrain", "--data", data, "--backbone", "vcrnet_tiny", "--out", out, *arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["num_images"] == 9
    assert printed["metrics"]["top1"] >= 8 / 9
    assert printed == {"run": str(out), **json.loads((out / "metrics.json").read_text())}
    assert json.loads((out / "classes.json").read_text()) == {"classes": ["blue", "green", "red"]}
    stored = json.loads((out / "config.json").read_text())
    assert stored["backbone"] == "vcrnet_tiny"
    assert stored["settings"]["backbone.blocks.0.sampler"] == "static"
    losses = [
        json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines() if '"lr"' in line
    ]
    assert len(losses) == 18
    assert losses[-1] < losses[0]
    settings = override(
        load_backbone("vcrnet_tiny"), {"blocks.0.sampler": "static", "blocks.0.edges": "none"}
    )
    weights = load_file(out / "model.safetensors")
    backbone = build_backbone(override(settings, {"weights": str(out / "model.safetensors")}))
    own = {name: value for name, value in backbone.state_dict().items() if "num_batches" not in name}
    assert backbone.messages == (f"{out / 'model.safetensors'}: {len(own)} tensors loaded into the backbone",)
    assert all(torch.equal(own[name], weights[name]) for name in own)


@pytest.mark.parametrize("name", ["resnet18", "glore_resnet50", "vcrnet_resnext50", "se_resnext50"])
def test_pretrained_weights_fill_everything_but_the_pyramid_of_a_detector(name: str, tmp_path: Path) -> None:
    classifier = randomised(build_classifier(BACKBONES[name], 5))
    save_weights(classifier, tmp_path)
    path = tmp_path / "model.safetensors"
    backbone = build_backbone(override(BACKBONES[name], {"weights": str(path)})).eval()
    (message,) = backbone.messages
    absent = message.partition("; not there: ")[2]
    assert absent.startswith("body.fpn.")
    assert absent.endswith("and 11 more"), "16 tensors of the pyramid"
    assert "not used" not in message
    own = backbone.body.body.state_dict()
    assert all(
        torch.equal(own[place], tensor) for place, tensor in classifier.state_dict().items() if place in own
    )
    assert set(own) == {place for place in classifier.state_dict() if not place.startswith("fc.")}


def test_weights_of_other_blocks_load_where_they_match_and_the_rest_is_named(tmp_path: Path) -> None:
    save_weights(build_classifier(BACKBONES["glore_tiny"], 5), tmp_path)
    config = override(BACKBONES["vcrnet_tiny"], {"weights": str(tmp_path / "model.safetensors")})
    (message,) = build_backbone(config).messages
    assert "; not there: body.fine.2.sampler.value, " in message
    assert "; not used: body.coarse.2.extend.weight, " in message


def test_the_average_follows_its_rule_and_copies_counters() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    average = WeightAverage(model, decay=0.2)
    expected = {name: value.double().numpy().copy() for name, value in model.state_dict().items()}
    for step in range(1, 6):
        randomised(model, seed=step).train()
        model(random_map(4, 2, seed=step))
        average.update(model)
        decay = min(0.2, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            new = value.double().numpy()
            counter = name.endswith("num_batches_tracked")
            expected[name] = new if counter else decay * expected[name] + (1 - decay) * new
    for name, value in average.model.state_dict().items():
        np.testing.assert_allclose(value.double().numpy(), expected[name], rtol=1e-5, atol=1e-6)
    assert average.model.state_dict()["1.num_batches_tracked"] == 5
    assert not average.model.training


def test_the_average_is_what_is_saved_and_measured(data: Path, tmp_path: Path) -> None:
    """With a decay that hardly moves it, the saved weights stay near those of the start."""
    for name, decay in (("slow", 0.99), ("off", 0.0)):
        pretrain(
            tiny(average_decay=decay), data, tmp_path / name, name="glore_tiny", device="cpu", quiet=True
        )
    torch.manual_seed(0)
    start = build_classifier(BACKBONES["glore_tiny"], 3).state_dict()["fc.weight"]
    moved = {
        name: (load_file(tmp_path / name / "model.safetensors")["fc.weight"] - start).norm().item()
        for name in ("slow", "off")
    }
    assert 0 < moved["slow"] < moved["off"]


def test_the_loss_is_cross_entropy_with_smoothed_labels(data: Path, tmp_path: Path) -> None:
    config = tiny(label_smoothing=0.25, **{"train.epochs": 1, "train.batch_size": 18})
    pretrain(config, data, tmp_path / "run", name="glore_tiny", device="cpu", quiet=True)
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    first = next(record["loss"] for record in logged if "lr" in record)
    torch.manual_seed(0)
    model = build_classifier(config.backbone, 3)
    dataset = SquareImages(load_labelled_images(data, "train"), 64, cut="random", flip=0.5)
    dataset.epoch = 1
    ((squares, labels),) = iter_squares(dataset, 18, "cpu", shuffle=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(normalised(squares)).double().numpy()
    total = 0.0
    for row, label in zip(logits, labels.tolist(), strict=True):
        for c in range(3):
            wanted = 0.25 / 3 + (0.75 if c == label else 0.0)
            total -= wanted * (row[c] - math.log(sum(math.exp(value) for value in row)))
    assert first == pytest.approx(total / 18, rel=1e-4)


def test_top_one_and_top_five_are_counted_over_every_picture(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    for c in range(8):
        (tmp_path / "val" / f"class{c}").mkdir(parents=True)
        for number in range(3):
            pixels = generator.integers(0, 255, (73, 73, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "val" / f"class{c}" / f"{number}.png")
    config = tiny(**{"train.batch_size": 7})
    images = load_labelled_images(tmp_path, "val")
    torch.manual_seed(1)
    model = build_classifier(config.backbone, 8)
    found = evaluate_classifier(model, config, images, torch.device("cpu"))
    right = Counter()
    for path, label in zip(images.paths, images.labels_I, strict=True):
        pixels = np.asarray(Image.open(path))[4:68, 4:68].transpose(2, 0, 1) / 255  # 64 of 73 px, no resizing
        mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        inputs = ((pixels.transpose(1, 2, 0) - mean) / deviation).transpose(2, 0, 1)
        with torch.no_grad():
            logits = model(torch.from_numpy(inputs).float()[None])[0].numpy()
        order = list(np.argsort(-logits))
        right["top1"] += order[0] == label
        right["top5"] += label in order[:5]
    assert found["num_images"] == 24
    assert 0 < right["top1"] < right["top5"] < 24, "a case that could be counted wrongly"
    assert found["metrics"] == {"top1": right["top1"] / 24, "top5": right["top5"] / 24}


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(data: Path, tmp_path: Path) -> None:
    config = tiny(**{"train.epochs": 1})
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        settings = override(config, {"train.seed": seed})
        pretrain(settings, data, tmp_path / name, name="glore_tiny", device="cpu", quiet=True)
    one, again, other = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "again", "other")
    )
    assert one == again != other


def test_a_cut_depends_on_seed_epoch_and_picture_alone(data: Path) -> None:
    images = load_labelled_images(data, "train")
    dataset = SquareImages(images, 64, cut="random", flip=0.5, seed=4)
    first, state = dataset[3][0], torch.get_rng_state()
    torch.manual_seed(99)
    assert torch.equal(dataset[3][0], first)
    torch.set_rng_state(state)
    dataset[2]
    assert torch.equal(torch.get_rng_state(), state), "the global generator is left alone"
    dataset.epoch = 1
    assert not torch.equal(dataset[3][0], first)
    assert not torch.equal(SquareImages(images, 64, cut="random", seed=5)[3][0], first)


def test_pictures_are_found_at_any_depth_and_labelled_by_folder(data: Path) -> None:
    (data / "train" / "red" / "notes.txt").write_text("not a picture")
    (data / "train" / "readme.txt").write_text("not a class")
    images = load_labelled_images(data, "train")
    assert images.class_names == ("blue", "green", "red")
    assert Counter(images.labels_I.tolist()) == {0: 6, 1: 6, 2: 6}
    assert all(
        images.class_names[label] in path.parts
        for path, label in zip(images.paths, images.labels_I, strict=True)
    )


def remove_pictures(data: Path) -> None:
    for path in (data / "val" / "red").rglob("*.png"):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (
            lambda data: (data / "val").rename(data / "test"),
            InputError,
            r"val: no such folder; expected DIR/val/",
        ),
        (remove_pictures, InputError, r"red: found no picture"),
        (
            lambda data: (data / "val" / "red").rename(data / "val" / "rot"),
            ClassMatchError,
            r'found no class "red", which .*train has; expected the same folders',
        ),
        (
            lambda data: (data / "train" / "red" / "0.png").write_bytes(b"broken"),
            InputError,
            r"0\.png: cannot be decoded",
        ),
    ],
    ids=["no-split", "empty-class", "other-classes", "broken-picture"],
)
def test_bad_data_is_one_clear_line(
    data: Path, tmp_path: Path, spoil: object, error: type[Exception], message: str
) -> None:
    spoil(data)
    with pytest.raises(error, match=message):
        pretrain(tiny(), data, tmp_path / "run", name="glore_tiny", device="cpu", quiet=True)


def test_a_single_folder_is_no_classes(tmp_path: Path) -> None:
    (tmp_path / "train" / "only").mkdir(parents=True)
    with pytest.raises(InputError, match="found 1 folders; expected a folder for each class"):
        load_labelled_images(tmp_path, "train")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--backbone", "vcrnet_resnet50"), "did you mean vcrnet_resnext50"),
        (("--set", "backbone.blocks.0.sampler=mean"), "expected pool or static or dynamic"),
        (("--set", "backbone.weights=imagenet"), "pre-training has none only"),
        (("--set", "backbone.trainable_layers=3"), "pre-training has 5 only"),
        (("--set", "label_smoothing=1"), "label_smoothing: found 1.0; expected 0 or more, below 1"),
        (("--image-size", "32"), "Invalid value for '--image-size'"),
        (("--set", "image_size=32"), "image_size: found 32; expected 64 or more px"),
    ],
)
def test_wrong_settings_are_one_line_and_code_two(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    given = ["pretrain", "--data", data, "--backbone", "vcrnet_tiny", "--out", tmp_path / "run", *arguments]
    assert call(*given) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert output.out == ""
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten_silently_and_other_folders_never(data: Path, tmp_path: Path) -> None:
    config, run = tiny(**{"train.epochs": 1}), tmp_path / "run"
    pretrain(config, data, run, name="glore_tiny", device="cpu", quiet=True)
    with pytest.raises(OutputExistsError, match="already exists; give --overwrite"):
        pretrain(config, data, run, name="glore_tiny", device="cpu", quiet=True)
    pretrain(config, data, run, name="glore_tiny", device="cpu", overwrite=True, quiet=True)
    with pytest.raises(OutputExistsError, match="holds other things than a run"):
        pretrain(config, data, data, name="glore_tiny", device="cpu", overwrite=True, quiet=True)


def test_a_loss_that_is_not_finite_stops_the_run(data: Path, tmp_path: Path) -> None:
    config = tiny(
        **{
            "train.lr": 1e30,
            "train.optimizer": "sgd",
            "train.schedule": "constant",
            "train.warmup_iterations": 0,
        }
    )
    with pytest.raises(
        TrainingError, match=r"step \d+: (class|gradient norm) is (nan|inf); try a lower train\.lr"
    ):
        pretrain(config, data, tmp_path / "run", name="glore_tiny", device="cpu", quiet=True)


def test_accuracy_is_printed_in_percent(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--backbone", "tiny", "--out", tmp_path / "run", "--epochs", 1, "--image-size", 64]
    assert call("pretrain", "--data", data, *given, "--set", "train.workers=0") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{data / 'val'}, 9 images, accuracy in percent"
    assert lines[2].split() == ["top5", "100.0"], "three classes"
    assert call("pretrain", "--help") == 0
    assert "Example: detector pretrain" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "million"),
    [
        ("resnext50_32x4d", 25.03),
        ("se_resnext50", 27.56),
        ("cbam_resnext50", 27.56),
        ("gc_resnext50", 27.58),
        ("glore_resnext50", 30.78),  # 30.79 printed
        ("vcrnet_resnext50", 25.26),
        ("vcrnet_resnext50_pixel", 25.26),
        ("resnext101_32x4d", 44.18),
        ("se_resnext101", 48.96),
        ("cbam_resnext101", 48.96),
        ("gc_resnext101", 48.99),
        ("glore_resnext101", 49.92),  # 49.93 printed
        ("vcrnet_resnext101", 44.60),
    ],
)
def test_the_backbones_have_the_parameters_of_vcrnets_table_one(name: str, million: float) -> None:
    with torch.device("meta"):
        classifier = build_classifier(BACKBONES[name], 1000)
    assert round(sum(parameter.numel() for parameter in classifier.parameters()) / 1e6, 2) == million


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_builds_with_all_of_it_training(name: str) -> None:
    with torch.device("meta"):
        classifier = build_classifier(BACKBONES[name], 7)
    assert all(parameter.requires_grad for parameter in classifier.parameters())
    if name != BACKBONES[name].name:
        assert BACKBONES[name].blocks, "a name of our own has blocks"


def test_an_unknown_backbone_gets_its_near_names_or_all() -> None:
    with pytest.raises(ConfigError, match="backbone glore_resnet: not known; did you mean glore_resnet50"):
        load_backbone("glore_resnet")
    with pytest.raises(ConfigError, match="expected one of resnet18, "):
        load_backbone("xyz")


def test_a_frozen_backbone_is_no_classifier() -> None:
    with pytest.raises(ConfigError, match=r"backbone\.trainable_layers: found 3; pre-training has 5 only"):
        build_classifier(BackboneConfig("resnet18", trainable_layers=3), 5)
