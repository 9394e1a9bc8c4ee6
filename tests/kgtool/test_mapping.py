"""Class names to synsets: the curated tables, the automatic choice, and the table that is written."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from kgtool.class_names import BUILT_IN, FOLDER, ClassName, read_class_names
from kgtool.cli import group
from kgtool.errors import InputError, OutputExistsError
from kgtool.graph import make_graph, save_graph
from kgtool.mapping import MappedClass, explain, find_row, map_classes, save_mapping
from kgtool.senses import rank_senses
from kgtool.targets import Target, load_target
from kgtool.wordnet import load_nouns

ROOT = Path(__file__).parents[2]
REAL = ROOT / "../shared/real_data"
CURATED = ("coco", "voc", "ade150")

sys.path.insert(0, str(ROOT / "bench"))
from mapping_accuracy import is_person, lists, measure  # noqa: E402


def nouns():
    return load_nouns("shipped")


def best(name: str, *aliases: str, context: str = "") -> str:
    guesses = rank_senses(ClassName(name, aliases, context), nouns())
    return guesses[0].synset if guesses else ""


def row_of(name: ClassName | str, target: Target | None = None, **options) -> MappedClass:
    (row,) = map_classes(
        [name if isinstance(name, ClassName) else ClassName(name)], nouns(), target, **options
    )
    return row


def target(*synsets: str) -> Target:
    return Target(frozenset(synsets))


# The curated tables


@pytest.mark.parametrize("spec", BUILT_IN)
def test_the_shipped_lists_have_unique_names_and_synsets_that_exist(spec: str) -> None:
    names = read_class_names(spec)
    known = [name.synset for name in names if name.synset]
    assert len({name.name for name in names}) == len(names)
    assert len(set(known)) == len(known)
    missing = {synset for synset in known if synset not in nouns()}
    assert missing == ({"stop_sign.n.01"} if spec == "lvis" else set())
    assert all(synset in nouns() for name in names for synset in name.vg_synsets or ())


@pytest.mark.parametrize(
    ("spec", "size"), [("coco", 80), ("voc", 20), ("ade150", 150), ("ade", 3146), ("lvis", 1203)]
)
def test_the_shipped_lists_have_all_classes(spec: str, size: int) -> None:
    assert len(read_class_names(spec)) == size


@pytest.mark.parametrize("spec", CURATED)
def test_every_curated_class_has_a_synset_and_a_reason_where_the_boxes_are_elsewhere(spec: str) -> None:
    for name in read_class_names(spec):
        assert name.synset, name.name
        assert name.vg_synsets is not None, name.name
        if name.synset not in name.vg_synsets:
            assert name.reason, name.name


@pytest.mark.parametrize("spec", CURATED)
def test_no_curated_class_means_a_person_but_person(spec: str) -> None:
    people = [name.name for name in read_class_names(spec) if is_person(name.synset, nouns())]
    assert people == ["person"]


def test_ade_takes_its_synsets_from_ade150() -> None:
    hand = {name.synset: name.vg_synsets for name in read_class_names("ade150")}
    taken = [name for name in read_class_names("ade") if name.synset]
    assert len(taken) >= 140
    assert all(hand[name.synset] == name.vg_synsets for name in taken)


def test_a_curated_class_keeps_its_synset_and_names_the_boxes_that_are_labelled_wrongly() -> None:
    row = find_row(map_classes(read_class_names("coco"), nouns()), "toaster")
    assert (row.synset, row.vg_synset) == ("toaster.n.02", ("toaster.n.01",))
    assert (row.method, row.vg_method, row.confidence) == ("curated", "curated", 1.0)
    assert "toast" in row.reason


def test_the_curated_coco_table_differs_from_lvis_only_where_a_reason_says_so() -> None:
    path = REAL / "lvis/coco_to_synset.json"
    if not path.is_file():
        pytest.skip("LVIS's coco_to_synset.json is not there")
    lvis = {name: entry["synset"] for name, entry in json.loads(path.read_text()).items()}
    differing = [name for name in read_class_names("coco") if name.synset != lvis[name.name]]
    assert len(differing) <= 8
    assert all(name.reason for name in differing)


# The automatic choice


@pytest.mark.parametrize(
    ("title", "share"), [("lvis", 0.90), ("coco", 0.95), ("voc", 0.85), ("ade150", 0.93)]
)
def test_the_automatic_choice_is_right_as_often_as_the_documents_say(title: str, share: float) -> None:
    score = measure(lists(None)[title], nouns())
    assert score.right / score.classes >= share
    assert score.persons == 0


def test_the_automatic_choice_holds_on_names_alone() -> None:
    """LVIS's synonyms are mostly words of the right synset: without them the aim of 90 % must hold, too."""
    alone = [ClassName(name.name, synset=name.synset) for name in read_class_names("lvis")]
    score = measure(alone, nouns())
    assert score.right / score.classes >= 0.90
    assert score.persons == 0


