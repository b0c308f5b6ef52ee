"""Loading 20,000 rows that have files, against the same values in a `JSON` and in a `String` column."""

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import JSON, String, create_engine, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from benchmarks import places
from benchmarks.harness import Result, compare
from lading import FileObject, StoredObject
from lading.paths import token
from lading.record import FileRecord

ROWS = 20_000


class Base(DeclarativeBase):
    pass


class WithFile(Base):
    __tablename__ = "with_file"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    file: Mapped[FileObject] = mapped_column(StoredObject(backend="nowhere"))


class WithJSON(Base):
    __tablename__ = "with_json"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    file: Mapped[dict[str, Any]] = mapped_column(JSON)


class WithString(Base):
    __tablename__ = "with_string"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    file: Mapped[str] = mapped_column(String)


def results(*, quick: bool) -> Iterator[Result]:
    rounds = 2 if quick else 15
    with places.directory() as root:
        engine = create_engine(f"sqlite:///{root}/bench.sqlite")
        Base.metadata.create_all(engine)
        with engine.begin() as connection:
            records = [_record(number) for number in range(ROWS)]
            titles = [f"Document {number}" for number in range(ROWS)]
            for model in (WithString, WithJSON):
                values = [record.to_json().decode() if model is WithString else record.to_dict() for record in records]
                rows = [{"title": title, "file": value} for title, value in zip(titles, values, strict=True)]
                connection.execute(insert(model), rows)
            connection.exec_driver_sql("INSERT INTO with_file SELECT id, title, file FROM with_json")

        def entities(model: type[Any]) -> Callable[[object], list[Any]]:
            def load(_: object) -> list[Any]:
                with Session(engine) as session:
                    return list(session.scalars(select(model)))

            return load

        def column(model: type[Any]) -> Callable[[object], list[Any]]:
            def load(_: object) -> list[Any]:
                with Session(engine) as session:
                    return list(session.scalars(select(model.file)))

            return load

        def names(_: object) -> list[str]:
            return [file.filename for file in column(WithFile)(None)]

        def json_names(_: object) -> list[str]:
            return [value["filename"] for value in column(WithJSON)(None)]

        for what, load, target in (("entities", entities, 0.85), ("the column alone", column, 0.5)):
            mine = load(WithFile)
            yield compare(f"{what}, against JSON", mine, load(WithJSON), rounds=rounds, target=target)
            yield compare(f"{what}, against String", mine, load(WithString), rounds=rounds)
        yield compare("the column, and the name of each file, against JSON", names, json_names, rounds=rounds)
        engine.dispose()


def _record(number: int) -> FileRecord:
    return FileRecord(
        backend="nowhere",
        path=f"{token()}.pdf",
        filename=f"Document {number}.pdf",
        content_type="application/pdf",
        size=100_000 + number,
        last_modified=1_767_225_600.25 + number,
        checksum=f"sha256:{number:064x}",
        etag=f'"{number:032x}"',
        metadata={"pages": number % 100, "language": "en"},
    )
