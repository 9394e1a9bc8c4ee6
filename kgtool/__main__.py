"""`python -m kgtool` is the `kgtool` command."""

from kgtool.cli import main

if __name__ == "__main__":
    main()
