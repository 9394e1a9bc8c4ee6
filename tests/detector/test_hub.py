"""Runs to the Hugging Face Hub and back, over HTTP, with a server that answers what huggingface_hub asks."""

import json
import pickle
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hub_server import HubServer, serving, sha
from tiny_data import write_data, write_graph

from detector import load
from detector.cli import group
from detector.errors import (
    ConfigError,
    DetectorError,
    InputError,
    MissingResourceError,
    OutputExistsError,
)
from detector.hub import fetch_run, parse_address, pull_run, push_run
from detector.overrides import override
from detector.recipes import load_recipe
from detector.train import train

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of huggingface_hub's own parts


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("hub") / "data")


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    """A finished run with a graph and best weights."""
    out, graph = data.parent / "run", write_graph(data.parent / "graph.npz")
    settings = {"train.epochs": 1, "train.batch_size": 3, "train.eval_every": 1}
    config = override(load_recipe("reasoning_rcnn_sample"), settings)
    train(config, data, out, graphs=[graph], quiet=True)
    return out


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A server, to which huggingface_hub is pointed, and an empty cache."""
    constants = pytest.importorskip("huggingface_hub.constants")
    with serving() as server:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "secret")
        yield server


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_comes_back_as_it_was_but_for_its_log(hub: HubServer, run: Path, tmp_path: Path) -> None:
    (run / "state.pt").write_bytes(pickle.dumps({}))
    pushed = CliRunner().invoke(group, ["push", str(run), "--to", "alice/birds", "--json"])
    (run / "state.pt").unlink()
    assert pushed.exit_code == 0, pushed.stderr
    told = json.loads(pushed.stdout)
    assert (told["url"], told["commit"]) == (f"{hub.url}/alice/birds", sha(1))
    held = hub.repositories["alice/birds"][-1]
    assert set(held) == {*told["files"], ".gitattributes"}
    assert {"model.safetensors", "best.safetensors", "README.md"} <= set(held)
    assert not {"state.pt", "log.jsonl", "card.md"} & set(held)
    pulled = CliRunner().invoke(group, ["pull", "alice/birds", "--out", str(tmp_path / "back"), "--json"])
    assert pulled.exit_code == 0, pulled.stderr
    back, there = files_of(tmp_path / "back"), files_of(run)
    assert json.loads(pulled.stdout) == {"run": str(tmp_path / "back"), "files": sorted(back)}
    assert back == {name: there[name] for name in there if name != "log.jsonl"}
    assert not list(tmp_path.glob(".*.part"))


def test_what_is_loaded_from_the_hub_detects_the_same(
    hub: HubServer, run: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_run(run, "alice/birds")
    image = data / "images" / "test_0.png"
    (here,) = load(run, threshold=0, device="cpu")([image])
    (there,) = load("hf://alice/birds", threshold=0, device="cpu")([image])
    assert len(here) > 0
    assert here.names == there.names
    assert np.array_equal(here.boxes, there.boxes)
    assert np.array_equal(here.scores, there.scores)
    hub.repositories["alice/birds"].append({".gitattributes": b""})
    (before,) = load(f"hf://alice/birds@{sha(1)}", threshold=0, device="cpu")([image])
    assert np.array_equal(here.scores, before.scores), "a revision stays what it was"
    with pytest.raises(InputError, match=r"hf://alice/birds: no config\.json; expected a run that"):
        load("hf://alice/birds")


def test_the_card_says_to_the_hub_what_the_run_is(hub: HubServer, run: Path) -> None:
    yaml = pytest.importorskip("yaml")
    push_run(run, "alice/birds")
    readme = hub.repositories["alice/birds"][-1]["README.md"].decode()
    _, front, text = readme.split("---\n", maxsplit=2)
    said = yaml.safe_load(front)
    assert said["library_name"] == "kgtool-detector"
    assert said["pipeline_tag"] == "object-detection"
    assert said["tags"] == ["object-detection", "reasoning_rcnn_sample"]
    (model,) = said["model-index"]
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    found = {row["type"]: row["value"] for row in model["results"][0]["metrics"]}
    assert found == {name: round(metrics[name], 4) for name in ("AP", "AP50", "AP75")}
    assert model["results"][0]["dataset"]["name"] == "test.json"
    assert "detector pull alice/birds --out RUN" in text
    assert text.endswith((run / "card.md").read_text())


def test_nothing_is_overwritten_silently(hub: HubServer, run: Path, tmp_path: Path) -> None:
    push_run(run, "alice/birds", private=True)
    assert hub.private == {"alice/birds"}
    with pytest.raises(OutputExistsError, match=r"alice/birds: holds .* already; give --overw"):
        push_run(run, "alice/birds")
    best = (run / "best.safetensors").read_bytes()
    (run / "best.safetensors").unlink()
    push_run(run, "alice/birds", overwrite=True)
    (run / "best.safetensors").write_bytes(best)
    first, second = hub.repositories["alice/birds"][1:]
    assert set(first) - set(second) == {"best.safetensors"}, "a file of the run before does not stay"
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputExistsError, match="already exists; give another --out"):
        pull_run("alice/birds", tmp_path / "out")


def test_private_is_refused_where_the_repository_is_public_already(hub: HubServer, run: Path) -> None:
    push_run(run, "alice/birds")
    before = list(hub.repositories["alice/birds"])
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="alice/birds: is there already and public; make it priv"):
            push_run(run, "alice/birds", private=True, overwrite=overwrite)
    assert hub.repositories["alice/birds"] == before
    push_run(run, "alice/own", private=True)
    push_run(run, "alice/own", private=True, overwrite=True)
    assert hub.private == {"alice/own"}


def test_no_folder_of_the_machine_is_pushed(hub: HubServer, run: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(run, own)
    key, file = "model.backbone.weights", tmp_path / "weights" / "r50.safetensors"
    document = json.loads((own / "config.json").read_text())
    document["settings"][key] = str(file)
    (own / "config.json").write_text(json.dumps(document))
    push_run(own, "alice/birds")
    pushed = hub.repositories["alice/birds"][-1]
    assert json.loads(pushed["config.json"])["settings"] == {**document["settings"], key: "r50.safetensors"}
    assert not [name for name in pushed if str(run.parent).encode() in pushed[name]]
    assert not [name for name in pushed if str(tmp_path).encode() in pushed[name]]
    pull_run("alice/birds", tmp_path / "back")


def test_only_files_of_a_run_are_fetched_and_only_a_whole_run_is_left(
    hub: HubServer, run: Path, tmp_path: Path
) -> None:
    push_run(run, "alice/birds")
    commits = hub.repositories["alice/birds"]
    good = dict(commits[-1])
    commits.append({**good, "state.pt": pickle.dumps(print), "more/config.json": b"{}", "run.py": b"1"})
    files = pull_run("hf://alice/birds@main", tmp_path / "back")
    assert not {"state.pt", "run.py", "more"} & {*files, *hub.fetched}
    assert "state.pt" not in hub.fetched
    wrong = [
        ("classes.json", None, r"alice/birds: no classes\.json"),
        ("config.json", b"[]", r"alice/birds: config\.json: found a JSON list; expected an object"),
        (
            "model.safetensors",
            b"not weights",
            r"alice/birds: model\.safetensors: cannot be read as safetensors",
        ),
        (
            "model.safetensors",
            good["best.safetensors"][:-8],
            r"alice/birds: model\.safetensors: cannot be read",
        ),
        ("best.safetensors", good["best.safetensors"][:-8], r"alice/birds: best\.safetensors: cannot be"),
        ("metrics.json", b"{", r"alice/birds: metrics\.json: not valid JSON"),
    ]
    for name, content, line in wrong:
        commits.append(
            {**good, name: content} if content else {key: good[key] for key in good if key != name}
        )
        with pytest.raises(InputError, match=line) as caught:
            pull_run("alice/birds", tmp_path / "other")
        assert str(tmp_path / "cache") not in str(caught.value)
        assert not (tmp_path / "other").exists()
        assert not list(tmp_path.glob(".*.part"))


def test_a_readme_that_was_written_anew_is_kept_as_it_is(hub: HubServer, run: Path, tmp_path: Path) -> None:
    push_run(run, "alice/birds")
    commits = hub.repositories["alice/birds"]
    commits.append({**commits[-1], "README.md": b"Birds, and no heading: \xff\n"})
    pull_run("alice/birds", tmp_path / "back")
    assert (tmp_path / "back" / "card.md").read_text() == "Birds, and no heading: \N{REPLACEMENT CHARACTER}\n"


def test_what_the_hub_refuses_is_one_line(
    hub: HubServer, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        DetectorError, match=r"alice/none: .*; log in with `hf auth login`, or set HF_TOKEN"
    ) as no:
        fetch_run("alice/none")
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(DetectorError, match=r"alice/birds: .*; log in with `hf auth login`") as refused:
        push_run(run, "alice/birds")
    monkeypatch.setattr(sys.modules["huggingface_hub.constants"], "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DetectorError, match="alice/birds: ") as unreachable:
        push_run(run, "alice/birds")
    for caught in (no, refused, unreachable):
        assert "\n" not in str(caught.value)


def test_names_and_runs_are_checked_before_anything_is_sent(
    hub: HubServer, run: Path, tmp_path: Path
) -> None:
    assert parse_address("hf://a/b@v1.0") == ("a/b", "v1.0")
    assert parse_address("a/b") == ("a/b", None)
    for wrong in ("b", "a/b/c", "hf://", "https://a/b", "a/b@", "a b/c"):
        with pytest.raises(ConfigError, match="expected OWNER/NAME of a repository"):
            parse_address(wrong)
    with pytest.raises(ConfigError, match="found a revision"):
        push_run(run, "alice/birds@main")
    with pytest.raises(InputError, match=r"no card\.md; expected a finished run"):
        push_run(tmp_path, "alice/birds")
    with pytest.raises(DetectorError, match="does not exist; create it first"):
        pull_run("alice/birds", tmp_path / "none" / "run")
    assert hub.repositories == {}


def test_without_the_package_the_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingResourceError, match=r"pip install 'kgtool-detector\[hub\]'"):
        load("hf://alice/birds")
