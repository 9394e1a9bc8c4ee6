"""A data set's folder from its archives: what is there is not fetched, what is recorded can be checked."""

import hashlib
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from faulty_server import Site, serving

from kgtool import archives as table
from kgtool.archives import ARCHIVES, Archive, archives_of
from kgtool.cli import group
from kgtool.download import Patience
from kgtool.errors import InputError, KgtoolError, OutputExistsError
from kgtool.fetched_data import FetchOptions, fetch_data, plan_fetch

HASTY = FetchOptions(patience=Patience(attempts=2, pause_s=0.0, timeout_s=5.0))


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in files.items():
            file.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


BODIES = {
    "/r.zip": zipped({"r.json": b"[]"}),
    "/1.tar": tarred({"VOCdevkit/VOC2007/1.xml": b"1"}),
    "/2.tar": tarred({"VOCdevkit/VOC2007/2.xml": b"2"}),
}


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with serving(Site(dict(BODIES))) as served:
        known = {path: hashlib.sha256(body).hexdigest() for path, body in BODIES.items()}
        found = (
            Archive("r", (f"{served.url}/r.zip",), about=200),
            Archive("one", (f"{served.url}/1.tar",), len(BODIES["/1.tar"]), known["/1.tar"], into="images"),
            Archive("two", (f"{served.url}/2.tar",), len(BODIES["/2.tar"]), known["/2.tar"], into="images"),
        )
        monkeypatch.setitem(table.ARCHIVES, "voc", found)
        yield served


def test_all_parts_are_fetched_extracted_and_recorded(site: Site, tmp_path: Path) -> None:
    report = fetch_data("voc", tmp_path / "v", options=HASTY)
    assert (tmp_path / "v" / "r.json").read_bytes() == b"[]"
    folder = tmp_path / "v" / "images" / "VOCdevkit" / "VOC2007"
    assert sorted(path.name for path in folder.iterdir()) == ["1.xml", "2.xml"]
    rows = report["archives"]
    assert [(row["part"], row["published"], row["there"]) for row in rows] == [
        ("r", False, False),
        ("one", True, False),
        ("two", True, False),
    ]
    assert rows[1]["content"] == ["images/VOCdevkit"]
    recorded = json.loads((tmp_path / "v" / "archives" / "r.zip.json").read_text())
    assert recorded["sha256"] == hashlib.sha256(BODIES["/r.zip"]).hexdigest() == rows[0]["sha256"]
    assert recorded["url"] == f"{site.url}/r.zip"


def test_what_is_there_is_not_fetched_again_even_without_its_archive(site: Site, tmp_path: Path) -> None:
    fetch_data("voc", tmp_path, parts=["one"], options=HASTY)
    (tmp_path / "archives" / "1.tar").unlink()
    site.requests.clear()
    report = fetch_data("voc", tmp_path, parts=["one", "two"], options=HASTY)
    assert site.requests == [("/2.tar", "")]
    assert [row["there"] for row in report["archives"]] == [True, False]
    site.requests.clear()
    (tmp_path / "archives" / "2.tar").rename(tmp_path / "kept")
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    fetch_data("voc", tmp_path, parts=["one"], options=HASTY)
    assert site.requests == [("/1.tar", "")]


def test_an_archive_that_was_put_there_is_checked_and_used(site: Site, tmp_path: Path) -> None:
    (tmp_path / "archives").mkdir()
    own = tmp_path / "archives" / "1.tar"
    own.write_bytes(BODIES["/2.tar"])
    with pytest.raises(InputError, match=r"1.tar: found \d+ bytes with SHA-256 .*; move it away"):
        fetch_data("voc", tmp_path, parts=["one"], options=HASTY)
    own.write_bytes(BODIES["/1.tar"])
    fetch_data("voc", tmp_path, parts=["one"], options=HASTY)
    assert site.requests == []
    assert (tmp_path / "images" / "VOCdevkit" / "VOC2007" / "1.xml").exists()


