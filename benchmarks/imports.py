"""`import lading` on top of `sqlalchemy.orm`, each in a fresh interpreter with its bytecode at hand."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from statistics import median

from benchmarks.harness import Result

TARGET = 0.080
"""Seconds."""

UNWANTED = {
    "advanced_alchemy",
    "adlfs",
    "aiobotocore",
    "azure",
    "boto3",
    "botocore",
    "django",
    "fastapi",
    "flask",
    "fsspec",
    "gcsfs",
    "google",
    "litestar",
    "magic",
    "pydantic",
    "s3fs",
    "starlette",
}
"""Frameworks, cloud SDKs and fsspec: whoever does not use them must not wait for them."""

_CHILD = """
import time
first = time.perf_counter()
import sqlalchemy.orm
second = time.perf_counter()
import lading
third = time.perf_counter()
import sys
print(third - second, second - first, *{name.partition(".")[0] for name in sys.modules})
"""


def results(*, quick: bool) -> Iterator[Result]:
    with tempfile.TemporaryDirectory(prefix="lading-bench-") as cache:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = cache
        runs = [_import(environment) for _ in range(3 if quick else 31)][1:]
    ours, other = median(run[0] for run in runs), median(run[1] for run in runs)
    yield Result("import lading, after and against sqlalchemy.orm", ours, other, median(a / b for a, b, _ in runs))
    yield Result("  milliseconds of it", None, None, ours * 1e3, TARGET * 1e3)
    unwanted = set[str]().union(*(run[2] for run in runs)) & UNWANTED
    yield Result(f"  unwanted modules: {', '.join(sorted(unwanted)) or 'none'}", None, None, len(unwanted), 0)


def _import(environment: dict[str, str]) -> tuple[float, float, set[str]]:
    child = subprocess.run([sys.executable, "-c", _CHILD], env=environment, capture_output=True, text=True, check=True)
    ours, other, *modules = child.stdout.split()
    return float(ours), float(other), set(modules)
