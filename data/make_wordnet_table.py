"""Write kgtool/wordnet_nouns.parquet and kgtool/wordnet_plurals.txt from a WordNet 3.0 directory.

Example: python data/make_wordnet_table.py /usr/share/wordnet

The same WordNet and the same pyarrow give the same bytes. tests/kgtool/test_wordnet.py compares the committed
files with the directory's content, synset by synset.
"""

import argparse
from pathlib import Path

import pyarrow.parquet as pq

from kgtool.files import atomic_path
from kgtool.wordnet import PLURALS, TABLE
from kgtool.wordnet_reader import SYSTEM_DIRECTORY, noun_exceptions, noun_table, open_reader


def make_files(source: str, table: Path, plurals: Path) -> None:
    """Write both files, replacing those that are there.

    Args:
        source: `nltk` or a directory with WordNet's files.
        table: where the noun table goes.
        plurals: where the irregular plurals go: a line each, the plural and then its singulars.
    """
    reader = open_reader(source)
    with atomic_path(table, overwrite=True) as part:
        pq.write_table(noun_table(reader), part, compression="zstd", compression_level=19, store_schema=True)
    lines = [" ".join((form, *bases)) + "\n" for form, bases in sorted(noun_exceptions(reader).items())]
    with atomic_path(plurals, overwrite=True) as part:
        part.write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "source", nargs="?", default=str(SYSTEM_DIRECTORY), help="nltk, or a WordNet directory"
    )
    make_files(parser.parse_args().source, TABLE, PLURALS)
