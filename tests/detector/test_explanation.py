"""What is behind a score: attention, edges and objects, each against the thing itself done by hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from run_folders import write_run
from tiny_data import write_data
from tiny_models import (
    NUM_CLASSES,
    head_inputs,
    random_graph,
    random_image,
    random_regions,
    tiny_config,
    tiny_model,
)
from torchvision.ops import box_iou

from detector.checkpoint import save_weights
from detector.cli import main
from detector.config import StageConfig
from detector.explanation import Explanation, explain, to_document
from detector.head_views import ClassHead, RegionHead, without_edge
from detector.interfaces import HeadConfig, TwoLinearConfig
from detector.overrides import override
from detector.positions import POSITIONS, UNNAMED, PositionCounts, positions_of
from detector.rcnn import RCNN, build_model
from detector.reasoning.class_lift import ClassLiftConfig, speak
from detector.reasoning.reasoning_rcnn import ReasoningConfig
from detector.reasoning.relation_networks import RelationConfig
from detector.reasoning.sgrn import SGRNConfig
from detector.recipes import load_recipe

REASONING = [
    ReasoningConfig(form=form, pool=pool, width=8, squeeze=6)
    for form in ("printed", "released", "working")
    for pool in ("classifier", "region")
]
SGRN = SGRNConfig(form="working", nodes="soft", neighbours=4, kernels=2, latent=8, hidden=8, width=8)
RELATION = RelationConfig(width=16, heads=4, key_width=4)
LOW = {"score_threshold": 0.0, "detections_per_image": 6}


def loud(model: RCNN, scale: float = 3.0) -> RCNN:
    """The same with larger weights in head and class layers, so that every score moves visibly."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith("stages.") and weight.ndim > 1:
                weight.mul_(scale)
    return model.eval()


def relation_model() -> RCNN:
    return loud(tiny_model(stages=(StageConfig(RELATION),), **LOW))


def explained(model: RCNN) -> Explanation:
    return explain(model, random_image(0), threshold=0.0, most_detections=4, most=5)


def scores_of(model: RCNN) -> torch.Tensor:
    with torch.no_grad():
        return model.score(model.look([random_image(0)])[1])


@pytest.mark.parametrize("config", REASONING, ids=lambda config: f"{config.form}-{config.pool}")
def test_attention_is_a_share_for_each_class_and_background_has_the_rest(config: ReasoningConfig) -> None:
    head = config.build(head_inputs(width=10))
    regions = random_regions([0, 1, 1, 0], 2, width=10)
    assert isinstance(head, ClassHead)
    pooled = torch.rand(4, 6, 3, 3)
    alpha_BC = head.class_attention(pooled, regions).detach()
    assert alpha_BC.shape == (2, NUM_CLASSES)
    assert (alpha_BC > 0).all()
    if config.form == "working":
        torch.testing.assert_close(alpha_BC.sum(dim=1), torch.ones(2))
    else:  # the rest is background's
        assert (alpha_BC.sum(dim=1) < 1).all()


@pytest.mark.parametrize("form", ["printed", "working"])
def test_a_graph_without_an_edge_gives_what_a_head_built_without_it_gives(form: str) -> None:
    config = ReasoningConfig(form=form, width=8, squeeze=6)
    inputs = head_inputs(width=10)
    head = config.build(inputs).eval()
    first, second = next(pair for pair in torch.nonzero(random_graph()).tolist() if pair[0] != pair[1])
    thinner = random_graph()
    thinner[first, second] = thinner[second, first] = 0
    other = config.build(replace(inputs, graphs=thinner)).eval()
    other.load_state_dict({**head.state_dict(), "graphs": other.graphs})
    regions, pooled = random_regions([0, 0, 0], 1, width=10), torch.rand(3, 6, 3, 3)
    with torch.no_grad():
        before = head(pooled, regions)[0]
        with without_edge(head, 0, first, second):
            torch.testing.assert_close(head(pooled, regions)[0], other(pooled, regions)[0])
            assert not torch.equal(head(pooled, regions)[0], before)
        assert torch.equal(head(pooled, regions)[0], before)


