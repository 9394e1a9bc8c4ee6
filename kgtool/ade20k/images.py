"""One image: masks as boxes, areas and run-length codes, entries paired with them, and what disagrees."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from kgtool.ade20k.entries import Description, Entry, read_json, read_text
from kgtool.ade20k.findings import (
    BAD_DESCRIPTION,
    NO_BLUE,
    NO_DESCRIPTION,
    NO_ENTRY,
    NO_INSTANCE,
    NO_PARTS,
    OTHER_SIZE,
    SHARED_BLUE,
    UNREADABLE,
    Finding,
)
from kgtool.ade20k.pairing import Instances, Pairs, pair_by_place, pair_by_rank
from kgtool.errors import InputError
from kgtool.masks import (
    ColourImage,
    Masks,
    find_colour_masks,
    find_masks,
    read_colours,
    read_indices,
    split_components,
)

#: The layouts: masks with NAME_atr.txt, with NAME.json, with neither, and index masks of the challenge.
TEXT, JSON, ALONE, INDEX = "2016/17 text", "2021 JSON", "mask alone", "challenge index"


@dataclass(frozen=True)
class ImageFiles:
    """Where the files of one image are.

    Attributes:
        name: path below the data set's folder without its ending, with slashes.
        file_name: the same of the photograph.
        layout: one of the layouts.
        mask: NAME_seg.png, or the index mask.
        photo: the photograph, which need not be there.
        description: text or JSON, or None.
        parts: NAME_parts_N.png by level.
    """

    name: str
    file_name: str
    layout: str
    mask: Path
    photo: Path
    description: Path | None = None
    parts: tuple[tuple[int, Path], ...] = ()


@dataclass(eq=False)
class ImageRows:
    """What the files of one image say, one row an instance or part.

    Attributes:
        files: where they are.
        size: height and width in pixels; None where no mask could be read, and the image is left out.
        level_N: 0 for whole objects, n for parts of level n.
        instance_N: rank of the blue value in its level, or number of the connected component, from 1.
        class_index_N: place of the class in the data set's names, from 1; 0 where the colours name none.
        boxes_xywh_N4: in pixels.
        area_N: in pixels.
        mask_N: `segmentation` of each, as JSON.
        entry_number_N: number of the entry that describes each, or None.
        entry_name_N: that entry's name, or "".
        entry_class_N: that entry's place in the names, or 0 where it does not say.
        detail_N: what that entry says besides, as members of a JSON object; b"" where nothing.
        whole_N: row of the object or part that each is a part of, or None.
        findings: what disagrees.
        paired: pairs by means.
    """

    files: ImageFiles
    size: tuple[int, int] | None = None
    level_N: list[int] = field(default_factory=list)
    instance_N: list[int] = field(default_factory=list)
    class_index_N: list[int] = field(default_factory=list)
    boxes_xywh_N4: list[list[int]] = field(default_factory=list)
    area_N: list[int] = field(default_factory=list)
    mask_N: list[bytes] = field(default_factory=list)
    entry_number_N: list[int | None] = field(default_factory=list)
    entry_name_N: list[str] = field(default_factory=list)
    entry_class_N: list[int] = field(default_factory=list)
    detail_N: list[bytes] = field(default_factory=list)
    whole_N: list[int | None] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    paired: Counter[str] = field(default_factory=Counter)

    def add(self, level: int, instances: Sequence[int], class_indices: Sequence[int], masks: Masks) -> None:
        """Add the masks of one level, without entries."""
        count = len(masks)
        self.level_N += [level] * count
        self.instance_N += instances
        self.class_index_N += class_indices
        self.boxes_xywh_N4 += masks.boxes_xywh_N4.tolist()
        self.area_N += masks.area_N.tolist()
        self.mask_N += [_ENCODE(_Mask(masks.size, counts)) for counts in masks.rle()]
        self.entry_number_N += [None] * count
        self.entry_name_N += [""] * count
        self.entry_class_N += [0] * count
        self.detail_N += [b""] * count
        self.whole_N += [None] * count

    def describe(self, row: int, entry: Entry) -> None:
        """Say which entry describes a row."""
        self.entry_number_N[row] = entry.number
        self.entry_name_N[row] = entry.name
        self.entry_class_N[row] = entry.class_index
        details = _Details(entry.raw_name, entry.attributes, entry.occluded, entry.crop)
        self.detail_N[row] = _ENCODE(details)[1:-1]


class _Mask(msgspec.Struct):
    size: tuple[int, int]
    counts: str


class _Details(msgspec.Struct, omit_defaults=True):
    raw_name: str = ""
    attributes: tuple[str, ...] = ()
    occluded: bool | None = None
    crop: bool | None = None


_ENCODE = msgspec.json.Encoder().encode


def read_image(files: ImageFiles, *, with_parts: bool) -> ImageRows:
    """Read the files of one image; whatever is wrong with them becomes a finding.

    Args:
        files: where they are.
        with_parts: read parts as well, not whole objects alone.
    """
    rows = ImageRows(files)
    try:
        if files.layout == INDEX:
            _read_index(rows)
        else:
            _read_levels(rows, with_parts)
    except InputError as error:
        rows.findings.append(_finding(files.name, UNREADABLE, 0, error, files.mask))
    return rows


def _finding(image: str, kind: str, level: int, error: InputError, path: Path) -> Finding:
    """An error as a finding; without the path, so that reports are the same on all machines."""
    found, _, expected = str(error).removeprefix(f"{path}: ").removeprefix("found ").partition("; expected ")
    return Finding(image, kind, level, found=found, expected=expected or "ADE20K's format")


def _read_index(rows: ImageRows) -> None:
    files = rows.files
    indices_HW = read_indices(files.mask)
    if not _has_size(rows, indices_HW.shape, _photo_size(files)):
        return
    numbers_HW, value_L = split_components(indices_HW)
    masks = find_masks(numbers_HW)
    rows.size = indices_HW.shape
    rows.add(0, masks.value_N.tolist(), value_L.tolist(), masks)


def _has_size(
    rows: ImageRows, size: tuple[int, ...], expected: tuple[int, int] | None, level: int = 0
) -> bool:
    """Say whether a mask has the size it should have; if not, that is a finding."""
    if expected is None or size == expected:
        return True
    finding = Finding(rows.files.name, OTHER_SIZE, level, found=_as_text(size), expected=_as_text(expected))
    rows.findings.append(finding)
    return False


def _as_text(size: tuple[int, ...]) -> str:
    """Height and width, as people write it."""
    return f"{size[1]} x {size[0]}"


def _photo_size(files: ImageFiles) -> tuple[int, int] | None:
    from PIL import Image

    try:
        with Image.open(files.photo) as photo:
            return photo.height, photo.width
    except (OSError, ValueError, SyntaxError):
        return None  # photographs are not needed here


def _read_levels(rows: ImageRows, with_parts: bool) -> None:
    files = rows.files
    description = _describe(rows)
    said_size = description.size if description else None
    image = read_colours(files.mask)
    if not _has_size(rows, image.size, _photo_size(files) or said_size):
        return
    rows.size = image.size
    if said_size and said_size != rows.size:
        found, expected = (
            f"{_as_text(said_size)} in the JSON",
            f"{_as_text(rows.size)} as mask and photograph",
        )
        rows.findings.append(Finding(files.name, OTHER_SIZE, found=found, expected=expected))
    _add_level(rows, 0, image, description)
    if not with_parts:
        return
    paths = dict(files.parts)
    entries = description.entries if description else ()
    described = {entry.level for entry in entries if entry.level > 0}
    for level in sorted(described | set(paths)):
        if level not in paths:
            count = sum(entry.level == level for entry in entries)
            found, wanted = f"{count} entries of this level", f"{Path(files.name).name}_parts_{level}.png"
            rows.findings.append(Finding(files.name, NO_PARTS, level, found=found, expected=wanted))
            continue
        try:
            image = read_colours(paths[level])
        except InputError as error:
            rows.findings.append(_finding(files.name, UNREADABLE, level, error, paths[level]))
            continue
        if _has_size(rows, image.size, rows.size, level):
            _add_level(rows, level, image, description)
    _find_wholes(rows, entries)


def _describe(rows: ImageRows) -> Description | None:
    files = rows.files
    if files.description is None:
        found, expected = "a mask alone", "NAME_atr.txt or NAME.json beside it"
        rows.findings.append(Finding(files.name, NO_DESCRIPTION, found=found, expected=expected))
        return None
    read = read_json if files.layout == JSON else read_text
    try:
        description = read(files.description, files.name)
    except InputError as error:
        rows.findings.append(_finding(files.name, BAD_DESCRIPTION, 0, error, files.description))
        return None
    rows.findings += description.findings
    return description


def _add_level(rows: ImageRows, level: int, image: ColourImage, description: Description | None) -> None:
    """Add the instances of one level and the entries that describe them."""
    name = rows.files.name
    masks = find_colour_masks(image)
    instances = Instances(image, masks)
    bare = instances.blue_N == 0  # the smallest colours, so that they are the first masks
    if bare.any():
        found = f"{int(masks.area_N[bare].sum())} coloured pixels whose blue is 0"
        rows.findings.append(Finding(name, NO_BLUE, level, found=found, expected="black, or blue above 0"))
        masks = masks.without_first(int(bare.sum()))
        instances = Instances(image, masks)
    entries = [entry for entry in description.entries if entry.level == level] if description else []
    first = len(rows.level_N)
    ranks = instances.rank_N.tolist()
    rows.add(level, ranks, instances.class_index_N.tolist(), masks)
    for rank in sorted({rank for rank in ranks if ranks.count(rank) > 1}):
        found = f"{ranks.count(rank)} classes of one blue value"
        rows.findings.append(Finding(name, SHARED_BLUE, level, rank, found=found, expected="one class"))
    if rows.files.layout == JSON:
        assert rows.files.description is not None
        pairs = pair_by_place(entries, instances, rows.files.description.parent)
    else:
        pairs = pair_by_rank(entries, instances)
    for instance, position in sorted(pairs.entry_by_instance.items()):
        rows.describe(first + instance, entries[position])
    rows.paired += pairs.how
    if description:
        _find_unpaired(rows, level, ranks, entries, pairs)


def _find_unpaired(rows: ImageRows, level: int, ranks: list[int], entries: list[Entry], pairs: Pairs) -> None:
    name = rows.files.name
    first = len(rows.level_N) - len(ranks)
    for instance, rank in enumerate(ranks):
        if instance not in pairs.entry_by_instance:
            found = f"class {rows.class_index_N[first + instance]}, {rows.area_N[first + instance]} pixels"
            expected = f"an entry; there are {len(entries)} for {len(ranks)} instances"
            rows.findings.append(Finding(name, NO_ENTRY, level, rank, "", found, expected))
    used = set(pairs.entry_by_instance.values())
    for position, entry in enumerate(entries):
        if position not in used:
            expected = f"an instance; there are {len(ranks)} for {len(entries)} entries"
            rows.findings.append(Finding(name, NO_INSTANCE, level, "", entry.number, entry.name, expected))


def _find_wholes(rows: ImageRows, entries: Sequence[Entry]) -> None:
    """Say of each part which row it is a part of, where its entry does (2021)."""
    row_by_number = {number: row for row, number in enumerate(rows.entry_number_N)}
    whole_by_number = {entry.number: entry.part_of for entry in entries if entry.part_of is not None}
    for row, number in enumerate(rows.entry_number_N):
        if number in whole_by_number:
            rows.whole_N[row] = row_by_number.get(whole_by_number[number])
