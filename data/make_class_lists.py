"""Write kgtool/curated/lvis.csv and ade.csv from the files that LVIS and ADE20K publish.

Example: python data/make_class_lists.py lvis_v1_train_cat_info.json objectnames.json

lvis.csv keeps names, synonyms and the synsets of LVIS's makers. ade.csv keeps ADE20K's names as they are, and
takes over the row of ade150.csv where a name has the same words.
"""

import argparse
import csv
import json
from collections.abc import Iterable
from pathlib import Path

from kgtool.class_names import FOLDER
from kgtool.files import atomic_path

COLUMNS = ("name", "aliases", "synset", "vg_synset", "reason")


def lvis_rows(path: Path) -> list[dict[str, str]]:
    """A row for each category, in the order of ids."""
    categories = sorted(json.loads(path.read_text(encoding="utf-8")), key=lambda category: category["id"])
    return [
        {
            "name": category["name"],
            "aliases": ";".join(other for other in category["synonyms"] if other != category["name"]),
            "synset": category["synset"],
        }
        for category in categories
    ]


def ade_rows(path: Path) -> list[dict[str, str]]:
    """A row for each name that has a letter, in the order of the list."""
    with (FOLDER / "ade150.csv").open(encoding="utf-8", newline="") as file:
        known = {
            frozenset([row["name"], *row["aliases"].split(";")]) - {""}: row for row in csv.DictReader(file)
        }
    rows = []
    for name in json.loads(path.read_text(encoding="utf-8")):
        if not any(letter.isalpha() for letter in name):
            continue
        row = known.get(frozenset(part.strip() for part in name.split(",")), {})
        rows.append({"name": name.strip(), **{key: row.get(key, "") for key in COLUMNS[2:]}})
    return rows


def write_rows(rows: Iterable[dict[str, str]], name: str, columns: tuple[str, ...]) -> None:
    """Write one list, replacing the one that is there."""
    with (
        atomic_path(FOLDER / name, overwrite=True) as part,
        part.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lvis", type=Path, help="lvis_v1_train_cat_info.json: a list of LVIS's categories")
    parser.add_argument("ade", type=Path, help="objectnames.json: a list of ADE20K's object names")
    options = parser.parse_args()
    write_rows(lvis_rows(options.lvis), "lvis.csv", ("name", "aliases", "synset"))
    write_rows(ade_rows(options.ade), "ade.csv", ("name", *COLUMNS[2:]))
