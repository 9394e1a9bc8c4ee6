"""`kgtool map`."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kgtool.cli.printable import printable

if TYPE_CHECKING:
    from kgtool.mapping import MappedClass

_SHOWN = 20


@click.command("map")
@click.argument("classes", metavar="{coco,voc,ade150,ade,lvis,FILE}")
@click.option(
    "--onto",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Map onto this class list or graph: its synsets are looked for, its boxes counted.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Table to write: .csv or .parquet."
)
@click.option("--explain", metavar="CLASS", help="Tell how this class is mapped; --out may be left out.")
@click.option(
    "--steps",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="With --onto: take a hypernym that is at most so many steps above; 0 for none.",
)
@click.option(
    "--automatic",
    is_flag=True,
    default=False,
    help="Leave curated and given synsets aside: names are all there is.",
)
@click.option(
    "--wordnet",
    default="",
    metavar="SOURCE",
    help="WordNet: shipped, nltk, or a directory. Default: KGTOOL_WORDNET, else shipped.",
)
@click.option("--overwrite", is_flag=True, default=False, help="Replace the table if it is there.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def map_(
    classes: str,
    onto: Path | None,
    out: Path | None,
    explain: str | None,
    steps: int,
    automatic: bool,
    wordnet: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Map class names to WordNet synsets, and to the Visual Genome synsets whose boxes show them.

    A row of the table has the class, its synset, the synsets of its boxes, how both were found, a confidence,
    the boxes behind it (with --onto) and the other senses. Classes that stay unmapped are listed, and so are
    answers worth a look. COCO, VOC and ADE 150 have synsets chosen by hand; of the others those are chosen
    automatically that the list does not give.

    Example: kgtool map coco --onto vg3000/classes.csv --out coco_map.csv
    """
    from kgtool import mapping
    from kgtool.class_names import read_class_names
    from kgtool.files import check_writable
    from kgtool.targets import load_target
    from kgtool.wordnet import load_nouns

    if out is None and explain is None:
        raise click.UsageError("give --out FILE for the table, or --explain CLASS")
    if out is not None:
        check_writable(out, overwrite=overwrite)
    nouns = load_nouns(wordnet)
    target = load_target(onto) if onto else None
    rows = mapping.map_classes(read_class_names(classes), nouns, target, steps=steps, automatic=automatic)
    row = mapping.find_row(rows, explain) if explain is not None else None
    if out is not None:
        mapping.save_mapping(rows, out, overwrite=overwrite)
    if as_json:
        click.echo(json.dumps(row.cells() if row else _summary(rows, onto is not None, out), indent=2))
    elif row:
        click.echo(mapping.explain(row, nouns))
    else:
        _print(_summary(rows, onto is not None, out))


def _summary(rows: Sequence["MappedClass"], onto: bool, out: Path | None) -> dict[str, Any]:
    from kgtool.mapping import DOUBTFUL

    return {
        "out": str(out),
        "classes": len(rows),
        "mapped": sum(bool(row.synset) for row in rows),
        "methods": dict(Counter(row.method or "unmapped" for row in rows).most_common()),
        "vg_methods": dict(Counter(row.vg_method or "none" for row in rows).most_common()),
        "unmapped": [row.name for row in rows if not row.synset],
        "doubtful": [row.name for row in rows if row.synset and row.confidence < DOUBTFUL],
        "without_boxes": [row.name for row in rows if onto and row.synset and not row.vg_synset],
    }


def _print(summary: dict[str, Any]) -> None:
    click.echo(f"{summary['mapped']} of {summary['classes']} classes mapped: {summary['out']}")
    for title, counts in (("Found by", summary["methods"]), ("Boxes found by", summary["vg_methods"])):
        if set(counts) != {"none"}:
            click.echo(f"{title}: {', '.join(f'{method} {count}' for method, count in counts.items())}")
    for title, names, most in (
        ("Unmapped", summary["unmapped"], len(summary["unmapped"])),
        ("Worth a look (confidence below 0.5)", summary["doubtful"], _SHOWN),
        ("Without a synset in the target", summary["without_boxes"], _SHOWN),
    ):
        if names:
            more = f"; ... and {len(names) - most} more: see the table" if len(names) > most else ""
            click.echo(printable(f"{title}: {'; '.join(names[:most])}{more}"), err=True)
