"""What VOC's files say that is not as it should be: one finding a row, for report.csv."""

from dataclasses import dataclass

UNREADABLE = "annotation cannot be read"
NO_SIZE = "no size"
OTHER_SIZE = "size differs"
NO_PHOTO = "no photograph"
BAD_PHOTO = "photograph cannot be read"
LATIN = "text is not UTF-8"
NO_NAME = "object without a name"
BAD_BOX = "box cannot be read"
NO_AREA = "box without area"
OUTSIDE = "box outside the image"
CUT = "box cut at the edge"
BAD_PART = "part cannot be read"
OTHER_NAME = "class is none of VOC's"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        image: path of the image below the data set's folder, without its ending.
        kind: which of the constants above.
        object: number of the object in the file, from 1, or empty.
        name: the object's class, or empty.
        found: what was found.
        expected: what should be there, or what was done.
    """

    image: str
    kind: str
    object: int | str = ""
    name: str = ""
    found: str = ""
    expected: str = ""

    def line(self) -> str:
        """The finding in one line of words."""
        place = self.image if self.object == "" else f"{self.image}, object {self.object} ({self.name})"
        return f"{place}: {self.kind}: found {self.found}; expected {self.expected}"
