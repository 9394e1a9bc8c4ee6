"""Train, evaluate and explain detectors that consume class graphs.

`from detector import load` loads a trained detector; torch is imported only then.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detector.inference import Detector, ImageDetections, load

__all__ = ["Detector", "ImageDetections", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from detector import inference

        return getattr(inference, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
