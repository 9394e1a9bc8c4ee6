"""Huge JSON in blocks: the same columns however it is cut, packed, or decoded, and errors with a place."""

import gzip
import hashlib
import io
import json
import os
import re
import signal
import sys
import zipfile
from pathlib import Path
from typing import Any

import dirty_visual_genome as dirty
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kgtool import json_stream, record_cutter
from kgtool.decoding import DecoderSpec
from kgtool.errors import InputError, KgtoolError
from kgtool.json_stream import ColumnStream, Vocabulary
from kgtool.visual_genome import AttributeDecoder, ImageDecoder, fold_text, only_synset

fast = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def stream_of(path: Path | str, vocabularies: Any = None, **options: Any) -> ColumnStream:
    known = vocabularies or {"synsets": Vocabulary(only_synset), "terms": Vocabulary(fold_text)}
    return ColumnStream(path, DecoderSpec(AttributeDecoder, {"with_ids": True}), known, **options)


def rows(path: Path | str, **options: Any) -> list[tuple[Any, ...]]:
    """(image id, synset, folded attribute) of every mention, in order, and a check of the record numbers."""
    known = {"synsets": Vocabulary(only_synset), "terms": Vocabulary(fold_text)}
    found = []
    records = 0
    for batch in stream_of(path, known, **options):
        assert batch.first_record == records
        records += batch.records
        columns = batch.columns
        assert len(columns["rows"]) == len(columns["image"]) == batch.records
        synsets, terms = known["synsets"].names(), known["terms"].names()
        term = iter(columns["term"].tolist())
        start = 0
        for image, number in zip(columns["image"].tolist(), columns["rows"].tolist(), strict=True):
            end = start + number
            for place in range(start, end):
                for _ in range(columns["mentions"][place]):
                    found.append((image, synsets[columns["object"][place]], terms[next(term)]))
            start = end
    return found


def slow_rows(records: list[Any]) -> list[tuple[Any, ...]]:
    def only(synsets: list[str] | None) -> str | None:
        return "" if not synsets else synsets[0] if len(synsets) == 1 else None

    return [
        (record.get("image_id", -1), only(thing.get("synsets")), fold_text(attribute))
        for record in records
        for thing in record["attributes"] or []
        for attribute in (thing or {}).get("attributes") or []
    ]


@fast
@given(
    seed=st.integers(0, 10**6),
    block_size=st.integers(32, 4000),
    indent=st.sampled_from([None, 0, 2]),
    separators=st.sampled_from([None, (",", ":"), (" , ", " : ")]),
    ascii_only=st.booleans(),
    blanks=st.sampled_from(["", "\n", " \r\n\t "]),
)
def test_any_layout_and_block_size_give_the_same_rows(
    seed: int, block_size: int, indent: Any, separators: Any, ascii_only: bool, blanks: str, tmp_path: Path
) -> None:
    records = dirty.attributes(seed, images=15)
    text = json.dumps(records, indent=indent, separators=separators, ensure_ascii=ascii_only)
    path = tmp_path / "records.json"
    path.write_bytes((blanks + text + blanks).encode())
    assert rows(path, block_size=block_size) == slow_rows(records)


