"""A run folder and an image file: see `detector.explanation` for what is explained."""

from pathlib import Path
from typing import Any

from detector.checkpoint import load_run
from detector.data import load_image
from detector.device import pick_device
from detector.explanation import explain, to_document
from detector.explanation_plots import save_attention, save_detection
from detector.files import check_folder_free, save_json
from detector.plotting import check_matplotlib

EXPLANATION_FILE = "explanation.json"
ATTENTION_FILE = "attention.png"


def explain_run(
    run: Path,
    image: Path,
    out: Path,
    *,
    threshold: float = 0.5,
    detections: int = 8,
    most: int = 8,
    device: str = "auto",
    pictures: bool = True,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Explain the detections of a run in an image; write `out`/explanation.json and pictures.

    Args:
        run: the run folder.
        image: image file.
        out: folder to write into; made if its parent exists.
        threshold: detections with a lower score are left out.
        detections: how many of the others are explained, best first.
        most: edges, and regions looked at, of each.
        device: "auto", "cpu" or "cuda".
        pictures: draw attention.png and detection_N.png; else JSON alone.
        overwrite: write into a folder that already holds something.

    Returns:
        what explanation.json holds.

    Raises:
        InputError: the run or the image is not what it should be.
        OutputExistsError: `out` holds something and `overwrite` is false.
        MissingResourceError: no such device, or matplotlib is needed and missing.
    """
    if pictures:
        check_matplotlib(f"--out {out}")
    check_folder_free(out, overwrite=overwrite)
    where = pick_device(device)
    trained = load_run(run, where, score_threshold=threshold)
    pixels_3HW = load_image(image)
    explanation = explain(
        trained.model,
        pixels_3HW.to(where).float() / 255,
        threshold=threshold,
        most_detections=detections,
        most=most,
    )
    names = trained.classes.names
    document = {"run": str(run), "image": str(image), **to_document(explanation, names)}
    out.mkdir(exist_ok=True)
    for path in (out / EXPLANATION_FILE, out / ATTENTION_FILE, *out.glob("detection_*.png")):
        path.unlink(missing_ok=True)  # of another image
    if pictures:
        if explanation.attention_C is not None:
            save_attention(explanation, names, out / ATTENTION_FILE)
        pixels_HW3 = pixels_3HW.permute(1, 2, 0).numpy()
        for place in range(len(explanation.detections)):
            save_detection(explanation, place, pixels_HW3, names, out / f"detection_{place + 1}.png")
    save_json(document, out / EXPLANATION_FILE)
    return document