@pytest.mark.parametrize(
    ("name", "synset"),
    [
        ("hot dog", "hotdog.n.02"),
        ("toaster", "toaster.n.02"),
        ("tie", "necktie.n.01"),
        ("kite", "kite.n.03"),
        ("couch", "sofa.n.01"),
        ("driver", "driver.n.01"),
        ("man", "man.n.01"),
    ],
)
def test_things_come_before_people_and_people_before_acts(name: str, synset: str) -> None:
    assert best(name) == synset


@pytest.mark.parametrize(
    ("name", "synset", "method"),
    [
        ("dog", "dog.n.01", "exact lemma"),
        ("Traffic_Light", "traffic_light.n.01", "exact lemma"),
        ("wine glass", "wineglass.n.01", "spelling"),
        ("diningtable", "dining_table.n.01", "spelling"),
        ("skis", "ski.n.01", "plural"),
        ("red fire hydrant", "fireplug.n.01", "compound head"),
        ("bowl of soup", "bowl.n.03", "compound head"),
        ("bat (animal)", "bat.n.01", "exact lemma"),
        ("qqq, sofa", "sofa.n.01", "alias"),
    ],
)
def test_each_way_of_finding_a_word_says_its_name(name: str, synset: str, method: str) -> None:
    guess = rank_senses(ClassName(name), nouns())[0]
    assert (guess.synset, guess.method) == (synset, method)


def test_context_picks_the_sense_below_it() -> None:
    assert best("mouse") == "mouse.n.01"
    assert best("mouse", context="electronic") == "mouse.n.04"
    assert best("mouse_(computer_equipment)") == "mouse.n.04"
    assert best("keyboard", context="electronic") == "computer_keyboard.n.01"


def test_a_context_that_repeats_the_name_says_nothing() -> None:
    assert best("person", context="person") == "person.n.01"


def test_names_that_share_a_sense_outweigh_the_first_sense() -> None:
    assert best("case") != "case.n.20"
    assert best("case", "display case", "showcase", "vitrine") == "case.n.20"


def test_a_name_without_a_known_noun_stays_unmapped() -> None:
    row = row_of("zzgrbl")
    assert row == MappedClass("zzgrbl", "", (), "", "", 0.0, None, (), "")
    assert explain(row, nouns()) == "zzgrbl: unmapped, as no word of it is a noun of WordNet 3.0"


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_name_gives_shares_of_at_most_one_best_first(text: str) -> None:
    guesses = rank_senses(ClassName(text, context=text[::-1]), nouns())
    assert sum(guess.confidence for guess in guesses) <= 1 + 1e-9
    assert [guess.score for guess in guesses] == sorted((guess.score for guess in guesses), reverse=True)
    assert len({guess.synset for guess in guesses}) == len(guesses)
    assert all(guess.synset in nouns() for guess in guesses)


@settings(deadline=None, max_examples=30)
@given(st.permutations(read_class_names("coco")))
def test_a_class_is_mapped_alike_whatever_the_others_are(names: list[ClassName]) -> None:
    alone = {row.name: row for row in map_classes(read_class_names("coco"), nouns(), automatic=True)}
    assert all(row == alone[row.name] for row in map_classes(names[:20], nouns(), automatic=True))


# Onto a target


def test_a_known_answer_in_the_target_comes_first() -> None:
    row = row_of(replace(read_class_names("coco")[0]), target("man.n.01", "person.n.01", "dog.n.01"))
    assert row.vg_synset == ("person.n.01", "man.n.01")
    assert row.vg_method == "curated"


def test_the_own_synset_comes_before_another_sense_of_the_word() -> None:
    assert row_of("banana", target("banana.n.01", "banana.n.02")).vg_synset == ("banana.n.02",)
    row = row_of("banana", target("banana.n.01"))
    assert (row.synset, row.vg_synset, row.vg_method) == ("banana.n.02", ("banana.n.01",), "same word")
    assert row.confidence < row_of("banana").confidence


def test_a_thing_is_never_found_under_a_person_or_an_idea() -> None:
    row = row_of("toaster", target("toaster.n.01"))
    assert (row.synset, row.vg_synset) == ("toaster.n.02", ())
    assert row_of("stage", target("phase.n.01")).vg_synset == ()


