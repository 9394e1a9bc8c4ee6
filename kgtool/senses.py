"""Which noun sense the name of a class means: candidates by spelling, evidence for each, the best first.

A class is something one can draw a box around. So things that are made, eaten or alive come before people,
and people before acts, places and measures; then count how often WordNet's texts use the sense, its rank,
whether the name is the sense's own first word, whether other names of the class share it, and whether the
context (a supercategory, or what stands in brackets) is above it. The evidence is added up as one adds
logarithms of odds; the confidence is the best candidate's share, times how reliable its way of being found
is. The weights are round numbers chosen once for all data sets; bench/mapping_accuracy.py measures them.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from kgtool.class_names import ClassName
from kgtool.wordnet import Nouns, Synset

#: Weight of a sense by the nearest of these synsets above it: how likely a class of boxes is of this kind.
_KIND_WEIGHTS = {
    "instrumentality.n.03": 3.0,
    "commodity.n.01": 3.0,
    "covering.n.02": 3.0,
    "artifact.n.01": 2.5,
    "food.n.01": 2.0,
    "food.n.02": 2.0,
    "structure.n.01": 1.5,
    "area.n.05": 1.5,
    "animal.n.01": 1.5,
    "plant.n.02": 1.0,
    "communication.n.02": 1.0,
    "physical_entity.n.01": 0.5,
    "person.n.01": 0.0,
    "possession.n.02": 0.0,
    "location.n.01": -1.0,
    "process.n.06": -1.0,
    "abstraction.n.06": -1.0,
}
_COMMUNICATION = 1.5  # at most, for what WordNet's authors filed there: television as broadcasting, books
_COUNT_WEIGHT = 0.8  # times ln(1 + tags)
_RANK_WEIGHT = 0.5  # times ln(sense number)
_FIRST_WORD = 1.5
_SHARED_NAME = 2.0  # for each further name of the class that the sense has
_CONTEXT = 2.0
_CONTEXT_BESIDE = 1.5  # the context is in the sense's own words or those one step away

#: How a candidate was found: what that costs it, and how far its share of the evidence can be trusted.
_METHODS = {
    "exact lemma": (0.0, 1.0),
    "spelling": (-0.3, 0.95),
    "plural": (-0.5, 0.95),
    "alias": (-1.0, 0.9),
    "narrowed by context": (0.0, 0.9),
    "compound head": (-1.0, 0.6),
}
_LITTLE_WORDS = "a an and at by for in non not of on or part the to type with"
_STOP_WORDS = frozenset(_LITTLE_WORDS.split())


@dataclass(frozen=True)
class Guess:
    """One sense that a class may mean.

    Attributes:
        synset: as "dog.n.01".
        method: "exact lemma", "spelling", "plural", "alias", "narrowed by context" or "compound head".
        word: the lemma that led to it.
        score: the evidence added up.
        confidence: 0 to 1; all guesses of a class together have at most 1.
    """

    synset: str
    method: str
    word: str
    score: float
    confidence: float


@dataclass
class _Candidate:
    """A sense while its evidence is collected; `phrases` are the names of the class that it has."""

    score: float
    method: str
    word: str
    phrases: set[str]


def rank_senses(name: ClassName, nouns: Nouns) -> list[Guess]:
    """All senses that a class may mean, the best first; empty when no word of it is a noun of WordNet.

    Args:
        name: the class's name, its other names, and its context; its synset is not looked at.
        nouns: WordNet.
    """
    phrases, context = _phrases(name)
    context -= set().union(*(_words(phrase) for phrase in phrases))
    found: dict[str, _Candidate] = {}
    for phrase, alias in phrases.items():
        for word, method in _spellings(phrase, nouns):
            _add(found, phrase, word, "alias" if alias else method, nouns)
    if not found:
        for phrase in phrases:
            head, modifiers = _head(phrase, nouns)
            context |= _words(modifiers)
            for word, _ in _spellings(head, nouns):
                _add(found, phrase, word, "compound head", nouns)
    if context:
        _add_narrower(found, phrases, context, nouns)
        for synset, candidate in found.items():
            candidate.score += _fit(context, synset, nouns)
    return _shares(found)


def _shares(found: dict[str, _Candidate]) -> list[Guess]:
    """Candidates by their evidence, with the share that each has of all."""
    scores = {synset: one.score + _SHARED_NAME * (len(one.phrases) - 1) for synset, one in found.items()}
    order = sorted(found, key=lambda synset: (-scores[synset], synset))
    odds = {synset: math.exp(scores[synset] - scores[order[0]]) for synset in order}
    total = sum(odds.values())
    return [
        Guess(synset, one.method, one.word, scores[synset], odds[synset] / total * _METHODS[one.method][1])
        for synset, one in ((synset, found[synset]) for synset in order)
    ]


def _phrases(name: ClassName) -> tuple[dict[str, bool], set[str]]:
    """Names to look up, each with whether it is an alias, and the words of the context."""
    context = _words(name.context)
    phrases: dict[str, bool] = {}
    for position, text in enumerate((*name.name.split(","), *name.aliases)):
        before, _, rest = _spaced(text).partition("(")
        bracket, _, after = rest.partition(")")
        context |= _words(bracket)
        for phrase, alias in ((before.strip(), position > 0), (after.strip(), True)):
            if phrase:
                phrases.setdefault(phrase, alias)
    return phrases, context


def _spaced(text: str) -> str:
    return re.sub(r"[\s_]+", " ", text).strip().lower()


def _words(text: str) -> set[str]:
    """Words of a phrase without endings of the plural, for comparing."""
    found = set(re.split(r"[^a-z0-9']+", text.lower())) - _STOP_WORDS
    return {word.removesuffix("s") if len(word) > 3 else word for word in found if word}


def _spellings(phrase: str, nouns: Nouns) -> Iterator[tuple[str, str]]:
    """Lemmas that a phrase may be, and how each was found: as it is, joined or hyphenated, singular."""
    lemma = phrase.replace(" ", "_")
    variants = dict.fromkeys(
        (
            lemma,
            lemma.replace("_", ""),
            lemma.replace("_", "-"),
            lemma.replace("-", "_"),
            lemma.replace("-", ""),
        )
    )
    known = False
    for variant in variants:
        if nouns.senses(variant):
            known = True
            yield variant, "exact lemma" if variant == lemma else "spelling"
    for variant in variants:
        for singular in nouns.singulars(variant):
            known = True
            yield singular, "plural"
    if not known and lemma.isalpha():
        for cut in range(2, len(lemma) - 1):
            parted = f"{lemma[:cut]}_{lemma[cut:]}"
            if nouns.senses(parted):
                yield parted, "spelling"


def _head(phrase: str, nouns: Nouns) -> tuple[str, str]:
    """What says what a compound is, and the rest: its longest known end, or what stands before "of"."""
    before, of, after = phrase.partition(" of ")
    if of and any(_spellings(before, nouns)):
        return before, after
    words = phrase.replace("-", " ").split()
    for cut in range(1, len(words)):
        head = " ".join(words[cut:])
        if any(_spellings(head, nouns)):
            return head, " ".join(words[:cut])
    return "", ""


def _add(found: dict[str, _Candidate], phrase: str, word: str, method: str, nouns: Nouns) -> None:
    """Add the senses of one lemma; of several ways to a sense the best one counts."""
    for rank, sense in enumerate(nouns.senses(word), start=1):
        place = [lemma.lower() for lemma in sense.lemmas].index(word)
        score = _METHODS[method][0] + _kind(sense.name, nouns).weight - _RANK_WEIGHT * math.log(rank)
        score += _COUNT_WEIGHT * math.log(1 + sense.counts[place]) + _FIRST_WORD * (place == 0)
        known = found.setdefault(sense.name, _Candidate(score, method, word, set()))
        known.phrases.add(phrase)
        if score > known.score:
            known.score, known.method, known.word = score, method, word


def _add_narrower(
    found: dict[str, _Candidate], phrases: Iterable[str], context: set[str], nouns: Nouns
) -> None:
    """Add senses one step below whose compound ends in the class's name and whose kind is the context.

    A keyboard among electronics is a computer keyboard: computer_keyboard.n.01 is below keyboard.n.01.
    """
    method = "narrowed by context"
    ends = tuple(f"_{phrase.replace(' ', '_')}" for phrase in phrases)
    for wider, candidate in list(found.items()):
        if context & (_kind(wider, nouns).words_above | _lemma_words(nouns.synset(wider))):
            continue
        for narrower in nouns.hyponyms(wider):
            words = [lemma.lower() for lemma in nouns.synset(narrower).lemmas if lemma.lower().endswith(ends)]
            if words and context & _kind(narrower, nouns).words_above:
                score = candidate.score + _METHODS[method][0]
                found.setdefault(narrower, _Candidate(score, method, words[0], set(candidate.phrases)))


def _fit(context: set[str], synset: str, nouns: Nouns) -> float:
    """What the context adds to a sense."""
    if context & _kind(synset, nouns).words_above:
        return _CONTEXT
    if any(context & _lemma_words(nouns.synset(name)) for name in (synset, *nouns.hyponyms(synset))):
        return _CONTEXT_BESIDE
    return 0.0


@dataclass(frozen=True)
class _Kind:
    weight: float
    words_above: frozenset[str]


@lru_cache(maxsize=100_000)
def _kind(synset: str, nouns: Nouns) -> _Kind:
    """Weight of a sense's kind, and the words of all synsets above it."""
    words: set[str] = set()
    near: list[float] = []
    nearest = 0
    for name, steps in ((synset, 0), *nouns.ancestors(synset)):
        if steps:
            words |= _lemma_words(nouns.synset(name))
        if name in _KIND_WEIGHTS and (not near or steps == nearest):
            near.append(_KIND_WEIGHTS[name])
            nearest = steps
    weight = max(near, default=0.0)
    if nouns.synset(synset).file == "communication":
        weight = min(weight, _COMMUNICATION)
    return _Kind(weight, frozenset(words))


def _lemma_words(synset: Synset) -> set[str]:
    return set().union(*(_words(lemma) for lemma in synset.lemmas))
