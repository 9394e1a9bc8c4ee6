"""What a run was made with: versions and the kind of device, no names of machines and no paths."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
import torchvision

#: Besides torch, packages on which the numbers of a run depend.
PACKAGES = ("kgtool-detector", "numpy", "pycocotools", "hotcoco")


def describe_environment(device: torch.device, processes: int = 1) -> dict[str, Any]:
    """Return versions, device and number of processes and threads; None for what is not there.

    Args:
        device: that computes.
        processes: that train together.
    """
    on_gpu = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        **{package: _version(package) for package in PACKAGES},
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,  # type: ignore[no-untyped-call]
        "device": device.type,
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "processes": processes,
        "threads": torch.get_num_threads(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