def test_a_curated_class_without_boxes_takes_no_other_sense() -> None:
    runway = next(name for name in read_class_names("ade150") if name.name == "runway")
    assert row_of(runway, target("track.n.09")).vg_synset == ()
    assert row_of(replace(runway, synset=""), target("track.n.09")).vg_synset == ("track.n.09",)


@pytest.mark.parametrize(
    ("steps", "found", "method"),
    [(0, (), ""), (1, (), ""), (2, ("home_appliance.n.01",), "hypernym, 2 steps")],
)
def test_a_hypernym_is_taken_within_the_steps_allowed(
    steps: int, found: tuple[str, ...], method: str
) -> None:
    row = row_of("toaster", target("home_appliance.n.01"), steps=steps)
    assert (row.vg_synset, row.vg_method) == (found, method)


def test_a_given_synset_that_wordnet_lacks_is_said_and_replaced() -> None:
    row = row_of(ClassName("stop_sign", synset="stop_sign.n.01", known_by="given"))
    assert row.method == "compound head"
    assert row.reason == "stop_sign.n.01 is given but no noun of WordNet 3.0"


# Files


def small_graph(path: Path, kind: str = "relation") -> Path:
    counts = (
        np.array([[1, 2, 0], [0, 0, 3], [0, 4, 0]])
        if kind == "relation"
        else np.array([[1, 2], [0, 5], [0, 0]])
    )
    graph = make_graph(
        classes=["dog", "cat", "hat"],
        synsets=["dog.n.01", "cat.n.01", ""],
        weight=np.zeros((3, 3)),
        counts=counts,
        kind=kind,
        recipe={"name": "paper" if kind == "relation" else "similarity"},
        dataset="made",
    )
    save_graph(graph, path)
    return path


def test_targets_count_boxes_or_annotations(tmp_path: Path) -> None:
    classes = tmp_path / "classes.csv"
    classes.write_text(
        "name,synset,train_image_count,train_instance_count,test_instance_count\n"
        "dog,dog.n.01,2,5,1\nhat,,1,1,0\ncat,cat.n.01,1,2,2\n"
    )
    assert load_target(classes).count_by_synset == {"dog.n.01": 6, "": 1, "cat.n.01": 4}
    assert load_target(classes).synsets == {"dog.n.01", "cat.n.01"}
    coco = tmp_path / "coco.json"
    categories = [
        {"id": 3, "name": "dog", "synset": "dog.n.01"},
        {"id": 7, "name": "cat", "synset": "cat.n.01"},
    ]
    boxes = [{"category_id": 7}, {"category_id": 7}, {"category_id": 3}]
    coco.write_text(json.dumps({"images": [], "categories": categories, "annotations": boxes}))
    assert load_target(coco).count_by_synset == {"dog.n.01": 1, "cat.n.01": 2}
    coco.write_text(json.dumps({"categories": [entry | {"instance_count": 9} for entry in categories]}))
    assert load_target(coco).count_by_synset == {"dog.n.01": 9, "cat.n.01": 9}
    assert load_target(small_graph(tmp_path / "r.npz")).count_by_synset == {"dog.n.01": 4, "cat.n.01": 9}
    attribute = load_target(small_graph(tmp_path / "a.npz", kind="attribute"))
    assert attribute.count_by_synset == {"dog.n.01": 3, "cat.n.01": 5}


def test_a_target_without_synsets_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("dog\ncat\n")
    with pytest.raises(InputError, match="found no synset; expected a class list whose classes have synsets"):
        load_target(path)
    with pytest.raises(InputError, match="--onto: found 7, which is not a file; expected a graph"):
        load_target(Path("7"))


