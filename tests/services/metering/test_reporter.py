"""The reporter in the situations of a year: no line, wrong keys, refusals, rivals, backlogs."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from brinkbyte.license.claims import TokenKind
from brinkbyte.license.keys import SigningKey, sign_key_set
from brinkbyte.metering.batches import verify_batch_header
from brinkbyte.reporter.cli import EXIT_CODES, summary
from brinkbyte.reporter.run import Outcome, Result, run_report
from brinkbyte.reporter.settings import MAX_START_DELAY
from brinkbyte.resources import names
from brinkbyte.resources.state import MeteringState
from brinkbyte.store import DatabaseSettings, metering_state
from brinkbyte.store.database import connect
from brinkbyte.store.sealing import lock_outbox
from support.licensing import INSTANCE, vendor
from support.metering_ledger import LedgerServer, receipt_for
from support.metering_site import Site, usage_event
from support.processes import free_port

pytestmark = pytest.mark.services


class Clock:
    """Sleeps by moving its own hands."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


async def run(site: Site, clock: Clock | None = None, **over: object) -> Outcome:
    clock = clock or Clock()
    return await run_report(
        site.settings(**over), roots=site.roots, sleep=clock.sleep, monotonic=clock.monotonic
    )


async def state(site: Site) -> MeteringState:
    async with await connect(DatabaseSettings.load(database_url=site.dsn)) as conn:
        return await metering_state(conn)


