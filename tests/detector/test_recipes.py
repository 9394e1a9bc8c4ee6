"""What a recipe promises."""

import inspect

import pytest
import torch

from detector.ablation_variants import list_variants
from detector.config import reads_graph
from detector.errors import ConfigError
from detector.overrides import flatten, override
from detector.rcnn import build_model
from detector.recipes import RECIPES, load_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_how_it_is_run_and_what_to_expect(name: str) -> None:
    assert load_recipe(name).recipe == name
    documentation = inspect.getdoc(RECIPES[name])
    for label in ("Command: detector train", "Machine:", "Expected:", "Table:"):
        assert f"\n{label}" in documentation
    words = documentation.split()
    assert words[words.index("--recipe") + 1] == name
    assert ("--graph" in documentation) == reads_graph(load_recipe(name).model)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_builds_a_model_whose_parts_fit(name: str) -> None:
    config = override(load_recipe(name), {"model.backbone.weights": "none"})
    with torch.device("meta"):  # shapes alone: drawing the weights of all recipes takes minutes
        model = build_model(config.model, 3, torch.eye(3), torch.eye(3))
    num_stages = {"reasoning": 2, "sgrn": 2, "stacked": 2, "cascade": 3}
    before_stages = "retinanet" in name  # its dense head does what elsewhere a first stage does
    assert len(model.stages) == num_stages.get(name.partition("_")[0], 1) - before_stages


def differing(one: str, other: str) -> set[str]:
    """The settings in which two recipes differ."""
    flat = [flatten(load_recipe(name)) for name in (one, other)]
    return {key for key in flat[0].keys() | flat[1].keys() if flat[0].get(key) != flat[1].get(key)}


def test_recipes_have_the_printed_form_unless_their_name_says_otherwise() -> None:
    forms = {name: flatten(load_recipe(name)).get("model.stages.1.head.form") for name in RECIPES}
    form_by_last_word = {
        "working": "working",
        "sample": "working",
        "small": "working",
        "released": "released",
    }
    for name, form in forms.items():
        assert form in (None, form_by_last_word.get(name.rpartition("_")[2], "printed")), name
    assert {name.partition("_")[0] for name, form in forms.items() if form} >= {"reasoning", "sgrn"}


def test_reasoning_and_baseline_differ_in_the_second_stage_alone() -> None:
    for reasoning, plain in (
        ("reasoning_rcnn_sample", "faster_rcnn_sample"),
        ("reasoning_rcnn_r18_small", "faster_rcnn_r18_small"),
        ("sgrn_sample", "faster_rcnn_sample"),
        ("stacked_plain_sample", "faster_rcnn_sample"),
        ("sgrn_sample", "stacked_plain_sample"),
        ("reasoning_rcnn_kept_sample", "faster_rcnn_sample"),
        ("reasoning_rcnn_kept_sample", "stacked_plain_kept_sample"),
        ("reasoning_rcnn_kept_sample", "stacked_context_kept_sample"),
        ("reasoning_rcnn_r50_fpn_working", "stacked_plain_kept_r50_fpn"),
        ("reasoning_rcnn_r50_fpn_working", "stacked_context_kept_r50_fpn"),
    ):
        assert all(key.startswith("model.stages.1.") for key in differing(reasoning, plain))


def test_what_is_recommended_at_full_size_keeps_the_regions_of_the_first_stage() -> None:
    for name in ("reasoning_rcnn_r50_fpn_working", "reasoning_rcnn_kept_sample"):
        first, second = load_recipe(name).model.stages
        assert second.regions == "kept"
        assert (second.foreground_iou, second.box_std) == (first.foreground_iou, first.box_std)


@pytest.mark.parametrize(
    ("name", "controls"),
    [
        ("reasoning_rcnn_sample", ["stacked_plain_sample", "stacked_context_sample"]),
        ("sgrn_sample", ["stacked_plain_sample", "stacked_context_sample"]),
        ("reasoning_rcnn_kept_sample", ["stacked_plain_kept_sample", "stacked_context_kept_sample"]),
        ("reasoning_rcnn_r50_fpn", ["stacked_plain_r50_fpn", "stacked_context_r50_fpn"]),
        ("reasoning_rcnn_r50_fpn_working", ["stacked_plain_kept_r50_fpn", "stacked_context_kept_r50_fpn"]),
        ("reasoning_rcnn_r101_fpn", ["stacked_plain_r101_fpn", "stacked_context_r101_fpn"]),
    ],
)
def test_what_ablate_compares_a_recipe_with_end_to_end_is_a_recipe_too(
    name: str, controls: list[str]
) -> None:
    own, *others = list_variants(name, (), (), {})
    assert own.config == load_recipe(name)
    assert [variant.config.recipe for variant in others] == controls
    assert all(variant.config.train == own.config.train for variant in others)


def test_an_unknown_recipe_gets_its_near_names() -> None:
    with pytest.raises(ConfigError, match="faster_rcnn_r50: not known; did you mean faster_rcnn_r50_fpn"):
        load_recipe("faster_rcnn_r50")


