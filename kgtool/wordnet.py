"""Noun synsets of WordNet 3.0: the table that ships with the package, or any WordNet through NLTK.

The shipped table (`wordnet_nouns.parquet`, made by data/make_wordnet_table.py) holds lemmas, sense ranks and
hypernyms of all 82,115 noun synsets, so that mapping works offline on a fresh machine. Glosses need NLTK's
WordNet or a WordNet directory. WordNet's licence is in WORDNET_LICENSE.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kgtool.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

TABLE = Path(__file__).with_name("wordnet_nouns.parquet")
PLURALS = Path(__file__).with_name("wordnet_plurals.txt")
ENVIRONMENT_VARIABLE = "KGTOOL_WORDNET"

#: WordNet's rules for regular plurals: ending, and what stands there in the singular.
_PLURAL_ENDINGS = (
    ("s", ""),
    ("ses", "s"),
    ("ves", "f"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
)


@dataclass(frozen=True)
class Synset:
    """One sense that nouns share.

    Attributes:
        name: "dog.n.01": first lemma, part of speech, sense number of that lemma.
        file: WordNet's lexicographer file, as "animal" or "artifact": the broad kind of thing.
        offset: position in Princeton's data.noun; ImageNet's identifier is "n" and its eight digits.
        lemmas: words and phrases with underscores, in WordNet's spelling and order.
        ranks: each lemma's sense number for this synset, from 1, the most frequent sense first.
        counts: how often each lemma was tagged with this sense in WordNet's texts.
    """

    name: str
    file: str
    offset: int
    lemmas: tuple[str, ...]
    ranks: tuple[int, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Nouns:
    """All noun synsets by row, with the lists of lemmas and hypernyms laid end to end.

    Attributes:
        source: where they came from: "shipped", "nltk" or a directory.
        version: WordNet's version, "3.0".
        plurals: irregular plural to its singulars, as "geese" to ("goose",).
        reader: NLTK's reader, for glosses and everything else it does; None for the shipped table.
    """

    source: str
    version: str
    plurals: dict[str, tuple[str, ...]]
    reader: Any | None = field(repr=False)
    offsets: npt.NDArray[np.int32] = field(repr=False)
    files: list[str] = field(repr=False)
    lemmas: list[str] = field(repr=False)
    ranks: npt.NDArray[np.int16] = field(repr=False)
    counts: npt.NDArray[np.int32] = field(repr=False)
    first_lemma: npt.NDArray[np.int32] = field(repr=False)
    above: npt.NDArray[np.int32] = field(repr=False)
    first_above: npt.NDArray[np.int32] = field(repr=False)

    def __len__(self) -> int:
        return len(self.offsets)

    @cached_property
    def names(self) -> list[str]:
        """Synset names, by row."""
        starts = self.first_lemma[:-1].tolist()
        return [
            f"{self.lemmas[i].lower()}.n.{rank:02d}"
            for i, rank in zip(starts, self.ranks[starts], strict=True)
        ]

    @cached_property
    def row_by_name(self) -> dict[str, int]:
        """Row of each synset name."""
        return {name: row for row, name in enumerate(self.names)}

    @cached_property
    def _rows_by_lemma(self) -> dict[str, list[int]]:
        """Rows of each lemma in lower case, best sense first."""
        row_of = np.repeat(np.arange(len(self)), np.diff(self.first_lemma)).tolist()
        senses: dict[str, list[tuple[int, int]]] = {}
        for lemma, rank, row in zip(self.lemmas, self.ranks.tolist(), row_of, strict=True):
            senses.setdefault(lemma.lower(), []).append((rank, row))
        return {lemma: [row for _, row in sorted(found)] for lemma, found in senses.items()}

    @cached_property
    def _below(self) -> dict[int, list[int]]:
        rows = np.repeat(np.arange(len(self)), np.diff(self.first_above)).tolist()
        below: dict[int, list[int]] = {}
        for row, above in zip(rows, self.above.tolist(), strict=True):
            below.setdefault(above, []).append(row)
        return below

    def __contains__(self, name: str) -> bool:
        return name in self.row_by_name

    def synset(self, name: str) -> Synset:
        """The synset of a name such as "dog.n.01".

        Raises:
            InputError: WordNet has no such noun synset.
        """
        row = self._row(name)
        place = slice(int(self.first_lemma[row]), int(self.first_lemma[row + 1]))
        return Synset(
            name=self.names[row],
            file=self.files[row],
            offset=int(self.offsets[row]),
            lemmas=tuple(self.lemmas[place]),
            ranks=tuple(self.ranks[place].tolist()),
            counts=tuple(self.counts[place].tolist()),
        )

    def senses(self, lemma: str) -> list[Synset]:
        """Synsets of a word or phrase as it stands, most frequent sense first; empty when there is none.

        Case does not matter; blanks and underscores are the same. No plural is undone: see `singulars`.
        """
        rows = self._rows_by_lemma.get(lemma.strip().lower().replace(" ", "_"), [])
        return [self.synset(self.names[row]) for row in rows]

    def hypernyms(self, name: str) -> tuple[str, ...]:
        """Names of the synsets one step above, those of instances (Paris, a city) included.

        Raises:
            InputError: WordNet has no such noun synset.
        """
        row = self._row(name)
        return tuple(
            self.names[above] for above in self.above[self.first_above[row] : self.first_above[row + 1]]
        )

    def hyponyms(self, name: str) -> tuple[str, ...]:
        """Names of the synsets one step below, instances included, in the order of rows.

        Raises:
            InputError: WordNet has no such noun synset.
        """
        return tuple(self.names[row] for row in self._below.get(self._row(name), []))

    def ancestors(self, name: str) -> Iterator[tuple[str, int]]:
        """All synsets above with their distance in steps, nearest first, each once.

        Raises:
            InputError: WordNet has no such noun synset.
        """
        seen = {name}
        level, steps = [name], 0
        while level:
            steps += 1
            level = [above for below in level for above in self.hypernyms(below) if above not in seen]
            level = list(dict.fromkeys(level))
            seen.update(level)
            yield from ((above, steps) for above in level)

    def singulars(self, word: str) -> list[str]:
        """Singular forms of a plural that are lemmas: irregular ones first, then WordNet's rules.

        Of a phrase the last word is taken. A word that is no plural gives an empty list.
        """
        lemma = word.strip().lower().replace(" ", "_")
        start, underscore, last = lemma.rpartition("_")
        forms = [*self.plurals.get(last, ())]
        forms += [last.removesuffix(end) + put for end, put in _PLURAL_ENDINGS if last.endswith(end)]
        found = [start + underscore + form for form in forms if form != last]
        return [form for form in dict.fromkeys(found) if form in self._rows_by_lemma]

    def gloss(self, name: str) -> str:
        """Definition of a synset; empty with the shipped table, which has none."""
        return "" if self.reader is None else str(self.reader.synset(name).definition())

    def _row(self, name: str) -> int:
        try:
            return self.row_by_name[name]
        except KeyError:
            raise InputError(
                f"synset {name!r}: not a noun of WordNet {self.version}; expected a name such as dog.n.01"
            ) from None


def load_nouns(source: str = "") -> Nouns:
    """Load WordNet's nouns.

    Args:
        source: "shipped", "nltk" (NLTK's own data) or a directory with WordNet's files. Empty: the
            environment variable KGTOOL_WORDNET, and without it the shipped table.

    Raises:
        InputError: the directory is not there or is no WordNet.
        MissingResourceError: "nltk" was asked for and has no WordNet.
    """
    return _load_nouns(wordnet_source(source))


def wordnet_source(source: str = "") -> str:
    """Say which WordNet is in use: `source`, else the environment variable KGTOOL_WORDNET, else "shipped"."""
    return source or os.environ.get(ENVIRONMENT_VARIABLE, "") or "shipped"


@cache
def _load_nouns(source: str) -> Nouns:
    if source == "shipped":
        import pyarrow.parquet as pq

        lines = PLURALS.read_text(encoding="utf-8").splitlines()
        plurals = {form: tuple(bases) for form, *bases in map(str.split, lines)}
        return nouns_from_table(pq.read_table(TABLE), source, plurals, None)
    from kgtool.wordnet_reader import noun_exceptions, noun_table, open_reader

    reader = open_reader(source)
    return nouns_from_table(noun_table(reader), source, noun_exceptions(reader), reader)


def nouns_from_table(
    table: "pa.Table", source: str, plurals: dict[str, tuple[str, ...]], reader: Any | None
) -> Nouns:
    """Lay out the columns that `wordnet_reader.noun_table` makes.

    Args:
        table: one row a synset.
        source: what to say it came from.
        plurals: irregular plural to singulars.
        reader: NLTK's reader behind it, if any.
    """
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    classes, instances = columns["hypernyms"], columns["instance_hypernyms"]
    above, first_above = _interleaved(classes, instances)
    return Nouns(
        source=source,
        version=(table.schema.metadata or {}).get(b"wordnet", b"").decode(),
        plurals=plurals,
        reader=reader,
        offsets=columns["offset"].to_numpy(),
        files=columns["file"].to_pylist(),
        lemmas=columns["lemmas"].values.to_pylist(),
        ranks=columns["ranks"].values.to_numpy(),
        counts=columns["counts"].values.to_numpy(),
        first_lemma=columns["lemmas"].offsets.to_numpy(),
        above=above,
        first_above=first_above,
    )


def _interleaved(
    classes: "pa.ListArray", instances: "pa.ListArray"
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Two lists a row into one list a row: values end to end, and where each row's begin."""
    sizes = [np.diff(part.offsets.to_numpy()) for part in (classes, instances)]
    rows = np.concatenate([np.repeat(np.arange(len(size)), size) for size in sizes])
    values = np.concatenate([part.values.to_numpy() for part in (classes, instances)])
    first = np.concatenate([[0], np.cumsum(sizes[0] + sizes[1])])
    return values[np.argsort(rows, kind="stable")].astype(np.int32), first.astype(np.int32)
