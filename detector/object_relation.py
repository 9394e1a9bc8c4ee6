"""The object relation module of Relation Networks: attention between boxes, weighted by their geometry.

Equations 2 to 6 of Hu et al., CVPR 2018. What they are, and where we depart: reasoning/relation_networks.py.
Tables of pairs have heads or waves first and the pairs last: the many elements then lie side by side. On a
CPU they are made for a few of the boxes that look at a time, so that they stay in its cache.

Half of E_G needs no table: log(w_n / w_m) is a difference, and with u = log w

    a sin(u_n - u_m) + b cos(u_n - u_m) = sin u_n (a cos u_m + b sin u_m) + cos u_n (b cos u_m - a sin u_m)

so that sines and cosines of each box alone give the share of the ratios in W_G E_G, as a matrix product.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Waves for each of the four numbers of a pair: sines, then cosines, of eight wave lengths.
WAVES = 16

#: Wave lengths grow from 2 pi to this times 2 pi.
LONGEST_WAVE = 1000.0

#: Logarithms are multiplied by this before they become waves.
LOG_SCALE = 100.0

#: Boxes that look, taken together on a CPU: with 1,000 seen by them the tables of a step have some MB.
BLOCK = 48

Form = Literal["printed", "released"]
Geometry = Literal["full", "unary", "none"]
Index = Tensor | slice


#: What a module knows of boxes: "full" w_G, (heads, rows, M), for each block of the boxes that look; "unary"
#: numbers to add to the features, (N, D); "none" nothing.
Place = tuple[Tensor, ...] | Tensor | None


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
        self.kind = geometry
        self.query = nn.Linear(width, heads * key_width)
        self.key = nn.Linear(width, heads * key_width)
        self.value = nn.Linear(width, width)  # W_V of all heads, one below the other
        self.geometry = nn.Linear(4 * WAVES, heads) if geometry == "full" else None
        self.apply(start_small)

    def forward(self, features: Tensor, seen: Index, place: Place) -> Tensor:
        """Return the features with what they take from others (equation 6), float32.

        Args:
            features: (N, D).
            seen: which of the N are looked at, M; all look.
            place: what `embed` returns for the boxes.
        """
        features, query, key, value = self._look(features, seen, place)
        with torch.autocast(features.device.type, enabled=False):
            related = torch.cat([weight @ value for weight in self._weigh(query, key, place)], dim=1)
        return features + related.transpose(0, 1).flatten(1)

    def weights(self, features: Tensor, seen: Index, place: Place) -> Tensor:
        """Return w of equation 3, (heads, N, M), float32; arguments as those of `forward`."""
        _, query, key, _ = self._look(features, seen, place)
        with torch.autocast(features.device.type, enabled=False):
            return torch.cat(list(self._weigh(query, key, place)), dim=1)

    def of_sets(self, features: Tensor, place: Place, box: Tensor) -> Tensor:
        """Do what `forward` does for V sets that share boxes, each of which looks at all of its own.

        Their geometry is computed once for each pair of boxes, whatever the number of sets.

        Args:
            features: (V, N, D).
            place: what `embed` returns for the boxes with themselves.
            box: (V, N), which of the boxes each is.
        """
        own = place[box] if isinstance(place, Tensor) else place
        features, query, key, value = self._look(features, slice(None), own)
        with torch.autocast(features.device.type, enabled=False):
            geometry = take_pairs(torch.cat(place, dim=1), box) if isinstance(place, tuple) else None
            related = weigh(query, key, geometry) @ value
        return features + related.transpose(1, 2).flatten(2)

    def _look(self, features: Tensor, seen: Index, place: Place) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The features, with what "unary" adds; by head queries over the root of d_k, keys and values."""
        features = features + place if isinstance(place, Tensor) else features
        seen_features = features[..., seen, :]
        query, key, value = self.query(features), self.key(seen_features), self.value(seen_features)
        query = query.float() / math.sqrt(query.shape[-1] // self.heads)
        return features, self._by_head(query), self._by_head(key), self._by_head(value)

    def _weigh(self, query: Tensor, key: Tensor, place: Place) -> Iterator[Tensor]:
        """Yield w, (heads, rows, M), of one block of boxes that look after the other."""
        if not isinstance(place, tuple):
            yield weigh(query, key, None)
            return
        blocks = torch.split(query, [geometry.shape[1] for geometry in place], dim=1)
        for rows, geometry in zip(blocks, place, strict=True):
            yield weigh(rows, key, geometry)

    def _by_head(self, rows: Tensor) -> Tensor:
        """Cut (..., N, heads * width) into (..., heads, N, width), float32."""
        shape = (*rows.shape[:-1], self.heads, rows.shape[-1] // self.heads)
        return rows.float().reshape(shape).transpose(-3, -2).contiguous()


def weigh(query: Tensor, key: Tensor, geometry: Tensor | None) -> Tensor:
    """Equations 3 and 4: w, (..., heads, N, M), of scaled queries, keys (..., heads, N or M, d_k) and w_G."""
    weight = (query @ key.transpose(-2, -1)).softmax(dim=-1)
    if geometry is None:
        return weight
    weight = weight * geometry
    return weight / weight.sum(dim=-1, keepdim=True)


def take_pairs(table: Tensor, box: Tensor) -> Tensor:
    """Take (V, heads, N, N) out of a table of all boxes, (heads, U, U), by the (V, N) boxes of each set."""
    pairs = box[:, :, None] * table.shape[-1] + box[:, None, :]
    return F.embedding(pairs, table.flatten(1).T).permute(0, 3, 1, 2)


def embed(modules: Sequence[ObjectRelation], boxes: Tensor, seen: Tensor, form: Form) -> list[Place]:
    """What each module needs to know of boxes, float32.

    Args:
        modules: of one kind of geometry; the waves of E_G are made once for all of them.
        boxes: (N, 4), of the regions that look.
        seen: (M, 4), of the regions that are looked at.
        form: whether distances are divided by the box that is seen ("printed") or that looks ("released").
    """
    kinds = {module.kind for module in modules}
    if "full" in kinds:
        return [*pair_weights(modules, boxes, seen, form)]
    if "unary" in kinds:
        centre, size = _centre_and_size(boxes)
        width = modules[0].value.in_features // 4
        return [sinusoids(torch.cat([centre, size]).T, width).flatten(-2)] * len(modules)
    return [None] * len(modules)


def pair_weights(
    modules: Sequence[ObjectRelation], boxes: Tensor, seen: Tensor, form: Form
) -> list[tuple[Tensor, ...]]:
    """Equation 5: w_G of each module, (heads, rows, M) for each block of rows, float32, at least 1e-6.

    Arguments are those of `embed`.
    """
    (centre, size), (seen_centre, seen_size) = _centre_and_size(boxes), _centre_and_size(seen)
    layers = [module.geometry for module in modules if module.geometry is not None]
    with torch.autocast(boxes.device.type, enabled=False):
        of_distance, of_ratio = torch.cat([layer.weight for layer in layers]).chunk(2, dim=1)
        bias_H1 = torch.cat([layer.bias for layer in layers])[:, None]
        own_NE, turned = waves_of(size).flatten(0, 1).T, turn_back(of_ratio, waves_of(seen_size))
        blocks = []
        for rows in _blocks(len(boxes), boxes.device):
            unit = seen_size[:, None] if form == "printed" else size[:, rows, None]
            distance = (seen_centre[:, None] - centre[:, rows, None]).abs() / unit
            waves = waves_of(distance.clamp_(min=1e-3)).flatten(0, 1)
            near = torch.addmm(bias_H1, of_distance, waves.flatten(1))
            near = near.reshape(len(bias_H1), *waves.shape[1:])
            weight = near.baddbmm_(own_NE[rows].expand(len(near), -1, -1), turned).clamp_(min=1e-6)
            blocks.append(weight.chunk(len(modules)))
    return [*zip(*blocks, strict=True)]


def waves_of(numbers: Tensor) -> Tensor:
    """Sines, then cosines, of 100 times the logarithms of numbers (2, ...): (2, WAVES, ...)."""
    return sinusoids(LOG_SCALE * numbers.log(), WAVES, axis=1)


def turn_back(weight_HE: Tensor, waves: Tensor) -> Tensor:
    """Make the weights of waves of a difference those of the waves of its first part.

    Args:
        weight_HE: (heads, 2 WAVES), of the waves of u_n - u_m.
        waves: (2, WAVES, M), of u_m.

    Returns:
        (heads, 2 WAVES, M), of the waves of u_n, for each m.
    """
    sine_weight, cosine_weight = weight_HE.reshape(len(weight_HE), 2, 2, -1, 1).unbind(dim=2)
    sine, cosine = waves.chunk(2, dim=1)
    of_sine = sine_weight * cosine + cosine_weight * sine
    of_cosine = cosine_weight * cosine - sine_weight * sine
    return torch.cat([of_sine, of_cosine], dim=2).flatten(1, 2)


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


def _blocks(count: int, device: torch.device) -> tuple[slice, ...]:
    """Cut `count` rows into slices of BLOCK on a CPU.

    All rows are one slice on a GPU, where to start a step costs more than a large table, and for compilers
    and exporters, which would follow one number of slices.
    """
    if device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore
        return (slice(None),)
    return tuple(slice(start, start + BLOCK) for start in range(0, max(count, 1), BLOCK))


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(x, y) and (w, h), each (2, N), at least 1 px wide and high."""
    corners = boxes.float().T.contiguous()  # tables of pairs take over the order of what they come from
    return (corners[:2] + corners[2:]) / 2, (corners[2:] - corners[:2]).clamp(min=1.0)
