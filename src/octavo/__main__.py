"""The command `octavo`, also as `python -m octavo`. Ctrl-C is quiet from the first import on."""

import sys


def main() -> None:
    """Run the command line, and leave with its exit code."""
    try:
        from octavo.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
