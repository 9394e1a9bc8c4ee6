"""Texts of files on a terminal: names may hold what moves its cursor or changes its colours."""

import click


def printable(text: str) -> str:
    r"""A text in which whatever cannot be seen is written as Python writes it.

    Example:
        >>> printable("cup\x1b[31m of\ttea")
        'cup\\x1b[31m of\\ttea'
    """
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text
    )


def tell(message: str) -> None:
    """Print a message as one line on stderr, where it cannot steer the terminal."""
    click.echo(f"kgtool: {printable(message)}", err=True)
