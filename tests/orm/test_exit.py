"""A process that ends in the middle of a transaction: what is committed is whole, and nothing of it is deleted."""

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from lading.backends.obstore import ObstoreBackend
from tests.orm.conftest import Store
from tests.orm.models import Base, Document, file, registry

PROGRAM = """
import asyncio, atexit, os, signal, sys, threading
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from lading.backends.obstore import ObstoreBackend
from tests.orm.models import Document, file, registry

registry.register_backend(ObstoreBackend("mem", "file://" + sys.argv[1] + "/store"))
engine = create_engine("sqlite:///" + sys.argv[1] + "/rows.sqlite")

def change(session):
    session.get_one(Document, 1).pages = [file(b"new 1"), file(b"new 2")]
    session.flush()
"""

ENDINGS = {
    "exit": "with Session(engine) as session: change(session); sys.exit(3)",
    "exit without close": "session = Session(engine); change(session); sys.exit(3)",
    "os._exit": "session = Session(engine); change(session); os._exit(3)",
    "interrupt": "with Session(engine) as session: change(session); signal.raise_signal(signal.SIGINT)",
    "terminate": "session = Session(engine); change(session); os.kill(os.getpid(), signal.SIGTERM)",
    "a commit at exit": """
def late():
    with Session(engine) as session:
        change(session)
        session.commit()
atexit.register(late)
""",
    "a daemon thread": """
def work():
    session = Session(engine)
    change(session)
    started.set()
    threading.Event().wait()
started = threading.Event()
threading.Thread(target=work, daemon=True).start()
started.wait()
""",
    "a loop that is left": """
async def main():
    session = AsyncSession(create_async_engine(engine.url.set(drivername="sqlite+aiosqlite")))
    await session.run_sync(change)
    os._exit(3)
asyncio.run(main())
""",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_process_ends(tmp_path: Path, ending: str) -> None:
    """However a process ends between flush and COMMIT, the row names its old files, and they are whole."""
    registry.clear_backends()
    backend = ObstoreBackend("mem", f"file://{tmp_path / 'store'}")
    registry.register_backend(backend)
    engine = create_engine(f"sqlite:///{tmp_path / 'rows.sqlite'}")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Document(id=1, pages=[file(b"old 1"), file(b"old 2")]))
        session.commit()
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM + ENDINGS[ending], str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert "AssertionError" not in ended.stderr
    with Session(engine) as session:
        contents = [page.get_content() for page in session.get_one(Document, 1).pages]
    done = {b"new 1", b"new 2"} if ending == "a commit at exit" and "RuntimeError" not in ended.stderr else None
    assert set(contents) == (done or {b"old 1", b"old 2"}), ended.stderr
    if ending in ("exit", "interrupt", "a commit at exit"):
        assert len(Store(backend)) == 2, ended.stderr
    engine.dispose()
    registry.clear_backends()
