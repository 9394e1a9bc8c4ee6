"""How well features tell classes apart, as a number, and features as points of a plane.

The number is made in the space of the features: a picture of many dimensions in two shows clusters that are
none and hides others.
"""

from importlib.util import find_spec
from typing import Literal

import numpy as np
import torch

from detector.errors import MissingResourceError

Method = Literal["tsne", "umap"]

#: Each object is compared with so many others.
NEIGHBOURS = 5

#: t-SNE weighs about as many neighbours of each point; of few points, a third of them.
PERPLEXITY = 30.0

#: What a method needs: import name, and the extra that installs it.
_PACKAGES: dict[Method, tuple[str, str]] = {"tsne": ("sklearn", "embed"), "umap": ("umap", "umap")}

_BLOCK = 1024


def check_method(method: Method, place: str) -> None:
    """Check that features can be brought into a plane.

    Raises:
        MissingResourceError: the package is not installed; `place` begins the message.
    """
    package, extra = _PACKAGES[method]
    if find_spec(package) is None:
        raise MissingResourceError(
            f"{place}: found no {package}; expected it for {method}; pip install 'kgtool-detector[{extra}]'"
        )


def neighbour_agreement(
    features_ND: np.ndarray, label_N: np.ndarray, image_N: np.ndarray, count: int = NEIGHBOURS
) -> float:
    """Return how often the nearest objects of other images have an object's label, 0..1.

    Objects of its own image do not count: what a head adds is partly the same for a whole image.

    Args:
        features_ND: of each object; compared by Euclidean distance.
        label_N: classes or groups.
        image_N: which image each object is in; two or more of them.
        count: nearest objects; fewer where there are no more in other images.
    """
    features, labels = torch.from_numpy(features_ND).double(), torch.from_numpy(label_N)
    images = torch.from_numpy(image_N)
    shares = []
    for rows in torch.split(torch.arange(len(features)), _BLOCK):
        distance = torch.cdist(features[rows], features)
        own = images[rows, None] == images
        nearest = distance.masked_fill(own, torch.inf).topk(min(count, len(features)), largest=False)
        there = nearest.values.isfinite()
        same = (labels[nearest.indices] == labels[rows, None]) & there
        shares.append(same.sum(dim=1) / there.sum(dim=1))
    return float(torch.cat(shares).mean())


def chance_agreement(label_N: np.ndarray, image_N: np.ndarray) -> float:
    """Return what `neighbour_agreement` is on average where all other objects are equally near, 0..1."""
    labels, images = torch.from_numpy(label_N), torch.from_numpy(image_N)
    shares = []
    for rows in torch.split(torch.arange(len(labels)), _BLOCK):
        other = images[rows, None] != images
        same = (labels[rows, None] == labels) & other
        shares.append(same.sum(dim=1) / other.sum(dim=1))
    return float(torch.cat(shares).mean())


def spread_of(features_ND: np.ndarray) -> float:
    """Return the root of the mean squared distance of the features from their mean."""
    centred = features_ND.astype(np.float64) - features_ND.mean(axis=0, dtype=np.float64)
    return float(np.sqrt((centred**2).sum(axis=1).mean()))


def join_parts(parts: list[np.ndarray]) -> np.ndarray:
    """Put parts side by side, each scaled to the same spread: a part of small numbers is heard as well."""
    return np.concatenate([part / max(spread_of(part), np.finfo(np.float64).tiny) for part in parts], axis=1)


def project(features_ND: np.ndarray, method: Method, seed: int) -> np.ndarray:
    """Bring features into a plane by t-SNE (van der Maaten and Hinton 2008) or UMAP (McInnes et al. 2018).

    Runs in one thread: sums in another order would lead to another picture.

    Args:
        features_ND: N objects, 3 or more.
        method: "tsne" or "umap".
        seed: the same seed and features give the same points with the same package on the same machine. Both
            begin with the principal components, so other seeds give much the same picture.

    Returns:
        points_N2; zeros where all features are the same.
    """
    spread = spread_of(features_ND)
    if spread == 0:
        return np.zeros((len(features_ND), 2))
    scaled = ((features_ND - features_ND.mean(axis=0)) / spread).astype(np.float32)
    points: np.ndarray = _tsne(scaled, seed) if method == "tsne" else _umap(scaled, seed)
    return points.astype(np.float64)


def _tsne(features_ND: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, (len(features_ND) - 1) / 3)
    with threadpool_limits(1):
        points: np.ndarray = TSNE(perplexity=perplexity, random_state=seed, n_jobs=1).fit_transform(
            features_ND
        )
    return points


def _umap(features_ND: np.ndarray, seed: int) -> np.ndarray:
    from umap import UMAP

    neighbours = min(15, len(features_ND) - 1)
    reducer = UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1, init="pca")
    points: np.ndarray = reducer.fit_transform(features_ND)
    return points
