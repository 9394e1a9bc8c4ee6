"""attributes.json to an attribute graph: `kgtool build-attribute` against json.load and plain loops.

Run: python bench/attributes_to_graph.py [--data DIR] [--classes 1000] [--rounds 3] [--quick]

DIR has attributes.json (`python bench/make_visual_genome.py --out DIR` writes one). The plain side is
json.load with the garbage collector off, loops, and a row at a time of NumPy for the divergence. Both sides
are whole processes.
"""

import gc
import json
from collections import Counter
from pathlib import Path

import numpy as np
from graph_from_json import parser, run

NUM_ATTRIBUTES = 200


def plain_graph(path: Path, num_classes: int, out: Path) -> None:
    """The similarity of classes by their attributes, the way a script does it."""
    gc.disable()
    with path.open() as file:
        records = json.load(file)
    frequency: Counter[str] = Counter()
    mentions: Counter[str] = Counter()
    for record in records:
        for row in record["attributes"]:
            attributes = row.get("attributes", ())
            for attribute in attributes:
                frequency[" ".join(attribute.casefold().split())] += 1
            if len(row["synsets"]) == 1:
                mentions[row["synsets"][0]] += len(attributes)
    selected = sorted(frequency, key=lambda term: (-frequency[term], term))[:NUM_ATTRIBUTES]
    place_of = {term: place for place, term in enumerate(selected)}
    classes = sorted(mentions, key=lambda synset: (-mentions[synset], synset))[:num_classes]
    class_of = {synset: place for place, synset in enumerate(classes)}
    counts = np.zeros((num_classes, NUM_ATTRIBUTES), dtype=np.int64)
    for record in records:
        for row in record["attributes"]:
            if len(row["synsets"]) == 1 and row["synsets"][0] in class_of:
                for attribute in row.get("attributes", ()):
                    term = " ".join(attribute.casefold().split())
                    if term in place_of:
                        counts[class_of[row["synsets"][0]], place_of[term]] += 1
    np.savez(out, classes=np.array(classes), counts=counts, weight=similarity(counts))


def similarity(counts: np.ndarray) -> np.ndarray:
    """1 - JS / ln 2 of each pair of rows; rows without a count are like themselves only."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    entropy = (share * np.log(share, out=np.zeros_like(share), where=share > 0)).sum(axis=1)
    result = np.empty((len(counts), len(counts)))
    for row, one in enumerate(share):
        middle = (one + share) / 2
        mixed = (middle * np.log(middle, out=np.zeros_like(middle), where=middle > 0)).sum(axis=1)
        result[row] = 1 - ((entropy[row] + entropy) / 2 - mixed) / np.log(2)
    empty = counts.sum(axis=1) == 0
    result[empty], result[:, empty] = 0, 0
    np.fill_diagonal(result, 1)
    return result


def main() -> None:
    """Measure and print."""
    args = parser(str(__doc__).splitlines()[0]).parse_args()
    if args.plain:
        plain_graph(args.plain[0], args.classes, args.plain[1])
    else:
        run(args, __file__, "build-attribute", "attributes.json")


if __name__ == "__main__":
    main()
