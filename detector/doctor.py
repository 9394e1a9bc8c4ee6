"""What this machine offers a detector: versions, devices, threads, optional packages, and remedies."""

import os
import platform
import re
from dataclasses import dataclass
from importlib import metadata

DISTRIBUTION = "kgtool-detector"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        found: version or state; empty where it is missing.
        needed: whether the detector does not work without it.
        remedy: what to do where it is missing or slow; empty where nothing is to be done.
    """

    name: str
    found: str
    needed: bool
    remedy: str

    @property
    def is_problem(self) -> bool:
        """Whether something needed is missing."""
        return self.needed and not self.found


def diagnose() -> list[Finding]:
    """Look at Python, packages, devices and threads; nothing is changed and nothing is downloaded."""
    return [Finding("python", platform.python_version(), True, ""), *_packages(), *_machine()]


def _packages() -> list[Finding]:
    """What the distribution asks for and what is there; extras with the line that installs them."""
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return [Finding(DISTRIBUTION, "", True, f"pip install {DISTRIBUTION}")]
    found: dict[str, Finding] = {}
    for requirement in requirements:
        wanted, _, marker = (part.strip() for part in requirement.partition(";"))
        extra = re.search(r"""extra\s*==\s*['"]([^'"]+)""", marker)
        if extra and extra[1] in ("dev", "spark"):
            continue
        name = re.split(r"[^A-Za-z0-9._-]", wanted, maxsplit=1)[0]
        what = f"'{DISTRIBUTION}[{extra[1]}]'" if extra else f"'{wanted}'"
        version = _version(name)
        remedy = "" if version else f"pip install {what}"
        found.setdefault(name, Finding(name, version, extra is None, remedy))
    return list(found.values())


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _machine() -> list[Finding]:
    """Devices and threads, as torch sees them; and that torch and torchvision fit each other."""
    try:
        import torch
        import torchvision.ops
    except Exception as error:  # a broken installation fails in many ways
        reason = str(error).partition("\n")[0]
        return [Finding("torch works", "", True, f"{reason}; install torch and torchvision of one release")]
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    try:
        torchvision.ops.nms(boxes, boxes[:, 0], 0.5)
        operators = Finding("torchvision operators", "work", True, "")
    except (RuntimeError, NotImplementedError):
        remedy = "torch and torchvision do not fit; install both of one release, from one index"
        operators = Finding("torchvision operators", "", True, remedy)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [
        Finding(
            f"cuda:{number}",
            f"{torch.cuda.get_device_name(number)}, "
            f"{torch.cuda.get_device_properties(number).total_memory / 2**30:.0f} GiB",
            False,
            "",
        )
        for number in range(count)
    ]
    if not gpus:
        built = torch.version.cuda
        remedy = (
            "torch is built for CUDA and finds no GPU: check the driver (nvidia-smi)"
            if built
            else "torch is a CPU build; a GPU needs a CUDA build (pytorch.org)"
        )
        gpus = [Finding("cuda", "", False, remedy)]
    return [operators, *gpus, _threads(torch.get_num_threads())]


def _threads(threads: int) -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    remedy = "set OMP_NUM_THREADS to the cores you have: more threads wait" if threads > cores else ""
    return Finding("threads", f"{threads} of torch on {cores} cores", False, remedy)
