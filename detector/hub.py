"""Runs on the Hugging Face Hub: safetensors, JSON, tables and a model card; needs the extra `hub`.

What is pushed is what `load` needs and what people read. state.pt, the only pickle of a run, and the log,
which names folders of the machine, stay where they are. What is pulled is only files of these names, and the
run is loaded before it is left: weights must be those of its settings and classes. The address, the token and
the cache are huggingface_hub's own (HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE).
"""

import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any

import torch

from detector.checkpoint import (
    BEST_FILE,
    CARD_FILE,
    CLASS_TABLE,
    CLASSES_FILE,
    CONFIG_FILE,
    ENVIRONMENT_FILE,
    METRICS_FILE,
    METRICS_TABLE,
    PLOT_FILE,
    WEIGHTS_FILE,
    load_config,
    load_run,
)
from detector.errors import ConfigError, DetectorError, InputError, MissingResourceError, OutputExistsError
from detector.files import load_json, to_json

PREFIX = "hf://"
README = "README.md"
LIBRARY = "kgtool-detector"

NEEDED = (CONFIG_FILE, CLASSES_FILE, WEIGHTS_FILE)

#: Files of a run that go over, all but the settings as they are; its card becomes README.md.
PUSHED = (*NEEDED, BEST_FILE, METRICS_FILE, METRICS_TABLE, CLASS_TABLE, ENVIRONMENT_FILE, PLOT_FILE)

_ADDRESS = re.compile(r"(?:hf://)?([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


@dataclass(frozen=True)
class Pushed:
    """What was pushed.

    Attributes:
        repository: OWNER/NAME.
        url: where people see it.
        commit: hash of the commit.
        files: names in the repository.
    """

    repository: str
    url: str
    commit: str
    files: tuple[str, ...]


def push_run(run: Path, to: str, *, private: bool = False, overwrite: bool = False) -> Pushed:
    """Push a finished run, in one commit, to a repository that is made where there is none.

    Args:
        run: run folder.
        to: OWNER/NAME.
        private: make a new repository private; without it, as the owner's account says.
        overwrite: replace a run that the repository holds; its history keeps the old one.

    Raises:
        ConfigError: `to` is no such name.
        InputError: the run is not finished, or cannot be loaded.
        OutputExistsError: the repository holds a run or a card, and `overwrite` is false; or it is public
            already, and `private` is true.
        MissingResourceError: huggingface_hub is not installed.
        DetectorError: the Hub refuses, or cannot be reached.
    """
    hub = _import_hub()
    repository, revision = parse_address(to)
    if revision:
        raise ConfigError(f"{to}: found a revision; expected OWNER/NAME")
    if not (run / CARD_FILE).is_file():
        raise InputError(f"{run}: no {CARD_FILE}; expected a finished run, made by `detector train`")
    _check_loads(run)
    files = [name for name in PUSHED if (run / name).is_file()]
    operations = [hub.CommitOperationAdd(name, str(run / name)) for name in files if name != CONFIG_FILE]
    operations.append(hub.CommitOperationAdd(CONFIG_FILE, _settings(run).encode()))
    operations.append(hub.CommitOperationAdd(README, _readme(hub, run, repository).encode()))
    with _one_line(repository):
        api = hub.HfApi(library_name=LIBRARY)
        url = api.create_repo(repository, private=private or None, exist_ok=True)
        if private and not api.repo_info(repository).private:
            raise OutputExistsError(
                f"{repository}: is there already and public; make it private on the Hub, give another --to, "
                "or leave out --private"
            )
        held = [name for name in api.list_repo_files(repository) if name in (*PUSHED, README)]
        if held and not overwrite:
            raise OutputExistsError(
                f"{repository}: holds {', '.join(held)} already; give --overwrite to replace them, or "
                "another --to"
            )
        left = [name for name in held if name not in (*files, README)]
        operations += [hub.CommitOperationDelete(name) for name in left]
        message = f"Run of recipe {load_config(run).recipe}"
        commit = api.create_commit(repository, operations, commit_message=message)
    return Pushed(repository, str(url), str(commit.oid), (*files, README))


def pull_run(source: str, out: Path) -> tuple[str, ...]:
    """Pull a run into a folder of its own, whole or not at all.

    Args:
        source: OWNER/NAME, perhaps with @REVISION, perhaps with hf:// before it.
        out: folder to make.

    Returns:
        the names of its files.

    Raises:
        ConfigError: `source` is no such name, or the run's recipe or a setting is not known here.
        InputError: the repository holds no run, or one whose parts do not fit.
        OutputExistsError: `out` is there.
        MissingResourceError: huggingface_hub is not installed.
        DetectorError: the Hub refuses, or cannot be reached.
    """
    if out.exists():
        raise OutputExistsError(f"{out}: already exists; give another --out")
    if not out.parent.is_dir():
        raise DetectorError(f"{out}: folder {out.parent} does not exist; create it first")
    folder = fetch_run(source)
    with _named(source, folder):
        _check_loads(folder)
        for name in (METRICS_FILE, ENVIRONMENT_FILE):
            if (folder / name).is_file():
                load_json(folder / name)
    part = out.with_name(f".{out.name}.{secrets.token_hex(8)}.part")
    try:
        part.mkdir()
        for name in PUSHED:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, part / name)
        if (folder / README).is_file():
            text = (folder / README).read_text(encoding="utf-8", errors="replace")
            (part / CARD_FILE).write_text(_card(text), encoding="utf-8")
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return tuple(sorted(path.name for path in out.iterdir()))


