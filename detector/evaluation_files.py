"""What an evaluation leaves where it is asked to: predictions, a table of classes, pictures."""

from dataclasses import dataclass
from pathlib import Path

from detector.detections import save_predictions
from detector.evaluation import Evaluation, save_class_table
from detector.evaluation_plots import save_confusion, save_curves
from detector.files import check_file_free, check_folder_free
from detector.plotting import check_matplotlib


@dataclass(frozen=True)
class EvaluationFiles:
    """Where to write; None: not at all.

    Attributes:
        predictions: COCO's results, JSON.
        per_class: CSV with a row a class.
        plots: folder for precision_recall.png and confusion.png.
        overwrite: replace what is there.
    """

    predictions: Path | None = None
    per_class: Path | None = None
    plots: Path | None = None
    overwrite: bool = False

    def check(self) -> None:
        """Check, before any long work, that everything can be written.

        Raises:
            OutputExistsError: something is there and `overwrite` is false.
            DetectorError: a place is taken, or the folder around it does not exist.
            MissingResourceError: pictures need matplotlib.
        """
        for path in (self.predictions, self.per_class):
            if path:
                check_file_free(path, overwrite=self.overwrite)
        if self.plots:
            check_matplotlib(f"--plots {self.plots}")
            check_folder_free(self.plots, overwrite=self.overwrite)

    def write(self, evaluation: Evaluation) -> None:
        """Write what was asked for."""
        if self.predictions:
            save_predictions(evaluation.annotations, evaluation.detections, self.predictions)
        if self.per_class:
            save_class_table(evaluation, self.per_class)
        if self.plots:
            self.plots.mkdir(exist_ok=True)
            save_curves(evaluation, self.plots / "precision_recall.png")
            save_confusion(evaluation, self.plots / "confusion.png")


NO_FILES = EvaluationFiles()
