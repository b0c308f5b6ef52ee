"""From SQLAlchemy's events into coroutines."""

import subprocess
import sys
from textwrap import dedent


def test_without_greenlet() -> None:
    """A sync session needs no greenlet, which SQLAlchemy 2.1 does not bring along."""
    program = """
        import sys

        class Missing:
            def find_spec(self, name, path=None, target=None):
                if name == "greenlet":
                    raise ModuleNotFoundError(name)

        sys.meta_path.insert(0, Missing())
        import importlib.util
        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name: None if name == "greenlet" else find(name)

        from sqlalchemy import create_engine
        from sqlalchemy.orm import Session
        from lading.backends.obstore import ObstoreBackend
        from tests.orm.models import Base, Document, file, registry

        registry.register_backend(ObstoreBackend("mem", "memory://"))
        engine = create_engine("sqlite://")
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(Document(id=1, file=file(b"whole")))
            session.commit()
            assert session.get(Document, 1).file.get_content() == b"whole"
        assert "greenlet" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", dedent(program)], check=True)
