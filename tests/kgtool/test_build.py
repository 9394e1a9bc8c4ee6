"""Graphs from annotations, against loops over json.load written from the definitions alone."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dirty_visual_genome as dirty
import numpy as np
import pytest
import slow_graphs
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kgtool import json_stream
from kgtool.annotations import ReadOptions
from kgtool.build import Build, Output, build_attribute_graph, build_relation_graph
from kgtool.classes import ClassTable
from kgtool.cli import group
from kgtool.errors import ClassMatchError, InputError, KgtoolError, OutputExistsError
from kgtool.graph import load_graph

REAL = Path(__file__).parents[3] / "shared" / "real_data" / "vg"
needs_real_data = pytest.mark.skipif(
    not REAL.is_dir(), reason="shared/real_data is not beside the repository"
)
RECIPES = [
    (kind, recipe)
    for kind, recipe in (
        ("relation", "paper"),
        ("relation", "release"),
        ("attribute", "similarity"),
        ("attribute", "divergence"),
        ("attribute", "release"),
    )
]
fast = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(path: Path, records: Any, **options: Any) -> Path:
    path.write_text(json.dumps(records, **options), encoding="utf-8")
    return path


def build(kind: str, path: Path, **options: Any) -> Build:
    return (build_relation_graph if kind == "relation" else build_attribute_graph)(path, **options)


def dirty_records(kind: str, seed: int, **options: Any) -> list[dict[str, Any]]:
    return (dirty.relationships if kind == "relation" else dirty.attributes)(seed, **options)


def assert_same(made: Build, slow: dict[str, Any], kind: str, recipe: str) -> None:
    graph = made.graph
    assert list(graph.synsets) == list(slow["classes"])
    assert np.array_equal(graph.counts, slow["counts"])
    assert list(graph.evidence.terms) == slow["terms"]
    assert graph.evidence.totals.tolist() == slow["totals"]
    found = {
        tuple(row): n
        for row, n in zip(graph.evidence.index.tolist(), graph.evidence.count.tolist(), strict=True)
    }
    assert found == dict(slow["evidence"])
    assert list(made.skipped.values()) == slow["skipped"]
    assert made.annotations == slow["annotations"] == made.counted + sum(made.skipped.values())
    assert made.selected == slow["counts"].sum()
    expected = slow_graphs.weight(kind, recipe, slow["counts"])
    np.testing.assert_allclose(graph.weight, expected, rtol=0, atol=3e-7)


@needs_real_data
@pytest.mark.parametrize("release", ["v1_2", "v1_4"])
@pytest.mark.parametrize(("kind", "recipe"), RECIPES)
def test_real_files_give_the_slow_graph_of_the_100_most_frequent_classes(
    release: str, kind: str, recipe: str
) -> None:
    path = REAL / release / ("relationships.json" if kind == "relation" else "attributes.json")
    if not path.exists():
        pytest.skip(f"{release} has no {path.name} here")
    num_terms = 0 if (kind, recipe) == ("relation", "release") else 200
    slow = slow_graphs.count(json.loads(path.read_text()), kind, classes=100, num_terms=num_terms)
    assert_same(build(kind, path, classes=100, recipe=recipe), slow, kind, recipe)


@needs_real_data
@pytest.mark.parametrize("release", ["v1_2", "v1_4"])
def test_real_objects_give_synsets_and_the_order_of_classes(release: str) -> None:
    path, objects = REAL / release / "relationships.json", REAL / release / "objects.json"
    slow = slow_graphs.count(
        json.loads(path.read_text()), "relation", classes=50, objects=json.loads(objects.read_text())
    )
    assert_same(build("relation", path, classes=50, objects=objects), slow, "relation", "paper")


@needs_real_data
def test_release_1_0_has_no_synsets_and_says_so() -> None:
    path = REAL / "v1_0" / "relationships.json"
    with pytest.raises(InputError, match=r"no annotation with a synset.*release 1\.0.*--objects"):
        build("relation", path, classes=10)
    made = build("relation", path, classes=ClassTable(("man",), ("man.n.01",)))
    assert made.skipped["no synset"] == made.annotations > 0
    assert made.no_evidence == ("man",)
    assert "--objects" in made.messages[0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("kind", "recipe"), RECIPES)
def test_dirty_files_give_the_slow_graph(kind: str, recipe: str, seed: int, tmp_path: Path) -> None:
    records = dirty_records(kind, seed)
    path = write(tmp_path / "records.json", records, indent=seed or None, ensure_ascii=seed % 2 == 0)
    for classes, num_terms in ((6, 5), (["dog.n.01", "man.n.01", "never.n.01"], 0)):
        slow = slow_graphs.count(records, kind, classes=classes, num_terms=num_terms)
        given_classes = classes if isinstance(classes, int) else ClassTable(tuple(classes), tuple(classes))
        made = build(kind, path, classes=given_classes, recipe=recipe, num_terms=num_terms)
        assert_same(made, slow, kind, recipe)


@pytest.mark.parametrize("version", ["1.0", "1.2", "1.4"])
@pytest.mark.parametrize("kind", ["relation", "attribute"])
def test_objects_resolve_ends_without_synset_in_every_release(
    kind: str, version: str, tmp_path: Path
) -> None:
    records, things = dirty_records(kind, 7, version=version), dirty.objects(7)
    path, objects = write(tmp_path / "records.json", records), write(tmp_path / "objects.json", things)
    slow = slow_graphs.count(records, kind, classes=8, objects=things)
    made = build(kind, path, classes=8, objects=objects)
    assert_same(made, slow, kind, "paper" if kind == "relation" else "similarity")
    without = slow_graphs.count(records, kind, classes=made.graph.synsets)
    assert made.skipped["no synset"] < without["skipped"][1]
    assert [source["name"] for source in made.graph.header["sources"]] == ["records.json", "objects.json"]


def test_predicates_may_be_told_apart_by_their_first_synset(tmp_path: Path) -> None:
    records = dirty.relationships(3)
    path = write(tmp_path / "records.json", records)
    slow = slow_graphs.count(records, "relation", classes=8, term_key="synset")
    made = build("relation", path, classes=8, term_key="synset")
    assert_same(made, slow, "relation", "paper")
    assert "predicate without synset" in made.skipped
    assert set(made.graph.evidence.terms) == {"along.r.01", "be.v.01"}


@fast
@given(data=st.data(), kind=st.sampled_from(["relation", "attribute"]), seed=st.integers(0, 10**6))
def test_order_of_records_and_size_of_blocks_change_nothing(
    data: st.DataObject, kind: str, seed: int, tmp_path: Path
) -> None:
    records = dirty_records(kind, seed, images=12)
    table = ClassTable(tuple(dirty.SYNSETS), tuple(dirty.SYNSETS))
    random.Random(seed).shuffle(shuffled := records.copy())
    first = build(kind, write(tmp_path / "a.json", records), classes=table)
    block_size = data.draw(st.integers(64, 4096))
    indent = data.draw(st.sampled_from([None, 0, 3]))
    original = json_stream.BLOCK_SIZE
    try:
        json_stream.BLOCK_SIZE = block_size
        second = build(kind, write(tmp_path / "b.json", shuffled, indent=indent), classes=table)
    finally:
        json_stream.BLOCK_SIZE = original
    assert second.graph.graph_hash == first.graph.graph_hash
    assert second.skipped == first.skipped


@fast
@given(kind=st.sampled_from(["relation", "attribute"]), seed=st.integers(0, 10**6), cut=st.integers(1, 11))
def test_shards_add_up_to_the_whole(kind: str, seed: int, cut: int, tmp_path: Path) -> None:
    records = dirty_records(kind, seed, images=12)
    table = ClassTable(tuple(dirty.SYNSETS), tuple(dirty.SYNSETS))
    whole, *shards = (
        build(kind, write(tmp_path / "shard.json", part), classes=table, num_terms=0)
        for part in (records, records[:cut], records[cut:])
    )
    evidence: dict[Any, int] = {}
    totals: dict[str, int] = {}
    for shard in shards:
        known = shard.graph.evidence
        for (start, term, *end), n in zip(known.index.tolist(), known.count.tolist(), strict=True):
            key = (start, known.terms[term], *end)
            evidence[key] = evidence.get(key, 0) + n
        for term, n in zip(known.terms, known.totals.tolist(), strict=True):
            totals[term] = totals.get(term, 0) + n
    known = whole.graph.evidence
    assert totals == dict(zip(known.terms, known.totals.tolist(), strict=True))
    assert evidence == {
        (start, known.terms[term], *end): n
        for (start, term, *end), n in zip(known.index.tolist(), known.count.tolist(), strict=True)
    }
    for reason, number in whole.skipped.items():
        assert number == sum(shard.skipped[reason] for shard in shards)


@pytest.mark.parametrize("kind", ["relation", "attribute"])
def test_worker_processes_change_nothing(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "records.json", dirty_records(kind, 5, images=400))
    objects = write(tmp_path / "objects.json", dirty.objects(5, images=400))
    alone = build(kind, path, classes=8, objects=objects)
    monkeypatch.setattr(json_stream, "SMALL_FILE", 0)
    monkeypatch.setattr(json_stream, "BLOCK_SIZE", 8192)
    for num_workers in (2, 3):
        options = ReadOptions(num_workers=num_workers)
        together = build(kind, path, classes=8, objects=objects, options=options)
        assert together.graph.graph_hash == alone.graph.graph_hash
        assert together.graph.header == alone.graph.header


def test_strict_names_record_annotation_and_reason(tmp_path: Path) -> None:
    clean = {"predicate": "on", "subject": {"synsets": ["a.n.01"]}, "object": {"synsets": ["b.n.01"]}}
    dirt = {**clean, "object": {"synsets": []}}
    records = [{"image_id": n, "relationships": [clean] * n} for n in range(40)]
    records.append({"image_id": 40, "relationships": [clean, clean, dirt, dirt]})
    path = write(tmp_path / "relationships.json", records)
    table = ClassTable(("a",), ("a.n.01",))
    with pytest.raises(
        InputError, match=r"relationships.json, record 40, annotation 2: no synset; .*--strict"
    ):
        build("relation", path, classes=table, options=ReadOptions(strict=True))
    path = write(tmp_path / "relationships.json", records[:-1])
    made = build("relation", path, classes=table, options=ReadOptions(strict=True))
    assert made.skipped["class not in list"] == made.annotations  # not dirt


def test_strict_finds_the_record_of_an_attribute(tmp_path: Path) -> None:
    rows = [{"synsets": ["a.n.01"], "attributes": ["red", "big"]}, {"synsets": ["a.n.01"]}]
    records: list[Any] = [{"image_id": n, "attributes": rows} for n in range(3)]
    records.append(
        {"image_id": 3, "attributes": [*rows, {"synsets": ["a.n.01"], "attributes": ["old", " "]}]}
    )
    path = write(tmp_path / "attributes.json", records)
    with pytest.raises(InputError, match=r"attributes.json, record 3, annotation 3: empty attribute"):
        build("attribute", path, classes=1, options=ReadOptions(strict=True))


def test_classes_without_evidence_are_named(tmp_path: Path) -> None:
    records = [{"image_id": 1, "attributes": [{"synsets": ["dog.n.01"], "attributes": ["brown"]}]}]
    path = write(tmp_path / "attributes.json", records)
    made = build("attribute", path, classes=ClassTable(("dog", "cat"), ("dog.n.01", "cat.n.01")))
    assert made.no_evidence == ("cat",)
    assert made.graph.weight.tolist() == [[1, 0], [0, 1]]
    assert made.graph.distribution.tolist() == [[1], [0]]


@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_class_list_of_which_the_data_has_nothing_is_the_wrong_list(form: str, tmp_path: Path) -> None:
    """A shard whose classes are never related gives an empty graph; that is not the same."""
    source = tmp_path / f"relationships.{form}"
    if form == "csv":
        source.write_text("subject,predicate,object\ndog.n.01,on,mat.n.01\n")
    else:
        end = {"dog": {"synsets": ["dog.n.01"]}, "mat": {"synsets": ["mat.n.01"]}}
        rows = [{"predicate": "on", "subject": end["dog"], "object": end["mat"]}]
        write(source, [{"image_id": 1, "relationships": rows}])
    for names, synsets in ((("Dog", "unicorn"), ("yeti.n.01", "")), (("dog.n.02",), ("dog.n.02",))):
        message = rf"{form}: found none of the {len(names)} classes .*near it 'dog.n.01'"
        with pytest.raises(ClassMatchError, match=message):
            build("relation", source, classes=ClassTable(names, synsets))
    made = build("relation", source, classes=ClassTable(("dog", "yeti"), ("dog.n.01", "")))
    assert made.num_edges == made.counted == 0


def test_a_file_without_annotations_gives_a_graph_without_edges(tmp_path: Path) -> None:
    table = ClassTable(("dog", "cat"), ("dog.n.01", "cat.n.01"))
    for kind, key in (("relation", "relationships"), ("attribute", "attributes")):
        for records in ([], [{"image_id": 1, key: []}]):
            made = build(kind, write(tmp_path / "records.json", records), classes=table)
            assert made.num_edges == made.annotations == 0
            with pytest.raises(InputError, match="--classes: found 5"):
                build(kind, write(tmp_path / "records.json", records), classes=5)


def test_an_unknown_recipe_and_a_taken_output_are_said_before_reading(tmp_path: Path) -> None:
    missing = tmp_path / "missing.json"
    with pytest.raises(InputError, match="recipe 'papre'"):
        build("relation", missing, classes=1, recipe="papre")
    taken = tmp_path / "graph.npz"
    taken.write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        build("relation", missing, classes=1, output=Output(taken))
    assert taken.read_bytes() == b"precious"
    with pytest.raises(KgtoolError, match="does not exist"):
        build("relation", missing, classes=1, output=Output(tmp_path / "no" / "graph.npz"))


def test_the_wrong_file_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    path = write(tmp_path / "objects.json", [{"image_id": 1, "objects": []}])
    with pytest.raises(InputError, match=r'objects.json, record 0 .*missing required field "relationships"'):
        build("relation", path, classes=1)


# The command line.


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough records that building takes a while in worker processes."""
    records = dirty.relationships(9, images=3000)
    return write(tmp_path_factory.mktemp("large") / "relationships.json", records * 3)


