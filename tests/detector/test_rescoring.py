"""The class graph on the detections of any detector."""

import codecs
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.cli import main
from detector.errors import ClassMatchError, ConfigError, InputError, OutputExistsError
from detector.rescoring import moved_scores, rescore_file
from kgtool.graph import make_graph, save_graph

CATEGORIES = ["cup", "kettle", "tyre", "car"]
COUNTS = np.array([[5, 40, 0, 0], [40, 0, 1, 0], [0, 1, 0, 30], [0, 0, 30, 8]])
#: One object twice, one far away, one that is unlike the others.
DETECTIONS = [
    ([0, 0, 10, 10], 1, 0.6),
    ([1, 0, 10, 10], 3, 0.4),
    ([50, 0, 10, 10], 2, 0.9),
    ([0, 50, 20, 10], 4, 0.3),
]


def write_graph(path: Path, counts: np.ndarray | None = COUNTS, kind: str = "relation") -> Path:
    graph = make_graph(
        classes=[*reversed(CATEGORIES)],
        synsets=[""] * 4,
        weight=np.ones((4, 4)),
        counts=None if counts is None else counts[::-1, ::-1],
        kind=kind,
        recipe={"name": "paper"},
        dataset="test",
    )
    save_graph(graph, path, overwrite=True)
    return path


def results(image: int = 7) -> list[dict[str, Any]]:
    return [
        {
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "score": score,
            "category_name": CATEGORIES[category - 1],
            "mine": number,
        }
        for number, (box, category, score) in enumerate(DETECTIONS)
    ]


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


def world(
    num_images: int = 60, seed: int = 0, split: str = "test"
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Images with a cup and a kettle, or a tyre and a car; the detector mixes up cup and tyre."""
    rng = np.random.default_rng(seed)
    annotations, found = [], []
    for image in range(num_images):
        first, second = (1, 2) if rng.random() < 0.5 else (3, 4)
        for number, category in enumerate((first, second)):
            box = [60 * number, 0, 20, 20]
            annotations.append({"image_id": image, "category_id": category, "bbox": box, "iscrowd": 0})
            found.append({"image_id": image, "category_id": category, "bbox": box, "score": 0.5})
            if number == 0:
                found[-1]["score"] = 0.3 + 0.4 * rng.random()
                wrong = {**found[-1], "category_id": 4 - first, "score": 0.3 + 0.4 * rng.random()}
                found.append(wrong)
    images = [
        {"id": image, "file_name": f"{split}_{image}.jpg", "width": 100, "height": 100}
        for image in range(num_images)
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(CATEGORIES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}, found


def loops(strength: float) -> list[float]:
    """The equations at the top of rescoring.py, one sum at a time, without the smoothing's details."""
    both = COUNTS.astype(float)
    total = both.sum()
    lift = [
        [(both[c, d] + 1) / (both[c].sum() * both[d].sum() / total + 1) for d in range(4)] for c in range(4)
    ]

    def overlap(one: list[int], two: list[int]) -> float:
        width = min(one[0] + one[2], two[0] + two[2]) - max(one[0], two[0])
        height = min(one[1] + one[3], two[1] + two[3]) - max(one[1], two[1])
        common = max(width, 0) * max(height, 0)
        return common / (one[2] * one[3] + two[2] * two[3] - common)

    moved = []
    for box, category, score in DETECTIONS:
        context = 0.0
        for other, spoken, loud in DETECTIONS:
            if overlap(box, other) < 0.3:
                voices = sum(third for near, _, third in DETECTIONS if overlap(other, near) > 0.4)
                message = math.log(1 - loud + loud * lift[spoken - 1][category - 1])
                context += message / max(1.0, voices)
        odds = score / (1 - score) * math.exp(strength * context)
        moved.append(odds / (1 + odds))
    return moved


def test_scores_are_those_of_loops_over_the_equations(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "g.npz")
    two = [*results(7), *results(9)]
    for strength in (0.5, 1.5):
        rescore_file(
            graph,
            write(tmp_path / "d.json", [two[i] for i in (0, 5, 2, 1, 4, 3, 6, 7)]),
            tmp_path / "o.json",
            strength=strength,
            overwrite=True,
        )
        found = sorted(
            json.loads((tmp_path / "o.json").read_text()), key=lambda row: (row["image_id"], row["mine"])
        )
        np.testing.assert_allclose([row["score"] for row in found], loops(strength) * 2, rtol=1e-9)


def test_everything_but_the_score_is_passed_on_in_order_and_strength_zero_changes_nothing(
    tmp_path: Path,
) -> None:
    graph, dets = write_graph(tmp_path / "g.npz"), write(tmp_path / "d.json", results())
    rescore_file(graph, dets, tmp_path / "zero.json", strength=0.0)
    assert json.loads((tmp_path / "zero.json").read_text()) == results()
    rescore_file(graph, dets, tmp_path / "half.json")
    half = json.loads((tmp_path / "half.json").read_text())
    assert [{**row, "score": 0} for row in half] == [{**row, "score": 0} for row in results()]
    assert [row["score"] for row in half] != [row["score"] for row in results()]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.floats(-50, 50), st.floats(0, 100))
