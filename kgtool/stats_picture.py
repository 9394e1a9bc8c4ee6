"""The long tail of a data set as a picture, with matplotlib, which is not needed for anything else."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kgtool.coco_stats import AREA_LIMITS, Measures, group_of
from kgtool.errors import InputError, MissingResourceError
from kgtool.files import atomic_path, check_writable
from kgtool.splits import COMMON_IMAGES, RARE_IMAGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE_INCHES, _DPI = (12, 7), 120
#: Of classes without images, rare, common and frequent ones.
_COLOURS = ("#999999", "#c0392b", "#e0a030", "#2c6e9b")
_LABELS = ("", f"rare, up to {RARE_IMAGES} images", f"common, up to {COMMON_IMAGES}", "frequent")
_INK = "#444444"


def save_histogram(measures: Measures, path: Path, *, title: str, overwrite: bool = False) -> None:
    """Draw images per class in their order, box sizes, and boxes per image, as PNG of 1440 x 840 px.

    The same data gives the same bytes with the same matplotlib.

    Args:
        measures: of a data set.
        path: to write to, ending in .png.
        title: over the picture.
        overwrite: replace the file if it is there.

    Raises:
        InputError: `path` does not end in .png.
        OutputExistsError: the file is there and `overwrite` is false.
        KgtoolError: the folder to write into does not exist.
        MissingResourceError: matplotlib is not installed.
    """
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: found the ending {path.suffix!r}; expected .png; rename --out")
    check_writable(path, overwrite=overwrite)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingResourceError(
            f"{path}: found no matplotlib; expected it for a picture; pip install 'kgtool-detector[viz]'"
        ) from None
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, height_ratios=[3, 2])
    _draw_tail(figure.add_subplot(grid[0, :]), measures.images_per_class_C)
    _draw_sides(figure.add_subplot(grid[1, 0]), measures.side_N)
    _draw_images(figure.add_subplot(grid[1, 1]), measures.boxes_per_image_I)
    figure.suptitle(title, fontsize=13)
    with atomic_path(path, overwrite=overwrite) as part:
        figure.savefig(part, format="png", metadata={"Software": None})


def _draw_tail(axes: "Axes", images_C: np.ndarray) -> None:
    """One bar a class, most images first, coloured by LVIS's groups."""
    images_C = np.sort(images_C)[::-1]
    group_C = group_of(images_C)
    for group in (3, 2, 1):
        chosen = np.flatnonzero(group_C == group)
        if len(chosen):
            # One filled outline: thousands of bars thinner than a pixel would fade.
            edges = np.arange(chosen[0], chosen[-1] + 2) + 0.5
            label = f"{_LABELS[group]}: {len(chosen):,} classes"
            axes.stairs(images_C[chosen], edges, fill=True, baseline=0.5, color=_COLOURS[group], label=label)
    without = int((group_C == 0).sum())
    if without:
        axes.axvspan(len(images_C) - without + 0.5, len(images_C) + 0.5, color=_COLOURS[0], alpha=0.25)
        axes.plot([], [], "s", color=_COLOURS[0], alpha=0.4, label=f"without images: {without:,} classes")
    if images_C.max(initial=0) > 0:
        axes.set_yscale("log")
        axes.set_ylim(0.5, 2 * images_C.max())
        axes.legend(loc="upper right", framealpha=0.9, edgecolor="none")
        _number_plainly(axes.yaxis)
    axes.set_xlim(0.5, max(len(images_C), 1) + 0.5)
    _label(axes, "classes, most images first", "images (log)")


def _draw_sides(axes: "Axes", side_N: np.ndarray) -> None:
    side_N = side_N[np.isfinite(side_N) & (side_N > 0)]
    if len(side_N):
        low, high = side_N.min(), max(side_N.max(), side_N.min() * 1.01)
        axes.hist(side_N, bins=np.geomspace(low, high, 41).tolist(), color=_COLOURS[3])
        axes.set_xscale("log")
        _number_plainly(axes.xaxis)
    axes.margins(y=0.15)  # room for the names of the limits
    for area, name in zip(AREA_LIMITS, ("small", "medium"), strict=True):
        axes.axvline(area**0.5, color=_INK, linewidth=0.8, linestyle="--")
        axes.annotate(
            f"{name} ",
            (area**0.5, 0.99),
            xycoords=("data", "axes fraction"),
            ha="right",
            va="top",
            color=_INK,
            fontsize=8,
        )
    _label(axes, "box side, the root of width x height, px (log)", "boxes")


def _draw_images(axes: "Axes", boxes_I: np.ndarray) -> None:
    if len(boxes_I):
        most = int(boxes_I.max())
        step = -(-(most + 1) // 60)
        axes.hist(boxes_I, bins=(np.arange(0, most + step + 1, step) - 0.5).tolist(), color=_COLOURS[3])
    _label(axes, "boxes per image", "images")


def _number_plainly(axis: Any) -> None:
    """Write 10, 100 and 1,000 on a logarithmic axis, and with a short one 20 and 50 between."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def _label(axes: Any, across: str, up: str) -> None:
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.spines[["top", "right"]].set_visible(False)