@pytest.mark.parametrize("form", ["printed", "released", "working"])
def test_the_score_without_an_edge_is_that_of_the_detector_without_it(form: str) -> None:
    model = loud(tiny_model(ReasoningConfig(form=form, width=8, squeeze=6), **LOW))
    before, weights = scores_of(model), {name: part.clone() for name, part in model.state_dict().items()}
    found = explained(model).detections
    effects = [(detection, edge) for detection in found for edge in detection.edges]
    assert effects
    head = model.stages[-1].head
    for detection, edge in effects:
        label = detection.class_index + 1
        row = int((before[:, label] - detection.score).abs().argmin())
        assert before[row, label].item() == pytest.approx(detection.score, abs=1e-6)
        first, second = edge.classes
        shift = head.graphs.shape[-1] - NUM_CLASSES  # background is the first row of two forms
        kept = head.graphs.clone()
        head.graphs[0, first + shift, second + shift] = head.graphs[0, second + shift, first + shift] = 0
        head.forget()
        assert scores_of(model)[row, label].item() == pytest.approx(edge.score, abs=1e-6)
        head.graphs.copy_(kept)
        head.forget()
    for detection in found:
        changes = [abs(edge.score - detection.score) for edge in detection.edges]
        assert changes == sorted(changes, reverse=True)
    assert all(torch.equal(part, weights[name]) for name, part in model.state_dict().items())
    assert not head.graphs.requires_grad
    assert torch.equal(scores_of(model), before)


