"""Every Python code block in the README and the docs runs as a test, in order, in one namespace per document.

A document's blocks run in a directory of their own with an event loop of their own, so a block may `await` at its top.
The engines that they make are disposed of and the backends that they register forgotten, so none has to tidy up.
"""

import ast
import asyncio
import inspect
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine
from sybil import Example, Sybil
from sybil.parsers.myst import CodeBlockParser
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from lading import storages


def evaluate(example: Example) -> None:
    """Run one block; its lines keep their numbers, so a traceback points into the document."""
    lines = "\n" * (example.line + example.parsed.line_offset)
    code = compile(lines + example.parsed, example.path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    outcome = eval(code, example.namespace)
    if inspect.iscoroutine(outcome):
        example.namespace["__runner__"].run(outcome)


def enter(namespace: dict[str, Any]) -> None:
    directory = tempfile.TemporaryDirectory(prefix="lading-docs-")
    runner = asyncio.Runner()
    namespace.update(__name__="__main__", __directory__=directory, __back__=Path.cwd(), __runner__=runner)
    os.chdir(directory.name)


def leave(namespace: dict[str, Any]) -> None:
    for value in list(namespace.values()):
        if isinstance(value, Engine):
            value.dispose()
        elif isinstance(value, AsyncEngine):
            namespace["__runner__"].run(value.dispose())
    storages.clear_backends()
    storages.signer = None
    # A configuration with a metadata of its own makes that the one of every application in the process.
    if (alchemy := sys.modules.get("advanced_alchemy.base")) is not None:
        alchemy.metadata_registry.set(None, alchemy.orm_registry.metadata)
    namespace["__runner__"].close()
    os.chdir(namespace["__back__"])
    namespace["__directory__"].cleanup()


pytest_collect_file = Sybil(
    parsers=[CodeBlockParser(language="python", evaluator=evaluate)],
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    setup=enter,
    teardown=leave,
).pytest()


class ByDocument(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist ships no types
    """A document's blocks need one another and go to one worker; other tests go wherever there is time."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file.endswith(".md") else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByDocument:
    return ByDocument(config, log)