def test_scores_stay_scores_and_keep_their_order_under_one_context(
    scores: list[float], context: float, strength: float
) -> None:
    before = np.sort(np.array(scores))
    with np.errstate(over="ignore"):
        after = moved_scores(before, np.full(len(before), context), strength)
    assert ((after >= 0) & (after <= 1)).all()
    assert (np.diff(after) >= 0).all()


def test_a_right_graph_helps_and_a_shuffled_one_is_printed_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, found = world()
    arguments = ["rescore", "--graph", str(write_graph(tmp_path / "g.npz"))]
    arguments += ["--detections", str(write(tmp_path / "d.json", found)), "--out", str(tmp_path / "o.json")]
    arguments += ["--annotations", str(write(tmp_path / "a.json", truth)), "--json", "--overwrite"]
    for strength in ("0.5", "auto"):
        with pytest.raises(SystemExit) as end:
            main([*arguments, "--strength", strength, "--learn-images", "20", "--seed", "0"])
        assert end.value.code == 0
        report = json.loads(capsys.readouterr().out)
        ap = {name: metrics["AP"] for name, metrics in report["metrics"].items()}
        assert ap["after"] > ap["before"] + 0.08
        assert ap["shuffled"] < ap["after"]
        assert report["evaluated_images"] == (60 if strength == "0.5" else 40)
        if strength == "auto":
            assert report["strength"] > 0.2
            assert abs(ap["shuffled"] - ap["before"]) < 0.02  # a useless graph is not trusted


def test_with_trust_a_wrong_graph_does_no_harm_and_a_right_one_helps(tmp_path: Path) -> None:
    truth, found = world()
    dets, annotations = write(tmp_path / "d.json", found), write(tmp_path / "a.json", truth)
    train = write(tmp_path / "train.json", world(seed=1, split="train")[0])
    wrong = COUNTS[[2, 1, 0, 3]][:, [2, 1, 0, 3]]  # cups with cars, tyres with kettles
    ap = {}
    for name, counts in (("right", COUNTS), ("wrong", wrong)):
        graph = write_graph(tmp_path / "g.npz", counts)
        for trust in (None, train):
            report = rescore_file(
                graph, dets, tmp_path / "o.json", annotations=annotations, trust=trust, overwrite=True
            )
            before = report["metrics"]["before"]["AP"]
            ap[name, trust is not None] = report["metrics"]["after"]["AP"] - before
    assert ap["right", True] == pytest.approx(ap["right", False], abs=0.01)
    assert ap["right", True] > 0.08
    assert ap["wrong", False] < -0.05
    assert ap["wrong", True] > -0.005


