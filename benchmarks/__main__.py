"""Runs the benchmarks and prints their tables; a target that is missed is printed, and is no failure."""

import argparse

from benchmarks import commit, download, imports, loading, signing, sweep, transfer, upload
from benchmarks.harness import report

ALL = {
    "transfer": transfer.results,
    "commit": commit.results,
    "loading": loading.results,
    "imports": imports.results,
    "sweep": sweep.results,
    "signing": signing.results,
    "upload": upload.results,
    "download": download.results,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"which: {', '.join(ALL)}; all where none is named")
    parser.add_argument("--quick", action="store_true", help="few rounds: whether it runs, not how fast")
    asked = parser.parse_args()
    unknown = set(asked.names) - ALL.keys()
    if unknown:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    for name in asked.names or ALL:
        report(name, ALL[name](quick=asked.quick))


if __name__ == "__main__":
    main()
