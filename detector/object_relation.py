"""The object relation module of Relation Networks: attention between boxes, weighted by their geometry.

Equations 2 to 6 of Hu et al., CVPR 2018. What they are, and where we depart: reasoning/relation_networks.py.
Tables of pairs have heads or waves first and the pairs last: the many elements then lie side by side.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Numbers in E_G: four, each as sines and cosines of eight wave lengths.
EMBEDDING_WIDTH = 64

#: Wave lengths grow from 2 pi to this times 2 pi.
LONGEST_WAVE = 1000.0

Form = Literal["printed", "released"]
Geometry = Literal["full", "unary", "none"]
Index = Tensor | slice


class ObjectRelation(nn.Module):
    """The object relation module (algorithm 1).

    Args:
        width: D, of the features; a multiple of `heads`.
        heads: N_r, relations.
        key_width: d_k.
        geometry: "full" has a W_G.
    """

    def __init__(self, width: int, heads: int, key_width: int, geometry: Geometry) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, heads * key_width)
        self.key = nn.Linear(width, heads * key_width)
        self.value = nn.Linear(width, width)  # W_V of all heads, one below the other
        self.geometry = nn.Linear(EMBEDDING_WIDTH, heads) if geometry == "full" else None
        self.apply(start_small)

    def forward(
        self, features: Tensor, seen: Index, embedding: Tensor | None, box: Tensor | None = None
    ) -> Tensor:
        """Return the features with what they take from others (equation 6), float32.

        Args:
            features: (N, D), or (V, N, D) for V sets.
            seen: which of the N are looked at, M; all look.
            embedding: what `embed` returns for the boxes.
            box: (V, N), for V sets: which of the boxes each is.
        """
        return self.relate(features, seen, embedding, box)[0]

    def relate(
        self, features: Tensor, seen: Index, embedding: Tensor | None, box: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what `forward` does and w, (..., heads, N, M), of equation 3."""
        geometry = None
        if self.geometry is not None:
            assert embedding is not None
            geometry = self.log_geometry(embedding)
            geometry = geometry if box is None else take_pairs(geometry, box)
        elif embedding is not None:
            features = features + (embedding if box is None else embedding[box])
        looked_at = features[..., seen, :]
        query, key = self._by_head(self.query(features)), self._by_head(self.key(looked_at))
        value = self._by_head(self.value(looked_at))
        with torch.autocast(features.device.type, enabled=False):
            weight = weigh(query, key, geometry)
            related: Tensor = weight @ value
        return features + related.transpose(-3, -2).flatten(-2), weight

    def log_geometry(self, embedding: Tensor) -> Tensor:
        """Equation 5: log w_G of E_G, (heads, N, M) of (64, N, M), float32."""
        assert self.geometry is not None
        with torch.autocast(embedding.device.type, enabled=False):
            bias, pairs = self.geometry.bias[:, None], embedding.flatten(1)
            log: Tensor = torch.addmm(bias, self.geometry.weight, pairs).clamp_(min=1e-6).log_()
        return log.reshape(self.heads, *embedding.shape[1:])

    def _by_head(self, rows: Tensor) -> Tensor:
        """Cut (..., N, heads * width) into (..., heads, N, width), float32."""
        shape = (*rows.shape[:-1], self.heads, rows.shape[-1] // self.heads)
        return rows.float().reshape(shape).transpose(-3, -2)


def weigh(query: Tensor, key: Tensor, log_geometry: Tensor | None) -> Tensor:
    """Equations 3 and 4: w, (..., heads, N, M), of queries and keys (..., heads, N or M, d_k)."""
    if log_geometry is None:
        return (query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])).softmax(dim=-1)
    logits = log_geometry.flatten(0, -3)
    logits.baddbmm_(query.flatten(0, -3), key.flatten(0, -3).mT, alpha=1 / math.sqrt(query.shape[-1]))
    return logits.reshape(log_geometry.shape).softmax(dim=-1)


def take_pairs(table: Tensor, box: Tensor) -> Tensor:
    """Take (V, heads, N, N) out of a table of all boxes, (heads, U, U), by the (V, N) boxes of each set.

    Sets that share boxes share their geometry: it is computed once.
    """
    pairs = box[:, :, None] * table.shape[-1] + box[:, None, :]
    return F.embedding(pairs, table.flatten(1).T).movedim(-1, 1)


def embed(boxes: Tensor, seen: Tensor, width: int, geometry: Geometry, form: Form) -> Tensor | None:
    """What a geometry needs to know of boxes, float32; None for "none".

    Args:
        boxes: (N, 4), of the regions that look.
        seen: (M, 4), of the regions that are looked at.
        width: D, of the features.
        geometry: what is needed.
        form: whether distances are divided by the box that is seen ("printed") or that looks ("released").

    Returns:
        "full": E_G, (64, N, M), the same wherever the two are. "unary": (N, D).
    """
    if geometry == "none":
        return None
    (centre, size), (seen_centre, seen_size) = _centre_and_size(boxes), _centre_and_size(seen)
    if geometry == "unary":
        return sinusoids(torch.cat([centre, size]).T, width // 4).flatten(-2)
    centre, size = centre[:, :, None], size[:, :, None]
    seen_centre, seen_size = seen_centre[:, None], seen_size[:, None]
    distance = (seen_centre - centre).abs() / (seen_size if form == "printed" else size)
    numbers = torch.cat([distance.clamp(min=1e-3).log(), size.log() - seen_size.log()])
    return sinusoids(100 * numbers, EMBEDDING_WIDTH // 4, axis=1).flatten(0, 1)


def sinusoids(values: Tensor, width: int, axis: int = -1) -> Tensor:
    """Sines, then cosines, of each value at width / 2 wave lengths (Vaswani et al. 2017, section 3.5).

    Args:
        values: any shape.
        width: numbers for each value, an even number.
        axis: where the result has them, a dimension more than `values`.
    """
    shape = [1] * (values.ndim + 1)
    shape[axis] = width
    steps = torch.arange(width, device=values.device)
    rates = LONGEST_WAVE ** -((steps % (width // 2)) / (width // 2))
    phases = (steps >= width // 2) * (math.pi / 2)  # cos x = sin(x + pi / 2): one pass over a large table
    angles = values.unsqueeze(axis).float() * rates.reshape(shape)
    waves: Tensor = angles.add_(phases.reshape(shape)).sin_()
    return waves


def start_small(layer: nn.Module) -> None:
    """Start a linear layer at N(0, 0.01^2) with biases of 0; leave others."""
    if isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(x, y) and (w, h), each (2, N), at least 1 px wide and high."""
    corners = boxes.float().T
    return (corners[:2] + corners[2:]) / 2, (corners[2:] - corners[:2]).clamp(min=1.0)
