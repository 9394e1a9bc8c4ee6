"""Archives are extracted below one folder, whole or not at all, and never fill the disk."""

import io
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kgtool import download as download_module
from kgtool import extraction
from kgtool.errors import InputError, KgtoolError, OutputExistsError
from kgtool.extraction import Limits, extract

FILES = {"a/one.txt": b"1" * 5000, "a/b/two.txt": b"2", "three.txt": b""}


def make_zip(path: Path, files: dict[str, bytes], *, mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = mode << 16
            file.writestr(info, data)
    return path


def make_tar(path: Path, files: dict[str, bytes], **changes: object) -> Path:
    with tarfile.open(path, "w") as file:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in changes.items():
                setattr(info, key, value)
            file.addfile(info, io.BytesIO(data))
    return path


makers = pytest.mark.parametrize("make", [make_zip, make_tar])
Maker = Callable[[Path, dict[str, bytes]], Path]


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@makers
def test_what_is_in_the_archive_is_in_the_folder(make: Maker, tmp_path: Path, out: Path) -> None:
    seen = []
    archive = make(tmp_path / "x", FILES)
    assert extract(archive, out, on_progress=lambda *state: seen.append(state)) == ("a", "three.txt")
    assert content(out) == FILES
    assert seen[-1] == ("x", 5001, 5001)
    assert sorted(found.name for found in out.iterdir()) == ["a", "three.txt"]
    assert not (out / "a" / "one.txt").stat().st_mode & 0o111


def test_a_folder_entry_of_a_tar_may_be_the_folder_itself(tmp_path: Path, out: Path) -> None:
    with tarfile.open(tmp_path / "x", "w") as file:
        folder = tarfile.TarInfo("./")
        folder.type = tarfile.DIRTYPE
        file.addfile(folder)
        file.addfile(tarfile.TarInfo("./a/b"))
    assert extract(tmp_path / "x", out) == ("a",)


@makers
@pytest.mark.parametrize(
    "name",
    [
        "../up.txt",
        "a/../../up.txt",
        "/etc/up.txt",
        "a//b.txt",
        "a\\..\\b.txt",
        "C:/up.txt",
        "C:up.txt",
        "x" * 300,
    ],
)
def test_a_path_out_of_the_folder_is_refused(make: Maker, name: str, tmp_path: Path, out: Path) -> None:
    archive = make(tmp_path / "x", {"fine.txt": b"1", name: b"2"})
    with pytest.raises(InputError, match=r"x: found the entry .*; expected a path below the folder"):
        extract(archive, out)
    assert content(tmp_path) == {"x": archive.read_bytes()}
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_a_link_or_device_of_a_zip_is_refused(kind: int, tmp_path: Path, out: Path) -> None:
    archive = make_zip(tmp_path / "x", {"a": b"/etc"}, mode=kind | 0o777)
    with pytest.raises(InputError, match="x, a: found a link or device"):
        extract(archive, out)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_a_link_or_device_of_a_tar_is_refused(kind: bytes, tmp_path: Path, out: Path) -> None:
    archive = make_tar(tmp_path / "x", {"a": b""}, type=kind, linkname="/etc/passwd")
    with pytest.raises(InputError, match="x, a: found a link, device or sparse file"):
        extract(archive, out)
    assert list(out.iterdir()) == []


def test_owners_and_modes_of_a_tar_mean_nothing(tmp_path: Path, out: Path) -> None:
    extract(make_tar(tmp_path / "x", {"a": b"1"}, mode=0o6777, uid=0, gid=0), out)
    assert stat.S_IMODE((out / "a").stat().st_mode) & 0o7111 == 0
    assert (out / "a").stat().st_uid == os.getuid()


def test_a_bomb_is_refused_before_a_byte_is_written(tmp_path: Path, out: Path) -> None:
    bomb = make_zip(tmp_path / "x", {"zeros": bytes(30 << 20)})
    assert bomb.stat().st_size < 100_000
    with pytest.raises(InputError, match=r"x: found 31457280 bytes in \d+ of archive; expected at most"):
        extract(bomb, out)
    with pytest.raises(InputError, match="found 6000 bytes"):
        extract(make_zip(tmp_path / "y", {"a": bytes(6000)}), out, limits=Limits(num_bytes=5999))
    with pytest.raises(InputError, match="found more than 2 entries"):
        extract(make_zip(tmp_path / "z", FILES), out, limits=Limits(entries=2))
    with pytest.raises(InputError, match="found more than 2 entries"):
        extract(make_tar(tmp_path / "t", FILES), out, limits=Limits(entries=2))
    assert list(out.iterdir()) == []


def test_a_bomb_that_lies_about_its_size_stops_there(tmp_path: Path, out: Path) -> None:
    bomb = make_zip(tmp_path / "x", {"zeros": bytes(30 << 20)})
    told = struct.pack("<L", 30 << 20)
    bomb.write_bytes(bomb.read_bytes().replace(told, struct.pack("<L", 1000)))
    with pytest.raises(InputError, match="fetch it again"):
        extract(bomb, out)
    assert list(out.iterdir()) == []


def test_a_file_shorter_than_it_says_is_refused(tmp_path: Path, out: Path) -> None:
    archive = make_zip(tmp_path / "x", {"a": b"1" * 1000})
    archive.write_bytes(archive.read_bytes().replace(struct.pack("<L", 1000), struct.pack("<L", 2000)))
    with pytest.raises(InputError, match="x, a: found another number of bytes than the 2000 it says"):
        extract(archive, out)
    assert list(out.iterdir()) == []


def test_a_sparse_tar_is_refused(tmp_path: Path, out: Path) -> None:
    archive = make_tar(tmp_path / "x", {"huge": b""}, type=tarfile.GNUTYPE_SPARSE)
    with pytest.raises(InputError, match="sparse file"):
        extract(archive, out)
    assert list(out.iterdir()) == []


@makers
def test_an_entry_twice_or_below_a_file_is_refused(make: Maker, tmp_path: Path, out: Path) -> None:
    with pytest.raises(InputError, match=r"x: found 'a/b' below a file"):
        extract(make(tmp_path / "x", {"a": b"1", "a/b": b"2"}), out)
    with pytest.raises(InputError, match=r"y: found the entry 'a' twice"):
        extract(make(tmp_path / "y", {"a": b"1", "./a": b"2"}), out)
    assert list(out.iterdir()) == []


@makers
def test_a_damaged_archive_leaves_nothing(make: Maker, tmp_path: Path, out: Path) -> None:
    whole = make(tmp_path / "x", {"a": os.urandom(100_000), "b": os.urandom(100_000)}).read_bytes()
    cut = tmp_path / "cut"
    cut.write_bytes(whole[:150_000])
    with pytest.raises(InputError, match=r"cut.*: (cannot be read|found another number)"):
        extract(cut, out)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("place", [b"name", b"\x5d\x00\x00\x80"])
def test_damage_of_names_and_of_lzma_is_one_line(place: bytes, tmp_path: Path, out: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x", "w", zipfile.ZIP_LZMA) as file:
        file.writestr("name\xe9", bytes(range(256)))
    data = (tmp_path / "x").read_bytes()
    assert place in data
    (tmp_path / "x").write_bytes(data.replace(place, b"\xff" * len(place)))
    with pytest.raises(InputError, match="cannot be read"):
        extract(tmp_path / "x", out)
    assert not any(out.iterdir())


def test_damage_of_bzip2_names_the_archive(tmp_path: Path, out: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("name", os.urandom(5000))
    data = (tmp_path / "x.zip").read_bytes()
    start = data.index(b"BZh")
    (tmp_path / "x.zip").write_bytes(data[: start + 4] + bytes(20) + data[start + 24 :])
    with pytest.raises(InputError, match=r"x\.zip: cannot be read \(.+\); remove it and fetch it again"):
        extract(tmp_path / "x.zip", out)
    assert not any(out.iterdir())


KILLED = """
import os, signal, sys
from pathlib import Path
from kgtool import extraction
extraction._move = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
extraction.extract(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_what_a_killed_extraction_left_is_gone_after_the_next(tmp_path: Path, out: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", FILES)
    killed = subprocess.run([sys.executable, "-c", KILLED, archive, out], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in out.iterdir()] == [".x.zip.part"]
    assert any((out / ".x.zip.part").iterdir())
    (out / ".x.zip.part" / "old").symlink_to(tmp_path)  # is removed, not followed
    extract(archive, out)
    assert content(out) == FILES
    assert sorted(path.name for path in out.iterdir()) == ["a", "three.txt"]
    assert archive.exists()


def test_an_extraction_does_not_touch_what_another_process_extracts(tmp_path: Path, out: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", FILES)
    program = KILLED.replace("signal.SIGKILL", "signal.SIGSTOP")
    other = subprocess.Popen([sys.executable, "-c", program, archive, out])
    try:
        os.waitid(os.P_PID, other.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        with pytest.raises(KgtoolError, match="another process is extracting there; wait for that one"):
            extract(archive, out)
        assert content(out / ".x.zip.part") == FILES
    finally:
        other.kill()
        other.wait(timeout=60)
    extract(archive, out)
    assert content(out) == FILES


def test_a_flipped_bit_is_found_by_the_checksum_of_a_zip(tmp_path: Path, out: Path) -> None:
    archive = make_zip(tmp_path / "x", {"a": os.urandom(1000)})
    data = bytearray(archive.read_bytes())
    data[500] ^= 1
    archive.write_bytes(data)
    with pytest.raises(InputError, match="x: cannot be read"):
        extract(archive, out)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"not an archive at all", b"PK\3\4", bytes(2000)])
def test_no_archive_is_one_line(data: bytes, tmp_path: Path, out: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    if data == bytes(2000):  # two empty blocks are the end of a tar without entries
        assert extract(tmp_path / "x", out) == ()
        return
    with pytest.raises(InputError, match="x: ") as raised:
        extract(tmp_path / "x", out)
    assert "\n" not in str(raised.value)


@makers
def test_what_is_there_stays_and_joins(make: Maker, tmp_path: Path, out: Path) -> None:
    (out / "a" / "b").mkdir(parents=True)
    (out / "a" / "own.txt").write_bytes(b"mine")
    (out / "a" / "one.txt").write_bytes(FILES["a/one.txt"])
    extract(make(tmp_path / "x", FILES), out)
    assert content(out) == FILES | {"a/own.txt": b"mine"}
    extract(make(tmp_path / "x", FILES), out)  # again: all is the same


@makers
@pytest.mark.parametrize("other", ["a/one.txt", "three.txt", "a", "three.txt/below", "a/b/two.txt/below"])
def test_nothing_is_overwritten_and_nothing_moved_before(
    make: Maker, other: str, tmp_path: Path, out: Path
) -> None:
    (out / other).parent.mkdir(parents=True, exist_ok=True)
    (out / other).write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match="already exists with other content"):
        extract(make(tmp_path / "x", FILES), out)
    assert content(out) == {other: b"mine"}


def test_no_room_is_told_before_a_byte_is_written(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(out)
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda _: usage._replace(free=10))
    monkeypatch.setattr(extraction, "_write", lambda *_: pytest.fail("wrote"))
    with pytest.raises(KgtoolError, match="x: found 10 bytes free"):
        extract(make_zip(tmp_path / "x", FILES), out)


def test_an_encrypted_entry_is_refused(tmp_path: Path, out: Path) -> None:
    archive = make_zip(tmp_path / "x", {"a": b"1"})
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    data[6] |= 1
    archive.write_bytes(data)
    with pytest.raises(InputError, match="x, a: found an encrypted entry"):
        extract(archive, out)
