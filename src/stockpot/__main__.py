"""The command `stockpot`, also as `python -m stockpot`: Ctrl-C ends it in order while it still imports, too."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from stockpot.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
