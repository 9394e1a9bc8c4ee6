"""The sample world: small scenes with long-tailed, ambiguous classes that only context tells apart.

A world is a class system made from a family (its sizes) and a seed. It has scene types, some more common than
others, and each has classes of its own, with a long tail. *Anchor* classes have an appearance of their own;
every other appearance is shared by a few classes of as many different scene types: exact homonyms, which no
look at the object alone can tell apart. The background is independent of the scene type. A class graph
counted from annotations says which classes keep company, and that is what a detector may use.

A picture is drawn in this order: a scene type (weight rank^-0.6); the number of objects; for each object a
class of the scene type (weight rank^-zipf) or, for a share `noise` of them, of the whole world; the attribute
words; the places and the relations (kgtool/sample_layout.py); at last the pixels (kgtool/sample_images.py).
In family S the classes that look alike are of one scene type, and told apart by where their partner stands
(kgtool/sample_partners.py).

Attributes: an object is said to have the shape, the colour and the texture of its class, each with its own
probability (`MENTION`), the colour sometimes wrongly; and, half of the time, one of four words of the
picture's scene type (a share `noise` of these from any scene type). So classes alike in looks or in company
have alike attributes.

Everything about picture `i` depends on (family, seed, split, `i`) alone, never on how many are asked for.
Annotations are made from PCG64's uniform doubles only, the part of NumPy's generators least likely to change.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kgtool.errors import InputError
from kgtool.sample_images import COLOURS, SHAPES, TEXTURES, Appearance, paint
from kgtool.sample_layout import PREDICATES, place_boxes, relate
from kgtool.sample_partners import PREDICATES as PLACE_PREDICATES
from kgtool.sample_partners import choose_partners, place_with_partners, relate_by_place

#: Each split has a stream of random numbers of its own; 0 makes the class system.
SPLITS = {"train": 1, "test": 2, "corpus": 3}
SCENE_EXPONENT = 0.6
#: How often an annotator mentions the shape, the colour, the texture, and a word of the scene type.
MENTION = (0.3, 0.6, 0.3, 0.5)
WRONG_COLOUR = 0.05
WORDS_PER_SCENE = 4
#: Four for each of up to ten scene types.
SCENE_WORDS = (
    "baked",
    "broken",
    "buried",
    "carved",
    "cooked",
    "cracked",
    "dry",
    "dusty",
    "floating",
    "foggy",
    "folded",
    "frozen",
    "glowing",
    "hanging",
    "mossy",
    "muddy",
    "new",
    "oily",
    "old",
    "painted",
    "parked",
    "polished",
    "raw",
    "ripe",
    "rusty",
    "salty",
    "sandy",
    "scattered",
    "shaded",
    "shiny",
    "sliced",
    "smoky",
    "snowy",
    "stacked",
    "steamy",
    "sticky",
    "sunny",
    "wet",
    "windy",
    "woven",
)
_LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Family:
    """The sizes of a world, everything about it but the seed.

    Attributes:
        name: what a person types.
        num_scenes: scene types.
        classes_per_scene: classes of each; a class belongs to one scene type.
        anchors_per_scene: how many of them have an appearance of their own.
        homonyms: classes, of as many scene types, that share each other appearance; with partners two
            classes of one scene type.
        zipf: exponent of the class weights within a scene type.
        noise: share of objects drawn from the whole world instead of the scene type.
        num_objects: fewest and most objects of a picture, partners not counted.
        sizes: smallest and largest size of an object, pixels.
        train_images: how many training images its experiments use.
        test_images: the same for test images.
        corpus_images: the same for annotations without pictures.
        partners: classes that look alike are told apart by where their partner stands
            (kgtool/sample_partners.py).
    """

    name: str
    num_scenes: int
    classes_per_scene: int
    anchors_per_scene: int
    homonyms: int
    zipf: float
    noise: float
    num_objects: tuple[int, int] = (4, 9)
    sizes: tuple[int, int] = (9, 44)
    train_images: int = 1600
    test_images: int = 500
    corpus_images: int = 20_000
    partners: bool = False

    @property
    def num_classes(self) -> int:
        """All classes of a world."""
        return self.num_scenes * self.classes_per_scene


FAMILIES = {
    family.name: family
    for family in (
        Family("W", 8, 12, 3, 3, 1.0, 0.08),
        Family("L", 10, 16, 4, 4, 1.2, 0.05, train_images=2000),
        Family("S", 8, 12, 4, 2, 1.0, 0.08, num_objects=(3, 5), sizes=(9, 32), partners=True),
        Family(
            "mini",
            4,
            6,
            2,
            2,
            0.8,
            0.05,
            num_objects=(4, 7),
            sizes=(14, 44),
            train_images=240,
            test_images=80,
            corpus_images=300,
        ),
    )
}


@dataclass(frozen=True, eq=False)
class Annotations:
    """What is said about one picture of N objects.

    Attributes:
        scene_type: the scene type it was drawn from. No file holds it: a detector must not know.
        boxes: (N, 4) int64 xyxy, whole pixels inside the image, tight around the whole object.
        labels: (N,) int64 positions in the world's classes.
        relations: (2N, 3) int64 rows of subject, predicate, object: positions among the objects, and in
            the world's `predicates`.
        attributes: for each object its attribute words, often none.
    """

    scene_type: int
    boxes: NDArray[np.int64]
    labels: NDArray[np.int64]
    relations: NDArray[np.int64]
    attributes: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture, (IMAGE_SIZE, IMAGE_SIZE, 3) RGB uint8, with what is said about it."""

    image: NDArray[np.uint8]
    annotations: Annotations

    @property
    def boxes(self) -> NDArray[np.int64]:
        """(N, 4) xyxy, as in `Annotations`."""
        return self.annotations.boxes

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) positions in the world's classes."""
        return self.annotations.labels

    @property
    def relations(self) -> NDArray[np.int64]:
        """(2N, 3) subject, predicate, object."""
        return self.annotations.relations