def test_relation_networks_differ_from_their_baselines_in_the_head_alone_and_then_in_the_removal() -> None:
    for relation, plain in (
        ("relation_sample", "faster_rcnn_sample"),
        ("relation_r101_fpn_coco", "relation_plain_r101_fpn_coco"),
        ("relation_r50_c5_coco", "relation_plain_r50_c5_coco"),
        ("relation_r101_c5_coco", "relation_plain_r101_c5_coco"),
    ):
        assert all(key.startswith("model.stages.0.head.") for key in differing(relation, plain))
    for learned, relation in (
        ("relation_nms_r101_fpn_coco", "relation_r101_fpn_coco"),
        ("relation_nms_r50_fpn_coco", "relation_r50_fpn_coco"),
        ("relation_nms_r101_c5_coco", "relation_r101_c5_coco"),
        ("soft_nms_r50_c5_coco", "relation_plain_r50_c5_coco"),
        ("learned_nms_end_to_end_r50_c5_coco", "relation_plain_r50_c5_coco"),
    ):
        assert all(key.startswith("model.duplicate_removal.") for key in differing(learned, relation))
    assert flatten(load_recipe("relation_nms_frozen_r101_fpn_coco"))["train.part"] == "duplicate_removal"


#: Rows of the papers' ablations, by the recipe that they vary and the part of it.
ABLATIONS: dict[tuple[str, str], dict[str, dict[str, object]]] = {
    ("relation_r50_c5_coco", "model.stages.0.head"): {
        "relation_no_geometry_r50_c5_coco": {"geometry": "none"},
        "relation_unary_r50_c5_coco": {"geometry": "unary"},
        "relation_heads_1_r50_c5_coco": {"heads": 1},
        "relation_heads_2_r50_c5_coco": {"heads": 2},
        "relation_heads_4_r50_c5_coco": {"heads": 4},
        "relation_heads_8_r50_c5_coco": {"heads": 8},
        "relation_heads_32_r50_c5_coco": {"heads": 32},
        "relation_modules_1_0_r50_c5_coco": {"r2": 0},
        "relation_modules_0_1_r50_c5_coco": {"r1": 0},
        "relation_modules_2_2_r50_c5_coco": {"r1": 2, "r2": 2},
        "relation_modules_4_4_r50_c5_coco": {"r1": 4, "r2": 4},
    },
    ("learned_nms_r50_c5_coco", "model.duplicate_removal"): {
        "learned_nms_050_r50_c5_coco": {"thresholds": (0.5,)},
        "learned_nms_075_r50_c5_coco": {"thresholds": (0.75,)},
        "learned_nms_no_geometry_r50_c5_coco": {"thresholds": (0.5,), "geometry": "none"},
        "learned_nms_unary_r50_c5_coco": {"thresholds": (0.5,), "geometry": "unary"},
    },
    ("reasoning_rcnn_r101_fpn_coco", "model.stages.1.head"): {
        "reasoning_rcnn_r101_fpn_identity_coco": {"graph": "identity"},
        "reasoning_rcnn_r101_fpn_region_pool_coco": {"pool": "region"},
        "reasoning_rcnn_r101_fpn_no_attention_coco": {"attention": "off"},
        "reasoning_rcnn_r101_fpn_uniform_coco": {"attention": "uniform"},
        "reasoning_rcnn_r101_fpn_two_graphs_coco": {},
    },
}


def test_a_row_of_an_ablation_changes_what_its_table_says_alone() -> None:
    for (base, part), rows in ABLATIONS.items():
        for row, values in rows.items():
            changed = {f"{part}.{name}": value for name, value in values.items()}
            assert differing(row, base) == set(changed), row
            assert changed.items() <= flatten(load_recipe(row)).items(), row


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("mask_rcnn_rx50_fpn_coco", 43.94),
        ("se_mask_rcnn_rx50_fpn_coco", 46.47),
        ("cbam_mask_rcnn_rx50_fpn_coco", 46.47),
        ("gc_mask_rcnn_rx50_fpn_coco", 46.48),
        ("glore_mask_rcnn_rx50_fpn_coco", 49.71),
        ("vcrnet_mask_rcnn_rx50_fpn_coco", 44.18),
        ("vcrnet_pixel_mask_rcnn_rx50_fpn_coco", 44.18),
    ],
)
def test_the_rows_of_vcrnets_table_two_have_its_parameters(name: str, millions: float) -> None:
    """Batch statistics are counted there, and Detectron2's box layer has four deltas for each class."""
    config = override(load_recipe(name), {"model.backbone.weights": "none"})
    with torch.device("meta"):
        model = build_model(config.model, 80, None)
    tensors = model.state_dict().values()
    count = sum(tensor.numel() for tensor in tensors if tensor.is_floating_point())
    for_each_class = 79 * sum(weight.numel() for weight in model.stages[0].box_layer.parameters())
    assert abs((count + for_each_class) / 1e6 - millions) < 0.02