names = st.sampled_from(["image_id", "attributes", "a", "}, {", '"image_id":', "\\"])
values = st.recursive(
    st.none()
    | st.integers(-5, 5)
    | st.sampled_from(['}, {"image_id": 1', '{"attributes": [', "]", "\\", '"']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@fast
@given(
    extra=st.lists(st.dictionaries(st.sampled_from(["x", "{", "image"]), values), max_size=12),
    size=st.integers(32, 300),
)
def test_nested_objects_that_look_like_records_are_not_cut_apart(
    extra: list[dict[str, Any]], size: int, tmp_path: Path
) -> None:
    """The first key of a record occurs at every depth, so that the guess is often wrong."""
    thing = {"attributes": ["red"], "synsets": ["a.n.01"]}
    records = [{"attributes": [thing] * (n % 3), **more, "image_id": n} for n, more in enumerate(extra)]
    path = tmp_path / "records.json"
    path.write_text(json.dumps(records))
    assert rows(path, block_size=size) == slow_rows(records)


@fast
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(32, 4000),
    indent=st.sampled_from([None, 1]),
    end=st.booleans(),
)
def test_objects_one_after_another_are_read_as_well(
    seed: int, size: int, indent: int | None, end: bool, tmp_path: Path
) -> None:
    records = dirty.attributes(seed, images=10)
    path = tmp_path / "records.jsonl"
    path.write_text("\n".join(json.dumps(record, indent=indent) for record in records) + "\n" * end)
    assert rows(path, block_size=size) == slow_rows(records)


def packed(records: Any, how: str, folder: Path) -> Path:
    text = json.dumps(records).encode()
    path = folder / f"records.{how}"
    if how == "gz":
        path.write_bytes(gzip.compress(text[:1000]) + gzip.compress(text[1000:]))  # two members, as pigz may
    elif how == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.mkdir("folder") if hasattr(archive, "mkdir") else None
            archive.writestr("folder/records.json", text)
            archive.writestr("__MACOSX/._records.json", b"clutter")
    else:
        path.write_bytes(b"\xef\xbb\xbf" * (how == "bom") + text)
    return path


@pytest.mark.parametrize("how", ["json", "bom", "gz", "zip", "misleading.json.gz"])
def test_packed_files_are_told_by_their_first_bytes_and_hashed_unpacked(how: str, tmp_path: Path) -> None:
    records = dirty.attributes(1)
    path = packed(records, how, tmp_path)
    assert rows(path, block_size=1024) == slow_rows(records)
    stream = stream_of(path, block_size=1024)
    done = [batch.records for batch in stream]
    text = json.dumps(records).encode()
    assert stream.sha256 == hashlib.sha256(b"\xef\xbb\xbf" * (how == "bom") + text).hexdigest()
    assert sum(done) == stream.records == len(records)
    assert stream.name == path.name


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_standard_input_is_read_as_it_comes(pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    records = dirty.attributes(2)

    class Trickle(io.RawIOBase):
        """A pipe that gives few bytes at a time."""

        def __init__(self, data: bytes) -> None:
            self.rest = data

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            part, self.rest = self.rest[: min(7, len(buffer))], self.rest[min(7, len(buffer)) :]
            buffer[: len(part)] = part
            return len(part)

    pipe = Trickle(pack(json.dumps(records).encode()))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(pipe)))
    assert rows("-", block_size=512, num_workers=2) == slow_rows(records)


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_workers_give_blocks_in_order_also_where_the_guess_fails(
    num_workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "SMALL_FILE", 0)
    records: list[Any] = dirty.attributes(4, images=200)
    nested = {"image_id": 1, "attributes": ["old"]}  # starts as a record does
    records += [{"image_id": n, "attributes": [nested] * (n % 50)} for n in range(100)]
    records += dirty.attributes(6, images=100)
    records[150]["large"] = ["}, {"] * 3000  # larger than a block
    path = tmp_path / "records.json"
    path.write_text(json.dumps(records))
    assert rows(path, num_workers=num_workers, block_size=2000) == slow_rows(records)
    assert stream_sha(path, num_workers) == hashlib.sha256(path.read_bytes()).hexdigest()


def stream_sha(path: Path, num_workers: int) -> str:
    stream = stream_of(path, num_workers=num_workers, block_size=2000)
    for _ in stream:
        pass
    return stream.sha256