class World:
    """A class system and the pictures drawn from it; same family and seed, same world.

    The order of the classes is that of their names and says nothing about scene types.

    Args:
        family: a `Family`, or the name of one in `FAMILIES`.
        seed: 0 to 2^32 - 1.

    Attributes:
        names: a made-up word for each class.
        synsets: `WORD.n.01` for each class.
        scene_type_of_class: (C,) the scene type each class belongs to.
        is_anchor: (C,) whether the class has an appearance of its own.
        appearances: how each class looks.
        probability: (C,) share of each class among all objects drawn.
        scene_words: for each scene type its attribute words.
        predicates: those of relations, with their synsets.
        partner_of: (C,) class of each class's partner, -1 for none.

    Raises:
        InputError: no such family, or a seed out of range.

    Example:
        >>> world = World("mini", seed=0)
        >>> scene = world.scene("train", 0)
        >>> scene.image.shape, len(scene.boxes) == len(scene.labels)
        ((128, 128, 3), True)
    """

    def __init__(self, family: Family | str, seed: int) -> None:
        if isinstance(family, str):
            if family not in FAMILIES:
                raise InputError(f"family: found {family!r}; expected one of {', '.join(FAMILIES)}")
            family = FAMILIES[family]
        if not 0 <= seed <= _LARGEST_SEED:
            raise InputError(f"seed: found {seed}; expected 0 to {_LARGEST_SEED}")
        self.family, self.seed = family, seed
        rng = self._generator(0, 0)
        self.names = _draw_words(family.num_classes, rng)
        self.synsets = tuple(f"{name}.n.01" for name in self.names)
        place = _shuffled(np.arange(family.num_classes), rng)
        self.scene_type_of_class = place // family.classes_per_scene
        groups = _draw_groups(family, self.scene_type_of_class, rng)
        self.is_anchor, self.appearances = _draw_appearances(family, groups, rng)
        self.predicates = PLACE_PREDICATES if family.partners else PREDICATES
        self.partner_of, self._side_of = choose_partners(
            [group for group in groups if len(group) > 1] if family.partners else [],
            self.is_anchor,
            self.scene_type_of_class,
        )
        words = _shuffled(np.arange(len(SCENE_WORDS)), rng)[: family.num_scenes * WORDS_PER_SCENE]
        self.scene_words = [
            tuple(SCENE_WORDS[word] for word in row) for row in words.reshape(-1, WORDS_PER_SCENE)
        ]

        scene_weight = np.arange(1.0, family.num_scenes + 1) ** -SCENE_EXPONENT
        weight = np.zeros((family.num_scenes, family.num_classes))
        rank = place % family.classes_per_scene
        weight[self.scene_type_of_class, np.arange(family.num_classes)] = (rank + 1.0) ** -family.zipf
        weight /= weight.sum(axis=1, keepdims=True)
        self.probability = scene_weight / scene_weight.sum() @ weight
        self._scene_steps = _steps(scene_weight)
        self._class_steps_of_scene = _steps(weight)
        self._class_steps = _steps(self.probability)

    def scene(self, split: str, index: int) -> Scene:
        """Draw a picture and its annotations.

        Args:
            split: a name in `SPLITS`.
            index: 0 to 2^32 - 1.
        """
        rng = self._generator(SPLITS[split], index)
        annotations = self._annotate(rng)
        looks = [self.appearances[label] for label in annotations.labels]
        return Scene(paint(annotations.boxes, looks, rng), annotations)

    def annotations(self, split: str, index: int) -> Annotations:
        """Draw the annotations of a picture without painting it: the same as `scene` gives, sooner."""
        return self._annotate(self._generator(SPLITS[split], index))

    def counts(self, split: str, num_images: int) -> NDArray[np.int64]:
        """Count relations between classes over the first images of a split: (C, C), subject to object.

        It is what `kgtool build-relation` counts in the files of the same world.
        """
        counts = np.zeros((len(self.names), len(self.names)), dtype=np.int64)
        for index in range(num_images):
            said = self.annotations(split, index)
            np.add.at(counts, (said.labels[said.relations[:, 0]], said.labels[said.relations[:, 2]]), 1)
        return counts

    def _generator(self, split: int, index: int) -> np.random.Generator:
        # Always three numbers: SeedSequence pads with zeros, so [S] and [S, 0, 0] would be the same stream.
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, split, index])))

    def _annotate(self, rng: np.random.Generator) -> Annotations:
        fewest, most = self.family.num_objects
        scene_type = int(np.searchsorted(self._scene_steps, rng.random(), side="right"))
        num_objects = fewest + int(rng.random() * (most - fewest + 1))
        anywhere, level = rng.random((2, num_objects))
        labels = np.where(
            anywhere < self.family.noise,
            np.searchsorted(self._class_steps, level, side="right"),
            np.searchsorted(self._class_steps_of_scene[scene_type], level, side="right"),
        )
        if self.family.partners:
            boxes, labels = place_with_partners(
                labels, self.partner_of, self._side_of, self.family.sizes, rng
            )
            relations = relate_by_place(boxes)
        else:
            boxes = place_boxes(num_objects, self.family.sizes, rng)
            relations = relate(boxes, rng)
        return Annotations(scene_type, boxes, labels, relations, self._describe(scene_type, labels, rng))

    def _describe(
        self, scene_type: int, labels: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[tuple[str, ...], ...]:
        said = []
        for label, chance in zip(labels, rng.random((len(labels), 8)).tolist(), strict=True):
            shape, colour, texture = self.appearances[label].words
            if chance[4] < WRONG_COLOUR:
                colour = tuple(COLOURS)[int(chance[5] * len(COLOURS))]
            spoken_of = scene_type
            if chance[6] < self.family.noise:
                spoken_of = int(chance[6] / self.family.noise * self.family.num_scenes)
            word = self.scene_words[spoken_of][int(chance[7] * WORDS_PER_SCENE)]
            words = (shape, colour, texture, word)
            said.append(
                tuple(word for word, u, limit in zip(words, chance, MENTION, strict=False) if u < limit)
            )
        return tuple(said)


def _steps(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cumulative shares along the last axis, ending in exactly 1: a class of weight 0 is never drawn."""
    total = np.cumsum(weight, axis=-1)
    return np.asarray(total / total[..., -1:])


def _shuffled(items: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    return items[np.argsort(rng.random(len(items)), kind="stable")]


def _draw_words(num_words: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Different made-up words of three syllables, in alphabetical order."""
    syllables = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]
    words: set[str] = set()
    while len(words) < num_words:
        words.add("".join(syllables[int(u * len(syllables))] for u in rng.random(3)))
    return tuple(sorted(words))


def _draw_groups(
    family: Family, scene_type_of_class: NDArray[np.int64], rng: np.random.Generator
) -> list[list[int]]:
    """Choose the anchors of each scene type, each alone, and group the others into homonyms."""
    groups, rest = [], []
    for scene_type in range(family.num_scenes):
        members = _shuffled(np.flatnonzero(scene_type_of_class == scene_type), rng).tolist()
        groups += [[member] for member in members[: family.anchors_per_scene]]
        rest.append(members[family.anchors_per_scene :])
    if family.partners:
        return groups + [members[i : i + 2] for members in rest for i in range(0, len(members), 2)]
    while any(rest):
        # From the scene types with most classes left: so the last group finds enough different ones.
        num_left = np.array([len(members) for members in rest])
        order = np.lexsort((rng.random(family.num_scenes), -num_left))
        groups.append([rest[scene_type].pop() for scene_type in order[: family.homonyms]])
    return groups


def _draw_appearances(
    family: Family, groups: list[list[int]], rng: np.random.Generator
) -> tuple[NDArray[np.bool_], list[Appearance]]:
    """Say which classes have a group of their own, and give each group its looks."""
    is_anchor = np.zeros(family.num_classes, dtype=bool)
    is_anchor[[group[0] for group in groups if len(group) == 1]] = True
    num_appearances = len(SHAPES) * len(COLOURS) * len(TEXTURES)
    appearances = [Appearance(0, 0, 0)] * family.num_classes
    for group, number in zip(groups, _shuffled(np.arange(num_appearances), rng).tolist(), strict=False):
        colour_texture, shape = divmod(number, len(SHAPES))
        texture, colour = divmod(colour_texture, len(COLOURS))
        for member in group:
            appearances[member] = Appearance(shape, colour, texture)
    return is_anchor, appearances
