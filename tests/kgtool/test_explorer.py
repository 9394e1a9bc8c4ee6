"""The explorer page: complete, offline, small, and it does in a browser what it promises."""

import json
import re
import shutil

import numpy as np
import pytest
from graph_examples import VALID, attribute_graph, plain_graph, relation_graph

from kgtool.cli import main
from kgtool.explorer import explorer_page
from kgtool.graph import Evidence, make_graph, save_graph
from kgtool.image_examples import MOST, ImageExamples, pair_key
from kgtool.neighbours import top_neighbours
from kgtool.weights import relation_paper

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def content_of(page):
    return json.loads(re.search(r'id="graph">(.*?)</script>', page, re.S).group(1))


def corpus(num_classes, per_class, num_terms=50, seed=0):
    """A relation graph with evidence, as dense as one of Visual Genome."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(num_classes), per_class)
    index = np.stack(
        [rows, rng.integers(num_terms, size=len(rows)), rng.integers(num_classes, size=len(rows))], 1
    )
    index = np.unique(index, axis=0).astype(np.int32)
    count = rng.integers(1, 900, len(index))
    counts = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(counts, (index[:, 0], index[:, 2]), count)
    names = [f"some object {i}.n.{i % 9 + 1:02d}".replace(" ", "_") for i in range(num_classes)]
    return make_graph(
        classes=names,
        synsets=names,
        weight=relation_paper(counts),
        counts=counts,
        kind="relation",
        recipe={"name": "paper", "num_terms": 0},
        dataset="made by chance",
        evidence=Evidence(
            tuple(f"predicate {i:02d}" for i in range(num_terms)), np.full(num_terms, 10**6), index, count
        ),
    )


@pytest.mark.parametrize("name", VALID)
def test_the_page_has_every_class_and_its_strongest_edges(name):
    graph = VALID[name]
    content = content_of(explorer_page(graph, top=2))
    assert content["classes"] == list(graph.classes)
    for at, source in enumerate(graph.classes):
        expected = graph.edges(source, top=2)
        assert content["weight"][at] == pytest.approx([weight for _, weight in expected], rel=1e-3)
        assert content["degree"][at] == len(graph.edges(source))
    assert explorer_page(graph, top=2) == explorer_page(graph, top=2)


def test_edges_have_their_evidence_both_ways():
    content = content_of(explorer_page(relation_graph(), top=5))
    words = content["terms"]
    flat = content["evidence"][0][0]
    found = [(words[flat[i]], flat[i + 1], flat[i + 2]) for i in range(0, len(flat), 3)]
    assert found == [("catches", 5, 2), ("on", 1, 0)]
    assert content["total"] == [8, 8, 3, 0]
    shared = content_of(explorer_page(attribute_graph(), top=5))
    assert shared["why"].startswith("shared attributes")
    assert shared["total"] == [5, 4, 0]


def test_names_cannot_end_the_script_or_begin_markup():
    name = "</script><script>alert(1)</script><!--&lt;"
    page = explorer_page(plain_graph([name, "b"]), top=5)
    assert page.count("</script") == explorer_page(plain_graph(), top=5).count("</script")
    assert "<!--" not in page
    assert content_of(page)["classes"][0] == name


def test_the_page_names_no_place_in_the_network_but_the_namespace_of_svg():
    page = explorer_page(relation_graph(), top=5)
    assert re.findall(r"https?://[^\s\"']+", page) == ["http://www.w3.org/2000/svg"]
    assert "default-src 'none'" in page


def test_a_thousand_classes_with_twenty_neighbours_are_less_than_two_megabytes():
    page = explorer_page(corpus(1000, 60), top=20)
    assert sum(map(len, content_of(page)["near"])) == 20_000
    assert len(page.encode()) < 2_000_000


def examples_of(graph, top=20):
    """Three images of every edge that a page shows, with ids as long as Visual Genome's."""
    size = len(graph.classes)
    edges = [(i, int(j)) for i, near in enumerate(top_neighbours(graph.weight, top)) for j in near]
    keys = np.unique([pair_key(min(edge), max(edge), size) for edge in edges])
    images = np.random.default_rng(0).integers(2_000_000, 2_417_997, (len(keys), MOST))
    return ImageExamples(np.repeat(keys, MOST), np.sort(images, axis=1).ravel())


def test_edges_have_the_images_behind_them():
    graph = relation_graph()
    examples = ImageExamples(np.array([1, 1, 10]), np.array([7, 9, 4]))  # dog and frisbee; grass itself
    content = content_of(explorer_page(graph, 5, examples))
    assert content["images"] == [[[7, 9]], [[7, 9]], [], []]
    shared = attribute_graph()
    of_terms = ImageExamples(np.array([0, 0, 1, 2, 3]), np.array([5, 6, 8, 6, 8]))
    content = content_of(explorer_page(shared, 5, of_terms))
    assert [entry[0] for entry in content["images"][:2]] == [[[5, 6], [6, 8]], [[6, 8], [5, 6]]]


def test_a_thousand_classes_with_images_are_less_than_two_megabytes_too():
    graph = corpus(1000, 60)
    page = explorer_page(graph, 20, examples_of(graph))
    images = content_of(page)["images"]
    assert all(len(edge) == MOST for row in images for edge in row)
    assert len(page.encode()) < 2_000_000


