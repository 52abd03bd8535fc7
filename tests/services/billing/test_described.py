"""What the API does is what its document says, whatever is sent, whoever sends it.

Schemathesis makes requests from the document, sound ones and broken ones; each goes through the
application in this process on a real PostgreSQL. Every answer must be one that the document names,
of the type and schema that it names, never a 5xx; without a good credential it is 401.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.adapter import responses
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from brinkbyte.billing.providers.stripe_webhooks import StripeWebhooks
from services.billing.conftest import Billing
from services.billing.world import World, world
from support.campaign_plan import soaking

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
LAST = (
    "PUT /api/v1/instance/key",
    "POST /api/account/sign-out",
    "DELETE /api/v1/instance",
)
"""Calls that end what the others need."""
SHORT, LONG = 3, 60
REPLACED = {"authorization", "cookie", "x-csrf-token"}
"""Headers that say who is calling: never as Schemathesis makes them."""
SEED = int(os.environ.get("BRINKBYTE_CAMPAIGN_SEED", "20261125"))


def credentials(found: World) -> dict[str, dict[str, str]]:
    """Return the headers that each scheme's caller sends."""
    cookies = "; ".join(f"{c.name}={c.value}" for c in found.mine.owner.http.cookies.jar)
    return {
        "vendorCredential": {"authorization": found.vendor.headers["authorization"]},
        "tenantKey": {"authorization": found.mine.program.headers["authorization"]},
        "instanceCredential": {"authorization": f"Bearer {found.mine.site.credential}"},
        "session": {"cookie": cookies, "x-csrf-token": found.mine.owner.csrf},
        "nobody": {},
    }


class Sender:
    """Sends what Schemathesis made through the application, from another thread."""

    def __init__(self, found: World, loop: asyncio.AbstractEventLoop) -> None:
        self._http = httpx.AsyncClient(
            transport=found.billing.http._transport, base_url="https://billing"
        )
        self._loop = loop
        self.calls = 0

    def send(self, case: Case, headers: dict[str, str]) -> httpx.Response:
        kept = {name: value for name, value in case.headers.items() if name.lower() not in REPLACED}
        case.headers = {**kept, **headers}
        case.cookies = {}
        made = requests.Request(**case.as_transport_kwargs(base_url="https://billing")).prepare()
        body = made.body.encode() if isinstance(made.body, str) else made.body
        request = httpx.Request(
            made.method or "", made.url or "", headers=made.headers, content=body
        )
        self.calls += 1
        future = asyncio.run_coroutine_threadsafe(self._http.send(request), self._loop)
        return future.result(60)


def examine(found: World, sender: Sender, size: int) -> list[str]:
    """Examine every operation; returns what is wrong."""
    schema = schemathesis.openapi.from_dict(found.document)
    headers = credentials(found)
    wrong: list[str] = []
    operations = [result.ok() for result in schema.get_all_operations()]
    named = {f"{each.method.upper()} {each.path}": each for each in operations}
    for name in sorted(named, key=lambda each: (each in LAST, each)):
        operation = named[name]
        described = found.document["paths"][operation.path][operation.method]
        admitted = {scheme for each in described.get("security", []) for scheme in each}
        for scheme, sent in headers.items():
            in_force = scheme in admitted or (not admitted and scheme == "nobody")
            modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
            for mode in modes if in_force else modes[:1]:
                one = partial(_one, found=found, sender=sender, sent=sent, mode=mode)
                if admitted and scheme not in admitted:
                    one = partial(one, refused=True)
                try:
                    strategy = operation.as_strategy(generation_mode=mode)
                    _run(strategy, size if in_force else 1, one)
                except Unsatisfiable:
                    # Nothing of the request can be broken.
                    assert not described.get("parameters"), name
                except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - told together
                    wrong.append(f"{name} as {scheme}, {mode.value}: {_short(error)}")
    return wrong


def _short(error: BaseException) -> str:
    parts = getattr(error, "exceptions", None) or [error]
    return " | ".join(str(part).replace("\n", " ")[:600] for part in parts[:2])


def _run(strategy: Any, count: int, work: Callable[[Case, bool], None]) -> None:
    @seed(SEED)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy, own=st.booleans())
    def examined(case: Case, own: bool) -> None:
        work(case, own)

    examined()


def _one(
    case: Case,
    own: bool,
    *,
    found: World,
    sender: Sender,
    sent: dict[str, str],
    mode: GenerationMode,
    refused: bool = False,
) -> None:
    sound = mode is GenerationMode.POSITIVE
    if own and sound:
        # Ids that exist, so that more than a 404 is reached.
        for name in case.path_parameters:
            case.path_parameters[name] = found.mine.ids.get(name, case.path_parameters[name])
    answer = sender.send(case, sent)
    if refused:
        # The query may be refused before the credential is looked at.
        assert answer.status_code in {401, 403, 404, 422}, (
            f"{answer.status_code} {answer.text[:200]}"
        )
    told = not sound and not _arrives_sound(case)
    case.validate_response(answer, checks=[*CHECKS, negative_data_rejection] if told else CHECKS)


def _arrives_sound(case: Case) -> bool:
    """Tell whether nothing of what was broken arrives.

    A list in a query is sent as a parameter that comes again, or once, or not at all; the last
    counts. What was broken in the header of a credential is replaced.
    """
    lists = {name for name, value in case.query.items() if isinstance(value, list)}

    def lost(mutation: Any) -> bool:
        _, _, pointed, *_ = f"{mutation.schema_pointer}///".split("/")
        name = mutation.parameter or pointed
        if mutation.parameter_location is ParameterLocation.QUERY:
            return name in lists
        header = mutation.parameter_location is ParameterLocation.HEADER
        return header and name.lower() in REPLACED

    mutations = getattr(case.meta.phase.data, "mutations", ()) if case.meta else ()
    return bool(lists) and bool(mutations) and all(map(lost, mutations))


@pytest.fixture(autouse=True)
def tuples_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep ``prefixItems`` in answers: Schemathesis rewrites it to what its validator refuses."""
    kept = partial(responses.to_json_schema, convert_prefix_items=False)
    monkeypatch.setattr(responses, "to_json_schema", kept)


async def _examined(vendor: httpx.AsyncClient, billing: Billing, size: int) -> None:
    webhooks = StripeWebhooks(("whsec_of_the_tests",), billing.clock)
    object.__setattr__(billing.context, "webhooks", webhooks)
    async with world(billing, vendor) as found:
        sender = Sender(found, asyncio.get_running_loop())
        wrong = await asyncio.to_thread(examine, found, sender, size)
    assert sender.calls > 200
    assert wrong == [], "\n".join(wrong)


@pytest.mark.soak
async def test_answers_are_as_the_document_says(
    vendor: httpx.AsyncClient, billing: Billing
) -> None:
    await _examined(vendor, billing, LONG if soaking() else SHORT)