def fetch_run(source: str) -> Path:
    """Fetch a run into huggingface_hub's cache, or find it there; nothing else than a run's files is fetched.

    Args:
        source: as of `pull_run`.

    Returns:
        the folder in the cache, for `load_run`; other programs may have put other files there.

    Raises:
        ConfigError: `source` is no such name.
        InputError: the repository holds no run.
        MissingResourceError: huggingface_hub is not installed.
        DetectorError: the Hub refuses, or cannot be reached.
    """
    hub = _import_hub()
    repository, revision = parse_address(source)
    with _one_line(repository):
        api = hub.HfApi(library_name=LIBRARY)
        names = [*PUSHED, README]
        folder = Path(api.snapshot_download(repository, revision=revision, allow_patterns=names))
    for name in NEEDED:
        if not (folder / name).is_file():
            raise InputError(f"{source}: no {name}; expected a run that `detector push` pushed")
    return folder


def parse_address(text: str) -> tuple[str, str | None]:
    """Split hf://OWNER/NAME@REVISION into repository and revision; hf:// and @REVISION may be missing.

    Raises:
        ConfigError: it is none.
    """
    found = _ADDRESS.fullmatch(text)
    if not found:
        raise ConfigError(f"{text}: expected OWNER/NAME of a repository, as in alice/birds")
    return found[1], found[2]


def _check_loads(run: Path) -> None:
    """Load the run with its last weights, and with its best where it has any.

    Raises:
        InputError, ConfigError: see `load_run`.
    """
    load_run(run, torch.device("cpu"))
    if (run / BEST_FILE).is_file():
        load_run(run, torch.device("cpu"), weights="best")


def _settings(run: Path) -> str:
    """The run's config.json without folders of this machine: of a file of weights, the name alone."""
    document = load_json(run / CONFIG_FILE)
    key = "model.backbone.weights"
    document["settings"][key] = PurePath(load_config(run).model.backbone.weights).name
    return to_json(document)


def _readme(hub: Any, run: Path, repository: str) -> str:
    """The run's card with what the Hub reads before it, in YAML."""
    result = load_json(run / METRICS_FILE)
    recipe = load_config(run).recipe
    results = [
        hub.EvalResult(
            task_type="object-detection",
            dataset_type="coco-json",
            dataset_name=str(result.get("data", "")),
            metric_type=name,
            metric_value=round(float(value), 4),
        )
        for name, value in result.get("metrics", {}).items()
        if name in ("AP", "AP50", "AP75") and value >= 0
    ]
    data = hub.ModelCardData(
        library_name=LIBRARY,
        pipeline_tag="object-detection",
        tags=["object-detection", recipe],
        model_name=repository.rpartition("/")[2],
        eval_results=results,
    )
    use = f'`detector pull {repository} --out RUN`, or in Python `load("hf://{repository}")`.'
    return f"---\n{data.to_yaml()}\n---\n\n{use}\n\n{(run / CARD_FILE).read_text('utf-8')}"


def _card(readme: str) -> str:
    """The card in a README: all from its first heading on; of one that was written anew, everything."""
    found = re.search(r"^# ", readme, flags=re.MULTILINE)
    return readme[found.start() :] if found else readme


def _import_hub() -> Any:
    try:
        hub = import_module("huggingface_hub")
    except ImportError:
        raise MissingResourceError(
            "the Hugging Face Hub needs huggingface_hub, which is not installed; "
            "pip install 'kgtool-detector[hub]'"
        ) from None
    if not sys.stderr.isatty():
        import_module("huggingface_hub.utils").disable_progress_bars()
    return hub


@contextmanager
def _one_line(repository: str) -> Iterator[None]:
    """Have whatever huggingface_hub says about a repository end as one line."""
    try:
        yield
    except DetectorError:
        raise
    except Exception as error:  # of the Hub, of the network, of the cache
        status = getattr(getattr(error, "response", None), "status_code", None)
        remedy = "; log in with `hf auth login`, or set HF_TOKEN" if status in (401, 403, 404) else ""
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = (lines or [type(error).__name__])[0].rstrip(".")
        raise DetectorError(f"{repository}: {reason[:300]}{remedy}") from error


@contextmanager
def _named(source: str, folder: Path) -> Iterator[None]:
    """Name the repository, not the cache, in what is said about files of a fetched run."""
    try:
        yield
    except DetectorError as error:
        raise type(error)(
            str(error).replace(f"{folder}/", f"{source}: ").replace(str(folder), source)
        ) from error
