"""Where the example keeps its database and its files; all of it can be said in the environment.

- `LADING_EXAMPLE_DATA`: a directory for the database and, by default, the files; `data` beside this module.
- `LADING_EXAMPLE_STORE`: the URL of the store. `s3://bucket/prefix` is all that S3 needs: credentials, region and
  endpoint (`AWS_ENDPOINT_URL`) are taken from the environment as by any other client. For direct uploads the bucket has
  to allow the page's origin (CORS) the method `PUT` and the headers `content-type` and `content-disposition`.
- `LADING_EXAMPLE_TRUST_ENDPOINT`: `1` lets browsers send straight to an S3 server that is not Amazon's; else what they
  send comes through the application.
"""

import os
import secrets
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("LADING_EXAMPLE_DATA") or Path(__file__).with_name("data")).resolve()
DATA.mkdir(parents=True, exist_ok=True)

STORE = os.environ.get("LADING_EXAMPLE_STORE") or (DATA / "files").as_uri()

# obstore finds the endpoint in the environment by itself; only said aloud does it switch plain HTTP on.
ENDPOINT = os.environ.get("AWS_ENDPOINT_URL")
STORE_OPTIONS: dict[str, Any] = {"aws_endpoint": ENDPOINT} if ENDPOINT and STORE.startswith("s3://") else {}

# Most such servers take headers that a URL was not signed for: whoever is given an upload URL, here everybody, can have
# the server copy to it what else the account may read. That is for a bucket and an account with nothing but these
# documents, which everybody may read anyway.
TRUST_ENDPOINT = os.environ.get("LADING_EXAMPLE_TRUST_ENDPOINT") == "1"

# One process, and URLs for an hour: a secret of its own is enough. Several processes would have to share one.
SECRET = secrets.token_bytes(32)