def test_a_mirror_is_asked_first_and_cannot_slip_in_another_file(site: Site, tmp_path: Path) -> None:
    site.files["/mirror/2.tar"] = BODIES["/2.tar"]
    site.files["/mirror/1.tar"] = BODIES["/2.tar"]
    options = replace(HASTY, mirror=f"{site.url}/mirror/")
    report = fetch_data("voc", tmp_path, parts=["one", "two"], options=options)
    assert [row["url"] for row in report["archives"]] == [f"{site.url}/1.tar", f"{site.url}/mirror/2.tar"]


def test_an_extraction_that_fails_leaves_the_archive_and_no_record(site: Site, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"r\.json: already exists with other content"):
        fetch_data("voc", tmp_path, parts=["r"], options=HASTY)
    assert (tmp_path / "r.json").read_text() == "mine"
    assert [path.name for path in (tmp_path / "archives").iterdir()] == ["r.zip"]
    (tmp_path / "r.json").unlink()
    site.requests.clear()
    fetch_data("voc", tmp_path, parts=["r"], options=HASTY)
    assert site.requests == []
    assert (tmp_path / "r.json").read_text() == "[]"


def test_a_plan_asks_nobody_and_writes_nothing(site: Site, tmp_path: Path) -> None:
    plan = plan_fetch("voc", tmp_path / "v", options=replace(HASTY, mirror="https://m/x"))
    assert site.requests == []
    assert not (tmp_path / "v").exists()
    sizes = [200, len(BODIES["/1.tar"]), len(BODIES["/2.tar"])]
    assert plan["disk_bytes_about"] == 2 * sum(sizes)
    assert [row["size"] for row in plan["archives"]] == [None, *sizes[1:]]
    assert plan["archives"][0]["sha256"] is None
    assert plan["archives"][0]["urls"] == ["https://m/x/r.zip", f"{site.url}/r.zip"]


def test_no_room_for_all_parts_is_told_before_the_first(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = replace(table.ARCHIVES["voc"][0], about=10**18)
    monkeypatch.setitem(table.ARCHIVES, "voc", (*table.ARCHIVES["voc"][1:], huge))
    with pytest.raises(KgtoolError, match=r"voc: found \d+ bytes free in .*; expected 2\d{18}"):
        fetch_data("voc", tmp_path, options=HASTY)
    assert site.requests == []


def test_the_command_fetches_and_says_what(site: Site, tmp_path: Path) -> None:
    command = ["fetch", "voc", "--out", str(tmp_path / "v"), "--part", "two", "--part", "r"]
    dry = CliRunner().invoke(group, [*command, "--dry-run"])
    assert dry.exit_code == 0
    assert "r: about 0 MB, SHA-256 not published" in dry.stdout
    assert not (tmp_path / "v").exists()
    result = CliRunner().invoke(group, [*command, "--json"])
    assert result.exit_code == 0, result.output
    assert [row["part"] for row in json.loads(result.stdout)["archives"]] == ["r", "two"]
    text = CliRunner().invoke(group, command).stdout
    assert "two: was there" in text
    assert "recorded; none is published" in text


def test_an_unknown_part_is_bad_input_with_the_known_ones() -> None:
    with pytest.raises(
        InputError, match="--part: found 'val'; expected of coco: annotations, val2017, train2017"
    ):
        archives_of("coco", ["val"])


def test_the_table_is_well_formed() -> None:
    for archives in ARCHIVES.values():
        assert len({archive.part for archive in archives}) == len(archives)
        assert len({archive.file_name for archive in archives}) == len(archives)
        for archive in archives:
            assert all(re.fullmatch(r"https?://[^?#]+\.(zip|tar)", url) for url in archive.urls)
            assert len({url.rpartition("/")[2] for url in archive.urls}) == 1
            assert re.fullmatch(r"[0-9a-f]{64}|", archive.sha256)
            assert bool(archive.sha256) == (archive.size is not None)
            assert archive.planned_size > 1_000_000
            assert ".." not in archive.into
