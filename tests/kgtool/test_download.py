"""A file arrives whole and right, or not at all, from a server that cuts, lies, changes and refuses."""

import hashlib
import random
import shutil
from pathlib import Path

import pytest
from faulty_server import Site, serving

from kgtool import download as module
from kgtool import partial_file
from kgtool.download import Patience, Received, download
from kgtool.errors import KgtoolError
from kgtool.partial_file import PartialFile

BODY = random.Random(1).randbytes(900_000)
OTHER = random.Random(2).randbytes(900_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
HASTY = Patience(attempts=3, pause_s=0.0, longest_s=0.01, timeout_s=5.0)


def fetch(site: Site, path: Path, name: str = "a.zip", **options: object) -> Received:
    return download([f"{site.url}/{name}"], path, **{"patience": HASTY, **options})


def left_overs(path: Path) -> list[str]:
    return sorted(found.name for found in path.parent.iterdir() if found != path)


def leave_part(site: Site, path: Path, size: int) -> None:
    """What a fetch leaves that was cut at `size` and then given up."""
    site.cuts, site.statuses = [size], [0, 503, 503, 503]
    with pytest.raises(KgtoolError, match="503"):
        fetch(site, path)
    assert not path.exists()
    assert path.with_name("a.zip.part").stat().st_size == size
    site.requests.clear()


def leave_whole_part(site: Site, path: Path) -> None:
    """What a fetch leaves that ended just before it was done."""
    leave_part(site, path, len(BODY) - 1)
    with path.with_name("a.zip.part").open("ab") as file:
        file.write(BODY[-1:])


@pytest.fixture
def site() -> object:
    with serving(Site({"/a.zip": BODY}, etags={"/a.zip": '"1"'})) as served:
        yield served


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.zip"


def test_a_file_is_fetched_and_nothing_else_is_left(site: Site, path: Path) -> None:
    seen = []
    received = fetch(site, path, on_progress=lambda *state: seen.append(state))
    assert path.read_bytes() == BODY
    assert received == Received(f"{site.url}/a.zip", len(BODY), SHA256)
    assert left_overs(path) == []
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[-1] == ("a.zip", len(BODY), len(BODY))


def test_cut_connections_are_gone_on_with(site: Site, path: Path) -> None:
    site.cuts = [100_000, 1, 300_000, 0, 0, None]
    fetch(site, path, size=len(BODY), sha256=SHA256)
    assert path.read_bytes() == BODY
    ranges = [asked for _, asked in site.requests]
    assert ranges == ["", "bytes=100000-", "bytes=100001-", *["bytes=400001-"] * 3]


def test_what_arrived_is_gone_on_with_the_next_time(site: Site, path: Path) -> None:
    leave_part(site, path, 250_000)
    assert fetch(site, path).sha256 == SHA256
    assert site.requests == [("/a.zip", "bytes=250000-")]
    assert path.read_bytes() == BODY
    assert left_overs(path) == []


def test_a_server_without_ranges_sends_all_again(site: Site, path: Path) -> None:
    site.ranges = False
    site.cuts = [400_000, 100_000, None]
    fetch(site, path, size=len(BODY), sha256=SHA256)
    assert path.read_bytes() == BODY
    assert len(site.requests) == 3


def test_a_server_that_always_cuts_at_the_same_place_is_given_up(site: Site, path: Path) -> None:
    site.ranges = False
    site.cuts = [400_000, 300_000] * 20
    with pytest.raises(KgtoolError, match=r"the connection ended at \d+ of 900000 bytes, 3 times"):
        fetch(site, path)
    assert len(site.requests) <= 4
    assert not path.exists()


@pytest.mark.parametrize("if_range", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_a_file_that_changes_between_attempts_is_not_mixed(
    site: Site, path: Path, if_range: bool, known: bool
) -> None:
    leave_part(site, path, 250_000)
    site.if_range = if_range
    site.files["/a.zip"], site.etags["/a.zip"] = OTHER, '"2"'
    expected = hashlib.sha256(OTHER).hexdigest()
    fetch(site, path, sha256=expected if known else "")
    assert path.read_bytes() == OTHER
    if if_range:  # the server has sent the new file at once
        assert site.requests == [("/a.zip", "bytes=250000-")]


def test_without_an_etag_only_a_checksum_allows_to_go_on(site: Site, path: Path) -> None:
    site.etags.clear()
    leave_part(site, path, 250_000)
    fetch(site, path)
    assert ("/a.zip", "") in site.requests
    assert path.read_bytes() == BODY
    path.unlink()
    leave_part(site, path, 250_000)
    fetch(site, path, sha256=SHA256)
    assert site.requests == [("/a.zip", "bytes=250000-")]
    assert path.read_bytes() == BODY


def test_a_weak_etag_is_no_promise_of_equal_bytes(site: Site, path: Path) -> None:
    site.etags["/a.zip"] = 'W/"1"'
    leave_part(site, path, 250_000)
    site.files["/a.zip"] = OTHER
    fetch(site, path)
    assert path.read_bytes() == OTHER


def test_a_wrong_start_with_a_known_checksum_is_fetched_again(site: Site, path: Path) -> None:
    site.etags.clear()
    site.files["/a.zip"] = OTHER
    leave_part(site, path, 250_000)
    site.files["/a.zip"] = BODY
    fetch(site, path, size=len(BODY), sha256=SHA256)
    assert [asked for _, asked in site.requests] == ["bytes=250000-", ""]
    assert path.read_bytes() == BODY


def test_all_that_arrived_before_is_enough(site: Site, path: Path) -> None:
    leave_whole_part(site, path)
    fetch(site, path)  # the server says 416: nothing comes after what is there
    assert site.requests == [("/a.zip", f"bytes={len(BODY)}-")]
    assert path.read_bytes() == BODY
    path.unlink()
    leave_whole_part(site, path)
    fetch(site, path, size=len(BODY), sha256=SHA256)
    assert site.requests == []
    assert path.read_bytes() == BODY


def test_a_part_longer_than_the_file_is_of_another_one(site: Site, path: Path) -> None:
    leave_part(site, path, 800_000)
    site.files["/a.zip"], site.if_range = BODY[:500], False
    fetch(site, path)
    assert path.read_bytes() == BODY[:500]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (BODY[:-1], "found 899999 bytes; expected 900000"),
        (BODY + b"x", "found 900001 bytes; expected 900000"),
        (OTHER, f"found SHA-256 {hashlib.sha256(OTHER).hexdigest()}; expected {SHA256}"),
    ],
)
@pytest.mark.parametrize("lengths", [True, False])
def test_another_file_is_refused_and_the_next_url_is_taken(
    site: Site, path: Path, body: bytes, message: str, lengths: bool
) -> None:
    site.files["/wrong.zip"] = body
    site.lengths = lengths
    options = {"size": len(BODY), "sha256": SHA256, "patience": HASTY}
    with pytest.raises(KgtoolError, match=message):
        download([f"{site.url}/wrong.zip"], path, **options)
    assert not path.exists()
    assert left_overs(path) == []
    urls = [f"{site.url}/wrong.zip", f"{site.url}/a.zip"]
    assert download(urls, path, **options).url == urls[1]
    assert path.read_bytes() == BODY


