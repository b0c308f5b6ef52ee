"""What the soak's processes share: two families of tables, an outbox each, and where database and store are."""

from datetime import timedelta
from typing import Any, ClassVar

import msgspec
from sqlalchemy import BigInteger, Engine, MetaData, create_engine, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column

from lading import FileObject, Storages, StoredObject
from lading.backends.obstore import ObstoreBackend
from lading.orm.outbox import Outbox
from tests.services.moto import S3

registry = Storages()


class Document:
    """Rows of one family; each write counts `version` on, and loses against one that came first.

    A file is called by a part of its content's checksum: what a row means to name is known without lading's records.
    """

    __tablename__: str
    metadata: ClassVar[MetaData]

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)

    @declared_attr
    @classmethod
    def version(cls) -> Mapped[int]:
        return mapped_column(BigInteger, nullable=False)

    @declared_attr
    @classmethod
    def file(cls) -> Mapped[FileObject | None]:
        return mapped_column(StoredObject(backend=cls.__tablename__, storages=registry))

    @declared_attr
    @classmethod
    def cover(cls) -> Mapped[FileObject | None]:
        return mapped_column(StoredObject(backend=cls.__tablename__, storages=registry))

    @declared_attr
    @classmethod
    def pages(cls) -> Mapped[list[FileObject]]:
        return mapped_column(StoredObject(backend=cls.__tablename__, multiple=True, storages=registry))

    @declared_attr.directive
    @classmethod
    def __mapper_args__(cls) -> dict[str, Any]:
        return {"version_id_col": cls.version}


class Prompt(DeclarativeBase):
    """Sessions delete what they replace as soon as they have committed."""


class Patient(DeclarativeBase):
    """The sweeper deletes it, a little later."""


class PromptDocument(Document, Prompt):
    __tablename__ = "prompt"


class PatientDocument(Document, Patient):
    __tablename__ = "patient"


Outbox(Prompt.metadata, "prompt_outbox", grace=timedelta(0))
Outbox(Patient.metadata, "patient_outbox", grace=timedelta(seconds=2))

FAMILIES: tuple[type[Document], ...] = (PromptDocument, PatientDocument)


class Place(msgspec.Struct, frozen=True):
    """Where database and store are, seen by one process.

    Attributes:
        database: a URL of PostgreSQL without a driver.
        endpoint: of S3.
        bucket: there.
    """

    database: str
    endpoint: str
    bucket: str

    def engine(self) -> Engine:
        """By psycopg; what hangs for long is ended by the server."""
        settings = "-c lock_timeout=5s -c statement_timeout=10s -c idle_in_transaction_session_timeout=15s"
        arguments = {"connect_timeout": 3, "options": settings}
        return create_engine(make_url(self.database).set(drivername="postgresql+psycopg"), connect_args=arguments)

    def async_engine(self) -> AsyncEngine:
        """By asyncpg, likewise."""
        settings = {
            "lock_timeout": "5s",
            "statement_timeout": "10s",
            "idle_in_transaction_session_timeout": "15s",
        }
        return create_async_engine(
            make_url(self.database).set(drivername="postgresql+asyncpg"),
            connect_args={"timeout": 3, "command_timeout": 10, "server_settings": settings},
        )

    def register(self) -> None:
        """Let the models' keys lead to the bucket, a prefix each; what does not answer is given up soon."""
        s3 = S3(self.endpoint)
        for family in FAMILIES:
            backend = ObstoreBackend(
                family.__tablename__,
                f"s3://{self.bucket}/{family.__tablename__}",
                aws_endpoint=s3.endpoint,
                aws_access_key_id=s3.access_key_id,
                aws_secret_access_key=s3.secret_access_key,
                aws_region=s3.region,
                client_options={"connect_timeout": "1s", "read_timeout": "2s", "timeout": "10s"},
                retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=3)},
            )
            registry.register_backend(backend, replace=True)
