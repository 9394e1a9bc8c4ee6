"""What both benchmarks of building graphs share: files, the two sides as commands, the comparison."""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from make_visual_genome import make_files
from side_by_side import compare

from kgtool.graph import load_graph

QUICK_IMAGES, ALL_IMAGES = 3000, 108_077


def parser(description: str) -> argparse.ArgumentParser:
    """The options of both benchmarks."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--data", type=Path, help="folder with the JSON file; made anew if not given")
    made.add_argument("--images", type=int, default=ALL_IMAGES, help="images of a file made anew")
    made.add_argument("--classes", type=int, default=1000)
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--workers", type=int, help="processes of kgtool")
    made.add_argument("--quick", action="store_true", help=f"{QUICK_IMAGES} images, one round")
    made.add_argument("--plain", nargs=2, type=Path, help=argparse.SUPPRESS)  # this process is the plain side
    return made


def run(args: argparse.Namespace, script: str, command: str, name: str) -> None:
    """Measure both sides and compare what they made.

    Args:
        args: options of `parser`.
        script: the benchmark, which is also the plain side.
        command: the kgtool command.
        name: the JSON file.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = args.data or Path(folder)
        if args.data is None:
            images = QUICK_IMAGES if args.quick else args.images
            print(f"making Visual-Genome-shaped files of {images} images", flush=True)
            make_files(data, images)
        plain_out, our_out = Path(folder, "plain.npz"), Path(folder, "kgtool.npz")
        classes = ["--classes", str(args.classes)]
        workers = ["--workers", str(args.workers)] if args.workers else []
        ours = [command, str(data / name), *classes, *workers, "--out", str(our_out), "--overwrite"]
        compare(
            {
                "plain": [sys.executable, script, *classes, "--plain", str(data / name), str(plain_out)],
                "kgtool": [sys.executable, "-m", "kgtool", *ours],
            },
            1 if args.quick else args.rounds,
        )
        with np.load(plain_out, allow_pickle=False) as plain:
            graph = load_graph(our_out)
            same = (
                plain["classes"].tolist() == list(graph.synsets)
                and np.array_equal(plain["counts"], graph.counts)
                and np.allclose(plain["weight"], graph.weight, rtol=0, atol=1e-6)
            )
    print(f"same classes, counts and weights on both sides: {'yes' if same else 'NO'}")
    if not same:
        raise SystemExit(1)