def test_of_a_large_graph_the_edges_with_the_largest_messages_are_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside every edge taken out in turn: the one that moves a score most is among them."""
    model = loud(tiny_model(ReasoningConfig(form="working", width=8, squeeze=6), **LOW))
    every = explained(model).detections
    monkeypatch.setattr("detector.edge_effects.EVERY_EDGE", 0)
    monkeypatch.setattr("detector.edge_effects.TRIED", 1)
    few = explained(model).detections
    assert len(every) == len(few) == 4
    for one, other in zip(every, few, strict=True):
        assert one.edges[0] in other.edges


@pytest.mark.parametrize(
    "make",
    [lambda: loud(tiny_model(SGRN, **LOW)), relation_model],
    ids=["sgrn", "relation"],
)
def test_regions_that_look_at_each_other_have_weights_and_objects_that_matter(
    make: Callable[[], RCNN],
) -> None:
    explanation = explained(make())
    assert explanation.attention_C is None
    for found in explanation.detections:
        assert found.edges == ()
        assert len(found.looks_M) == len(found.looks_M4) == 5
        assert (found.looks_M.diff() <= 0).all()
        assert 0 < float(found.looks_M.sum()) <= 1 + 1e-5
    effects = [effect for found in explanation.detections for effect in found.objects]
    assert effects
    assert all(effect.weight is not None and -1e-6 <= effect.weight <= 1 + 1e-5 for effect in effects)


def test_where_regions_do_not_see_each_other_no_object_moves_another() -> None:
    explanation = explained(loud(tiny_model(ReasoningConfig(form="working", width=8, squeeze=6), **LOW)))
    assert explanation.attention_C is not None
    assert all(found.objects == () and len(found.looks_M) == 0 for found in explanation.detections)


@pytest.mark.parametrize("config", [SGRN, RELATION], ids=["sgrn", "relation"])
def test_weights_of_regions_sum_to_one_and_stay_in_their_image(config: HeadConfig) -> None:
    head = config.build(head_inputs(width=10))
    assert isinstance(head, RegionHead)
    regions = random_regions([0, 1, 1, 0, 1], 2, width=10)
    weight_RR = head.region_weights(torch.rand(5, 6, 3, 3), regions)
    torch.testing.assert_close(weight_RR.sum(dim=1), torch.ones(5))
    assert (weight_RR[regions.image_R[:, None] != regions.image_R] == 0).all()


def test_a_plain_detector_and_an_image_without_detections_have_nothing_to_tell() -> None:
    plain = explained(tiny_model(**LOW).eval())
    assert all(not (found.edges or found.objects) for found in plain.detections)
    model = tiny_model(ReasoningConfig(width=8, squeeze=6)).eval()
    none = explain(model, random_image(0), threshold=1.0)
    assert none.detections == ()
    names = [f"class {number}" for number in range(NUM_CLASSES)]
    assert len(to_document(none, names, top=3)["attention"]) == 3


def test_the_command_writes_json_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_data(tmp_path / "data", train=3, test=1)
    run, image, out = tmp_path / "run", data / "images" / "test_0.png", tmp_path / "why"
    config = override(load_recipe("reasoning_rcnn_sample"), {"model.score_threshold": 0.0})
    write_run(run, config, data, graph_CC=torch.ones(3, 3))
    arguments = ["explain", run, image, "--out", out, "--threshold", 0, "--detections", 2]

    def call(*more: object) -> int:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in (*arguments, *more)])
        return int(end.value.code or 0)

    assert call("--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((out / "explanation.json").read_text())
    assert {row["class"] for row in document["attention"]} == {"red", "green", "blue"}
    assert len(document["detections"]) == 2
    for name in ("attention.png", "detection_1.png", "detection_2.png"):
        with Image.open(out / name) as picture:
            assert min(picture.size) > 200
    assert call() == 1
    assert "--overwrite" in capsys.readouterr().err
    assert call("--overwrite", "--no-pictures") == 0
    assert [path.name for path in out.iterdir()] == ["explanation.json"]
    assert "attention: " in capsys.readouterr().out


def lift_model(counts_CC: torch.Tensor, strength: float = 2.0, *, positions: bool = False) -> RCNN:
    update = ClassLiftConfig(strength=strength, positions=positions)
    counted = position_counts() if positions else None
    stage = StageConfig(TwoLinearConfig(16), score_update=update)
    torch.manual_seed(0)
    config = tiny_config(stages=(stage,), **LOW)
    return loud(build_model(config, NUM_CLASSES, None, counts_CC, None, counted))


CORPUS = torch.eye(NUM_CLASSES) * 90 + 1
kinds_of_lift = pytest.mark.parametrize("positions", [False, True], ids=["anywhere", "by position"])


def position_counts() -> PositionCounts:
    """Counts in which a class at a place says something about the one seen from it, and not the reverse."""
    size = (len(POSITIONS), NUM_CLASSES, NUM_CLASSES)
    counts_PCC = torch.randint(0, 30, size, generator=torch.Generator().manual_seed(5)).double()
    index = counts_PCC.nonzero().T
    return PositionCounts(NUM_CLASSES, index, counts_PCC[tuple(index)])


def test_class_lift_hears_other_objects() -> None:
    """What an object says about a class moves a score; counts that say nothing move none."""
    found = {
        name: explained(lift_model(counts_CC)).detections
        for name, counts_CC in (("corpus", CORPUS), ("nothing", torch.zeros(NUM_CLASSES, NUM_CLASSES)))
    }
    moved = {name: [other for one in of for other in one.objects] for name, of in found.items()}
    assert moved["corpus"]
    assert all(effect.weight is None for effect in moved["corpus"])
    assert any(one.edges for one in found["corpus"])
    assert not moved["nothing"]
    assert not any(one.edges for one in found["nothing"])


@kinds_of_lift
def test_the_score_without_a_pair_is_that_of_class_lift_where_its_lift_is_one(positions: bool) -> None:
    model = lift_model(CORPUS, positions=positions)
    update = model.stages[0].score_update
    excess = [update.excess_CC, *(update.excess_PCC if positions else ())]
    before, kept = scores_of(model), [matrix.clone() for matrix in excess]
    found = explained(model).detections
    assert all(map(torch.equal, excess, kept))
    effects = [(detection, edge) for detection in found for edge in detection.edges]
    assert effects
    for detection, edge in effects:
        label = detection.class_index + 1
        row = int((before[:, label] - detection.score).abs().argmin())
        assert edge.graph is None
        assert edge.weight == pytest.approx(1 + float(kept[0][edge.classes]))
        for matrix in excess:
            matrix[edge.classes] = matrix[edge.classes[::-1]] = 0
        assert scores_of(model)[row, label].item() == pytest.approx(edge.score, abs=1e-6)
        for matrix, before_it in zip(excess, kept, strict=True):
            matrix.copy_(before_it)


@kinds_of_lift
def test_what_a_pair_says_is_the_context_that_goes_with_it_and_is_told_apart_by_who_says_it(
    positions: bool,
) -> None:
    """Context with and without the pair, of all regions and, by hand, of those on each object."""
    model = lift_model(CORPUS, strength=0.7, positions=positions)
    found = explained(model).detections
    update, layer = model.stages[0].score_update, model.stages[0].class_layer
    with torch.no_grad():
        _, regions, _ = model.look([random_image(0)])
        batch, _ = model.transform([random_image(0)])
        proposed, _ = model.proposals(batch, model.backbone(batch.tensors), None)
        probability_RK = layer(model.walk(proposed)[1][0].features_RD).softmax(dim=1)
        scores_RK = model.score(regions)
        boxes_R4 = proposed.boxes_R4
        overlap_RR = box_iou(boxes_R4, boxes_R4)
        voices_R = ((overlap_RR > 0.4).float() @ (1 - probability_RK[:, 0])).clamp(min=1)
        place_RR = positions_of(boxes_R4, boxes_R4) if positions else torch.full_like(overlap_RR, UNNAMED)

        def said_to(row: int) -> torch.Tensor:
            """What each region says to one about every class, (R, C)."""
            lifts = [*(update.excess_PCC if positions else [None] * len(POSITIONS)), update.excess_CC]
            said = [
                speak(probability_RK[j : j + 1], lifts[int(place_RR[row, j])])[0]
                for j in range(len(boxes_R4))
            ]
            return 0.7 * torch.stack(said) * ((overlap_RR[row] < 0.3) / voices_R)[:, None]

        told = 0
        for place, one in enumerate(found):
            row = int((scores_RK[:, one.class_index + 1] - one.score).abs().argmin())
            context_C = 0.7 * update.listen(probability_RK, proposed)[row]
            said_RC = said_to(row)
            torch.testing.assert_close(said_RC.sum(dim=0), context_C, rtol=1e-4, atol=1e-4)
            for edge in one.edges:
                with without_edge(update, 0, *edge.classes):
                    less_RC = said_RC - said_to(row)
                assert {message.about for message in edge.messages} <= set(edge.classes)
                for message in edge.messages:
                    expected = float(less_RC[:, message.about].sum())
                    assert message.log_odds == pytest.approx(expected, abs=1e-4)
                    sizes = [abs(part) for _, part in message.senders]
                    assert sizes == sorted(sizes, reverse=True)
                    for other, part in message.senders:
                        on_it = box_iou(found[other].box_4[None], regions.boxes_R4)[0] >= 0.5
                        assert part == pytest.approx(float(less_RC[on_it, message.about].sum()), abs=1e-4)
                        assert other != place
                        told += 1
        assert told > 3


@kinds_of_lift
def test_of_many_pairs_the_one_that_moves_a_score_most_is_among_those_tried(
    positions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = lift_model(CORPUS, positions=positions)
    every = explained(model).detections
    monkeypatch.setattr("detector.edge_effects.EVERY_EDGE", 0)
    few = explained(model).detections
    for one, other in zip(every, few, strict=True):
        assert one.edges[0] in other.edges


def test_the_command_names_pairs_and_who_says_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path / "data", train=3, test=1)
    run, image, out = tmp_path / "run", data / "images" / "test_0.png", tmp_path / "why"
    config = override(
        load_recipe("class_lift_sample"),
        {"model.score_threshold": 0.0, "model.stages.0.score_update.strength": 3.0},
    )
    model = write_run(run, config, data, counts_CC=torch.eye(3) * 90 + 1)
    with torch.no_grad():
        model.stages[0].class_layer.weight.mul_(60)
    save_weights(model, run)
    arguments = ["explain", run, image, "--out", out, "--threshold", 0, "--detections", 6]
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert ", lift " in printed
    edges = [
        edge
        for row in json.loads((out / "explanation.json").read_text())["detections"]
        for edge in row["edges"]
    ]
    assert edges
    for edge in edges:
        assert edge["lift"] > 0
        assert set(edge["said_by"]) <= {
            one["detection"] for message in edge["messages"] for one in message["from"]
        }
    assert any(edge["said_by"] for edge in edges)
    assert "said by" in printed
    with Image.open(out / "detection_1.png") as picture:
        assert min(picture.size) > 200


def test_the_score_without_an_object_is_that_of_the_stages_without_the_regions_on_it() -> None:
    model = loud(tiny_model(SGRN, **LOW))
    image = random_image(0)
    found = explained(model).detections
    with torch.no_grad():
        batch, _ = model.transform([image])
        proposed, _ = model.proposals(batch, model.backbone(batch.tensors), None)
        regions = model.walk(proposed)[2]
        scores_RK = model.score(regions)
        for one in found:
            label = one.class_index + 1
            row = int((scores_RK[:, label] - one.score).abs().argmin())
            for effect in one.objects:
                other = found[effect.detection]
                on_it = (
                    box_iou(other.box_4[None], regions.boxes_R4)[0] >= 0.5
                )  # images of 64 px stay as they are
                gone = on_it & ~(box_iou(one.box_4[None], regions.boxes_R4)[0] >= 0.5)
                gone[row] = False
                left = model.score(model.walk(proposed[~gone])[2])
                assert left[int((~gone)[:row].sum()), label].item() == pytest.approx(effect.score, abs=1e-5)
