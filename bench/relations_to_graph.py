"""relationships.json to a relation graph: `kgtool build-relation` against json.load and plain loops.

Run: python bench/relations_to_graph.py [--data DIR] [--classes 1000] [--rounds 3] [--quick]

DIR has relationships.json (`python bench/make_visual_genome.py --out DIR` writes one). The plain side is
json.load with the garbage collector off, loops, and NumPy for the weights. Both sides are whole processes.
"""

import gc
import json
from collections import Counter
from pathlib import Path

import numpy as np
from graph_from_json import parser, run

NUM_PREDICATES = 200


def plain_graph(path: Path, num_classes: int, out: Path) -> None:
    """The graph of the paper, the way a script does it."""
    gc.disable()
    with path.open() as file:
        records = json.load(file)
    frequency: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for record in records:
        for row in record["relationships"]:
            frequency[" ".join(row["predicate"].casefold().split())] += 1
            for end in (row["subject"], row["object"]):
                if len(end["synsets"]) == 1:
                    ends[end["synsets"][0]] += 1
    selected = set(sorted(frequency, key=lambda term: (-frequency[term], term))[:NUM_PREDICATES])
    classes = sorted(ends, key=lambda synset: (-ends[synset], synset))[:num_classes]
    class_of = {synset: place for place, synset in enumerate(classes)}
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    for record in records:
        for row in record["relationships"]:
            if " ".join(row["predicate"].casefold().split()) not in selected:
                continue
            subject, end = row["subject"]["synsets"], row["object"]["synsets"]
            if len(subject) == len(end) == 1 and subject[0] in class_of and end[0] in class_of:
                counts[class_of[subject[0]], class_of[end[0]]] += 1
    total = counts + counts.T
    root = np.sqrt(np.outer(total.sum(axis=1), total.sum(axis=1)))
    weight = np.divide(total, root, out=np.zeros(total.shape), where=root > 0)
    np.savez(out, classes=np.array(classes), counts=counts, weight=weight)


def main() -> None:
    """Measure and print."""
    args = parser(str(__doc__).splitlines()[0]).parse_args()
    if args.plain:
        plain_graph(args.plain[0], args.classes, args.plain[1])
    else:
        run(args, __file__, "build-relation", "relationships.json")


if __name__ == "__main__":
    main()
