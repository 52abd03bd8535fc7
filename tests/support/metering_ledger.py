"""The ledger's side of the metering protocol, strictly, in memory: a model to hold the reporter to.

It accepts nothing that the protocol does not allow and can be copied at any time, which is how a
test "restores the billing database from a backup". The tests that decide run the real one.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response

from brinkbyte.license.claims import Quarantined, ReceiptClaims, TokenKind
from brinkbyte.license.tokens import sign
from brinkbyte.metering.batches import (
    NO_HASH,
    BatchError,
    BatchHeader,
    check_payload,
    verify_batch_header,
)
from support.licensing import vendor
from support.processes import free_port


@dataclass
class Ledger:
    """What the billing database would hold of one instance."""

    instance: str
    live: str | None = None
    closed: set[str] = field(default_factory=set)
    batches: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    under_receipt: set[str] = field(default_factory=set)
    doubled: int = 0
    bad_meters: set[str] = field(default_factory=set)
    offset: int = 0  # seconds that its clock is ahead of ours

    def backup(self) -> Ledger:
        return copy.deepcopy(self)

    def head(self) -> dict[str, Any]:
        answer: dict[str, Any] = {"serverTime": int(time.time()) + self.offset}
        if self.live is not None:
            number = self._last(self.live)
            answer |= {
                "epoch": self.live,
                "batchNo": number,
                "chainHash": self.batches[self.live, number][0],
            }
        return answer

    def _last(self, epoch: str) -> int:
        return max(number for held, number in self.batches if held == epoch)

    def accept(self, body: bytes, keys: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        prefix, middle = b'{"events":', b',"header":"'
        payload, _, rest = body.removeprefix(prefix).rpartition(middle)
        try:
            header = verify_batch_header(rest.removesuffix(b'"}').decode(), keys)
            check_payload(header, payload)
        except BatchError as error:
            return 403, {"reason": error.reason, "detail": error.message}
        if header.instance != self.instance:
            return 403, {"reason": "WrongInstance", "detail": "another instance"}
        refusal = self._place(header)
        if refusal is not None:
            return 409, {"detail": "refused by the model", **refusal}
        if (header.epoch, header.batch_no) not in self.batches:
            self._commit(header, json.loads(payload))
        return 200, {"receipt": self.batches[header.epoch, header.batch_no][1]}

    def _place(self, header: BatchHeader) -> dict[str, Any] | None:
        stored = self.batches.get((header.epoch, header.batch_no))
        if stored is not None:
            return None if stored[0] == header.chain_hash else {"reason": "EpochConflict"}
        if header.epoch in self.closed:
            return {"reason": "EpochClosed"}
        if header.epoch == self.live:
            last = self._last(self.live)
            if header.batch_no != last + 1:
                return {"reason": "Gap", "missing": [last + 1, header.batch_no - 1]}
            if header.previous_hash != self.batches[self.live, last][0]:
                return {"reason": "ChainMismatch"}
            return None
        if header.batch_no != 1:
            return {"reason": "Gap", "missing": [1, header.batch_no - 1]}
        if header.follows != self.live:
            return {"reason": "EpochConflict"}
        expected = self.batches[self.live, self._last(self.live)][0] if self.live else NO_HASH
        return None if header.previous_hash == expected else {"reason": "ChainMismatch"}

    def _commit(self, header: BatchHeader, events: list[dict[str, Any]]) -> None:
        if header.epoch != self.live:
            if self.live is not None:
                self.closed.add(self.live)
            self.live = header.epoch
        quarantined = []
        for event in events:
            if event["meter"] in self.bad_meters:
                quarantined.append(Quarantined(id=event["id"], reason="UnknownMeter"))
            elif event["id"] not in self.events:
                self.events[event["id"]] = event
            else:
                self.doubled += 1
                assert self.events[event["id"]] == event
            self.under_receipt.add(event["id"])
        self.batches[header.epoch, header.batch_no] = (
            header.chain_hash,
            receipt_for(header, tuple(quarantined), offset=self.offset),
        )


def receipt_for(
    header: BatchHeader, quarantined: tuple[Quarantined, ...] = (), *, offset: int = 0
) -> str:
    now = int(time.time()) + offset
    claims = ReceiptClaims(
        iss="brinkbyte",
        sub=header.instance,
        aud=header.instance,
        jti=f"{header.epoch}:{header.batch_no}",
        iat=now,
        nbf=now,
        exp=now + 400 * 86_400,
        instance=header.instance,
        epoch=header.epoch,
        batch_no=header.batch_no,
        chain_hash=header.chain_hash,
        payload_sha256=header.payload_sha256,
        count=header.count,
        quarantined=quarantined,
    )
    return sign(claims, vendor().keys[TokenKind.RECEIPT])


@dataclass
class LedgerServer:
    """The model behind HTTP on loopback; ``script`` answers instead of it, one call each."""

    ledger: Ledger
    keys: dict[str, Any]
    credential: str = "bbi_test"
    key_set: str = ""
    script: list[tuple[int, dict[str, Any], dict[str, str]]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    url: str = ""
    delay: float = 0.0

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/api/v1/keys")
        async def keys() -> Response:
            self.calls.append("keys")
            return Response(self.key_set, media_type="application/json")

        @app.get("/api/v1/usage/head")
        async def head(request: Request) -> Response:
            return self._answer(request, "head", b"")

        @app.post("/api/v1/usage/batch")
        async def batch(request: Request) -> Response:
            return self._answer(request, "batch", await request.body())

        return app

    def _answer(self, request: Request, call: str, body: bytes) -> Response:
        self.calls.append(call)
        status, content, headers = 200, {}, {}
        if request.headers.get("authorization") != f"Bearer {self.credential}":
            status, content = 401, {"reason": "Unauthorized", "detail": "no such credential"}
        elif self.script:
            status, content, headers = self.script.pop(0)
        elif call == "head":
            content = self.ledger.head()
        else:
            status, content = self.ledger.accept(body, self.keys)
        return Response(
            json.dumps(content), status, headers, "application/problem+json"
        )  # the client judges by status

    def __enter__(self) -> LedgerServer:
        port = free_port()
        config = uvicorn.Config(self.app(), host="127.0.0.1", port=port, log_level="critical")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(20)