def test_the_guess_is_right_for_files_as_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow way is for other files: published ones must not take it."""
    monkeypatch.setattr(record_cutter.RecordCutter, "push_back", None)
    for seed in (0, 1):
        records = dirty.attributes(seed, images=50)
        path = tmp_path / "records.json"
        for indent in (None, 4):
            path.write_text(json.dumps(records, indent=indent))
            assert rows(path, block_size=3000) == slow_rows(records)


def test_progress_ends_at_the_size_of_the_file(tmp_path: Path) -> None:
    path = packed(dirty.attributes(3), "gz", tmp_path)
    seen: list[tuple[str, int, int | None]] = []
    for _ in stream_of(path, on_progress=lambda *told: seen.append(told), block_size=512):
        pass
    assert seen[-1] == ("records.gz", path.stat().st_size, path.stat().st_size)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


# What is wrong, and where.


def message_of(data: bytes | str, folder: Path, block_size: int = 256, **options: Any) -> str:
    path = folder / "broken.json"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(InputError) as raised:
        rows(path, block_size=block_size, **options)
    message = str(raised.value)
    assert message.startswith("broken.json")
    assert "\n" not in message
    return message


RECORD = '{"image_id": 7, "attributes": []}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty file"),
        (" \n ", "empty file"),
        ("[", r"record 0 \(byte 1\): found the end of the input"),
        ("[ \n", r"record 0 \(byte 3\): found the end of the input"),
        ("7", r"record 0 \(byte 0\): found b'7'; expected a JSON array"),
        ("[7]", r"record 0 \(byte 1\): found '7\]'; expected an object"),
        ("[[]]", r"record 0 \(byte 1\).*expected an object"),
        ("{}", r"record 0 \(byte 0\).*missing required field \"attributes\""),
        ('{"images": [], "categories": []}', r"record 0 \(byte 0\).*missing required field \"attributes\""),
        (f"[{RECORD},]", r"record 1 \(byte 35\): found '\]'; expected an object"),
        (f"[{RECORD} {RECORD}]", r"record 1 \(byte 35\).*expected a comma or the end"),
        (f"[{RECORD}] {RECORD}", r"record 1 \(byte 36\): found .* after the end of the array"),
        (f"[{RECORD}", r"record 1 \(byte 34\): found the end of the input"),
        (f"[{RECORD}, ", r"record 1 \(byte 36\): found the end of the input"),
        (f"[{RECORD[:-1]}", r"record 0 \(byte 33\): found the end of the input"),
        (f'[{RECORD}, {{"image_id": 8, "attri', r"record 1 \(byte 58\): found the end of the input"),
        (
            f'[{RECORD}, {{"image_id": nul, "a": 1}}]',
            r"record 1 \(byte 49\).*malformed JSON \(Expecting value\)",
        ),
        (
            f'[{RECORD}, {{"image_id": "8", "attributes": []}}]',
            r'record 1 .*Expected "int \| null", got "str".*image_id',
        ),
        (
            f'[{RECORD}, {{"image_id": 8, "attributes": [{{"attributes": [1]}}]}}]',
            r"record 1 .*attributes\[0\]\.attributes\[0\]",
        ),
        (f"{RECORD}\n{RECORD}\n[]", r"record 2 \(byte 68\): found '\[\]'; expected an object"),
        (f'{RECORD}\n{{"image_id": 8, ', r"record 1 \(byte 50\): found the end of the input"),
        (b'[{"image_id": 7, "attributes": [{"attributes": ["\xff"]}]}]', r"record 0 \(byte 1\)"),
        ('[{"image_id": 99999999999999999999, "attributes": []}]', r"record 0 \(byte 1\)"),
        ("[" * 100_000, r"record 0 \(byte 1\)"),
        ('[{"attributes": ' + "[" * 100_000, r"record 0"),
        (b"PK\x03\x04 no zip", "zip that cannot be read"),
        (b"\x1f\x8b\x08\x00 no gzip", "damaged or cut off"),
        (gzip.compress(f"[{RECORD}]".encode(), mtime=0)[:-9], "damaged or cut off"),
    ],
)
def test_what_is_wrong_has_a_place(text: str | bytes, expected: str, tmp_path: Path) -> None:
    assert re.search(expected, message_of(text, tmp_path)), message_of(text, tmp_path)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_compressed_file_cut_off_after_the_first_block_is_one_clear_error(
    num_workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "SMALL_FILE", 0)
    text = json.dumps(dirty.attributes(5, images=3000)).encode()
    path = tmp_path / "records.json.gz"
    path.write_bytes(gzip.compress(text, mtime=0)[:-2000])
    assert len(text) > 400_000
    with pytest.raises(InputError, match=r"records\.json\.gz: found a damaged or cut off file"):
        rows(path, num_workers=num_workers, block_size=100_000)


@fast
@given(seed=st.integers(0, 10**6), share=st.floats(0, 0.999), size=st.integers(40, 3000))
def test_a_file_cut_off_anywhere_is_an_error(seed: int, share: float, size: int, tmp_path: Path) -> None:
    text = json.dumps(dirty.attributes(seed, images=8)).encode()
    message = message_of(text[: int(share * len(text))], tmp_path, size)
    assert "found the end of the input" in message or "empty file" in message


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_first_broken_record_is_named_whatever_comes_after(
    num_workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "SMALL_FILE", 0)
    records: list[Any] = [{"image_id": n, "attributes": []} for n in range(500)]
    for wrong in (321, 322, 400):
        records[wrong] = {"image_id": wrong, "attributes": [{"attributes": "red"}]}
    text = json.dumps(records)
    place = text.index('{"image_id": 321')
    found = r'Expected "array \| null", got "str" - at "attributes\[0\]\.attributes"'
    expected = rf"record 321 \(byte {place}\): {found}"
    assert re.search(expected, message_of(text, tmp_path, num_workers=num_workers))
    assert re.search(expected, message_of(text[:-100], tmp_path, num_workers=num_workers))


def test_a_record_without_end_is_an_error_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_cutter, "MAX_RECORD", 10_000)
    text = '[{"image_id": 1, "attributes": [], "x": [' + "0, " * 100_000
    assert "more than 10000 bytes" in message_of(text, tmp_path)
    whole = '{"image_id": 1, "attributes": [], "x": [' + "0, " * 100_000 + "0]}"
    assert "more than 10000 bytes" in message_of(whole, tmp_path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(InputError, match=f"{path.name}.*cannot be read"):
            rows(path)


def test_a_zip_of_several_files_is_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "two.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.json", "[]")
        archive.writestr("b.json", "[]")
    with pytest.raises(InputError, match=r"found 2 files \(a.json, b.json\); expected a zip of one"):
        rows(path)


class Dying(AttributeDecoder):
    """Dies like a process that the system killed for its memory."""

    def columns(self, records: list[Any]) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_is_an_error_and_not_a_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "SMALL_FILE", 0)
    path = tmp_path / "records.json"
    path.write_text(json.dumps(dirty.attributes(0, images=100)))
    known = {"synsets": Vocabulary(only_synset), "terms": Vocabulary(fold_text)}
    with pytest.raises(KgtoolError, match="worker process ended with status -9"):
        for _ in ColumnStream(path, DecoderSpec(Dying, {}), known, num_workers=2, block_size=9999):
            pass


def test_leaving_early_ends_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "SMALL_FILE", 0)
    path = tmp_path / "records.json"
    path.write_text(json.dumps([{"image_id": n, "url": "x" * 50} for n in range(2000)]))
    stream = ColumnStream(
        path, DecoderSpec(ImageDecoder, {}), {"urls": Vocabulary(str)}, num_workers=2, block_size=2000
    )
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    before = set(children.read_text().split()) if children.exists() else set()
    batches = iter(stream)
    next(batches)
    if children.exists():
        assert len(set(children.read_text().split()) - before) >= 2
    batches.close()  # type: ignore[attr-defined]
    if children.exists():
        assert not set(children.read_text().split()) - before


# Many files.


def folder_of(records: list[Any], sizes: list[int], lines: bool, folder: Path) -> Path:
    """Files of so many records each, some packed, some indented; and files that are no JSON."""
    folder.mkdir()
    start = 0
    for number, size in enumerate([*sizes, len(records)]):
        part = records[start : start + size]
        start += size
        indent = 1 if number % 3 == 1 else None
        texts = [json.dumps(record, indent=indent) for record in part]
        text = "\n".join(texts) + "\n" if lines else "[" + ", ".join(texts) + "]\n \n"
        if lines and not part:
            continue
        data = text.encode()
        name = f"part_{number:04d}.json"
        if number % 4 == 2:
            name, data = f"{name}.gz", gzip.compress(data, mtime=0)
        (folder / name).write_bytes(b"\xef\xbb\xbf" * (number % 5 == 1 and not name.endswith(".gz")) + data)
    (folder / "README.txt").write_text("not JSON")
    (folder / "folder.json").mkdir()
    return folder


@fast
@given(
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.integers(0, 5), max_size=12),
    lines=st.booleans(),
    size=st.integers(40, 3000),
)
def test_a_folder_of_files_is_read_as_one(
    seed: int, sizes: list[int], lines: bool, size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    records = dirty.attributes(seed, images=20)
    folder = folder_of(records, sizes, lines, tmp_path_factory.mktemp("many") / "vg")
    assert rows(folder, block_size=size) == slow_rows(records)
    assert rows(f"{folder}/part_*", block_size=size) == slow_rows(records)


def test_a_folder_is_hashed_file_after_file_and_its_files_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "vg"
    folder.mkdir()
    for name, text in (
        ("b.json", '[{"attributes": []}] '),
        ("a.json", "[]"),
        ("c.json", '[{"attributes": null}]'),
    ):
        (folder / name).write_text(text)
    stream = stream_of(folder)
    assert [batch.records for batch in stream] == [2]
    assert stream.sha256 == hashlib.sha256(b'[][{"attributes": []}] [{"attributes": null}]').hexdigest()
    assert (stream.name, stream.num_files) == ("vg", 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"[{RECORD}, {{}}]", r'b\.json \(byte 36\), record 2 of vg: .*missing required field "attributes"'),
        (f"[{RECORD}, 7]", r"b\.json \(byte 36\), record 2 of vg: found '7"),
        (f"[{RECORD}", r'b\.json: found the end of the file; expected "\]"'),
        (f"{RECORD}", r"b\.json: found .*; expected an array, as in the other files of vg"),
        ("7", r"b\.json: found b'7'"),
        ("", r"b\.json: found an empty file"),
    ],
)
def test_what_is_wrong_in_one_of_many_files_has_a_place(text: str, expected: str, tmp_path: Path) -> None:
    folder = tmp_path / "vg"
    folder.mkdir()
    for name, content in (("a.json", f" [{RECORD}]"), ("b.json", text), ("c.json", f"[{RECORD}]")):
        (folder / name).write_text(content)
    with pytest.raises(InputError, match=expected):
        rows(folder)
