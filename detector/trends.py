"""Whether something about a class tells how much it gains: a straight line with its interval."""

from dataclasses import dataclass

import numpy as np

#: Share of the resamples that an interval holds.
CONFIDENCE = 0.95

#: Fewest classes that a line is drawn through.
FEWEST = 3

_BAND_POINTS = 60


@dataclass(frozen=True, eq=False)
class Trend:
    """A least-squares line of the gain over a property of classes.

    Attributes:
        name: of the property.
        property_C: of every class; NaN where it has none.
        num_classes: classes that the line goes through.
        slope: gain (0..1) for a step of 1 of the property.
        low: end of the slope's interval.
        high: its other end.
        across_P: where the line is drawn.
        line_P: the gain there.
        band_2P: the interval there.
    """

    name: str
    property_C: np.ndarray
    num_classes: int
    slope: float
    low: float
    high: float
    across_P: np.ndarray
    line_P: np.ndarray
    band_2P: np.ndarray


def fit_trend(
    name: str, property_C: np.ndarray, gain_C: np.ndarray, gain_BC: np.ndarray, rng: np.random.Generator
) -> Trend | None:
    """Fit a line through the classes, and through resamples of images and classes at once.

    Both are drawn: images say how sure a gain is, classes whether the line would hold for others.

    Args:
        name: of the property.
        property_C: of every class; NaN where it has none.
        gain_C: of every class; NaN where the data has no box of it.
        gain_BC: the same in resamples of the images.
        rng: draws the classes.

    Returns:
        None where fewer than three classes have both numbers, or all have the same property.
    """
    known = np.flatnonzero(np.isfinite(property_C) & np.isfinite(gain_C))
    across = property_C[known]
    if len(known) < FEWEST or np.ptp(across) == 0:
        return None
    times_BK = rng.multinomial(len(known), np.full(len(known), 1 / len(known)), len(gain_BC))
    centre, slope = _lines(across, gain_C[None, known], np.ones((1, len(known))))
    centre_B, slope_B = _lines(across, gain_BC[:, known], times_BK)
    across_P = np.linspace(across.min(), across.max(), _BAND_POINTS)
    middle = across.mean()
    lines_BP = centre_B[:, None] + slope_B[:, None] * (across_P - middle)
    low, high = interval(slope_B)
    return Trend(
        name=name,
        property_C=property_C,
        num_classes=len(known),
        slope=float(slope[0]),
        low=float(low),
        high=float(high),
        across_P=across_P,
        line_P=centre[0] + slope[0] * (across_P - middle),
        band_2P=np.stack(interval(lines_BP)),
    )


def interval(values_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the percentile interval over the first axis; NaN is left out."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.nanpercentile(values_B, [tail, 100 - tail], axis=0)
    return low, high


def _lines(across_K: np.ndarray, up_BK: np.ndarray, times_BK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Height at the mean of all classes, and slope; NaN where a resample has one property alone."""
    weight_BK = times_BK * np.isfinite(up_BK)
    up_BK = np.where(weight_BK > 0, up_BK, 0.0)
    total_B1 = np.maximum(weight_BK.sum(axis=1, keepdims=True), 1)
    mean_x_B1 = (weight_BK * across_K).sum(axis=1, keepdims=True) / total_B1
    mean_y_B1 = (weight_BK * up_BK).sum(axis=1, keepdims=True) / total_B1
    shared_B = (weight_BK * (across_K - mean_x_B1) * (up_BK - mean_y_B1)).sum(axis=1)
    spread_B = (weight_BK * (across_K - mean_x_B1) ** 2).sum(axis=1)
    slope_B = np.divide(shared_B, spread_B, out=np.full(len(spread_B), np.nan), where=spread_B > 1e-12)
    return mean_y_B1[:, 0] + slope_B * (across_K.mean() - mean_x_B1[:, 0]), slope_B
