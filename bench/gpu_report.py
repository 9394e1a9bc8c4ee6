"""What the parts of bench/gpu.sh printed, as one JSON file.

Run: python bench/gpu_report.py machine cuda|cpu     (prints what the numbers are of; gpu.sh begins with it)
     python bench/gpu_report.py join WORK OUT.json   (after every part)

WORK has machine.json, and in parts/ for each part NAME.json, what it printed, NAME.log, what it said besides,
and NAME.end, "CODE START END": its exit code and the seconds at which it began and ended. The exit code is 1
where a part has failed.
"""

import json
import os
import platform
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def machine(device: str) -> dict[str, Any]:
    """What the numbers are of; no name of a machine. Leaves the program where nothing can be measured."""
    missing = [name for name in ("torch", "torchvision", "msgspec", "ibis") if find_spec(name) is None]
    if missing:
        raise SystemExit(f"gpu.sh: {', '.join(missing)} not installed; pip install -e . in this project")
    import torch
    import torchvision

    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("gpu.sh: no CUDA device found; --small runs without")
    on_gpu = device == "cuda"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else f"cpu, {torch.get_num_threads()} threads",
        "gpus": torch.cuda.device_count(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cuda": torch.version.cuda,
    }


def report(end: Path) -> dict[str, Any]:
    """What one part printed, or why it did not."""
    code, start, stop = end.read_text().split()
    seconds = round(float(stop) - float(start), 1)
    said = end.with_suffix(".log").read_text(errors="replace").strip().splitlines()[-3:]
    if code != "0":
        return {"seconds": seconds, "failed": int(code), "too_long": code == "124", "said": said}
    try:
        return {"seconds": seconds, "result": json.loads(end.with_suffix(".json").read_text())}
    except ValueError:
        return {"seconds": seconds, "failed": 0, "too_long": False, "said": ["printed no JSON", *said]}


def join(work: Path, out: Path) -> bool:
    """Put the parts together and replace the file as a whole; say whether none has failed."""
    parts = {end.stem: report(end) for end in sorted((work / "parts").glob("*.end"))}
    failed = [name for name, part in parts.items() if "failed" in part]
    document = {"machine": json.loads((work / "machine.json").read_text()), "failed": failed, "parts": parts}
    draft = out.with_name(f".{out.name}.part")
    draft.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    draft.replace(out)
    return not failed


if __name__ == "__main__":
    if sys.argv[1:2] == ["machine"]:
        print(json.dumps(machine(sys.argv[2])))
    else:
        raise SystemExit(0 if join(Path(sys.argv[2]), Path(sys.argv[3])) else 1)
