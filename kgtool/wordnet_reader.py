"""WordNet through NLTK: glosses, morphology, similarity, and the columns that the shipped table keeps.

Source: Princeton WordNet 3.0, as NLTK's corpus or as a directory of `data.noun`, `index.noun`, ...

NLTK's reader wants fifteen files and, from 3.10 on, reads only below `nltk.data.path`. Debian's
`wordnet-base` lacks two of the files: `index.sense` is never needed here, and `lexnames` is the fixed list
below (lexnames(5WN)). No file of the directory is written or moved.
"""

import io
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgtool.errors import InputError, MissingResourceError

if TYPE_CHECKING:
    import pyarrow as pa

#: Where Linux distributions put WordNet's files.
SYSTEM_DIRECTORY = Path("/usr/share/wordnet")

HOW_TO_GET = (
    "get it with `python -m nltk.downloader wordnet`, or install Debian's package wordnet-base "
    "and give --wordnet /usr/share/wordnet"
)

_NOUN_FILES = (
    "Tops act animal artifact attribute body cognition communication event feeling food group location "
    "motive object person phenomenon plant possession process quantity relation shape state substance time"
)
_VERB_FILES = (
    "body change cognition communication competition consumption contact creation emotion motion perception "
    "possession social stative weather"
)
#: Names of the 45 lexicographer files in the order of their numbers, each with its part of speech.
_LEXICOGRAPHER_FILES = (
    ("adj.all", 3),
    ("adj.pert", 3),
    ("adv.all", 4),
    *((f"noun.{name}", 1) for name in _NOUN_FILES.split()),
    *((f"verb.{name}", 2) for name in _VERB_FILES.split()),
    ("adj.ppl", 3),
)


@cache
def _reader_class() -> Any:
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class DirectoryReader(WordNetCorpusReader):  # type: ignore[misc]  # NLTK's own way to change a reader
        """NLTK's reader without the two files that only other functions need."""

        def open(self, file: str) -> io.StringIO:
            """One of WordNet's files as a whole; `lexnames` is made up when it is not there.

            In memory NLTK's many small reads are quick, and no file stays open. The files are ASCII, so
            that the byte offsets in them are positions in the text.
            """
            try:
                with super().open(file) as stream:
                    return io.StringIO(stream.read())
            except OSError:
                if file != "lexnames":
                    raise
                lines = (f"{i:02d}\t{name}\t{part}\n" for i, (name, part) in enumerate(_LEXICOGRAPHER_FILES))
                return io.StringIO("".join(lines))

        def map_wn(self, version: str = "wordnet") -> None:
            """No map to other versions: it needs `index.sense`, and only the other languages use it."""

    return DirectoryReader


def find_nltk_data() -> Any | None:
    """NLTK's own copy of WordNet, a path that its reader takes; None when there is none."""
    import nltk

    for resource in ("corpora/wordnet", "corpora/wordnet.zip/wordnet/"):
        try:
            return nltk.data.find(resource)
        except LookupError:
            continue
    return None


def open_reader(source: str) -> Any:
    """Open NLTK's WordNet reader.

    Args:
        source: `nltk` for NLTK's own data, or a directory with WordNet's files.

    Returns:
        An `nltk.corpus.reader.WordNetCorpusReader`, English only.

    Raises:
        MissingResourceError: NLTK has no such data, or NLTK is not installed.
        InputError: the directory is not there, or lacks WordNet's files, or they are broken.
    """
    try:
        import nltk
    except ImportError:
        raise MissingResourceError(
            "nltk is not installed; expected it for --wordnet; pip install nltk"
        ) from None
    if source == "nltk":
        root = find_nltk_data()
        if root is None:
            raise MissingResourceError(f"--wordnet nltk: found no WordNet in NLTK's data; {HOW_TO_GET}")
    else:
        directory = Path(source).resolve()
        if not (directory / "data.noun").is_file():
            raise InputError(
                f"--wordnet {source}: found no data.noun there; expected `shipped`, `nltk`, or a directory "
                f"with WordNet's files; {HOW_TO_GET}"
            )
        root = str(directory)
        if root not in nltk.data.path:
            nltk.data.path.append(root)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that other languages are missing
        try:
            return _reader_class()(root, None)
        except Exception as error:  # NLTK raises whatever its parsing of a broken file runs into
            raise InputError(
                f"--wordnet {source}: cannot be read as WordNet ({type(error).__name__}: {error}); "
                f"{HOW_TO_GET}"
            ) from None


def noun_table(reader: Any) -> "pa.Table":
    """All noun synsets as columns; this is what the package ships.

    Args:
        reader: what `open_reader` returned.

    Returns:
        One row a synset in the order of Princeton's offsets: `offset`; `file`, the lexicographer file
        without "noun."; `lemmas`, `ranks` (the lemma's sense number, from 1) and `counts` (how often the
        sense was tagged in WordNet's texts), which belong together; `hypernyms` and `instance_hypernyms` as
        row numbers. A synset's name is its first lemma in lower case, ".n." and that lemma's rank.
    """
    import pyarrow as pa

    synsets = sorted(reader.all_synsets("n"), key=lambda synset: synset.offset())
    row_by_offset = {synset.offset(): row for row, synset in enumerate(synsets)}
    rank_by_sense: dict[tuple[str, int], int] = {}
    for lemma in reader.all_lemma_names("n"):
        # The lemma's own senses come first; behind them NLTK adds those of its singular.
        for rank, synset in enumerate(reader.synsets(lemma, "n", check_exceptions=False), start=1):
            rank_by_sense.setdefault((lemma, synset.offset()), rank)
    with reader.open("cntlist.rev") as lines:
        count_by_key = {key: int(count) for key, _, count in (line.split() for line in lines)}
    rows = [
        {
            "offset": synset.offset(),
            "file": synset.lexname().removeprefix("noun."),
            "lemmas": synset.lemma_names(),
            "ranks": [rank_by_sense[name.lower(), synset.offset()] for name in synset.lemma_names()],
            "counts": [count_by_key.get(lemma.key(), 0) for lemma in synset.lemmas()],
            # NLTK keeps pointers in a set, whose order changes from run to run.
            "hypernyms": sorted(row_by_offset[above.offset()] for above in synset.hypernyms()),
            "instance_hypernyms": sorted(
                row_by_offset[above.offset()] for above in synset.instance_hypernyms()
            ),
        }
        for synset in synsets
    ]
    return pa.Table.from_pylist(rows, schema=_schema().with_metadata({"wordnet": reader.get_version()}))


def _schema() -> "pa.Schema":
    import pyarrow as pa

    return pa.schema(
        [
            ("offset", pa.int32()),
            ("file", pa.dictionary(pa.int8(), pa.string())),
            ("lemmas", pa.list_(pa.string())),
            ("ranks", pa.list_(pa.int16())),
            ("counts", pa.list_(pa.int32())),
            ("hypernyms", pa.list_(pa.int32())),
            ("instance_hypernyms", pa.list_(pa.int32())),
        ]
    )


def noun_exceptions(reader: Any) -> dict[str, tuple[str, ...]]:
    """Irregular plurals of WordNet: form to its singulars, both in lower case, as "geese" to ("goose",)."""
    with reader.open("noun.exc") as lines:
        return {form: tuple(bases) for form, *bases in (line.split() for line in lines)}
