"""Which images of a validation set stand behind a graph: what a detector should find out, it was told.

An image stands behind a graph when its sources say anything of it, whether or not that counted for a class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kgtool.annotations import ReadOptions
from kgtool.errors import InputError
from kgtool.graph import ClassGraph, load_graph
from kgtool.image_evidence import ImageEvidence, read_evidence
from kgtool.image_lists import ImageList

Ids = npt.NDArray[np.int64]
_DEFAULTS = ReadOptions()


@dataclass(frozen=True)
class Leakage:
    """What annotations say of validation images.

    Attributes:
        images: that have annotations; None where nothing had to be read to know that none leaks.
        annotations: that were read; likewise.
        leaked_ids: the validation images among them, ascending.
        leaked_annotations: of those.
        of_unknown_image: annotations that do not say of which image they are, so that nobody can tell.
    """

    images: int | None
    annotations: int | None
    leaked_ids: tuple[int, ...]
    leaked_annotations: int
    of_unknown_image: int = 0


def find_leaks_in(
    subject: Path | str,
    validation: ImageList,
    *,
    kind: str = "relation",
    sources: Sequence[Path | str] = (),
    excluded: Sequence[ImageList] = (),
    options: ReadOptions = _DEFAULTS,
) -> Leakage:
    """Find the validation images in annotations, by `find_leaks`, or behind a graph, by `find_graph_leaks`.

    Raises:
        InputError: as these do; or sources or lists are given with annotations.
    """
    if _is_graph(Path(subject)):
        graph = load_graph(Path(subject))
        return find_graph_leaks(graph, validation, sources=sources, excluded=excluded, options=options)
    if sources or excluded:
        raise InputError(f"{subject}: found annotations; expected a graph with --source or --exclude-images")
    return find_leaks(subject, validation, kind=kind, options=options)


def find_leaks(
    source: Path | str,
    validation: ImageList,
    *,
    kind: str = "relation",
    options: ReadOptions = _DEFAULTS,
) -> Leakage:
    """Find the validation images that annotations speak of.

    Args:
        source: what a build command takes: annotations of Visual Genome, triples, or a COCO JSON.
        validation: the images, with the ids that the annotations use.
        kind: of triples: "relation" or "attribute".
        options: how the source is read.

    Raises:
        InputError: the source is not what it should be, or the ids are those of another data set.
    """
    return _leakage([(read_evidence(source, kind, validation, options), [[]])], validation)


def find_graph_leaks(
    graph: ClassGraph,
    validation: ImageList,
    *,
    sources: Sequence[Path | str] = (),
    excluded: Sequence[ImageList] = (),
    options: ReadOptions = _DEFAULTS,
) -> Leakage:
    """Find the validation images that stand behind a graph.

    A graph keeps no image ids, but the SHA-256 of its sources and of the lists of images that were left out.
    If every source was counted without all of these validation images, nothing has to be read.

    Args:
        graph: its header names the sources.
        validation: the images, with the ids that the sources use.
        sources: the files that the graph was built from; their content is compared with the header.
        excluded: the lists with which it was built, as far as they are not `validation` itself.
        options: how the sources are read.

    Raises:
        InputError: a source or list that is needed is not given, or a source is none of the graph's.
    """
    files = _counted_files(graph)
    if not files:
        raise InputError("header: found no source that was counted; expected a graph that kgtool built")
    by_sha256 = {images.record()["sha256"]: images for images in (validation, *excluded)}
    left_out = [
        [by_sha256[record["sha256"]] for record in file.excluded if record["sha256"] in by_sha256]
        for file in files
    ]
    if all(bool(_is_in(lists, validation.ids_N).all()) for lists in left_out):
        return Leakage(None, None, (), 0)
    for file in files:
        _check_lists_given(file, by_sha256)
    kind = "attribute" if graph.kind == "attribute" else "relation"
    evidence = [read_evidence(source, kind, validation, options) for source in sources]
    _check_sources_given(files, sources, evidence)
    rows = []
    for found in evidence:
        of_found = [lists for file, lists in zip(files, left_out, strict=True) if file.sha256 in found.sha256]
        rows.append((found, of_found))
    return _leakage(rows, validation)


def _is_graph(path: Path) -> bool:
    """Whether a path is a graph by its suffix and, as triples may be Parquet too, by its metadata."""
    if path.suffix != ".parquet" or not path.is_file():
        return path.suffix == ".npz"
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return b"kgtool.arrays" in (pq.read_schema(path).metadata or {})
    except pa.ArrowException:
        return False


def _is_in(lists: Sequence[ImageList], image_N: Ids) -> npt.NDArray[np.bool_]:
    """Which images are in any of some lists."""
    found = np.zeros(len(image_N), dtype=bool)
    for images in lists:
        found |= images.contains(image_N)
    return found


def _leakage(
    rows: Sequence[tuple[ImageEvidence, Sequence[Sequence[ImageList]]]], validation: ImageList
) -> Leakage:
    """Add up evidence; an image was left out of it if each of its files was counted without that image."""
    total: dict[int, int] = {}
    for evidence, left_out in rows:
        image_N = np.array(list(evidence.count_by_image), dtype=np.int64)
        gone = np.logical_and.reduce([_is_in(lists, image_N) for lists in left_out])
        for image in image_N[~gone].tolist():
            total[image] = total.get(image, 0) + evidence.count_by_image[image]
    annotations, unknown = sum(total.values()), total.pop(-1, 0)
    every = np.array(sorted(total), dtype=np.int64)
    leaked = every[validation.contains(every)].tolist()
    of_leaked = sum(total[image] for image in leaked)
    return Leakage(len(total), annotations, tuple(leaked), of_leaked, unknown)


@dataclass(frozen=True)
class _File:
    """A file that a graph counted: name, SHA-256, and the records of the lists that were left out."""

    name: str
    sha256: str
    excluded: tuple[Mapping[str, Any], ...]


def _counted_files(graph: ClassGraph) -> list[_File]:
    """The files that a graph counted; of triples those that they were made from."""
    files = []
    for source in graph.header["sources"]:
        if "annotations" not in source:
            continue
        for file in source.get("made_from", [source]):
            if "objects" in file:
                continue
            records = {
                id(entry): entry["excluded_images"] for entry in (file, source) if "excluded_images" in entry
            }
            files.append(_File(str(file.get("name")), str(file.get("sha256")), tuple(records.values())))
    return files


def _check_lists_given(file: _File, by_sha256: Mapping[str, ImageList]) -> None:
    for record in file.excluded:
        if record["sha256"] not in by_sha256:
            raise InputError(
                f"header: found {file.name} counted without {record['images']} images, a list with SHA-256 "
                f"{record['sha256']}; expected that list; give it with --exclude-images"
            )


def _check_sources_given(
    files: Sequence[_File], sources: Sequence[Path | str], evidence: Sequence[ImageEvidence]
) -> None:
    given = set().union(*(found.sha256 for found in evidence))
    missing = [f"{file.name} (SHA-256 {file.sha256})" for file in files if file.sha256 not in given]
    if missing:
        raise InputError(
            f"header: found that the graph was built from {', '.join(missing)}; expected that with --source, "
            "as a graph keeps no image ids"
        )
    known = {file.sha256 for file in files}
    for source, found in zip(sources, evidence, strict=True):
        if not found.sha256 & known:
            raise InputError(
                f"{source}: found no source of the graph; expected a file that it was built from"
            )