def test_the_command_writes_a_page_and_nothing_over_it(tmp_path, capsys):
    save_graph(relation_graph(), tmp_path / "g.npz")
    arguments = ["explore", str(tmp_path / "g.npz"), "--out", str(tmp_path / "g.html"), "--json"]
    for code in (0, 1):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == code
    assert json.loads(capsys.readouterr().out)["bytes"] == (tmp_path / "g.html").stat().st_size


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium: install the system package chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    with sync_api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Open a graph's page; after the test, nothing may have gone wrong or out."""
    wrong, asked = [], []
    context = browser.new_context()

    def open_page(graph, top=20, fragment="", examples=None):
        (tmp_path / "g.html").write_text(explorer_page(graph, top, examples), encoding="utf-8")
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "g.html").as_uri() + fragment)
        return page

    yield open_page
    context.close()
    assert wrong == []
    assert all(url.startswith(("file:", "data:")) for url in asked)


def shows(page, name):
    """Wait until the page shows a class."""
    from playwright.sync_api import expect

    expect(page.locator("#name")).to_have_text(name, timeout=5000)


def names_in_table(page):
    return page.locator("#rows button").all_inner_texts()


def test_in_a_browser_search_click_slider_and_back(opened):
    graph = corpus(120, 30)
    page = opened(graph)
    assert page.locator("#name").inner_text() == graph.classes[0]
    page.keyboard.press("/")
    page.keyboard.type("object 77")
    page.keyboard.press("Enter")
    target = graph.classes[77]
    shows(page, target)
    assert names_in_table(page) == [name for name, _ in graph.edges(target, top=10)]
    assert page.locator("#picture .node").count() == 10

    page.locator("#top").fill("3")
    assert names_in_table(page) == [name for name, _ in graph.edges(target, top=3)]
    assert page.locator("#picture .node").count() == 3
    page.keyboard.press("+")
    assert len(names_in_table(page)) == 4

    second = graph.edges(target, top=2)[1][0]
    page.locator("#rows button").nth(1).click()
    shows(page, second)
    neighbour = graph.edges(second, top=1)[0][0]
    page.locator("#picture .node circle").first.click()
    shows(page, neighbour)
    page.go_back()
    shows(page, second)


def test_in_a_browser_the_arrows_choose_among_suggestions_and_escape_leaves(opened):
    page = opened(plain_graph(["dog", "hot dog", "dog house", "cat"], np.ones((4, 4))))
    page.locator("#query").fill("DOG")
    assert page.locator("#found li").all_inner_texts() == ["dog", "dog house", "hot dog"]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.locator("#found li[aria-selected=true]").inner_text() == "hot dog"
    page.keyboard.press("Enter")
    shows(page, "hot dog")
    page.locator("#query").fill("cat")
    page.keyboard.press("Escape")
    assert page.locator("#found").is_hidden()
    assert page.locator("#name").inner_text() == "hot dog"


def test_in_a_browser_the_evidence_is_told_and_dark_is_dark(opened):
    page = opened(relation_graph(), fragment="#frisbee")
    assert page.locator("#rows tr td").nth(3).inner_text() == "catches 2/5, on 0/1"
    assert page.locator("#where").inner_text() == ""
    assert "frisbee.n.01" in page.locator("#about").inner_text()
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.keyboard.press("d")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light


def test_in_a_browser_images_are_named_beside_their_edges(opened):
    graph = corpus(60, 30)
    near = content_of(explorer_page(graph, top=20))["near"][7]
    keys = np.array([pair_key(min(7, other), max(7, other), 60) for other in near[:2]])
    order = np.repeat(np.argsort(keys), 2)
    page = opened(
        graph, fragment=f"#{graph.classes[7]}", examples=ImageExamples(keys[order], order * 100 + 7)
    )
    page.locator("#top").fill("3")
    assert page.locator("#rows td.images").all_inner_texts() == ["7, 7", "107, 107", ""]
    assert page.locator("#where").inner_text() == "images"
    page = opened(attribute_graph(), examples=ImageExamples(np.array([0, 1, 2]), np.array([5, 8, 6])))
    assert page.locator("#rows td.images").first.inner_text() == "5, 8 / 6"


def test_in_a_browser_odd_graphs_and_names_are_shown(opened):
    page = opened(VALID["one class"])
    assert "no edge to another class" in page.locator("#rows").inner_text()
    name = "</script><img src=x onerror=alert(1)>&amp; 犬"
    page = opened(plain_graph([name, "b"]), fragment="#%E0%A4%A")
    assert page.locator("#name").inner_text() == name
    assert page.locator("img").count() == 0


def test_in_a_browser_three_thousand_classes_with_images_work(opened):
    graph = corpus(3000, 40)
    page = opened(graph, top=20, examples=examples_of(graph))
    page.locator("#query").fill("object 2999")
    page.keyboard.press("Enter")
    shows(page, graph.classes[2999])
    assert names_in_table(page) == [name for name, _ in graph.edges(graph.classes[2999], top=10)]
    assert all(ids.count(", ") == MOST - 1 for ids in page.locator("#rows td.images").all_inner_texts())
