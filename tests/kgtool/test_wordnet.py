"""The shipped noun table, and WordNet directories through NLTK."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from kgtool import wordnet
from kgtool.cli import group
from kgtool.errors import InputError, MissingResourceError
from kgtool.wordnet import ENVIRONMENT_VARIABLE, PLURALS, TABLE, load_nouns
from kgtool.wordnet_reader import SYSTEM_DIRECTORY, noun_exceptions, noun_table, open_reader

#: NLTK reads the version from here.
TINY_HEADER = "  1 WordNet 3.0 Copyright 2006 by Princeton University.\n"


def tiny_wordnet(folder: Path) -> Path:
    """Four noun synsets in WordNet's own file formats, without lexnames and index.sense as Debian has it."""
    folder.mkdir(parents=True)
    entries = [  # lemmas, lexicographer file number, (pointer symbol, entry) pairs, gloss
        (["thing"], 3, [], "what there is"),
        (["goose"], 5, [("@", 0)], "a water bird"),
        (["goose", "goose_egg"], 21, [("@", 0)], "zero"),
        (["Mother_Goose"], 18, [("@i", 1), ("@i", 0)], "an author"),
    ]

    def line(offset_of: list[int], at: int) -> str:
        words, number, pointers, gloss = entries[at]
        fields = [f"{offset_of[at]:08d}", f"{number:02d}", "n", f"{len(words):02x}"]
        fields += [field for word in words for field in (word, "0")]
        fields += [f"{len(pointers):03d}"]
        for symbol, target in pointers:
            fields += [symbol, f"{offset_of[target]:08d}", "n", "0000"]
        return " ".join([*fields, "|", gloss]) + "  \n"

    offsets = [0] * len(entries)
    for at in range(len(entries) - 1):
        previous = len(TINY_HEADER) if at == 0 else offsets[at]
        offsets[at] = previous
        offsets[at + 1] = previous + len(line(offsets, at))
    (folder / "data.noun").write_text(
        TINY_HEADER + "".join(line(offsets, at) for at in range(len(entries))), encoding="utf-8"
    )
    senses: dict[str, list[int]] = {}
    for (words, *_), offset in zip(entries, offsets, strict=True):
        for word in words:
            senses.setdefault(word.lower(), []).append(offset)
    index = [
        f"{word} n {len(found)} 0 {len(found)} 0 {' '.join(f'{offset:08d}' for offset in found)}  \n"
        for word, found in sorted(senses.items())
    ]
    (folder / "index.noun").write_text(TINY_HEADER + "".join(index), encoding="utf-8")
    for part in ("adj", "adv", "verb"):
        (folder / f"data.{part}").write_text(TINY_HEADER, encoding="utf-8")
        (folder / f"index.{part}").write_text(TINY_HEADER, encoding="utf-8")
        (folder / f"{part}.exc").write_text("", encoding="utf-8")
    (folder / "noun.exc").write_text("geese goose\n", encoding="utf-8")
    (folder / "cntlist.rev").write_text("goose%1:05:00:: 1 7\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def system_reader():
    if not (SYSTEM_DIRECTORY / "data.noun").is_file():
        pytest.skip(f"no WordNet in {SYSTEM_DIRECTORY}: apt-get install wordnet-base")
    pytest.importorskip("nltk")
    return open_reader(str(SYSTEM_DIRECTORY))


def test_the_shipped_table_has_all_noun_synsets_under_unique_names() -> None:
    nouns = load_nouns("shipped")
    assert len(nouns) == len(nouns.row_by_name) == 82_115
    assert nouns.version == "3.0"
    assert nouns.synset("dog.n.01").offset == 2_084_071  # ImageNet's n02084071


def test_the_shipped_files_say_what_wordnet_says(system_reader, tmp_path: Path) -> None:
    """Synset by synset; and byte by byte when the committed table was written by this pyarrow."""
    made, shipped = noun_table(system_reader), pq.read_table(TABLE)
    for column in made.column_names:
        for row, (expected, found) in enumerate(
            zip(made[column].to_pylist(), shipped[column].to_pylist(), strict=True)
        ):
            assert found == expected, f"row {row}, {column}"
    plurals = {form: tuple(bases) for form, *bases in map(str.split, PLURALS.read_text().splitlines())}
    assert plurals == noun_exceptions(system_reader)
    again = tmp_path / "again.parquet"
    pq.write_table(made, again, compression="zstd", compression_level=19)
    if pq.read_metadata(again).created_by == pq.read_metadata(TABLE).created_by:
        assert again.read_bytes() == TABLE.read_bytes()


def test_senses_come_in_wordnets_order_and_know_their_kind() -> None:
    found = load_nouns("shipped").senses("hot dog")
    assert [(sense.name, sense.file) for sense in found] == [
        ("hotdog.n.01", "person"),
        ("hotdog.n.02", "food"),
        ("frank.n.02", "food"),
    ]
    assert found[2].lemmas[:2] == ("frank", "frankfurter")
    assert load_nouns("shipped").senses("no such thing") == []


@settings(deadline=None)  # the first example builds the indices
@given(st.data())
def test_a_lemma_finds_each_of_its_synsets_at_its_rank(data: st.DataObject) -> None:
    nouns = load_nouns("shipped")
    synset = nouns.synset(data.draw(st.sampled_from(nouns.names)))
    for lemma, rank in zip(synset.lemmas, synset.ranks, strict=True):
        assert nouns.senses(lemma)[rank - 1] == synset


@settings(deadline=None)  # the first example builds the indices
@given(st.data())
def test_every_synset_but_the_root_leads_up_to_entity_without_a_loop(data: st.DataObject) -> None:
    nouns = load_nouns("shipped")
    name = data.draw(st.sampled_from(nouns.names))
    above = list(nouns.ancestors(name))
    assert len(dict(above)) == len(above)
    assert name == "entity.n.01" or "entity.n.01" in dict(above)
    assert name not in dict(above)
    assert [steps for _, steps in above] == sorted(steps for _, steps in above)
    assert all(name in nouns.hyponyms(parent) for parent in nouns.hypernyms(name))


@pytest.mark.parametrize(
    ("plural", "singulars"),
    [
        ("skis", ["ski"]),
        ("wine glasses", []),
        ("drinking glasses", ["drinking_glass"]),
        ("geese", ["goose"]),
        ("knives", ["knife"]),
        ("women", ["woman"]),
        ("glass", []),
        ("bus", []),
    ],
)
def test_plurals_are_undone_only_where_the_singular_is_a_lemma(plural: str, singulars: list[str]) -> None:
    assert load_nouns("shipped").singulars(plural) == singulars


def test_a_name_that_is_no_synset_is_one_clear_line() -> None:
    with pytest.raises(InputError, match=r"'hotdog\.n\.09': not a noun of WordNet 3\.0; expected a name"):
        load_nouns("shipped").synset("hotdog.n.09")


@pytest.mark.parametrize("layout", ["directory", "corpora/wordnet", "corpora/wordnet.zip"])
def test_a_wordnet_directory_is_read_through_nltk_without_its_missing_files(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nltk = pytest.importorskip("nltk")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    folder = tiny_wordnet(tmp_path / "corpora" / "wordnet")
    source = str(folder) if layout == "directory" else "nltk"
    if layout.endswith(".zip"):
        shutil.make_archive(str(folder), "zip", root_dir=folder.parent, base_dir="wordnet")
        shutil.rmtree(folder)
    monkeypatch.setattr(wordnet, "_load_nouns", wordnet._load_nouns.__wrapped__)  # "nltk" is cached by name
    nouns = load_nouns(source)
    assert nouns.names == ["thing.n.01", "goose.n.01", "goose.n.02", "mother_goose.n.01"]
    assert [sense.name for sense in nouns.senses("GOOSE")] == ["goose.n.01", "goose.n.02"]
    assert nouns.synset("goose.n.01").counts == (7,)
    assert nouns.synset("goose.n.02").file == "possession"
    assert set(nouns.hypernyms("mother_goose.n.01")) == {"goose.n.01", "thing.n.01"}
    assert nouns.singulars("geese") == ["goose"]
    assert nouns.gloss("goose.n.01") == "a water bird"


def test_the_shipped_table_has_no_glosses_and_says_so() -> None:
    assert load_nouns("shipped").gloss("dog.n.01") == ""


def test_sources_that_are_not_there_are_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nltk = pytest.importorskip("nltk")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(MissingResourceError, match="no WordNet in NLTK's data; get it with"):
        load_nouns("nltk")
    with pytest.raises(InputError, match=r"found no data\.noun there"):
        load_nouns(str(tmp_path))
    folder = tiny_wordnet(tmp_path / "broken")
    (folder / "index.noun").write_text("goose n no numbers\n", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read as WordNet"):
        load_nouns(str(folder))


def test_the_environment_names_the_wordnet_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nltk")
    folder = tiny_wordnet(tmp_path / "tiny")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(folder))
    assert load_nouns().source == str(folder)
    assert load_nouns("shipped").source == "shipped"


def test_doctor_prints_one_document_and_names_the_wordnet_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nltk")
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    done = CliRunner().invoke(group, ["doctor", "--json"])
    report = json.loads(done.stdout)
    assert done.exit_code == 0, done.output
    assert report["problems"] == []
    assert report["wordnet"]["in_use"] == "shipped"
    assert report["wordnet"]["num_synsets"] == 82_115
    for source in report["wordnet"]["sources"]:
        assert source["found"] or source["how_to_get"], source
    assert {"numpy", "pyarrow"} <= {package["name"] for package in report["packages"]}


def test_doctor_fails_when_the_chosen_wordnet_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nltk")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path))
    done = CliRunner().invoke(group, ["doctor", "--json"])
    assert isinstance(done.exception, MissingResourceError)
    assert "no data.noun" in json.loads(done.stdout)["problems"][0]


def test_the_licence_travels_with_the_table() -> None:
    licence = TABLE.with_name("WORDNET_LICENSE").read_text(encoding="utf-8")
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in licence
    assert TABLE.stat().st_size < 2_000_000