def test_trust_is_not_learned_from_the_images_that_ap_is_computed_from(tmp_path: Path) -> None:
    truth, found = world()
    graph, dets = write_graph(tmp_path / "g.npz"), write(tmp_path / "d.json", found)
    annotations = write(tmp_path / "a.json", truth)
    train = world(seed=1, split="train")[0]
    number, place = len(train["images"]), truth["images"][3]
    train["images"].append({**place, "id": number})
    train["annotations"] += [
        {**box, "image_id": number}
        for box in reversed(truth["annotations"])
        if box["image_id"] == place["id"]
    ]
    for trust, line in (
        (annotations, "60 of its images"),
        (write(tmp_path / "t.json", train), "1 of its im"),
    ):
        with pytest.raises(InputError, match=f"--trust .*: {line}.* are in .*a.json too; expected other"):
            rescore_file(graph, dets, tmp_path / "o.json", annotations=annotations, trust=trust)
        assert not (tmp_path / "o.json").exists()


def test_what_cannot_be_rescored_is_one_clear_line(tmp_path: Path) -> None:
    graph, good = write_graph(tmp_path / "g.npz"), results()

    def fails(error: type[Exception], match: str, dets: object = good, **options: Any) -> None:
        place = write(tmp_path / "d.json", dets)
        with pytest.raises(error, match=match):
            rescore_file(options.pop("graph", graph), place, tmp_path / "o.json", **options)
        assert not (tmp_path / "o.json").exists()

    fails(InputError, "expected COCO results: a list", {"a": 1})
    fails(InputError, "record 0: found score 1.5", [{**good[0], "score": 1.5}])
    nameless = [{key: value for key, value in good[0].items() if key != "category_name"}]
    fails(InputError, "category_id 1 has no name", nameless)
    fails(InputError, "'cat' here and 'cup' before", [good[0], {**good[0], "category_name": "cat"}])
    fails(ClassMatchError, "cats", [{**good[0], "category_name": "cats"}])
    fails(ConfigError, "no counts of class pairs", graph=write_graph(tmp_path / "n.npz", None))
    fails(ConfigError, "no counts of class pairs", graph=write_graph(tmp_path / "a.npz", kind="attribute"))
    fails(ConfigError, "needs --annotations", strength=None)
    truth = write(tmp_path / "t.json", world(5)[0])
    fails(ConfigError, "--learn-images 100: .* has 5 images", strength=None, annotations=truth)
    fails(ConfigError, "have 0 right of 0", strength=None, annotations=truth, learn_images=2)
    (tmp_path / "there.json").write_text("x")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        rescore_file(graph, write(tmp_path / "d.json", good), tmp_path / "there.json")


def test_a_strength_that_is_none_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("much", "-1", "nan"):
        with pytest.raises(SystemExit) as end:
            main(["rescore", "--graph", "g", "--detections", "d", "--out", "o", "--strength", text])
        assert end.value.code == 2
        assert f"found {text}; expected 0 to 100, or auto" in capsys.readouterr().err


def test_a_byte_order_mark_in_detections_changes_nothing(tmp_path: Path) -> None:
    truth, graph = write(tmp_path / "t.json", world(3)[0]), write_graph(tmp_path / "g.npz")
    plain = write(tmp_path / "d.json", world(3)[1])
    (tmp_path / "m.json").write_bytes(codecs.BOM_UTF8 + plain.read_bytes())
    for name in ("d", "m"):
        rescore_file(graph, tmp_path / f"{name}.json", tmp_path / f"{name}_out.json", annotations=truth)
    assert (tmp_path / "d_out.json").read_bytes() == (tmp_path / "m_out.json").read_bytes()


def test_no_detections_are_no_error(tmp_path: Path) -> None:
    truth = write(tmp_path / "t.json", world(3)[0])
    report = rescore_file(
        write_graph(tmp_path / "g.npz"),
        write(tmp_path / "d.json", []),
        tmp_path / "o.json",
        annotations=truth,
    )
    assert json.loads((tmp_path / "o.json").read_text()) == []
    assert report["metrics"]["after"]["AP"] == 0
