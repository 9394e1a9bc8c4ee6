"""The doctor: what is there, what is missing, and how to get it."""

import json
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import torch

from detector.cli import main
from detector.doctor import Finding, diagnose
from detector.trackers import TRACKERS


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0)


def test_what_is_installed_has_its_version_and_needs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("doctor", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    by_name = {finding["name"]: finding for finding in report["findings"]}
    assert by_name["torch"] == {
        "name": "torch",
        "found": metadata.version("torch"),
        "needed": True,
        "remedy": "",
    }
    assert by_name["torchvision operators"]["found"] == "work"
    assert by_name["threads"]["found"].startswith(f"{torch.get_num_threads()} of torch")
    assert ("cuda" in by_name) is not torch.cuda.is_available()
    assert report["problems"] == []


def test_an_extra_that_is_missing_has_its_line_and_is_no_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = metadata.version

    def without(name: str) -> str:
        if name in ("hotcoco", "av"):
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without)
    assert call("doctor") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "not there; pip install 'kgtool-detector[fast]'" in lines["hotcoco"]
    assert metadata.version("torch") in lines["torch"]


def test_something_needed_that_is_missing_is_code_five_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = metadata.version

    def without(name: str) -> str:
        if name == "pycocotools":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without)
    assert call("doctor") == 5
    output = capsys.readouterr()
    assert output.err.startswith("detector: pycocotools is missing: pip install 'pycocotools")
    assert len(output.err.splitlines()) == 1
    assert [finding.name for finding in diagnose() if finding.is_problem] == ["pycocotools"]


def test_more_threads_than_cores_get_a_remedy() -> None:
    import detector.doctor as module

    assert module._threads(10_000).remedy.startswith("set OMP_NUM_THREADS")
    assert module._threads(1) == Finding("threads", module._threads(1).found, False, "")


def test_every_extra_that_a_message_or_document_names_is_one() -> None:
    root = Path(__file__).parents[2]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    texts = [
        *root.glob("detector/**/*.py"),
        *root.glob("kgtool/**/*.py"),
        *root.glob("docs/*.md"),
        root / "README.md",
    ]
    named = {
        extra
        for path in texts
        for listed in re.findall(r"kgtool-detector\[([a-z,]+)\]", path.read_text(encoding="utf-8"))
        for extra in listed.split(",")
    }
    assert {"hub", "onnx", "viz"} <= named
    assert named | set(TRACKERS) <= set(extras)
