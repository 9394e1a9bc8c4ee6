"""What the files of an image say that does not agree: one finding a row, for report.csv."""

from dataclasses import dataclass

UNREADABLE = "mask cannot be read"
OTHER_SIZE = "mask of another size"
NO_DESCRIPTION = "no text and no JSON"
BAD_DESCRIPTION = "text or JSON cannot be read"
BAD_ENTRY = "entry cannot be read"
ENTRY_TWICE = "entry twice"
NO_ENTRY = "instance without entry"
NO_INSTANCE = "entry without instance"
OTHER_CLASS = "class differs"
UNKNOWN_CLASS = "class without a name"
SHARED_BLUE = "one blue, several classes"
NO_BLUE = "class without instance"
NO_PARTS = "no parts mask"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        image: path of the image below the data set's folder, without its ending.
        kind: which of the constants above.
        level: 0 for whole objects, n for parts of level n.
        instance: the instance's rank among the blue values of its level, from 1, or empty.
        entry: number of the entry in the text or JSON, or empty.
        found: what was found.
        expected: what should be there.
    """

    image: str
    kind: str
    level: int = 0
    instance: int | str = ""
    entry: int | str = ""
    found: str = ""
    expected: str = ""

    def line(self) -> str:
        """The finding in one line of words."""
        places = (("level", self.level or ""), ("instance", self.instance), ("entry", self.entry))
        place = ", ".join([self.image, *(f"{name} {value}" for name, value in places if value != "")])
        return f"{place}: {self.kind}: found {self.found}; expected {self.expected}"
