"""SQLAlchemy: the column type, and the lifecycle that commits a file with its row."""

from lading.orm import events as events  # the listeners install themselves: a session needs nothing switched on
from lading.orm import triggers as triggers  # as do these, for `create_all`
from lading.orm.column import StoredObject as StoredObject
from lading.orm.list import FileList as FileList
from lading.orm.outbox import Outbox as Outbox
