"""`lading` in a shell, which is also `python -m lading`."""

import sys

from lading.errors import MissingDependency


def main() -> None:
    """Run the command line; where its packages are missing, say in one line how to install them."""
    try:
        from lading.cli import main as commands  # noqa: PLC0415  # optional
    except MissingDependency as error:
        sys.exit(f"lading: {error}")
    commands(prog_name="lading")


if __name__ == "__main__":
    main()