def test_a_build_killed_at_any_moment_leaves_the_old_graph_or_the_new_one(
    large: Path, tmp_path: Path
) -> None:
    """kill -9 and kill: the output is whole, no worker goes on, and only kill -9 may leave a .part file."""
    out = tmp_path / "graph.npz"
    command = [
        sys.executable,
        "-m",
        "kgtool",
        "build-relation",
        str(large),
        "--classes",
        "8",
        "--workers",
        "2",
    ]
    command += ["--out", str(out), "--overwrite"]
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    whole_s, whole = time.monotonic() - start, out.read_bytes()
    seen = 0
    old = b"an older graph"
    for number in range(10):
        out.write_bytes(old)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole_s * (number + 0.5) / 9)
        while number < 2 and not children_of(process.pid) and process.poll() is None:
            time.sleep(0.001)  # at least twice with workers, however busy the machine is
        workers = children_of(process.pid)
        process.send_signal(signal.SIGTERM if number % 2 else signal.SIGKILL)
        process.wait()
        assert out.read_bytes() in (old, whole)
        for file in tmp_path.iterdir():
            if file != out:
                assert number % 2 == 0, f"SIGTERM left {file.name}"
                file.unlink()
        seen += len(workers)
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}/cmdline").exists() and alive(pid) for pid in workers):
            assert time.monotonic() < deadline, "a worker outlived its parent"
            time.sleep(0.01)
    assert seen, "no worker was ever running: the file is too small"


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def run(*args: str | Path) -> Any:
    return CliRunner().invoke(group, [str(arg) for arg in args])


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize("kind", ["relation", "attribute"])
def test_the_command_writes_the_same_bytes_twice_and_reports(kind: str, suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / "records.json", dirty_records(kind, 1))
    out, again = tmp_path / f"graph{suffix}", tmp_path / f"again{suffix}"
    done = run(f"build-{kind}", path, "--classes", "6", "--out", out, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    graph = load_graph(out)
    assert report["graph_hash"] == graph.graph_hash
    assert report["annotations"] == report["counted"] + sum(report["skipped"].values())
    assert report["edges"] == len(
        {(min(a, b), max(a, b)) for a in range(6) for b in range(6) if a != b and graph.weight[a, b]}
    )
    assert graph.header["sources"][0]["name"] == "records.json"  # no folder of this machine
    done = run(f"build-{kind}", path, "--classes", "6", "--out", again, "--workers", "2")
    assert f"annotations: {report['annotations']} read" in done.stdout
    assert out.read_bytes() == again.read_bytes()


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["--classes", "6", "--recipe", "papre"], 2, "papre"),
        (["--classes", "1000000"], 3, "expected 1 to"),
        (["--classes", "none.csv"], 3, "none.csv"),
        (["--classes", "6", "--strict"], 3, "record 0"),
        (["--classes", "6", "--predicates", "-1"], 2, "--predicates"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(
    args: list[str], status: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from kgtool.cli import main

    records = [{"image_id": 1, "relationships": [None]}, *dirty.relationships(1)]
    path = write(tmp_path / "relationships.json", records)
    with pytest.raises(SystemExit) as ended:
        main(["build-relation", str(path), "--out", str(tmp_path / "graph.npz"), *args])
    error = capsys.readouterr().err
    assert ended.value.code == status
    assert message in error
    assert "Traceback" not in error
    assert [file.name for file in tmp_path.iterdir()] == ["relationships.json"]


def test_the_release_recipe_has_no_limit_unless_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "relationships.json", dirty.relationships(1))
    for args, expected in (([], 0), (["--predicates", "3"], 3)):
        out = tmp_path / f"{expected}.npz"
        done = run("build-relation", path, "--classes", "6", "--recipe", "release", *args, "--out", out)
        assert done.exit_code == 0, done.output
        assert load_graph(out).header["recipe"] == {
            "name": "release",
            "num_terms": expected,
            "term_key": "text",
        }


@pytest.mark.parametrize("kind", ["relation", "attribute"])
def test_a_folder_of_small_files_gives_the_graph_of_the_one_file(kind: str, tmp_path: Path) -> None:
    records = dirty_records(kind, 8)
    one = write(tmp_path / "records.json", records)
    folder = tmp_path / "many"
    folder.mkdir()
    for number, record in enumerate(records):
        write(folder / f"{number:03d}.json", [record])
    hashes = [
        run(f"build-{kind}", source, "--classes", "6", "--out", tmp_path / f"{place}.npz", "--json")
        for place, source in enumerate((one, folder, f"{folder}/*.json"))
    ]
    assert {json.loads(done.stdout)["graph_hash"] for done in hashes} == {
        load_graph(tmp_path / "0.npz").graph_hash
    }
    source = json.loads(hashes[1].stdout)["sources"][0]
    assert (source["name"], source["files"]) == ("many", len(records))
