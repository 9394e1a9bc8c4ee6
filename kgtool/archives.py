"""The archives that data sets are published as: where, how large, and with which SHA-256.

Sizes and SHA-256 of COCO, VOC and ADE20K are those that TensorFlow Datasets publishes for these files; those
of Visual Genome's images and image_data are from the data set's card at Hugging Face. Visual Genome's other
files have no published checksum: theirs is empty here, and what was received is recorded beside the file.
Sizes after extraction are about right; what an archive really holds is checked when it is extracted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kgtool.errors import InputError

_WASHINGTON = "https://homes.cs.washington.edu/~ranjay/visualgenome/data/dataset/"
_STANFORD = "https://cs.stanford.edu/people/rak248/VG_100K_2/"
_COCO = ("http://images.cocodataset.org/",)
_OXFORD = ("https://thor.robots.ox.ac.uk/pascal/VOC/", "http://host.robots.ox.ac.uk/pascal/VOC/")
_CSAIL = "http://data.csail.mit.edu/places/ADEchallenge/"
_MB = 10**6


@dataclass(frozen=True)
class Archive:
    """One published archive.

    Attributes:
        part: what `--part` calls it.
        urls: where it is, best first.
        size: in bytes, published; None where it is not.
        sha256: published, in hexadecimal; "" where it is not.
        about: bytes, for planning, where `size` is None.
        unpacked: about how many bytes it holds; 0: about its own size.
        into: the folder below the data set's where its content goes.
    """

    part: str
    urls: tuple[str, ...]
    size: int | None = None
    sha256: str = ""
    about: int = 0
    unpacked: int = 0
    into: str = ""

    @property
    def file_name(self) -> str:
        """The last part of its URLs."""
        return self.urls[0].rpartition("/")[2]

    @property
    def planned_size(self) -> int:
        """The size where it is known, else about that."""
        return self.about if self.size is None else self.size

    @property
    def most(self) -> int:
        """Bytes that are no longer this archive, even if it has grown since `about` was written."""
        return 4 * self.planned_size

    @property
    def planned_total(self) -> int:
        """Bytes of disk for the archive and what it holds, about."""
        return self.planned_size + (self.unpacked or self.planned_size)

    def with_mirror(self, mirror: str) -> tuple[str, ...]:
        """Its URLs, a mirror's folder before all others."""
        return (f"{mirror.rstrip('/')}/{self.file_name}", *self.urls)


def _at(hosts: Sequence[str], path: str) -> tuple[str, ...]:
    return tuple(host + path for host in hosts)


#: By data set, in the order in which they are fetched.
ARCHIVES = {
    "vg": (
        Archive(
            "relationships",
            (_WASHINGTON + "relationships.json.zip",),
            about=78 * _MB,
            unpacked=744 * _MB,
        ),
        Archive("attributes", (_WASHINGTON + "attributes.json.zip",), about=83 * _MB, unpacked=480 * _MB),
        Archive("objects", (_WASHINGTON + "objects.json.zip",), about=55 * _MB, unpacked=430 * _MB),
        Archive(
            "image-data",
            (_WASHINGTON + "image_data.json.zip",),
            size=1780854,
            sha256="b87a94918cb2ff4d952cf1dfeca0b9cf6cd6fd204c2f8704645653be1163681a",
            unpacked=18 * _MB,
        ),
        Archive(
            "images",
            (_STANFORD + "images.zip",),
            size=9731705982,
            sha256="51c682d2721f880150720bb416e0346a4c787e4c55d7f80dfd1bd3f73ba81646",
            into="images",
        ),
        Archive(
            "images2",
            (_STANFORD + "images2.zip",),
            size=5471658058,
            sha256="99da1a0ddf87011319ff3b05cf9176ffee2731cc3c52951162d9ef0d68e3cfb5",
            into="images",
        ),
    ),
    "coco": (
        Archive(
            "annotations",
            _at(_COCO, "annotations/annotations_trainval2017.zip"),
            size=252907541,
            sha256="113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
            unpacked=820 * _MB,
        ),
        Archive(
            "val2017",
            _at(_COCO, "zips/val2017.zip"),
            size=815585330,
            sha256="4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
        ),
        Archive(
            "train2017",
            _at(_COCO, "zips/train2017.zip"),
            size=19336861798,
            sha256="69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
        ),
    ),
    "voc": (
        Archive(
            "trainval2007",
            _at(_OXFORD, "voc2007/VOCtrainval_06-Nov-2007.tar"),
            size=460032000,
            sha256="7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
        ),
        Archive(
            "test2007",
            _at(_OXFORD, "voc2007/VOCtest_06-Nov-2007.tar"),
            size=451020800,
            sha256="6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
        ),
        Archive(
            "trainval2012",
            _at(_OXFORD, "voc2012/VOCtrainval_11-May-2012.tar"),
            size=1999639040,
            sha256="e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
        ),
    ),
    "ade150": (
        Archive(
            "challenge2016",
            (_CSAIL + "ADEChallengeData2016.zip",),
            size=967382037,
            sha256="7ff1be44964418441f542a7cc1e1a650e7dc0fc275f5d23252bc9bbdbc977b29",
        ),
    ),
}


def archives_of(dataset: str, parts: Sequence[str] = ()) -> tuple[Archive, ...]:
    """The archives of a data set, or some of them, in the order of the table.

    Raises:
        InputError: the data set has no such part.
    """
    every = ARCHIVES[dataset]
    known = [archive.part for archive in every]
    for part in parts:
        if part not in known:
            raise InputError(f"--part: found {part!r}; expected of {dataset}: {', '.join(known)}")
    return tuple(archive for archive in every if not parts or archive.part in parts)
