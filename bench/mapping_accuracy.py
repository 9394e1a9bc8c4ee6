"""How often the automatic choice of senses is right: curated tables and LVIS's as truth.

Example: python bench/mapping_accuracy.py --lvis-coco coco_to_synset.json

For each list the known synsets are left aside and found again, from the names alone and with all that the
list gives (other names, supercategories). Right: the same synset. One step: the truth, or a synset one step
above or below it. Persons: answers that are people where the truth is not. Halves: right answers among every
second class. The weights of kgtool/senses.py were chosen with LVIS's and COCO's lists in view; VOC's and
ADE20K's are the independent ones.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from kgtool.class_names import ClassName, read_class_names
from kgtool.senses import Guess, rank_senses
from kgtool.wordnet import Nouns, load_nouns


@dataclass
class Score:
    """Counts of one list."""

    classes: int = 0
    mapped: int = 0
    right: int = 0
    one_step: int = 0
    persons: int = 0
    half_a: int = 0
    half_b: int = 0


def first_sense(name: ClassName, nouns: Nouns) -> list[Guess]:
    """The usual way, for comparison: WordNet's first sense of the name."""
    senses = nouns.senses(name.name.split(",")[0].split("_(")[0])
    return [Guess(senses[0].name, "first sense", name.name, 0.0, 1.0)] if senses else []


def measure(
    names: Iterable[ClassName], nouns: Nouns, choose: Callable[[ClassName, Nouns], list[Guess]] = rank_senses
) -> Score:
    """Find the synset of each class anew and compare it with the one that is known."""
    score = Score()
    for position, name in enumerate(names):
        score.classes += 1
        guesses = choose(name, nouns)
        if not guesses:
            continue
        found, truth = guesses[0].synset, name.synset
        right = found == truth
        score.mapped += 1
        score.right += right
        score.half_a += right and position % 2 == 0
        score.half_b += right and position % 2 == 1
        if truth in nouns:
            near = (*nouns.hypernyms(truth), *nouns.hyponyms(truth), truth)
            score.one_step += found in near
            score.persons += is_person(found, nouns) and not is_person(truth, nouns)
    return score


def is_person(synset: str, nouns: Nouns) -> bool:
    """Whether a synset is person.n.01 or below it."""
    return synset == "person.n.01" or any(above == "person.n.01" for above, _ in nouns.ancestors(synset))


def lists(lvis_coco: Path | None) -> dict[str, list[ClassName]]:
    """Lists with known synsets, by title."""
    found = {spec: read_class_names(spec) for spec in ("lvis", "coco", "voc", "ade150")}
    if lvis_coco is not None and lvis_coco.is_file():
        truth = json.loads(lvis_coco.read_text(encoding="utf-8"))
        found["coco, LVIS's table"] = [
            replace(name, synset=truth[name.name]["synset"]) for name in found["coco"]
        ]
    return found


def main() -> None:
    """Print one line for each list and each kind of input."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the same: it takes seconds")
    parser.add_argument(
        "--lvis-coco", type=Path, help="LVIS's coco_to_synset.json, as another truth for COCO"
    )
    options = parser.parse_args()
    nouns = load_nouns()
    heads = f"{'classes':>7} {'mapped':>7} {'right':>14} {'one step':>8} {'persons':>7}  halves"
    print(f"{'list':<20} {'input':<12} {heads}")
    started = time.perf_counter()
    for title, names in lists(options.lvis_coco).items():
        alone = [ClassName(name.name.split(",")[0], synset=name.synset) for name in names]
        for words, given, choose in (
            ("first sense", alone, first_sense),
            ("name", alone, rank_senses),
            ("all given", names, rank_senses),
        ):
            score = measure(given, nouns, choose)
            right = f"{score.right} = {score.right / score.classes:.1%}"
            print(
                f"{title:<20} {words:<12} {score.classes:>7} {score.mapped:>7} {right:>14} "
                f"{score.one_step / score.classes:>8.1%} {score.persons:>7}  {score.half_a} {score.half_b}"
            )
    print(f"{time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
