"""How time and memory of `kgtool build-relation` and `build-attribute` grow with input and with classes.

Run: python bench/growth.py [--data DIR] [--images 108077] [--rounds 3] [--quick]

DIR has relationships.json and attributes.json. Four times the input is a folder with four links to the same
file: so the graph, and what it must hold of its evidence, stays as large, and what grows is the reading.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from make_visual_genome import make_files
from side_by_side import Run, run

TIMES = 4


def measure(command: str, source: Path, classes: int, rounds: int, out: Path) -> tuple[float, float]:
    """Median seconds and most anonymous MB of a build, each round printed."""
    arguments = [command, str(source), "--classes", str(classes), "--out", str(out), "--overwrite"]
    runs: list[Run] = [run([sys.executable, "-m", "kgtool", *arguments]) for _ in range(rounds)]
    seconds = statistics.median(one.wall_s for one in runs)
    memory_mb = max(one.anonymous_mb for one in runs)
    foreign = max(one.foreign_cores for one in runs)
    spread = f"{min(one.wall_s for one in runs):.2f} to {max(one.wall_s for one in runs):.2f}"
    print(
        f"{command:15} {source.name:20} {classes} classes: {seconds:6.2f} s ({spread}), "
        f"{memory_mb:4.0f} MB anonymous, others used {foreign:.2f} cores",
        flush=True,
    )
    return seconds, memory_mb


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with both JSON files; made anew if not given")
    parser.add_argument("--images", type=int, default=108_077, help="images of files made anew")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="3000 images, one round")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = args.data or Path(folder)
        if args.data is None:
            make_files(data, 3000 if args.quick else args.images)
        rounds = 1 if args.quick else args.rounds
        for command, name in (("build-relation", "relationships"), ("build-attribute", "attributes")):
            one, four = data / f"{name}.json", Path(folder, f"{name}_four_times")
            four.mkdir()
            for number in range(TIMES):
                (four / f"{number}.json").symlink_to(one.resolve())
            out = Path(folder, "graph.npz")
            seconds, memory_mb = measure(command, one, 1000, rounds, out)
            for source, classes in ((one, 3000), (four, 1000)):
                more_seconds, more_mb = measure(command, source, classes, rounds, out)
                print(f"  time x {more_seconds / seconds:.2f}, memory x {more_mb / memory_mb:.2f}")


if __name__ == "__main__":
    main()
