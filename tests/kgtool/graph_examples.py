"""Graphs that keep every rule of docs/graph-format.md, and what breaks each rule, by name."""

from dataclasses import replace

import numpy as np
import pytest

from kgtool import weights
from kgtool.errors import GraphFormatError
from kgtool.graph import Evidence, load_graph, make_graph

SOURCE = {"name": "relationships.json", "sha256": "0" * 64, "records": 3, "skipped": {"no synset": 1}}


def relation_graph():
    """Four classes, three predicates of which two are selected, one class without any relation."""
    triples = {(0, 0, 1): 5, (0, 1, 1): 1, (0, 2, 2): 7, (1, 0, 0): 2, (2, 1, 2): 3}
    index = np.array(sorted(triples), np.int32)
    count = np.array([triples[row] for row in sorted(triples)], np.int64)
    counts = np.array([[0, 6, 0, 0], [2, 0, 0, 0], [0, 0, 3, 0], [0, 0, 0, 0]])
    return make_graph(
        classes=["dog", "frisbee", "grass", "ice cream"],
        synsets=["dog.n.01", "frisbee.n.01", "", "ice_cream.n.01"],
        weight=weights.relation_paper(counts),
        counts=counts,
        kind="relation",
        recipe={"name": "paper", "num_terms": 2, "term_key": "text"},
        dataset="made by hand",
        sources=[SOURCE],
        normalization=weights.normalization_of("relation", "paper"),
        evidence=Evidence(("catches", "on", "on top of"), np.array([9, 9, 8]), index, count),
    )


def attribute_graph():
    """Three classes, two attributes, one class without any."""
    counts = np.array([[4, 1], [2, 2], [0, 0]])
    index = np.argwhere(counts).astype(np.int32)
    return make_graph(
        classes=["apple", "leaf", "idea"],
        synsets=["apple.n.01", "leaf.n.01", "idea.n.01"],
        weight=weights.attribute_similarity(counts),
        counts=counts,
        kind="attribute",
        recipe={"name": "similarity", "num_terms": 200},
        dataset="made by hand",
        evidence=Evidence(("green", "red"), np.array([6, 3]), index, counts[counts > 0]),
        distribution=weights.attribute_distribution(counts),
    )


def plain_graph(classes=("a", "b"), weight=((0, 1), (1, 0)), **changes):
    """A graph of weights alone."""
    given = {"counts": None, "kind": "hypernym", "recipe": {"name": "path"}, "dataset": "none"}
    return make_graph(classes=classes, synsets=[""] * len(classes), weight=weight, **(given | changes))


def with_header(graph, **changes):
    """The same graph with other header values, as the file of another tool would have them."""
    return replace(graph, header={**graph.header, **changes})


def same_graph(one, other):
    """Equal in every array, type and header key."""
    assert one.classes == other.classes
    assert one.synsets == other.synsets
    assert one.header == other.header
    pairs = [(one.weight, other.weight), (one.counts, other.counts), (one.distribution, other.distribution)]
    assert (one.evidence is None) == (other.evidence is None)
    if one.evidence is not None:
        assert one.evidence.terms == other.evidence.terms
        pairs += [
            (getattr(one.evidence, n), getattr(other.evidence, n)) for n in ("totals", "index", "count")
        ]
    for left, right in pairs:
        assert (left is None) == (right is None)
        if left is not None:
            assert left.dtype == right.dtype
            assert left.shape == right.shape
            assert left.tobytes() == right.tobytes()
    return True


