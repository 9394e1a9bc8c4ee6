"""The `detector` command (being built)."""


def main() -> None:
    """Run the command line."""