def test_busy_is_tried_again_and_missing_is_not(site: Site, path: Path) -> None:
    site.statuses = [503, 429, 0]
    fetch(site, path)
    assert len(site.requests) == 3
    path.unlink()
    site.requests.clear()
    with pytest.raises(KgtoolError, match="the server answered 404"):
        fetch(site, path, "none.zip")
    assert len(site.requests) == 1
    assert download([f"{site.url}/none.zip", f"{site.url}/a.zip"], path, patience=HASTY).sha256 == SHA256


def test_pauses_grow_follow_the_server_and_are_bounded(
    site: Site, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    patience = Patience(attempts=6, pause_s=1.0, longest_s=5.0, timeout_s=5.0)
    site.statuses = [503] * 5
    fetch(site, path, patience=patience)
    assert pauses == [1.0, 2.0, 4.0, 5.0, 5.0]
    path.unlink()
    pauses.clear()
    site.statuses, site.headers = [503, 503], {"Retry-After": "3"}
    fetch(site, path, patience=patience)
    site.statuses, site.headers = [503], {"Retry-After": "86400"}
    path.unlink()
    fetch(site, path, patience=patience)
    assert pauses == [3.0, 3.0, 5.0]


def test_a_server_that_falls_silent_is_left_and_asked_again(site: Site, path: Path) -> None:
    site.stalls = [1.0]
    fetch(site, path, patience=Patience(attempts=2, pause_s=0.0, timeout_s=0.2))
    assert site.requests == [("/a.zip", ""), ("/a.zip", "bytes=450000-")]
    assert path.read_bytes() == BODY


def test_no_server_is_one_line_with_what_to_do(path: Path) -> None:
    with serving(Site({})) as gone:
        url = gone.url
    with pytest.raises(KgtoolError, match=r"a.zip: could not be fetched .*3 times.*--mirror") as raised:
        download([f"{url}/a.zip"], path, patience=HASTY)
    assert "\n" not in str(raised.value)


def test_redirects_are_followed_but_only_to_the_web(site: Site, path: Path, tmp_path: Path) -> None:
    site.redirects = {"/moved.zip": f"{site.url}/a.zip", "/local.zip": (tmp_path / "x").as_uri()}
    (tmp_path / "x").write_bytes(BODY)
    assert fetch(site, path, "moved.zip").sha256 == SHA256
    path.unlink()
    with pytest.raises(KgtoolError):
        fetch(site, path, "local.zip")
    with pytest.raises(KgtoolError, match="expected http:// or https://"):
        download([(tmp_path / "x").as_uri()], path, patience=HASTY)


def test_a_mirror_goes_on_where_another_ended_if_the_checksum_is_known(site: Site, path: Path) -> None:
    leave_part(site, path, 250_000)
    site.files["/b.zip"] = BODY
    fetch(site, path, "b.zip", sha256=SHA256)
    assert site.requests == [("/b.zip", "bytes=250000-")]
    path.unlink()
    leave_part(site, path, 250_000)
    fetch(site, path, "b.zip")
    assert site.requests == [("/b.zip", "")]


def test_a_file_that_another_process_fetches_is_left_alone(site: Site, path: Path) -> None:
    part = PartialFile(path)
    try:
        with pytest.raises(KgtoolError, match="another process is writing it"):
            fetch(site, path)
    finally:
        part.close()
    assert fetch(site, path).sha256 == SHA256


def test_a_file_that_another_process_finishes_meanwhile_is_not_emptied(
    site: Site, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = path.with_name("a.zip.part")
    part.write_bytes(BODY)
    monkeypatch.setattr(partial_file.fcntl, "flock", lambda *_: part.replace(path))
    with pytest.raises(KgtoolError, match="another process has just finished it"):
        fetch(site, path)
    assert path.read_bytes() == BODY


def test_more_than_the_published_size_is_not_waited_for(site: Site, path: Path) -> None:
    seen = []
    site.files["/a.zip"] = BODY * 20
    site.lengths = False
    with pytest.raises(KgtoolError, match=f"expected {len(BODY)}"):
        fetch(site, path, size=len(BODY), sha256=SHA256, on_progress=lambda *state: seen.append(state[1]))
    assert len(BODY) < max(seen) < 2 * len(BODY)
    assert left_overs(path) == []


def test_a_full_disk_is_told_before_and_not_taken_for_a_bad_connection(
    site: Site, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(path.parent)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(KgtoolError, match=r"a.zip: found 1000 bytes free in .*; expected \d+; make room"):
        fetch(site, path)
    assert len(site.requests) == 1


@pytest.mark.parametrize("lengths", [True, False])
def test_more_than_there_can_be_is_refused_where_no_size_is_published(
    site: Site, path: Path, lengths: bool
) -> None:
    site.files["/a.zip"] = BODY * 20
    site.lengths = lengths
    seen = []
    with pytest.raises(KgtoolError, match=r"found \d+ bytes.*; expected at most 1000000"):
        fetch(site, path, most=1_000_000, on_progress=lambda *state: seen.append(state[1]))
    assert max(seen, default=0) < 2_000_000
    assert left_overs(path) == []
    site.files["/a.zip"] = BODY
    assert fetch(site, path, most=len(BODY)).sha256 == SHA256


def test_a_server_that_tells_no_length_does_not_fill_the_disk(
    site: Site, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.lengths = False
    usage, before = shutil.disk_usage(path.parent), module.DISK_MARGIN + 500_000

    def free(_: object) -> object:
        part = path.with_name("a.zip.part")
        return usage._replace(free=before - (part.stat().st_size if part.exists() else 0))

    monkeypatch.setattr(module.shutil, "disk_usage", free)
    with pytest.raises(KgtoolError, match=r"a.zip: found \d+ bytes free in .*; make room"):
        fetch(site, path)
    assert path.with_name("a.zip.part").stat().st_size <= 500_000


@pytest.mark.parametrize("told", ["\u00b2", "1e3", "9" * 5000, "-1"])
def test_a_number_that_is_none_is_as_if_it_were_not_told(
    site: Site, path: Path, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    site.statuses, site.headers = [503], {"Retry-After": told}
    fetch(site, path, patience=Patience(attempts=2, pause_s=1.0, longest_s=5.0, timeout_s=5.0))
    assert pauses == [1.0]
    path.unlink()
    site.told_length = told
    assert fetch(site, path, size=len(BODY)).sha256 == SHA256