def one_line(path):
    """The message that a bad file gets."""
    with pytest.raises(GraphFormatError) as caught:
        load_graph(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 600
    return message


VALID = {
    "relation with evidence": relation_graph(),
    "attribute with distribution": attribute_graph(),
    "one class": plain_graph(["only"], [[0]]),
    "one class with a self loop": plain_graph(["only"], [[1]]),
    "no edge, but counts": plain_graph(weight=np.zeros((2, 2)), counts=[[0, 3], [0, 0]], kind="relation"),
    "counts of zero": plain_graph(counts=np.zeros((2, 2)), kind="relation"),
    "as many attributes as classes": plain_graph(counts=[[1, 2], [3, 4]], kind="attribute"),
    "counts of zero, as many attributes as classes": plain_graph(counts=np.zeros((2, 2)), kind="attribute"),
    "attributes and no edge": plain_graph(weight=np.zeros((2, 2)), counts=[[1, 2], [3, 4]], kind="attribute"),
    "no attribute": plain_graph(counts=np.zeros((2, 0)), distribution=np.zeros((2, 0)), kind="attribute"),
    "evidence of nothing": plain_graph(
        evidence=Evidence((), np.zeros(0, np.int64), np.zeros((0, 3), np.int32), np.zeros(0, np.int64))
    ),
    "directed": plain_graph(weight=[[0, 0.25], [0.5, 0]], directed=True),
    "names of many scripts": plain_graph(
        ["собака", "犬", "σκύλος", "chien d'arrêt", "🐕‍🦺"], np.ones((5, 5))
    ),
    "a backdrop, which is no background": plain_graph(["background.n.01", "b"]),
    "a later minor version with a key of its own": with_header(plain_graph(), version="1.7", colour="red"),
    "the least and the greatest float": plain_graph(weight=[[1e-45, 3.4e38], [3.4e38, 0]]),
}


def _meta(**changes):
    return lambda arrays, header: header.update(changes)


def _without(key):
    return lambda arrays, header: header.pop(key)


def _array(name, value):
    return lambda arrays, header: arrays.update({name: np.array(value)})


def _change(name, change):
    return lambda arrays, header: arrays.update({name: change(arrays[name].copy())})


def _set(name, index, value):
    def change(arrays, header):
        arrays[name] = arrays[name].copy()
        arrays[name][index] = value

    return change


def _drop(name):
    return lambda arrays, header: arrays.pop(name)


#: What breaks a rule: a change to the arrays and the header of `relation_graph()`, and words of the message.
INVALID = {
    "another format": (
        _meta(format="geoparquet"),
        "found format 'geoparquet'; expected 'kgtool.class-graph'",
    ),
    "a later major version": (
        _meta(version="2.0"),
        r"found version '2.0'; expected 1.x.*use the kgtool that",
    ),
    "a version that is a number": (_meta(version=1.0), "found version 1.0; expected a string"),
    "no version": (_without("version"), "found version None"),
    "no kind": (_without("kind"), "found no 'kind'"),
    "an empty kind": (_meta(kind=""), "found an empty kind"),
    "a recipe that is a name": (_meta(recipe="paper"), "found recipe 'paper'; expected an object"),
    "a recipe without a name": (_meta(recipe={"num_terms": 2}), "expected an object with a name"),
    "a negative limit": (_meta(recipe={"name": "paper", "num_terms": -1}), "found num_terms -1"),
    "directed as text": (_meta(directed="no"), "found directed 'no'; expected true or false"),
    "sources as a name": (_meta(sources="a.json"), "found sources 'a.json'; expected a list"),
    "a source that is a name": (_meta(sources=["a.json"]), "found a source that is not an object"),
    "a number JSON has not": (_meta(note=float("nan")), "cannot be written as JSON"),
    "another hash": (_meta(graph_hash="0" * 64), "found graph_hash 000000000000...; expected"),
    "another recipe than was hashed": (_meta(recipe={"name": "release", "num_terms": 2}), "found graph_hash"),
    "a changed weight": (_set("weight", ([0, 1], [1, 0]), 0.5), "found graph_hash"),
    "self loops denied": (_meta(self_loops=False), "found self_loops False; expected True"),
    "no header": (_drop("meta"), "meta: missing"),
    "a header that is a list": (_array("meta", "[]"), "meta: found a JSON list; expected a dict"),
    "a header that is no JSON": (_array("meta", "{"), "meta: found text that is not JSON"),
    "a header of numbers": (_array("meta", [1]), "meta: found int64"),
    "no classes": (_drop("classes"), "classes: missing"),
    "an empty class list": (_array("classes", np.zeros(0, "U1")), "classes: found 0; expected 1 to"),
    "classes as numbers": (_array("classes", [1, 2, 3, 4]), "classes: found int64"),
    "classes as a table": (_array("classes", [["a", "b"], ["c", "d"]]), r"classes: found <U1 \(2, 2\)"),
    "a class twice": (_set("classes", 1, "dog"), r"classes\[1\]: found 'dog' again, as classes\[0\]"),
    "an empty name": (_set("classes", 1, ""), r"classes\[1\]: found an empty name"),
    "a background class": (_array("classes", ["__background__", "a", "b", "c"]), "expected no background"),
    "blanks around a name": (_set("classes", 1, " dog "), "blanks at its ends"),
    "a line break in a name": (_set("classes", 1, "a\nb"), "control characters"),
    "a lone surrogate": (_set("classes", 1, "a\ud800b"), "control characters"),
    "a name as long as a page": (_array("classes", ["a" * 501, "b", "c", "d"]), "at most 500 characters"),
    "fewer synsets than classes": (_array("synsets", ["dog.n.01"]), "synsets: found 1; expected one a class"),
    "no weight": (_drop("weight"), "weight: missing"),
    "weight in float64": (_change("weight", np.float64), "weight: found float64; expected float32"),
    "weight of other classes": (
        _array("weight", np.ones((3, 3), "f4")),
        r"found shape \(3, 3\); expected \(4, 4",
    ),
    "a negative weight": (
        _set("weight", (0, 1), -1),
        r"weight\[0, 1\]: found -1.0; expected a finite number",
    ),
    "a weight that is no number": (_set("weight", (2, 3), np.nan), r"weight\[2, 3\]: found nan"),
    "an infinite weight": (_set("weight", (2, 3), np.inf), r"weight\[2, 3\]: found inf"),
    "an edge in one direction": (_set("weight", (2, 3), 1), "the other way; expected the same"),
    "counts in int32": (_change("counts", np.int32), "counts: found int32; expected int64"),
    "counts of a wrong shape": (_change("counts", lambda a: a[:, :2]), r"counts: found shape \(4, 2\)"),
    "a negative count": (_set("counts", (0, 0), -1), "counts: found -1"),
    "counts that the evidence denies": (
        _set("counts", (0, 1), 7),
        r"counts\[0, 1\]: found 7; expected 6, the sum of its evidence",
    ),
    "a distribution of relations": (
        _array("distribution", np.ones((4, 2), "f4")),
        "distribution: found in a graph of kind 'relation'",
    ),
    "half of the evidence": (_drop("evidence_totals"), "evidence_totals: missing; expected beside"),
    "an unknown array": (_array("thumbnail", [1]), "thumbnail: unknown array"),
    "a term twice": (_array("evidence_terms", '["on", "on", "by"]'), "found a term twice"),
    "a term that is a number": (_array("evidence_terms", '["on", 1, "by"]'), "not text"),
    "a term that is no Unicode": (_array("evidence_terms", r'["\ud800", "on", "by"]'), "lone surrogate"),
    "terms out of order": (_array("evidence_totals", [9, 8, 9]), "expected most frequent first"),
    "equal terms out of order": (_array("evidence_terms", '["on", "by", "of"]'), "ties by name"),
    "a negative total": (_array("evidence_totals", [9, 9, -8]), "evidence_totals: found -8"),
    "evidence without terms": (_change("evidence_index", lambda a: a[:, :2].copy()), r"expected \(any, 3\)"),
    "evidence in int64": (_change("evidence_index", np.int64), "evidence_index: found int64; expected int32"),
    "evidence of an unknown class": (
        _set("evidence_index", (4, 0), 4),
        r"evidence_index\[4\]: found \[4, 1, 2\]",
    ),
    "evidence of an unknown term": (_set("evidence_index", (4, 1), 3), r"expected 0 to \[3, 2, 3\]"),
    "a negative index": (_set("evidence_index", (0, 0), -1), r"evidence_index\[0\]: found \[-1"),
    "evidence out of order": (_change("evidence_index", lambda a: a[::-1].copy()), "rows not in order"),
    "a row of evidence twice": (_set("evidence_index", 1, [0, 0, 1]), "rows not in order or not unique"),
    "a count of zero": (_set("evidence_count", 0, 0), "evidence_count: found 0; expected at least 1"),
    "fewer counts than rows": (
        _change("evidence_count", lambda a: a[1:]),
        r"found shape \(4,\); expected \(5",
    ),
}
