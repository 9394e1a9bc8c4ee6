"""Class lists from numbers, text, CSV and JSON."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgtool.classes import (
    ClassTable,
    is_background,
    most_frequent_classes,
    near_names,
    parse_class_spec,
    resolve_names,
)
from kgtool.errors import InputError

REAL = Path(__file__).parents[2] / "../shared/real_data"
needs_real_data = pytest.mark.skipif(
    not REAL.is_dir(), reason="shared/real_data is not beside the repository"
)


def spec_of(tmp_path, name, text, encoding="utf-8"):
    (tmp_path / name).write_text(text, encoding=encoding)
    return str(tmp_path / name)


# --- what a spec may be ---


def test_a_number_stays_a_number():
    assert parse_class_spec("3000") == 3000
    assert parse_class_spec(" 80 ") == 80


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.csv", "name,synset\ndog,dog.n.01\nice cream,\n"),
        ("c.csv", " Synset , Name ,comment\ndog.n.01,dog,x\n,  ice cream  ,y\n"),
        ("c.csv", '\ufeffname,synset\r\n"dog", dog.n.01 \r\n"ice cream",""\r\n'),
        (
            "c.json",
            json.dumps(
                {"categories": [{"id": 7, "name": "dog", "synset": "dog.n.01"}, {"name": "ice cream"}]}
            ),
        ),
        (
            "c.json",
            json.dumps([{"name": "dog", "synset": "dog.n.01"}, {"name": "ice cream", "synset": None}]),
        ),
        ("c.json", json.dumps({"dog": {"synset": "dog.n.01"}, "ice cream": {}})),
        ("c.txt", json.dumps({"dog": "dog.n.01", "ice cream": None})),
    ],
)
def test_names_and_synsets_come_from_csv_and_json(name, text, tmp_path):
    table = parse_class_spec(spec_of(tmp_path, name, text))
    assert table == ClassTable(("dog", "ice cream"), ("dog.n.01", ""))


def test_text_lines_are_names_or_synsets(tmp_path):
    table = parse_class_spec(spec_of(tmp_path, "c.txt", "dog.n.01\n\n  ice cream \nmr. bean\n犬\n"))
    assert table.names == ("dog.n.01", "ice cream", "mr. bean", "犬")
    assert table.synsets == ("dog.n.01", "", "", "")


def test_a_quoted_csv_name_may_hold_a_comma(tmp_path):
    table = parse_class_spec(spec_of(tmp_path, "c.csv", 'name\n"lamp, floor"\n'))
    assert table == ClassTable(("lamp, floor",), ("",))


def test_a_json_object_is_put_in_the_order_of_coco_ids_when_all_have_one(tmp_path):
    entries = {"b": {"synset": "b.n.01", "coco_cat_id": 2}, "a": {"synset": "a.n.01", "coco_cat_id": 1}}
    assert parse_class_spec(spec_of(tmp_path, "c.json", json.dumps(entries))).names == ("a", "b")
    del entries["a"]["coco_cat_id"]
    assert parse_class_spec(spec_of(tmp_path, "c.json", json.dumps(entries))).names == ("b", "a")


@needs_real_data
def test_the_curated_coco_list_has_80_classes_in_cocos_order():
    table = parse_class_spec(str(REAL / "lvis/coco_to_synset.json"))
    assert len(table) == 80
    assert table.names[:3] == ("person", "bicycle", "car")
    assert table.synsets[2] == "car.n.01"


@needs_real_data
def test_lvis_categories_and_a_coco_file_are_class_lists():
    lvis = parse_class_spec(str(REAL / "lvis/lvis_v1_train_cat_info.json"))
    assert len(lvis) == 1203
    assert all(lvis.synsets)
    coco = parse_class_spec(str(REAL / "coco/instances.json"))
    assert "dog" in coco.names


# --- what it may not be ---


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.txt", "", "found an empty file; expected a number"),
        ("c.txt", " \n \n", "found an empty file"),
        ("c.txt", "dog\ncat\ndog\n", "class 3: found name 'dog' again, after class 1.*remove or rename"),
        (
            "c.txt",
            "dog\n__background__\n",
            "class 2: found '__background__'.*detector adds background itself",
        ),
        (
            "c.csv",
            "name,synset\na,dog.n.01\nb,dog.n.01\n",
            "class 2: found synset 'dog.n.01' again, after class 1",
        ),
        ("c.csv", "name,synset\n,dog.n.01\n", "class 1: found an empty name"),
        (
            "c.csv",
            "class,synset\ndog,dog.n.01\n",
            "line 1: found the columns class, synset; expected a header",
        ),
        ("c.csv", "name,synset\n", "found no class; expected at least one"),
        ("c.csv", 'name\ndog\n"cat\n', "line [23]: unexpected end of data; expected CSV"),
        ("c.json", "{", "found JSON that is no class list"),
        ("c.json", "3", "found JSON that is no class list"),
        ("c.json", '{"categories": 3}', "found JSON that is no class list"),
        ("c.json", "[" * 100_000, "found JSON that is no class list"),
        ("c.json", '{"images": [], "annotations": []}', 'found JSON without a "categories" list'),
        ("c.json", '{"categories": []}', "found no class"),
        ("c.json", '{"categories": [{"id": 1}]}', 'category 1: found no "name"'),
        (
            "c.json",
            '{"categories": [{"name": "dog", "synset": 3}]}',
            "category 1: found synset 3; expected a string",
        ),
        ("c.json", '{"dog": 3}', "class 'dog': found 3; expected a synset"),
        ("c.json", "[1, 2]", 'category 1: found no "name"'),
    ],
)
def test_a_bad_file_gets_one_line_with_its_path(name, text, message, tmp_path):
    spec = spec_of(tmp_path, name, text)
    with pytest.raises(InputError, match=message) as caught:
        parse_class_spec(spec)
    assert str(caught.value).startswith(f"{spec}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["0", "-3", "missing.csv", "", "3.5", "."])
def test_a_spec_that_is_neither_number_nor_file_is_refused(spec):
    with pytest.raises(InputError, match=r"--classes: found .*expected"):
        parse_class_spec(spec)


def test_bytes_that_are_not_utf8_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"byte 3: found bytes that are not UTF-8.*save it as UTF-8"):
        parse_class_spec(spec_of(tmp_path, "c.txt", "caf\xe9\n", encoding="latin-1"))


@pytest.mark.parametrize(
    "name", ["background", "__background__", "Background", "<background>", "[BACKGROUND]"]
)
def test_names_that_mean_no_object_are_background(name):
    assert is_background(name)


@pytest.mark.parametrize("name", ["background.n.01", "back", "background music", "bg"])
def test_other_names_are_not_background(name):
    assert not is_background(name)


# --- the most frequent synsets ---


def test_the_most_frequent_synsets_come_first_with_ties_by_name():
    count = {"c.n.01": 5, "a.n.01": 2, "b.n.01": 2, "d.n.01": 9, "never.n.01": 0, "": 100}
    table = most_frequent_classes(3, count)
    assert table == ClassTable(("d.n.01", "c.n.01", "a.n.01"), ("d.n.01", "c.n.01", "a.n.01"))


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,3}\.n\.0[1-9]", fullmatch=True), st.integers(1, 5), min_size=1)
)
def test_fewer_classes_are_the_first_of_more_whatever_the_order_of_the_data(count):
    whole = most_frequent_classes(len(count), count)
    backward = dict(reversed(count.items()))
    for n in range(1, len(count) + 1):
        assert most_frequent_classes(n, backward).names == whole.names[:n]


@pytest.mark.parametrize("n", [0, 3])
def test_more_classes_than_synsets_seen_are_refused(n):
    with pytest.raises(InputError, match=f"found {n}; expected 1 to 2, the number of classes seen"):
        most_frequent_classes(n, {"a.n.01": 1, "b.n.01": 1, "c.n.01": 0})


# --- names without a synset ---


def test_a_name_takes_the_most_frequent_synset_with_its_lemma():
    count = {"mouse.n.04": 9, "mouse.n.01": 3, "ice_cream.n.01": 2, "dog.n.01": 5}
    table = ClassTable(("Ice Cream", "mouse", "dog", "unicorn"), ("", "", "dog.n.03", ""))
    resolved, messages = resolve_names(table, count)
    assert resolved.names == table.names
    assert resolved.synsets == ("ice_cream.n.01", "mouse.n.04", "dog.n.03", "")
    assert messages == [
        "class 'Ice Cream' is taken to mean ice_cream.n.01 (2 occurrences)",
        "class 'mouse' is taken to mean mouse.n.04 (9 occurrences)",
        "class 'unicorn' stays without evidence: no synset of the data has this name",
        "1 of 4 classes stay without evidence, the data has no such synset: dog (dog.n.03)",
    ]


def test_a_synset_is_given_to_one_class_only():
    table = ClassTable(("dog", "hound", "Dog"), ("", "dog.n.01", ""))
    resolved, messages = resolve_names(table, {"dog.n.01": 5, "dog.n.03": 1})
    assert resolved.synsets == ("dog.n.03", "dog.n.01", "")
    assert "class 'Dog' stays without evidence: dog.n.01 is already another class" in messages


def test_equally_frequent_senses_are_taken_by_name():
    resolved, _ = resolve_names(ClassTable(("bag",), ("",)), {"bag.n.04": 2, "bag.n.01": 2})
    assert resolved.synsets == ("bag.n.01",)


# --- near names ---


def test_near_names_are_the_same_word_first_then_similar_ones():
    known = ["cat.n.01", "dog.n.01", "hot dog", "dog.n.03", "Dog"]
    assert near_names("dog", known) == ["dog.n.01", "dog.n.03", "Dog"]
    assert near_names("hot-dog", known)[0] == "hot dog"
    assert near_names("catt", ["cat", "dog"]) == ["cat"]
    assert near_names("zebra", ["cat", "dog"]) == []


def test_data_without_any_class_is_told_from_a_number_that_is_too_large() -> None:
    with pytest.raises(InputError, match=r"found 3; expected 1 to 1, the number of classes seen"):
        most_frequent_classes(3, {"dog.n.01": 2, "cat.n.01": 0})
    with pytest.raises(InputError, match=r"found 3, and data without any class"):
        most_frequent_classes(3, {"cat.n.01": 0})
