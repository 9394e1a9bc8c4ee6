"""What is installed and in use on this machine, and how to get the rest."""

import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from kgtool import __version__
from kgtool.errors import KgtoolError
from kgtool.wordnet import ENVIRONMENT_VARIABLE, load_nouns, wordnet_source

DISTRIBUTION = "kgtool-detector"


def diagnose(wordnet: str = "") -> dict[str, Any]:
    """Look at packages and WordNet sources; nothing is changed and nothing is downloaded.

    Args:
        wordnet: which WordNet to look at, as `--wordnet`; empty for the one in use.

    Returns:
        A JSON object: `kgtool`, `python`, `platform`, `packages` (name, wanted, extra, version or null),
        `wordnet` (in_use, chosen_by, version, num_synsets, glosses, sources) and `problems`, sentences;
        no problem, no sentence.
    """
    problems: list[str] = []
    packages = _packages()
    for package in packages:
        if package["version"] is None and package["extra"] is None:
            problems.append(f"package {package['name']} is not installed; pip install '{package['wanted']}'")
    return {
        "kgtool": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "wordnet": _wordnet(wordnet, problems),
        "problems": problems,
    }


def _packages() -> list[dict[str, Any]]:
    """What the distribution asks for, and which version is there; empty when run without an installation."""
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for requirement in requirements:
        wanted, _, marker = (part.strip() for part in requirement.partition(";"))
        extra = re.search(r"""extra\s*==\s*['"]([^'"]+)""", marker)
        if extra and extra[1] == "dev":
            continue
        name = re.split(r"[^A-Za-z0-9._-]", wanted, maxsplit=1)[0]
        found.append(
            {"name": name, "wanted": wanted, "extra": extra[1] if extra else None, "version": _version(name)}
        )
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _wordnet(source: str, problems: list[str]) -> dict[str, Any]:
    in_use = wordnet_source(source)
    chosen_by = "--wordnet" if source else ENVIRONMENT_VARIABLE if in_use != "shipped" else "default"
    report: dict[str, Any] = {"in_use": in_use, "chosen_by": chosen_by, "sources": _sources()}
    try:
        nouns = load_nouns(source)
    except KgtoolError as error:
        problems.append(str(error))
        return report | {"version": None, "num_synsets": None, "glosses": None}
    return report | {
        "version": nouns.version,
        "num_synsets": len(nouns),
        "glosses": nouns.reader is not None,
    }


def _sources() -> list[dict[str, Any]]:
    """Each WordNet that `--wordnet` could name, whether it is there, and how to get it when it is not."""
    from kgtool.wordnet_reader import SYSTEM_DIRECTORY, find_nltk_data

    nltk_data = find_nltk_data() if _version("nltk") else None
    system = SYSTEM_DIRECTORY if (SYSTEM_DIRECTORY / "data.noun").is_file() else None
    return [
        _source("shipped", Path(__file__).parent, "it is part of the package; install the package again"),
        _source("nltk", nltk_data, "python -m nltk.downloader wordnet"),
        _source(str(SYSTEM_DIRECTORY), system, "apt-get install wordnet-base (Debian, Ubuntu)"),
    ]


def _source(name: str, place: Any | None, how_to_get: str) -> dict[str, Any]:
    found = place is not None
    return {
        "name": name,
        "found": found,
        "place": str(place) if found else None,
        "glosses": name != "shipped",
        "how_to_get": None if found else how_to_get,
    }