def execute(site: Site, statement: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(site.dsn) as connection:
        cursor = connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []


def epochs(site: Site) -> list[str]:
    return [row[0] for row in execute(site, "SELECT reason FROM usage_epochs ORDER BY number")]


async def test_everything_is_acknowledged_and_shown(
    site: Site, ledger_server: LedgerServer
) -> None:
    site.record(usage_event() for _ in range(2500))
    outcome = await run(site)
    assert (outcome.result, outcome.progress.acknowledged) == (Result.DONE, 3)
    assert ledger_server.ledger.events == site.outbox()
    shown = await state(site)
    assert (shown.backlog, shown.oldest_unacknowledged_at, shown.epochs_opened) == (0, None, 0)
    assert shown.last_receipt == f"{ledger_server.ledger.live}/3"
    assert shown.last_reported_at is not None
    assert abs(shown.last_reported_at - time.time()) < 60
    assert epochs(site) == ["First"]


async def test_a_run_with_nothing_to_do_sends_nothing(
    site: Site, ledger_server: LedgerServer
) -> None:
    assert (await run(site)).result is Result.DONE
    assert ledger_server.calls == ["head"]
    assert (await state(site)).last_reported_at is not None


async def test_without_a_line_everything_stays_and_heals_by_itself(
    site: Site, ledger_server: LedgerServer
) -> None:
    site.record(usage_event() for _ in range(3))
    url = site.root / "identity" / names.BILLING_URL_KEY
    url.write_text(f"http://127.0.0.1:{free_port()}")
    clock = Clock()
    outcome = await run(site, clock, report_attempts=4)
    assert (outcome.result, outcome.reason) == (Result.TEMPORARY, "BillingUnreachable")
    assert [round(seconds) for seconds in clock.slept] == [1, 2, 4] or len(clock.slept) == 3
    for seconds, expected in zip(clock.slept, (1, 2, 4), strict=True):
        assert 0.75 * expected <= seconds <= 1.25 * expected
    shown = await state(site)
    assert (shown.backlog, shown.last_error_reason) == (3, "BillingUnreachable")
    assert shown.last_error_message is not None
    assert "billing.url" in shown.last_error_message
    url.write_text(ledger_server.url)
    assert (await run(site)).result is Result.DONE
    healed = await state(site)
    assert (healed.backlog, healed.last_error_reason, healed.last_error_message) == (0, None, None)


async def test_the_line_goes_down_between_batches(site: Site, ledger_server: LedgerServer) -> None:
    site.record(usage_event() for _ in range(1500))
    ledger_server.script = [(200, ledger_server.ledger.head(), {})]
    ledger_server.script += [(503, {}, {})] * 4
    assert (await run(site)).reason == "BillingUnavailable"
    site.record(usage_event() for _ in range(10))
    assert (await run(site)).result is Result.DONE
    assert ledger_server.ledger.events == site.outbox()
    assert ledger_server.ledger.doubled == 0
    assert epochs(site) == ["First"]


async def test_a_busy_server_is_given_the_time_it_asks_for(
    site: Site, ledger_server: LedgerServer
) -> None:
    site.record([usage_event()])
    ledger_server.script = [(429, {"reason": "Behind", "detail": "wait"}, {"retry-after": "20"})]
    clock = Clock()
    assert (await run(site, clock, report_attempts=2)).result is Result.DONE
    assert clock.slept == [20.0]
    ledger_server.script = [(429, {"reason": "Behind", "detail": "wait"}, {"retry-after": "200"})]
    clock = Clock()
    outcome = await run(site, clock, report_attempts=2)
    assert (outcome.result, outcome.reason, clock.slept) == (Result.TEMPORARY, "Behind", [])


async def test_a_second_reporter_ends_quietly(site: Site, ledger_server: LedgerServer) -> None:
    site.record([usage_event()])
    async with await connect(DatabaseSettings.load(database_url=site.dsn)) as rival:
        assert await lock_outbox(rival)
        assert (await run(site)).result is Result.BUSY
        assert ledger_server.calls == []
    assert (await run(site)).result is Result.DONE


async def test_reporters_at_once_double_nothing(site: Site, ledger_server: LedgerServer) -> None:
    site.record(usage_event() for _ in range(3000))
    outcomes = await asyncio.gather(*(run(site) for _ in range(4)))
    assert {outcome.result for outcome in outcomes} <= {Result.DONE, Result.BUSY}
    assert (await run(site)).result is Result.DONE
    assert ledger_server.ledger.events == site.outbox()
    assert ledger_server.ledger.doubled == 0


async def test_a_deadline_leaves_the_rest_to_the_next_run(
    site: Site, ledger_server: LedgerServer
) -> None:
    site.record(usage_event() for _ in range(1500))
    clock = Clock()
    ticks = iter(range(1000))

    def monotonic() -> float:
        return clock.now + next(ticks)

    outcome = await run_report(
        site.settings(report_deadline_seconds=4),
        roots=site.roots,
        sleep=clock.sleep,
        monotonic=monotonic,
    )
    assert (outcome.result, outcome.reason) == (Result.TEMPORARY, "BacklogRemains")
    assert outcome.progress.acknowledged == 1
    shown = await state(site)
    assert (shown.backlog, shown.last_error_reason) == (500, None)
    assert (await run(site)).result is Result.DONE


async def test_a_backlog_is_no_error_and_ends_an_old_one(
    site: Site, ledger_server: LedgerServer
) -> None:
    site.record(usage_event() for _ in range(1500))
    ledger_server.script = [(503, {"reason": "Maintenance"}, {})] * 4
    assert (await run(site)).reason == "Maintenance"
    assert (await state(site)).last_error_reason == "Maintenance"
    execute(site, "UPDATE billing_sync_status SET last_reported_at = NULL")
    ticks = iter(range(1000))
    outcome = await run_report(
        site.settings(report_deadline_seconds=2),
        roots=site.roots,
        monotonic=lambda: next(ticks),
    )
    assert (outcome.reason, outcome.progress.acknowledged) == ("BacklogRemains", 0)
    shown = await state(site)
    assert (shown.last_error_reason, shown.last_reported_at) == (None, None)


async def test_the_final_report_waits_for_another_reporter(
    site: Site, ledger_server: LedgerServer
) -> None:
    site.record([usage_event()])
    clock = Clock()
    async with await connect(DatabaseSettings.load(database_url=site.dsn)) as rival:
        assert await lock_outbox(rival)
        outcome = await run(site, clock, report_final=True, report_deadline_seconds=10)
        assert (outcome.result, outcome.reason) == (Result.TEMPORARY, "ReporterBusy")
        assert sum(clock.slept) >= 8
        assert ledger_server.calls == []

        async def gone(seconds: float) -> None:
            await rival.close()

        outcome = await run_report(site.settings(report_final=True), roots=site.roots, sleep=gone)
    assert (outcome.result, outcome.progress.acknowledged) == (Result.DONE, 1)


async def test_the_final_report_succeeds_only_when_nothing_is_left(
    site: Site, ledger_server: LedgerServer
) -> None:
    held, _ = site.record([usage_event(), usage_event()])
    with psycopg.connect(site.dsn) as user:
        user.execute("SELECT FROM usage_events WHERE id = %s FOR UPDATE", (held.id,))
        outcome = await run(site, report_final=True)
        assert (outcome.result, outcome.reason) == (Result.TEMPORARY, "BacklogRemains")
        assert "1 events have no receipt yet" in outcome.message
    assert (await run(site, report_final=True)).result is Result.DONE
    assert len(ledger_server.ledger.events) == 2


async def test_the_start_is_spread_by_the_tenants_uid(site: Site) -> None:
    clock = Clock()
    assert (await run(site, clock)).result is Result.DONE
    assert clock.slept == []
    delays = [site.settings(report_delay_seed=f"uid-{n}").start_delay() for n in range(200)]
    assert all(0 <= delay < MAX_START_DELAY for delay in delays)
    assert max(delays) - min(delays) > 18
    await run(site, clock, report_delay_seed="uid-1")
    assert clock.slept == [delays[1]]


async def test_events_the_ledger_sets_aside_are_kept_for_display(
    site: Site, ledger_server: LedgerServer
) -> None:
    ledger_server.ledger.bad_meters = {"unknown"}
    bad = usage_event(meter="unknown")
    site.record([bad, usage_event()])
    outcome = await run(site)
    assert (outcome.result, outcome.progress.quarantined) == (Result.DONE, 1)
    rows = execute(site, "SELECT event_id::text, reason, batch_no FROM usage_quarantined")
    assert rows == [(bad.id, "UnknownMeter", 1)]
    assert (await state(site)).backlog == 0


def forged(site: Site, ledger_server: LedgerServer) -> dict[str, dict[str, object]]:
    """Receipts that must not count, by the reason they are refused with."""
    rows = execute(site, "SELECT header FROM usage_batches ORDER BY position DESC LIMIT 1")
    header = verify_batch_header(rows[0][0], ledger_server.keys)
    other = header.model_copy(update={"batch_no": header.batch_no + 1})
    good = receipt_for(header)
    head, _, signature = good.rpartition(".")
    flipped = "A" if signature[9] != "A" else "B"
    return {
        "WrongReceipt": {"receipt": receipt_for(other)},
        "BadSignature": {"receipt": f"{head}.{signature[:9]}{flipped}{signature[10:]}"},
        "Malformed": {"receipt": "nonsense"},
        "UnexpectedAnswer": {"thanks": True},
    }


async def test_a_receipt_that_is_not_the_vendors_marks_nothing(
    site: Site, ledger_server: LedgerServer
) -> None:
    site.record([usage_event()])
    ledger_server.script = [(200, ledger_server.ledger.head(), {}), (403, {"reason": "Later"}, {})]
    assert (await run(site)).result is Result.PERMANENT
    for reason, answer in forged(site, ledger_server).items():
        ledger_server.script = [(200, ledger_server.ledger.head(), {}), (200, answer, {})]
        outcome = await run(site)
        assert (outcome.result, outcome.reason) == (Result.PERMANENT, reason)
        shown = await state(site)
        assert (shown.backlog, shown.last_error_reason, shown.last_receipt) == (1, reason, None)
    assert (await run(site)).result is Result.DONE
    assert ledger_server.ledger.events == site.outbox()


async def test_a_billing_api_of_the_customers_own_gets_nothing_marked(
    site: Site, ledger_server: LedgerServer
) -> None:
    own = {kind: SigningKey.generate([kind]) for kind in [TokenKind.RECEIPT]}
    root = SigningKey.generate()
    ledger_server.key_set = json.dumps(
        sign_key_set(root, [key.jwk for key in own.values()], number=9, now=int(time.time()))
    )
    (site.root / "license" / names.KEY_SET_KEY).unlink()
    site.record([usage_event()])
    outcome = await run(site)
    assert (outcome.result, outcome.reason) == (Result.PERMANENT, "UntrustedKeySet")
    assert (await state(site)).backlog == 1


async def test_keys_replaced_by_hand_are_passed_over_for_the_vendors(
    site: Site, ledger_server: LedgerServer
) -> None:
    path = site.root / "license" / names.KEY_SET_KEY
    document = json.loads(path.read_text())
    document["keys"][0]["kid"] = "x" * 43
    path.write_text(json.dumps(document))
    site.record([usage_event()])
    assert (await run(site)).result is Result.DONE
    assert "keys" in ledger_server.calls


async def test_a_receipt_by_a_newer_key_is_believed_once_the_key_set_is_fetched(
    site: Site, ledger_server: LedgerServer
) -> None:
    older = [key.jwk for kind, key in vendor().keys.items() if kind is not TokenKind.RECEIPT]
    path = site.root / "license" / names.KEY_SET_KEY
    now = int(time.time()) - 10
    path.write_text(json.dumps(sign_key_set(vendor().root, older, number=1, now=now)))
    ledger_server.key_set = vendor().key_set(number=2, now=now)
    site.record([usage_event()])
    assert (await run(site)).result is Result.DONE
    assert ledger_server.calls.count("keys") == 1
    ledger_server.key_set = json.dumps(sign_key_set(vendor().root, older, number=0 + 1, now=now))
    path.write_text(json.dumps(sign_key_set(vendor().root, older, number=3, now=now)))
    site.record([usage_event()])
    assert (await run(site)).reason == "UnknownKey"


async def test_a_clock_that_is_wrong_by_a_year_refuses_no_receipt(
    site: Site, ledger_server: LedgerServer
) -> None:
    for offset in (-400 * 86_400, 900 * 86_400):
        ledger_server.ledger.offset = offset
        key_set = vendor().key_set(now=int(time.time()) + offset - 10)
        (site.root / "license" / names.KEY_SET_KEY).write_text(key_set)
        site.record([usage_event()])
        assert (await run(site)).result is Result.DONE
    assert ledger_server.ledger.events == site.outbox()


async def test_a_new_key_pair_signs_what_the_old_one_sealed(
    site: Site, ledger_server: LedgerServer
) -> None:
    site.record([usage_event()])
    ledger_server.script = [(200, ledger_server.ledger.head(), {}), (403, {"reason": "Later"}, {})]
    await run(site)
    fresh = SigningKey.generate()
    (site.root / "identity" / names.PRIVATE_KEY_KEY).write_bytes(fresh.to_pem())
    outcome = await run(site)
    assert (outcome.result, outcome.reason) == (Result.PERMANENT, "UnknownInstanceKey")
    ledger_server.keys = {fresh.kid: fresh.private_key.public_key()}
    assert (await run(site)).result is Result.DONE
    assert ledger_server.ledger.events == site.outbox()
    assert epochs(site) == ["First"]


async def test_a_new_instance_id_starts_a_chain_of_its_own(
    site: Site, ledger_server: LedgerServer
) -> None:
    site.record([usage_event()])
    assert (await run(site)).result is Result.DONE
    sent = site.record([usage_event()])
    ledger_server.script = [(200, ledger_server.ledger.head(), {}), (403, {"reason": "Later"}, {})]
    await run(site)
    (site.root / "identity" / names.INSTANCE_ID_KEY).write_text("inst-2")
    ledger_server.ledger = type(ledger_server.ledger)("inst-2")
    assert (await run(site)).result is Result.DONE
    assert set(ledger_server.ledger.events) == {event.id for event in sent}
    assert epochs(site) == ["First", "NewInstance"]
    assert (await state(site)).epochs_opened == 1


async def test_a_batch_changed_in_the_database_is_sealed_anew(
    site: Site, ledger_server: LedgerServer
) -> None:
    for column, value in [
        ("payload", b"[]"),
        ("header", "no.token"),
        ("header", None),
        ("payload", None),
    ]:
        site.record(usage_event() for _ in range(3))
        ledger_server.script = [
            (200, ledger_server.ledger.head(), {}),
            (403, {"reason": "Later"}, {}),
        ]
        await run(site)
        if value is None:
            # Another batch's, well signed.
            execute(
                site,
                f"UPDATE usage_batches b SET {column} = o.{column} FROM usage_batches o "
                "WHERE b.acknowledged_at IS NULL AND o.position = "
                "(SELECT min(position) FROM usage_batches)",
            )
        else:
            execute(
                site,
                f"UPDATE usage_batches SET {column} = %s WHERE acknowledged_at IS NULL",
                value,
            )
        assert (await run(site)).result is Result.DONE
        assert ledger_server.ledger.events == site.outbox()
    assert epochs(site) == ["First"] + ["BatchDamaged"] * 4
    assert ledger_server.ledger.doubled == 0


@pytest.mark.parametrize("reason", ["EpochClosed", "ChainMismatch", "EpochConflict"])
async def test_a_refused_place_in_the_chain_opens_an_epoch(
    site: Site, ledger_server: LedgerServer, reason: str
) -> None:
    site.record([usage_event()])
    assert (await run(site)).result is Result.DONE
    site.record([usage_event()])
    ledger_server.script = [
        (200, ledger_server.ledger.head(), {}),
        (409, {"reason": reason, "detail": "no"}, {}),
    ]
    outcome = await run(site)
    assert (outcome.result, outcome.progress.epochs_opened) == (Result.DONE, 1)
    assert epochs(site) == ["First", reason]
    assert ledger_server.ledger.events == site.outbox()
    assert (await state(site)).epochs_opened == 1


async def test_a_gap_is_filled_from_the_head_and_only_then_given_up(
    site: Site, ledger_server: LedgerServer
) -> None:
    site.record([usage_event()])
    gap = (409, {"reason": "Gap", "detail": "no", "missing": [1, 1]}, {})
    head = (200, ledger_server.ledger.head(), {})
    ledger_server.script = [head, gap]
    assert (await run(site)).result is Result.DONE
    assert epochs(site) == ["First"]
    site.record([usage_event()])
    head = (200, ledger_server.ledger.head(), {})
    ledger_server.script = [head, gap, head, gap]
    assert (await run(site)).result is Result.DONE
    assert epochs(site) == ["First", "Gap"]
    assert ledger_server.ledger.events == site.outbox()


async def test_a_server_that_refuses_every_epoch_is_not_asked_forever(
    site: Site, ledger_server: LedgerServer
) -> None:
    site.record([usage_event()])
    head = (200, ledger_server.ledger.head(), {})
    refusal = (409, {"reason": "EpochConflict", "detail": "no"}, {})
    ledger_server.script = [head, refusal] * 10
    outcome = await run(site)
    assert (outcome.result, outcome.reason) == (Result.PERMANENT, "EpochConflict")
    assert outcome.progress.epochs_opened == 4
    ledger_server.script = []
    assert (await run(site)).result is Result.DONE
    assert ledger_server.ledger.events == site.outbox()


async def test_acknowledged_batches_are_kept_45_days_and_sent_to_a_restored_ledger(
    site: Site, ledger_server: LedgerServer
) -> None:
    empty = ledger_server.ledger.backup()
    for _ in range(3):
        site.record([usage_event()])
        await run(site)
    ledger_server.ledger = empty.backup()
    assert (await run(site)).result is Result.DONE
    assert ledger_server.ledger.events == site.outbox()
    assert epochs(site) == ["First"]
    # Now the first batches are past their 45 days: the chain cannot be sent again as it was.
    execute(site, "UPDATE usage_batches SET acknowledged_at = now() - interval '46 days'")
    kept = site.record([usage_event()])
    await run(site)
    (count,) = execute(site, "SELECT count(*) FROM usage_batches")[0]
    assert count == 1
    ledger_server.ledger = empty.backup()
    assert (await run(site)).result is Result.DONE
    assert set(ledger_server.ledger.events) == {event.id for event in kept}
    assert epochs(site) == ["First", "ChainBroken"]


async def test_a_month_without_a_line_is_sent_in_order(
    site: Site, ledger_server: LedgerServer
) -> None:
    site.record(usage_event() for _ in range(5001))
    assert (await run(site)).progress.acknowledged == 6
    assert ledger_server.ledger.events == site.outbox()


async def test_missing_files_and_databases_are_temporary_and_named(
    site: Site, tmp_path: Path, postgres_database: str
) -> None:
    identity = site.root / "identity"
    cases = {
        "NotEnrolled": {"identity_dir": tmp_path / "none"},
        "DatabaseNotConfigured": {"database_url": None, "postgres_dir": tmp_path / "none"},
        "DatabaseUnreachable": {"database_url": f"postgresql://127.0.0.1:{free_port()}/x"},
        "SchemaNotReady": {"database_url": postgres_database},
    }
    for reason, over in cases.items():
        chosen = site
        if reason == "DatabaseNotConfigured":
            settings = site.settings().model_copy(update=over)
            outcome = await run_report(settings)
        else:
            outcome = await run(chosen, **over)
        assert (outcome.result, outcome.reason) == (Result.TEMPORARY, reason), outcome.message
    (identity / names.PRIVATE_KEY_KEY).write_text("not a key")
    assert (await run(site)).reason == "MalformedKey"


async def test_the_releases_own_roots_are_the_default(site: Site) -> None:
    site.record([usage_event()])
    outcome = await run_report(site.settings(), sleep=Clock().sleep)
    assert outcome.result is Result.PERMANENT
    # The source tree's release carries no roots; a developer's build carries its own.
    assert outcome.reason in {"NoTrustRoot", "UntrustedKeySet"}
    assert (await state(site)).backlog == 1


async def test_a_connection_lost_in_the_middle_loses_nothing(
    site: Site, ledger_server: LedgerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.record(usage_event() for _ in range(3))

    def cut(point: str) -> None:
        if point == "receipt.verified":
            execute(
                site,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'brinkbyte-reporter'",
            )

    with monkeypatch.context() as patch:
        patch.setattr("brinkbyte.reporter.delivery.failpoint", cut)
        outcome = await run(site)
    assert (outcome.result, outcome.reason) == (Result.TEMPORARY, "DatabaseUnreachable")
    assert (await run(site)).result is Result.DONE
    assert ledger_server.ledger.doubled == 0


def test_exit_codes_tell_what_to_do(site: Site, ledger_server: LedgerServer) -> None:
    site.record([usage_event()])
    done = site.report()
    assert (done.returncode, done.stdout.strip()) == (
        0,
        "1 batches acknowledged, 1 epochs opened",
    )
    ledger_server.script = [(403, {"reason": "InstanceEnded", "detail": "enroll again"}, {})]
    refused = site.report()
    assert refused.returncode == 1
    assert "InstanceEnded: enroll again" in refused.stderr
    url = site.root / "identity" / names.BILLING_URL_KEY
    url.write_text(f"http://127.0.0.1:{free_port()}")
    down = site.report("", "--deadline-seconds", "30")
    assert down.returncode == 75
    assert "BillingUnreachable" in down.stderr
    assert ledger_server.credential not in done.stderr + refused.stderr + down.stderr
    wrong = site.report("", "--deadline-seconds", "-1")
    assert wrong.returncode == 1
    assert "BRINKBYTE_REPORT_DEADLINE_SECONDS" in wrong.stderr


async def test_a_final_report_that_is_not_the_only_one_fails(
    site: Site, ledger_server: LedgerServer
) -> None:
    site.record([usage_event()])
    short = ("--deadline-seconds", "2")
    async with await connect(DatabaseSettings.load(database_url=site.dsn)) as rival:
        assert await lock_outbox(rival)
        assert (await asyncio.to_thread(site.report)).returncode == 0
        by_flag = await asyncio.to_thread(site.report, "", "--final", *short)
        by_variable = await asyncio.to_thread(
            lambda: site.report("", *short, BRINKBYTE_REPORT_FINAL="1")
        )
    for failed in (by_flag, by_variable):
        assert failed.returncode == 75
        assert "ReporterBusy" in failed.stderr
    assert ledger_server.calls == []
    assert site.report("", "--final").returncode == 0
    assert site.unacknowledged() == 0


def test_every_result_has_its_exit_code_and_line() -> None:
    assert set(EXIT_CODES) == set(Result)
    busy = Outcome(Result.BUSY, message="another reporter is at work")
    assert summary(busy) == "another reporter is at work"
    outcome = Outcome(Result.DONE)
    outcome.progress.quarantined = 2
    assert summary(outcome) == "0 batches acknowledged, 2 events set aside by the ledger"


def test_instance_is_the_model_instance(ledger_server: LedgerServer) -> None:
    assert ledger_server.ledger.instance == INSTANCE
