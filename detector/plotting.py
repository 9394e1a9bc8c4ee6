"""Pictures with matplotlib, which is not needed for anything else."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.errors import MissingResourceError
from detector.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Colours that stay apart for colour-blind readers (Okabe and Ito), without the yellow: too light for lines.
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
_DPI = 120


def has_matplotlib() -> bool:
    """Whether pictures can be drawn."""
    return find_spec("matplotlib") is not None


def check_matplotlib(place: str) -> None:
    """Check that pictures can be drawn.

    Raises:
        MissingResourceError: they cannot; `place` begins the message.
    """
    if not has_matplotlib():
        raise MissingResourceError(
            f"{place}: found no matplotlib; expected it for a picture; pip install 'kgtool-detector[viz]'"
        )


def new_figure(width: float, height: float, *, find_margins: bool = True) -> "Figure":
    """Make an empty figure of so many inches, without a window, with margins that fit what will be drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained" if find_margins else None)
    FigureCanvasAgg(figure)
    return figure


def label_axes(axes: Any, title: str, across: str, up: str) -> None:
    """Write what is shown, and leave two sides of the frame open."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.spines[["top", "right"]].set_visible(False)


def save_picture(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, atomically; the same figure gives the same bytes with the same matplotlib."""
    with atomic_path(path) as part:
        figure.savefig(part, format="png", metadata={"Software": None})
