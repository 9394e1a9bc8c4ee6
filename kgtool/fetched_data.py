"""A data set's folder filled from the archives it is published as."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from kgtool.archives import Archive, archives_of
from kgtool.byte_source import sha256_of
from kgtool.download import PATIENT, Patience, Progress, Received, check_room, download
from kgtool.errors import InputError
from kgtool.extraction import extract
from kgtool.files import atomic_path

#: Where archives lie in the folder of a data set.
ARCHIVE_FOLDER = "archives"


class _Record(msgspec.Struct, frozen=True):
    """What is written beside an archive: what it was, and what came of it."""

    url: str
    size: int
    sha256: str
    published: bool
    content: list[str]


@dataclass(frozen=True)
class FetchOptions:
    """How archives are fetched.

    Attributes:
        mirror: a URL below which archives are looked for first; "": none.
        on_progress: told how far it is.
        patience: how long to try.
    """

    mirror: str = ""
    on_progress: Progress | None = None
    patience: Patience = PATIENT


_DEFAULTS = FetchOptions()


def plan_fetch(
    dataset: str, out: Path, *, parts: Sequence[str] = (), options: FetchOptions = _DEFAULTS
) -> dict[str, Any]:
    """What `fetch_data` would do, without doing it.

    Returns:
        A JSON object: the archives with `part`, `urls`, `size` (None: not published), `sha256`, `path` and
        whether they are `there`; and about how many bytes of disk all that is missing needs.

    Raises:
        InputError: the data set has no such part.
    """
    rows, needed = [], 0
    for archive in archives_of(dataset, parts):
        there = _is_there(archive, out)
        needed += 0 if there else archive.planned_total
        rows.append(
            {
                "part": archive.part,
                "urls": list(_urls(archive, options)),
                "size": archive.size,
                "about": archive.planned_size,
                "sha256": archive.sha256 or None,
                "path": str(_path(archive, out)),
                "there": there,
            }
        )
    return {"dataset": dataset, "out": str(out), "archives": rows, "disk_bytes_about": needed}


def fetch_data(
    dataset: str, out: Path, *, parts: Sequence[str] = (), options: FetchOptions = _DEFAULTS
) -> dict[str, Any]:
    """Fetch and extract what is missing of a data set.

    The archives go to `out`/archives, each with a record of its URL, size and SHA-256, and their content to
    `out`. What a record says was extracted is not fetched again, even if the archive has been removed since.
    An archive that was put there by hand is used if its size and SHA-256 are right.

    Args:
        dataset: a key of `kgtool.archives.ARCHIVES`.
        out: the folder; made if it is not there.
        parts: which archives; none: all.
        options: how.

    Returns:
        A JSON object: for each archive `part`, `url`, `size`, `sha256`, whether the latter was `published`,
        the `content` at the top of it, and whether it was `there`.

    Raises:
        InputError: the data set has no such part; an archive is damaged or holds what it must not.
        OutputExistsError: a file of another content is where one should go.
        KgtoolError: an archive could not be fetched, or the disk has no room.
    """
    chosen = archives_of(dataset, parts)
    (out / ARCHIVE_FOLDER).mkdir(parents=True, exist_ok=True)
    missing = [archive for archive in chosen if not _is_there(archive, out)]
    check_room(out, sum(_missing_bytes(archive, out) for archive in missing), dataset)
    rows = []
    for archive in chosen:
        there = archive not in missing
        if not there:
            _fetch(archive, out, options)
        rows.append({"part": archive.part, **msgspec.to_builtins(_read_record(archive, out)), "there": there})
    return {"dataset": dataset, "out": str(out), "archives": rows}


def _fetch(archive: Archive, out: Path, options: FetchOptions) -> None:
    path = _path(archive, out)
    if path.exists():
        received = Received("", path.stat().st_size, sha256_of(path))
        _check_own(path, archive, received)
    else:
        received = download(
            _urls(archive, options),
            path,
            size=archive.size,
            most=archive.most,
            sha256=archive.sha256,
            on_progress=options.on_progress,
            patience=options.patience,
        )
    folder = out / archive.into
    folder.mkdir(exist_ok=True)
    content = extract(path, folder, on_progress=options.on_progress)
    record = _Record(
        received.url, received.size, received.sha256, bool(archive.sha256), [*_below(archive, content)]
    )
    with atomic_path(_record_path(archive, out), overwrite=True) as part:
        part.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def _check_own(path: Path, archive: Archive, found: Received) -> None:
    expected = (archive.size, archive.sha256)
    if archive.size not in (None, found.size) or archive.sha256 not in ("", found.sha256):
        raise InputError(
            f"{path}: found {found.size} bytes with SHA-256 {found.sha256}; expected {expected[0]} with "
            f"{expected[1]}; move it away to fetch it again"
        )


def _below(archive: Archive, content: Sequence[str]) -> Sequence[str]:
    return [f"{archive.into}/{name}" if archive.into else name for name in content]


def _urls(archive: Archive, options: FetchOptions) -> tuple[str, ...]:
    return archive.with_mirror(options.mirror) if options.mirror else archive.urls


def _path(archive: Archive, out: Path) -> Path:
    return out / ARCHIVE_FOLDER / archive.file_name


def _record_path(archive: Archive, out: Path) -> Path:
    return out / ARCHIVE_FOLDER / f"{archive.file_name}.json"


def _read_record(archive: Archive, out: Path) -> _Record:
    path = _record_path(archive, out)
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Record)
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: {error}; remove it to extract the archive again") from None


def _is_there(archive: Archive, out: Path) -> bool:
    """Whether an archive's record says that it was extracted, and what was extracted is there."""
    if not _record_path(archive, out).exists():
        return False
    return all((out / name).exists() for name in _read_record(archive, out).content)


def _missing_bytes(archive: Archive, out: Path) -> int:
    """Bytes that an archive will still need: less what has arrived of it."""
    path = _path(archive, out)
    arrived = (path, path.with_name(f"{path.name}.part"))
    return archive.planned_total - sum(file.stat().st_size for file in arrived if file.exists())
