"""Recipes of Reasoning-RCNN's table 3, and of reasoning over several graphs at once.

Each changes one thing of reasoning_rcnn_r101_fpn_coco, 42.9 AP in the paper. The first is the fair control of
the graph: the second stage, the attention and all weights stay, and no class learns from another.
"""

from detector.config import Config
from detector.reasoning.reasoning_rcnn import ReasoningConfig
from detector.recipes.reasoning_rcnn import reasoning_rcnn_r101_fpn
from detector.recipes.sizes import renamed, two_stages, with_stages


def reasoning_rcnn_r101_fpn_identity_coco() -> Config:
    """Reasoning-RCNN as printed with an identity in place of the class graph, ResNet-101-FPN, 800 px.

    Command: detector train --data COCO --eval-split val --graph relation.npz --init runs/frcnn_r101
        --recipe reasoning_rcnn_r101_fpn_identity_coco --out runs/reasoning_identity
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 39.5 AP, 58.3 AP50 (the paper's own run).
    Table: 3 of the paper, "Identity co-occurrence knowledge graph". The graph given is not used.
    """
    return _changed("reasoning_rcnn_r101_fpn_identity_coco", ReasoningConfig(graph="identity"))


def reasoning_rcnn_r101_fpn_region_pool_coco() -> Config:
    """Reasoning-RCNN as printed that pools features of the image's regions, not class weights.

    Command: detector train --data COCO --eval-split val --graph relation.npz --init runs/frcnn_r101
        --recipe reasoning_rcnn_r101_fpn_region_pool_coco --out runs/reasoning_region_pool
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 40.2 AP, 59.0 AP50 (the paper's own run).
    Table: 3 of the paper, "Use region feature instead of global semantic pool", of which it says no more; our
        reading is in reasoning/reasoning_rcnn.py.
    """
    return _changed("reasoning_rcnn_r101_fpn_region_pool_coco", ReasoningConfig(pool="region"))


def reasoning_rcnn_r101_fpn_no_attention_coco() -> Config:
    """Reasoning-RCNN as printed without attention over classes, ResNet-101-FPN, 800 px.

    Command: detector train --data COCO --eval-split val --graph relation.npz --init runs/frcnn_r101
        --recipe reasoning_rcnn_r101_fpn_no_attention_coco --out runs/reasoning_no_attention
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 40.9 AP, 59.5 AP50 (the paper's own run).
    Table: 3 of the paper, "No adaptive attention".
    """
    return _changed("reasoning_rcnn_r101_fpn_no_attention_coco", ReasoningConfig(attention="off"))


def reasoning_rcnn_r101_fpn_uniform_coco() -> Config:
    """Reasoning-RCNN as printed with the same attention to every class, ResNet-101-FPN, 800 px.

    Command: detector train --data COCO --eval-split val --graph relation.npz --init runs/frcnn_r101
        --recipe reasoning_rcnn_r101_fpn_uniform_coco --out runs/reasoning_uniform
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 41.5 AP, 60.6 AP50 (the paper's own run).
    Table: 3 of the paper, "Uniform attention weights".
    """
    return _changed("reasoning_rcnn_r101_fpn_uniform_coco", ReasoningConfig(attention="uniform"))


def reasoning_rcnn_r101_fpn_two_graphs_coco() -> Config:
    """Reasoning-RCNN as printed over a relation and an attribute graph at once, ResNet-101-FPN, 800 px.

    Command: detector train --data COCO --eval-split val --graph relation.npz --graph attribute.npz
        --init runs/frcnn_r101 --recipe reasoning_rcnn_r101_fpn_two_graphs_coco
        --out runs/reasoning_two_graphs
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; the paper has W_G "shared for all graphs" and no experiment with more than one.
    Table: none. The settings are those of one graph: how many there are, the command says.
    """
    return renamed("reasoning_rcnn_r101_fpn_two_graphs_coco", reasoning_rcnn_r101_fpn())


def _changed(name: str, head: ReasoningConfig) -> Config:
    """The paper's detector with another second head."""
    return renamed(name, with_stages(reasoning_rcnn_r101_fpn(), two_stages(1024, head)))


#: What `detector.recipes` lists of this file.
RECIPES = (
    reasoning_rcnn_r101_fpn_identity_coco,
    reasoning_rcnn_r101_fpn_region_pool_coco,
    reasoning_rcnn_r101_fpn_no_attention_coco,
    reasoning_rcnn_r101_fpn_uniform_coco,
    reasoning_rcnn_r101_fpn_two_graphs_coco,
)
