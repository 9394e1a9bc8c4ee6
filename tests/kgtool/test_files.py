"""Outputs appear whole or not at all, and what cannot be written is one line."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from kgtool.cli import main
from kgtool.errors import KgtoolError, OutputExistsError
from kgtool.files import atomic_folder, atomic_path, check_writable

RECORD = """{"image_id": 1, "relationships": [{"predicate": "on",
  "subject": {"synsets": ["a.n.01"]}, "object": {"synsets": ["b.n.01"]}}]}"""


def one_line_of(args: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[str, object]:
    """What a command that fails says, and its exit code."""
    with pytest.raises(SystemExit) as exit_:
        main(args)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err, exit_.value.code


@pytest.mark.parametrize("command", ["build-relation", "triples"])
def test_an_output_the_system_refuses_is_one_line_and_exit_code_1(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "relationships.json"
    source.write_text(f"[{RECORD}]")
    out = tmp_path / f"{'x' * 300}.npz"
    classes = ["--classes", "2"] if command == "build-relation" else []
    err, code = one_line_of([command, str(source), *classes, "--out", str(out)], capsys)
    assert code == 1
    assert err.endswith("File name too long\n")
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_found_before_any_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(KgtoolError, match="may not be written to"):
            check_writable(tmp_path / "graph.npz")
    finally:
        tmp_path.chmod(0o700)


any_folder = partial(atomic_folder, contents=["old", "new"])


def fail_while_writing(path: Path, folder: Path) -> None:
    atomic = any_folder if path == folder else atomic_path
    with atomic(path, overwrite=True) as part:
        (part / "new" if path == folder else part).write_text("new")
        raise ZeroDivisionError


def test_an_error_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("old")
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(ZeroDivisionError):
        fail_while_writing(file, folder)
    with pytest.raises(ZeroDivisionError):
        fail_while_writing(folder, folder)
    assert file.read_text() == "old"
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "file",
        "folder",
        "folder/old",
    ]


@pytest.mark.parametrize(("atomic", "method"), [(atomic_path, "touch"), (any_folder, "mkdir")])
def test_ctrl_c_just_after_the_temporary_is_made_leaves_none(
    atomic: Callable[..., AbstractContextManager[Path]],
    method: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make = getattr(Path, method)

    def make_and_interrupt(path: Path, **options: object) -> None:
        make(path, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, method, make_and_interrupt)
    with pytest.raises(KeyboardInterrupt), atomic(tmp_path / "out"):
        pytest.fail("the block is not reached")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_put_in_place_brings_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").touch()
    replace = Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        if path.suffix == ".part":
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), any_folder(folder, overwrite=True) as part:
        (part / "new").touch()
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [folder]


def test_what_is_written_may_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "file") as part:
            part.write_text("x")
        with any_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


def test_a_file_where_a_folder_should_go_stays(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with (
        pytest.raises(KgtoolError, match=r"out: is a file; expected a folder"),
        any_folder(tmp_path / "out", overwrite=True),
    ):
        pytest.fail("the block is not reached")
    assert (tmp_path / "out").read_text() == "mine"


def test_overwriting_a_folder_does_not_remove_what_is_the_users(tmp_path: Path) -> None:
    for name in ("old", "images"):
        (tmp_path / "out" / name).mkdir(parents=True)
    with (
        pytest.raises(OutputExistsError, match=r"out: found 'images'; --overwrite replaces only .*old, new"),
        any_folder(tmp_path / "out", overwrite=True),
    ):
        pytest.fail("the block is not reached")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["images", "old"]


def test_a_folder_where_a_file_should_go_stays(tmp_path: Path) -> None:
    with pytest.raises(KgtoolError, match="is a folder; expected a file"):
        check_writable(tmp_path, overwrite=True)


def test_the_working_folder_may_be_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with any_folder(Path()) as part:
        (part / "new").touch()
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_a_terminated_command_removes_what_is_half_written(tmp_path: Path) -> None:
    record = (
        '{"image_id": %d, "relationships": [{"predicate": "on", "subject": {"synsets": ["a.n.01"]}, '
        '"object": {"synsets": ["b.n.01"]}}]}'
    )
    source, out = tmp_path / "relationships.json", tmp_path / "triples"
    source.write_text("[" + ",".join(record % number for number in range(200_000)) + "]", encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-m", "kgtool", "triples", str(source), "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as command:
        while command.poll() is None and not list(tmp_path.glob(".triples.*")):
            time.sleep(0.01)
        command.terminate()
        assert command.wait(timeout=60) in (143, 0)  # 0: it was done before the signal came
    assert not list(tmp_path.glob(".triples.*"))
