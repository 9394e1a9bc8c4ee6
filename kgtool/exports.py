"""A class graph in the formats of other tools. Each holds the classes, their synsets and the edges.

Evidence stays behind, and counts where the format has no place for them; the same graph gives the same bytes.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from kgtool.errors import InputError
from kgtool.files import atomic_path
from kgtool.graph import ClassGraph
from kgtool.graph_arrays import json_text
from kgtool.graph_npz import write_arrays
from kgtool.neighbours import keep_top
from kgtool.release_pickle import write_release_pickle

if TYPE_CHECKING:
    import networkx as nx

Format = Literal["csv", "dot", "gexf", "graphml", "pyg", "release-pickle"]
FORMATS: tuple[Format, ...] = get_args(Format)

#: Characters that XML 1.0 cannot hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def export_graph(
    graph: ClassGraph, path: Path, form: Format, *, top: int | None = None, overwrite: bool = False
) -> int:
    """Write a graph in another format.

    - csv: one edge a row: source, target, weight, count, source_synset, target_synset. Of an undirected
      graph each pair once. A class without an edge has a row without target.
    - dot: Graphviz.
    - gexf, graphml: as networkx writes them; nodes have `synset`, edges `weight` and `count`.
    - pyg: what PyTorch Geometric's Data wants, as NPZ or by the suffix .json as JSON: edge_index (2, E)
      int64 with both directions of undirected edges, edge_weight (E,) float32, classes, synsets.
    - release-pickle: the matrix alone with a background row and column of zeros in front, float64, pickled
      as the published ones are. It has no class names.

    Args:
        graph: any class graph.
        path: file to write.
        form: one of `FORMATS`.
        top: leave out edges that are among so many strongest of neither end; None: keep all.
        overwrite: replace the file if it is there.

    Returns:
        Edges written; of an undirected graph each pair once.

    Raises:
        InputError: a name has a character that XML cannot hold.
        OutputExistsError: the file is there and `overwrite` is false.
    """
    if top is not None:
        graph = replace(graph, weight=keep_top(graph, top))
    with atomic_path(path, overwrite=overwrite) as part:
        if form == "pyg":
            _write_pyg(graph, part, as_json=path.suffix == ".json")
        else:
            _WRITERS[form](graph, part)
    return sum(1 for _ in _edges(graph))


def _edges(graph: ClassGraph) -> Iterator[tuple[int, int, np.float32, int | None]]:
    """Positions, weight and count of each edge, self loops too; of an undirected graph each pair once."""
    directed = graph.header["directed"]
    counts = None if graph.kind == "attribute" else graph.counts
    for i, j in np.argwhere(graph.weight if directed else np.triu(graph.weight)).tolist():
        count = None
        if counts is not None:
            count = int(counts[i, j] + (0 if directed or i == j else counts[j, i]))
        yield i, j, graph.weight[i, j], count


def _write_csv(graph: ClassGraph, path: Path) -> None:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["source", "target", "weight", "count", "source_synset", "target_synset"])
    classes, synsets = graph.classes, graph.synsets
    alone = dict.fromkeys(range(len(classes)))
    lines = []
    for i, j, weight, count in _edges(graph):
        alone.pop(i, None)
        alone.pop(j, None)
        lines.append([classes[i], classes[j], str(weight), count, synsets[i], synsets[j]])
    rows.writerows([classes[i], "", "", "", synsets[i], ""] for i in alone)
    rows.writerows(lines)
    path.write_text(text.getvalue(), encoding="utf-8", newline="")


def _write_dot(graph: ClassGraph, path: Path) -> None:
    directed = graph.header["directed"]
    lines = [f"{'digraph' if directed else 'graph'} classes {{"]
    lines += [f"  {_quoted(name)};" for name in graph.classes]
    link = "->" if directed else "--"
    for i, j, weight, _ in _edges(graph):
        lines.append(f"  {_quoted(graph.classes[i])} {link} {_quoted(graph.classes[j])} [weight={weight!s}];")
    path.write_text("\n".join([*lines, "}", ""]), encoding="utf-8")


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _write_graphml(graph: ClassGraph, path: Path) -> None:
    import networkx as nx

    result = _for_xml(graph)
    result.graph = {
        key: value if isinstance(value, str | bool) else json_text(value)
        for key, value in result.graph.items()
    }
    nx.write_graphml_xml(result, path)


def _write_gexf(graph: ClassGraph, path: Path) -> None:
    import networkx as nx

    result = _for_xml(graph)
    result.graph = {}
    text = "\n".join(nx.generate_gexf(result))
    dateless = re.sub(r' lastmodifieddate="[^"]*"', "", text)
    path.write_text(f"<?xml version='1.0' encoding='utf-8'?>\n{dateless}\n", encoding="utf-8")


def _for_xml(graph: ClassGraph) -> "nx.Graph":
    for text in (*graph.classes, *graph.synsets, json_text(graph.header)):
        if found := _NOT_XML.search(text):
            raise InputError(
                f"{text[:60]!r}: found the character {found.group()!r}, which XML cannot hold; "
                "expected others; export as csv or pyg"
            )
    return graph.to_networkx()


def _write_pyg(graph: ClassGraph, path: Path, *, as_json: bool) -> None:
    index = np.argwhere(graph.weight).T.astype(np.int64)
    weight = graph.weight[index[0], index[1]]
    if as_json:
        document = {
            "edge_index": index.tolist(),
            "edge_weight": [float(str(value)) for value in weight],
            "classes": graph.classes,
            "synsets": graph.synsets,
            "header": graph.header,
        }
        path.write_text(json_text(document), encoding="utf-8")
        return
    arrays = {
        "edge_index": index,
        "edge_weight": weight,
        "classes": np.array(graph.classes),
        "synsets": np.array(graph.synsets),
        "header": np.array(json_text(graph.header)),
    }
    write_arrays(path, arrays)


def _write_release_pickle(graph: ClassGraph, path: Path) -> None:
    write_release_pickle(np.pad(graph.weight.astype(np.float64), ((1, 0), (1, 0))), path)


_WRITERS: dict[str, Callable[[ClassGraph, Path], None]] = {
    "csv": _write_csv,
    "dot": _write_dot,
    "gexf": _write_gexf,
    "graphml": _write_graphml,
    "release-pickle": _write_release_pickle,
}
