"""`detector rescore`."""

from pathlib import Path

import click

from detector.cli.output import echo_json


@click.command("rescore")
@click.option(
    "--graph", type=click.Path(path_type=Path), required=True, help="Class graph with counts of class pairs."
)
@click.option(
    "--detections", type=click.Path(path_type=Path), required=True, help="COCO results of any detector."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="COCO results to write.")
@click.option(
    "--annotations",
    type=click.Path(path_type=Path),
    help="COCO JSON of the images: names the classes, and gives AP before and after.",
)
@click.option(
    "--strength",
    default="0.5",
    metavar="X|auto",
    show_default=True,
    help="How much context counts; auto learns it from the first annotated images.",
)
@click.option(
    "--learn-images",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="With auto: so many images to learn from; AP is of the others.",
)
@click.option(
    "--trust",
    type=click.Path(path_type=Path),
    metavar="ANNOTATIONS",
    help="COCO JSON of other images, such as train.json: the graph counts as far as its boxes bear it out.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the shuffled control graph."
)
@click.option("--overwrite", is_flag=True, default=False, help="Replace --out.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def rescore_command(
    graph: Path,
    detections: Path,
    out: Path,
    annotations: Path | None,
    strength: str,
    learn_images: int,
    trust: Path | None,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Apply a class graph to the detections of any detector, without training.

    Each box hears from the other objects of its image how well its class goes with theirs. With
    --annotations the command prints AP before, after, and with the classes of the graph shuffled: what a
    graph that knows nothing would do. Without, every record must have its category_name.

    Example: detector rescore --graph g.npz --detections dets.json --annotations val.json --out new.json
    """
    from detector.rescoring import rescore_file

    result = rescore_file(
        graph,
        detections,
        out,
        annotations=annotations,
        strength=None if strength == "auto" else _number(strength),
        learn_images=learn_images,
        trust=trust,
        seed=seed,
        overwrite=overwrite,
    )
    if as_json:
        echo_json({"out": str(out), **result})
        return
    click.echo(
        f"{out}: {result['num_detections']} detections of {result['num_images']} images, "
        f"strength {result['strength']:.3g}"
    )
    if "metrics" in result:
        shuffled = f"shuffled graph, strength {result['shuffled_strength']:.3g}"
        click.echo(f"{result['evaluated_images']} annotated images, in percent")
        for name, label in (("before", "before"), ("after", "after"), ("shuffled", shuffled)):
            metrics = result["metrics"][name]
            click.echo(f"AP {100 * metrics['AP']:5.1f}  AP50 {100 * metrics['AP50']:5.1f}  {label}")


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise click.BadParameter(f"found {text}; expected 0 to 100, or auto", param_hint="--strength")
    return value
