"""Where a model runs."""

import torch

from detector.errors import MissingResourceError


def pick_device(name: str, number: int = 0) -> torch.device:
    """Return the device for "auto" (a GPU when there is one), "cpu" or "cuda".

    Args:
        name: one of these.
        number: which GPU.

    Raises:
        MissingResourceError: "cuda" was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise MissingResourceError(
            "--device cuda: no CUDA device found; use --device cpu, or install a CUDA build of torch"
        )
    return (
        torch.device("cuda", number) if name != "cpu" and torch.cuda.is_available() else torch.device("cpu")
    )
