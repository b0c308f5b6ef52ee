"""What a column accepts, for forms that refuse early."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from litestar import Request, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler

from lading.litestar import openapi, problems
from lading.litestar.config import Guard
from lading.policy import Policy


class Hints(msgspec.Struct, kw_only=True):
    """What a browser can know of a column; the server decides all the same.

    Attributes:
        policy: `"table.column"`.
        accept: for the attribute `accept` of `<input type="file">`; `""` is everything.
        max_size, min_size: in bytes; `null` is no limit.
        direct: whether files can be uploaded directly.
    """

    policy: str
    accept: str
    max_size: int | None
    min_size: int | None
    direct: bool


def hints_route(
    path: str, policies: Mapping[str, Policy], guards: Sequence[Guard], *, direct: bool
) -> HTTPRouteHandler:
    """`GET {path}/policies/{policy}`."""

    async def upload_hints(request: Request[Any, Any, Any]) -> Hints:
        policy: str = request.path_params["policy"]
        found = policies.get(policy)
        if found is None:
            raise NotFoundException("no such policy")
        return Hints(policy=policy, direct=direct, **found.hints())

    return get(
        f"{path}/policies/{{policy:str}}",
        guards=list(guards),
        name=f"lading:{path}:policies",
        summary="What a column accepts",
        tags=["files"],
        responses=openapi.problem_responses(401, 403, 404),
        exception_handlers=problems.on_our_routes(),
    )(upload_hints)
