"""The documentation is complete: every public name is in the reference, and every page in a table of contents."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "src" / "lading"

INTERNAL = {
    "__main__",
    "alembic.compare",
    "alembic.operations",
    "asgi.reading",
    "asgi.reply",
    "asgi.response",
    "asgi.server",
    "asgi.writing",
    "backends",
    "backends.attributes",
    "backends.fsspec_driver",
    "backends.fsspec_upload",
    "backends.local",
    "backends.obstore_body",
    "backends.obstore_driver",
    "backends.obstore_worlds",
    "cli",
    "clock",
    "litestar.bodies",
    "litestar.config",
    "litestar.current",
    "litestar.direct",
    "litestar.downloads",
    "litestar.fields",
    "litestar.forms",
    "litestar.hints",
    "litestar.limits",
    "litestar.members",
    "litestar.openapi",
    "litestar.parts",
    "litestar.plugin",
    "litestar.problems",
    "litestar.raw",
    "litestar.staged",
    "litestar.streaming",
    "litestar.sweeping",
    "mediatypes",
    "ops",
    "ops.attach",
    "ops.compare",
    "ops.gate",
    "ops.read",
    "ops.retry",
    "ops.save",
    "ops.sign",
    "ops.spool",
    "orm",
    "orm.bridge",
    "orm.cleanup",
    "orm.doubt",
    "orm.events",
    "orm.flush",
    "orm.indexes",
    "orm.key",
    "orm.ledger",
    "orm.listing",
    "orm.named",
    "orm.neighbours",
    "orm.outbox",
    "orm.plan",
    "orm.quoting",
    "orm.references",
    "orm.slots",
    "orm.snapshot",
    "orm.sqlite",
    "orm.statements",
    "orm.triggers_mysql",
    "orm.triggers_postgresql",
    "orm.triggers_sqlite",
    "orm.uploads",
    "orm.waiting",
    "signatures",
    "sniffing",
    "testing.clock",
    "testing.counted",
    "testing.crash",
    "testing.evidence",
    "testing.faults",
    "testing.faulty",
    "testing.killed",
    "testing.places",
    "testing.points",
    "testing.runs",
    "testing.scenes",
    "testing.stores",
}
"""Modules that no application imports; a new module is public until it is named here."""

ELSEWHERE = {
    "batch.sign_all": "sign_all",
    "batch.sign_all_async": "sign_all_async",
    "file.FileObject": "FileObject",
    "orm.column.StoredObject": "StoredObject",
    "orm.list.FileList": "FileList",
    "orm.outbox.Outbox": "Outbox",
    "orm.policies.UploadTo": "litestar.UploadTo",
    "storages.Storages": "Storages",
}
"""Names that are imported, and documented, from the package itself."""

INSIDE = {
    "file": {"encode_hook", "decode_hook", "upload_of", "uploaded"},
    "backends.base": {"Backend"},
    "magic": {"detector"},
    "orm.drain": {"Drained", "drain"},
    "orm.check": {"Checked", "Damage", "Position", "What", "check"},
    "orm.orphans": {"OnFindings", "Swept", "orphans"},
    "orm.reclaim": {"Gone", "Reclaimed", "reclaim"},
    "orm.triggers": {"FileTriggers", "wanted"},
}
"""Of modules that the package uses itself, the names that are public."""

DIRECTIVE = re.compile(r"^\.\. auto(\w+):: lading\.?([\w.]*)(?:\(.*\))?\n((?:   :.*\n)*)", re.MULTILINE)


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")
        yield name, ast.parse(path.read_text())


def exported(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def defined(tree: ast.Module) -> dict[str, bool]:
    """The names that a module defines, and whether each has a docstring."""
    names: dict[str, bool] = {}
    for node, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names[node.name] = ast.get_docstring(node) is not None
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            described = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            names |= {each.id: described for each in ast.walk(target) if isinstance(each, ast.Name)}
    return {name: described for name, described in names.items() if not name.startswith("_")}


def variables(tree: ast.Module) -> set[str]:
    """The type variables of a module, which are public in name only."""
    return {
        ast.unparse(node.targets[0])
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) in ("TypeVar", "ParamSpec")
    }


def public() -> set[str]:
    """Every public name, below the package."""
    found: set[str] = set()
    for module, tree in modules():
        if module in INTERNAL:
            continue
        names = exported(tree)
        if names is None:
            names = sorted(INSIDE.get(module, defined(tree).keys() - variables(tree)))
        found |= {".".join(filter(None, (module, name))) for name in names}
    return {ELSEWHERE.get(name, name) for name in found}


def documented() -> set[str]:
    """Every name below the package that the reference has, and every module."""
    trees = dict(modules())
    found: set[str] = set()
    for page in (DOCS / "reference").glob("*.md"):
        for kind, name, options in DIRECTIVE.findall(page.read_text()):
            found.add(name)
            members = re.search(r"^   :members:(.*)$", options, re.MULTILINE)
            if kind != "module" or members is None:
                continue
            named = [member.strip() for member in members[1].split(",") if member.strip()]
            every = exported(trees[name]) or [each for each, described in defined(trees[name]).items() if described]
            found |= {f"{name}.{each}" for each in named or every}
    return found


def test_every_public_name_is_in_the_reference() -> None:
    """A name that an application may import has a docstring, and a place in the reference."""
    # The default registry and its module have one name.
    wanted = public() - {"storages"} | {"storages.storages"}
    assert sorted(wanted - documented()) == []


def test_the_lists_here_are_up_to_date() -> None:
    """What this test takes for internal, or for imported from elsewhere, exists."""
    trees = dict(modules())
    assert sorted(INTERNAL - trees.keys()) == []
    for name in [*ELSEWHERE, *(f"{module}.{name}" for module, names in INSIDE.items() for name in names)]:
        module, _, last = name.rpartition(".")
        assert last in defined(trees[module]), name


def test_every_page_is_in_a_table_of_contents() -> None:
    """A reader who follows the tables of contents from the first page comes to every page."""
    reached: set[Path] = set()
    ahead = [DOCS / "index.md"]
    while ahead:
        page = ahead.pop()
        if page in reached:
            continue
        reached.add(page)
        for table in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            entries = [line for line in table.splitlines() if line and not line.startswith(":")]
            ahead += [page.parent / f"{entry}.md" for entry in entries]
    pages = {page for page in DOCS.rglob("*.md") if "_build" not in page.parts}
    assert sorted(pages ^ reached) == []


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md"])
def test_links_of_the_front_page_lead_somewhere(page: str) -> None:
    """What the pages outside of the documentation link to in the repository exists; Sphinx looks after the others."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text()):
        assert (ROOT / target).is_file(), target
