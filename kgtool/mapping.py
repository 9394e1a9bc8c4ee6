"""Class names to synsets, and to the Visual Genome synsets whose boxes show them: an audited table.

Each class gets two answers. `synset` is what the class means. `vg_synset` is where its boxes are: Visual
Genome took the first sense of many words, so that its toasters are under toaster.n.01, a person, and its
toilets under the room. How each answer was found is in the table, and a class without one stays empty.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgtool.class_names import ClassName
from kgtool.errors import InputError
from kgtool.files import atomic_path
from kgtool.senses import Guess, rank_senses
from kgtool.targets import Target
from kgtool.wordnet import Nouns

if TYPE_CHECKING:
    import pyarrow as pa

DEFAULT_STEPS = 2
#: What a class found in its target in another way than by its own synset keeps of its confidence.
_SAME_WORD, _EACH_STEP = 0.8, 0.8
#: Below this an answer is worth a look.
DOUBTFUL = 0.5
_NUM_ALTERNATIVES, _SMALLEST_SHARE = 4, 0.01


@dataclass(frozen=True)
class MappedClass:
    """One row of the table.

    Attributes:
        name: the class.
        synset: what it means; empty when unmapped.
        vg_synset: the Visual Genome synsets whose boxes show it; empty when there is none, or when there is
            neither a target nor a curated answer.
        method: how `synset` was found: "curated", "given", one of `Guess.method`, or empty.
        vg_method: how `vg_synset` was found: "curated", "given", "same synset", "same word",
            "hypernym, 1 step", "hypernym, N steps", or empty.
        confidence: 0 to 1, of both answers together.
        boxes: how many boxes (of a graph: annotations) stand behind `vg_synset`; None when not known.
        alternatives: other senses with their shares, the best first.
        reason: why, where it is not obvious.
    """

    name: str
    synset: str
    vg_synset: tuple[str, ...]
    method: str
    vg_method: str
    confidence: float
    boxes: int | None
    alternatives: tuple[str, ...]
    reason: str

    def cells(self) -> dict[str, Any]:
        """The row as columns of the table: text, a number, or None."""
        return {
            "name": self.name,
            "synset": self.synset,
            "vg_synset": ";".join(self.vg_synset),
            "method": self.method,
            "vg_method": self.vg_method,
            "confidence": round(self.confidence, 4),
            "boxes": self.boxes,
            "alternatives": "; ".join(self.alternatives),
            "reason": self.reason,
        }


def map_classes(
    names: Sequence[ClassName],
    nouns: Nouns,
    target: Target | None = None,
    *,
    steps: int = DEFAULT_STEPS,
    automatic: bool = False,
) -> list[MappedClass]:
    """Map classes to synsets, and onto a target's synsets.

    A synset that is known (curated, or given by the file) is kept; the others are found by
    `senses.rank_senses`. In the target a class is found, in this order: by its known `vg_synsets`; by its own
    synset; by another sense of its name (Visual Genome took the first sense), but never a person for a thing
    or the other way round, and never where the known `vg_synsets` are none; by a synset above its own.

    Args:
        names: the classes.
        nouns: WordNet.
        target: what to map onto; None: `vg_synset` is what is known.
        steps: how many steps above a hypernym in the target may be; 0 for none.
        automatic: leave known synsets aside, as if the names were all there is.

    Returns:
        A row for each class, in their order.
    """
    return [_map_class(name, nouns, target, steps, automatic) for name in names]


def _map_class(
    name: ClassName, nouns: Nouns, target: Target | None, steps: int, automatic: bool
) -> MappedClass:
    guesses = rank_senses(name, nouns)
    known, reason = "" if automatic else name.synset, "" if automatic else name.reason
    if known and known not in nouns:
        reason, known = f"{known} is {name.known_by} but no noun of WordNet {nouns.version}", ""
    synset = known or (guesses[0].synset if guesses else "")
    method = name.known_by if known else (guesses[0].method if guesses else "")
    confidence = 1.0 if known else (guesses[0].confidence if guesses else 0.0)
    known_vg = name.vg_synsets if known else None
    if target is None:
        vg_synset, vg_method, factor = known_vg or (), name.known_by if known_vg else "", 1.0
    else:
        vg_synset, vg_method, factor = _find_in_target(
            synset, known_vg, name.known_by, guesses, nouns, target, steps
        )
    boxes = None
    if target is not None and target.count_by_synset is not None:
        boxes = sum(target.count_by_synset.get(found, 0) for found in vg_synset)
    return MappedClass(
        name=name.name,
        synset=synset,
        vg_synset=vg_synset,
        method=method,
        vg_method=vg_method,
        confidence=confidence * factor,
        boxes=boxes,
        alternatives=tuple(
            f"{guess.synset} {guess.confidence:.2f}"
            for guess in guesses
            if guess.synset != synset and guess.confidence >= _SMALLEST_SHARE
        )[:_NUM_ALTERNATIVES],
        reason=reason,
    )


def _find_in_target(
    synset: str,
    known_vg: tuple[str, ...] | None,
    known_by: str,
    guesses: list[Guess],
    nouns: Nouns,
    target: Target,
    steps: int,
) -> tuple[tuple[str, ...], str, float]:
    """Synsets of the target, how they were found, and what that leaves of the confidence."""
    curated = tuple(found for found in known_vg or () if found in target.synsets)
    if curated:
        return curated, known_by, 1.0
    if not synset:
        return (), "", 0.0
    if synset in target.synsets:
        return (synset,), "same synset", 1.0
    if known_vg != ():
        for guess in guesses:
            if guess.synset in target.synsets and _same_kind(guess.synset, synset, nouns):
                return (guess.synset,), "same word", _SAME_WORD
    for above, distance in nouns.ancestors(synset):
        if distance > steps:
            break
        if above in target.synsets:
            return (above,), f"hypernym, {distance} step{'s' * (distance > 1)}", _EACH_STEP**distance
    return (), "", 1.0


def _same_kind(one: str, other: str, nouns: Nouns) -> bool:
    """Whether both are people, or both are physical things."""
    kinds = [{name, *(above for above, _ in nouns.ancestors(name))} for name in (one, other)]
    person = ["person.n.01" in kind for kind in kinds]
    return person[0] == person[1] and all("physical_entity.n.01" in kind for kind in kinds)


def find_row(rows: Sequence[MappedClass], name: str) -> MappedClass:
    """The row of a class.

    Raises:
        InputError: there is no such class; the message has the near names.
    """
    from difflib import get_close_matches

    for row in rows:
        if row.name == name:
            return row
    near = get_close_matches(name, [row.name for row in rows], n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "give a name of the class list"
    raise InputError(f"class {name!r}: not among the {len(rows)} classes; {hint}")


def explain(row: MappedClass, nouns: Nouns) -> str:
    """Tell in words how a class was mapped, a line for each thing to know.

    Glosses are told when `nouns` has them (NLTK's WordNet, or a directory).
    """
    if not row.synset:
        return f"{row.name}: unmapped, as no word of it is a noun of WordNet {nouns.version}"
    lines = [f"{row.name} means {_described(row.synset, nouns)}, found by: {row.method}"]
    above = [name.split(".")[0].replace("_", " ") for name, _ in nouns.ancestors(row.synset)]
    lines.append("It is a kind of " + ", ".join(above[:6]))
    if row.vg_synset:
        boxes = "" if row.boxes is None else f", {row.boxes:,} boxes"
        lines.append(f"Its boxes are under {', '.join(row.vg_synset)}{boxes}, found by: {row.vg_method}")
        lines += [
            f"  {_described(name, nouns)}" for name in row.vg_synset if name != row.synset and name in nouns
        ]
    else:
        lines.append("No synset is known whose boxes show it")
    if row.reason:
        lines.append(f"Why: {row.reason}")
    if row.alternatives:
        lines.append(f"Other senses, with their share of the evidence: {'; '.join(row.alternatives)}")
    lines.append(f"Confidence {row.confidence:.2f}")
    return "\n".join(lines)


def _described(name: str, nouns: Nouns) -> str:
    words = ", ".join(lemma.replace("_", " ") for lemma in nouns.synset(name).lemmas[:5])
    gloss = nouns.gloss(name)
    return f"{name} ({words}{': ' if gloss else ''}{gloss})"


def save_mapping(rows: Sequence[MappedClass], path: Path, *, overwrite: bool = False) -> None:
    """Write the table as CSV or Parquet, by the suffix of `path`; the same rows give the same bytes.

    Raises:
        InputError: the suffix is neither .csv nor .parquet.
        OutputExistsError: the file is there and `overwrite` is false.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(f"{path}: found the suffix {path.suffix!r}; expected .csv or .parquet")
    with atomic_path(path, overwrite=overwrite) as part:
        if path.suffix == ".csv":
            import csv

            with part.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0].cells()), lineterminator="\n")
                writer.writeheader()
                writer.writerows(row.cells() for row in rows)
        else:
            import pyarrow.parquet as pq

            pq.write_table(to_arrow(rows), part, compression="zstd")


def to_arrow(rows: Sequence[MappedClass]) -> "pa.Table":
    """The table for Arrow; `boxes` is null where it is not known."""
    import pyarrow as pa

    numbers = {"confidence": pa.float64(), "boxes": pa.int64()}
    schema = pa.schema([(column, numbers.get(column, pa.string())) for column in rows[0].cells()])
    return pa.Table.from_pylist([row.cells() for row in rows], schema=schema)