def test_names_come_from_every_kind_of_file(tmp_path: Path) -> None:
    def read(name: str, text: str) -> list[ClassName]:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return read_class_names(str(tmp_path / name))

    coco = {
        "categories": [
            {"id": 1, "name": "mouse", "supercategory": "electronic", "synonyms": ["mouse", "mice"]}
        ]
    }
    assert read("coco.json", json.dumps(coco)) == [ClassName("mouse", ("mice",), "electronic")]
    assert read("list.json", '["-", "sofa, couch", " "]') == [ClassName("sofa, couch")]
    given = ClassName("hound", synset="dog.n.01", known_by="given")
    assert read("map.json", '{"hound": "dog.n.01"}') == [given]
    assert read("lines.txt", "cat\ndog.n.01\n") == [
        ClassName("cat"),
        ClassName("dog.n.01", synset="dog.n.01", known_by="given"),
    ]
    assert read("map.csv", "name,aliases,synset,vg_synset\nhound,dog; doggy,dog.n.01,\ncat,,,cat.n.01\n") == [
        replace(given, aliases=("dog", "doggy"), vg_synsets=()),
        ClassName("cat"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "name\ncat\ncat\n", "class 2: found 'cat' again, after class 1"),
        ("a.csv", "title\ncat\n", "found the columns title; expected name among them"),
        ("a.csv", "name\n", "found no class"),
        ("a.csv", '"name\ncat', "unexpected end of data; expected CSV"),
        ("a.csv", "name,synset\nad, advert,ad.n.01\n", "line 2: found more cells than columns"),
        ("a.csv", "name,synset\n,ad.n.01\n", "class 1: found an empty name"),
        ("7", "", "found an empty file"),
        ("a.json", '{"a": 5}', "a.json: class 'a': found 5"),
        ("a.json", "[{}]", 'class 1: found no "name"'),
        ("a.json", "[", "not valid JSON"),
        ("a.parquet", "PAR1", "cannot be read as Parquet"),
    ],
)
def test_a_bad_list_is_one_clear_line(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_class_names(str(tmp_path / name))
    assert str(caught.value).startswith(str(tmp_path / name))


def test_a_list_in_latin_1_and_one_that_is_missing_are_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("name\ncafé\n".encode("latin-1"))
    with pytest.raises(InputError, match="byte 8: found bytes that are not UTF-8"):
        read_class_names(str(tmp_path / "a.csv"))
    with pytest.raises(InputError, match="found 'coca', which is not a file; expected coco, voc"):
        read_class_names("coca")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_written_table_is_a_class_list_with_the_same_answers(suffix: str, tmp_path: Path) -> None:
    rows = map_classes(read_class_names("coco"), nouns(), target("dog.n.01", "man.n.01", "toaster.n.01"))
    one, two = tmp_path / f"one{suffix}", tmp_path / f"two{suffix}"
    save_mapping(rows, one)
    save_mapping(rows, two)
    assert one.read_bytes() == two.read_bytes()
    again = map_classes(read_class_names(str(one)), nouns())
    assert [(row.name, row.synset, row.vg_synset) for row in again] == [
        (row.name, row.synset, row.vg_synset) for row in rows
    ]
    assert {row.method for row in again} == {"given"}
    with pytest.raises(OutputExistsError):
        save_mapping(rows, one)
    with pytest.raises(InputError, match=r"found the suffix '\.txt'"):
        save_mapping(rows, tmp_path / "one.txt")


# The command


def run(*arguments: str):
    return CliRunner().invoke(group, ["map", *arguments])


def test_the_command_writes_the_table_and_lists_what_it_did_not_map(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("dog\nzzgrbl\nbronze plaque\n")
    (tmp_path / "onto.csv").write_text("name,synset,instance_count\ndog.n.01,dog.n.01,12\n")
    out = tmp_path / "map.csv"
    done = run(str(tmp_path / "own.txt"), "--onto", str(tmp_path / "onto.csv"), "--out", str(out))
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("2 of 3 classes mapped")
    assert "Unmapped: zzgrbl\n" in done.stderr
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["synset"] for row in rows] == ["dog.n.01", "", "plaque.n.01"]
    assert [row["boxes"] for row in rows] == ["12", "0", "0"]
    assert rows[0]["vg_method"] == "same synset"


def test_the_command_prints_one_json_document(tmp_path: Path) -> None:
    done = run("voc", "--out", str(tmp_path / "map.parquet"), "--json")
    summary = json.loads(done.stdout)
    assert (summary["classes"], summary["mapped"], summary["unmapped"]) == (20, 20, [])
    assert summary["methods"] == {"curated": 20}
    row = json.loads(run("voc", "--explain", "pottedplant", "--json").stdout)
    assert row["synset"] == "pot_plant.n.01"


def test_explain_tells_the_story_in_words() -> None:
    story = run("coco", "--explain", "hot dog").stdout
    for part in (
        "hotdog.n.02",
        "found by: curated",
        "kind of sandwich",
        "hotdog.n.01, frank.n.02",
        "Why: the sausage",
    ):
        assert part in story


def test_explain_of_an_unknown_class_names_the_near_ones() -> None:
    done = run("coco", "--explain", "hotdog")
    assert isinstance(done.exception, InputError)
    assert "did you mean hot dog" in str(done.exception)


def test_the_command_wants_a_file_or_a_class() -> None:
    assert run("coco").exit_code == 2


def test_the_tables_are_in_the_package() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {*(f"{spec}.csv" for spec in BUILT_IN), "NOTICE"}
