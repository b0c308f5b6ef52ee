"""schemathesis: requests that are drawn from the application's own OpenAPI document, and such as it forbids."""

from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import just
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.hostile.house import House
from tests.hostile.wire import FORM, exchange, form, request, text, upload

pytestmark = pytest.mark.slow

CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]
EXAMPLES = 40


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("house", ["local"], indirect=True)
def test_drawn_requests(house: House, mode: GenerationMode) -> None:
    """No request that can be drawn from the document, or that it forbids, is answered otherwise than it says."""
    document: dict[str, Any] = house.app().openapi_schema.to_schema()
    schema = schemathesis.openapi.from_dict(document)
    settings = hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    unforbidding: list[str] = []
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) == 9
    with house.server() as port, requests.Session() as session:
        body = form(text("name", "a"), upload("file", "a.txt", b"some text"))
        assert exchange(port, request("POST", "/documents", [("content-type", FORM)], body)).status == 201
        for operation in operations:
            # An application's own refusals are Litestar's JSON, beside lading's documents; and a file has its own type.
            checks = [*CHECKS, content_type_conformance] if operation.path.startswith("/files/") else CHECKS

            def ask(case: schemathesis.Case[Any], checks: list[Any]) -> None:
                for headers in ({"x-user": "ann"}, {}):
                    answer = case.call(f"http://127.0.0.1:{port}", session=session, headers=headers)
                    case.validate_response(answer, checks=checks)

            cases = operation.as_strategy(generation_mode=mode)
            try:
                settings(hypothesis.given(case=cases, checks=just(checks))(ask))()
            except Unsatisfiable:
                unforbidding.append(operation.label)
    # Any text may stand there.
    assert unforbidding == (["GET /files/policies/{policy}"] if mode is GenerationMode.NEGATIVE else [])
