"""Usage as files: whatever is carried late, twice, in another order or damaged, each event once."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import psycopg
import pytest
from typer.testing import CliRunner

from brinkbyte.billing.cli import app as billing_cli
from brinkbyte.billing.migrate import API
from brinkbyte.kit.errors import PermanentError
from brinkbyte.license.tokens import TokenError
from brinkbyte.metering.files import FileError
from brinkbyte.reporter import run
from brinkbyte.reporter.cli import app as usage_cli
from brinkbyte.resources import names
from brinkbyte.store import sealing
from brinkbyte.trust import parse_roots
from services.metering.carrying import KEY, Carried, carriers
from support import programs
from support.billing import BillingApi
from support.metering_real import enrolled_site
from support.metering_site import usage_event
from support.postgres import PostgresServer

from .test_reporter import execute

pytestmark = pytest.mark.services
New = Callable[[], Carried]


@pytest.fixture
def new(
    api: BillingApi,
    postgres_server: PostgresServer,
    migrated_template: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[New]:
    """Makes sites whose batches have at most a hundred events."""
    monkeypatch.setattr(sealing, "MAX_EVENTS", 100)
    with carriers(api, postgres_server, migrated_template, tmp_path) as make:
        yield make


def assert_exact(carried: Carried) -> None:
    ids = carried.ids()
    assert sorted(ids) == sorted(carried.site.outbox())
    assert carried.site.unacknowledged() == 0


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def rewritten(path: Path, body: list[bytes]) -> None:
    """Write a file with an end that fits: somebody who knows the format."""
    end = {"lines": len(body), "sha256": hashlib.sha256(b"".join(body)).hexdigest()}
    path.write_bytes(b"".join(body) + json.dumps(end).encode() + b"\n")


def test_usage_goes_out_and_receipts_come_back(new: New) -> None:
    carried = new()
    carried.record(230)
    exported = carried.export()
    assert (exported.batches, exported.events) == (3, 230)
    assert carried.vendor_import().batches == 3
    done = carried.import_receipts()
    assert (done.marked, done.known, done.left, done.epoch_opened) == (3, 0, 0, None)
    assert_exact(carried)
    # And the chain goes on with the next file.
    carried.record(5)
    assert carried.export().batches == 1
    carried.vendor_import()
    carried.import_receipts()
    assert_exact(carried)
    assert len({batch["epoch"] for batch in carried.api.ledger(carried.customer)["batches"]}) == 1


def test_exported_again_before_a_receipt_came_doubles_nothing(new: New) -> None:
    carried = new()
    carried.record(3)
    first, second = carried.site.root / "first", carried.site.root / "second"
    carried.export(first)
    carried.record(4)
    assert carried.export(second).events == 7
    # In whichever order they arrive.
    carried.vendor_import(second, carried.site.root / "r2")
    carried.vendor_import(first, carried.site.root / "r1")
    carried.import_receipts(carried.site.root / "r2")
    done = carried.import_receipts(carried.site.root / "r1")
    assert (done.marked, done.known, done.epoch_opened) == (0, 1, None)
    assert_exact(carried)


def test_imported_twice_changes_nothing(new: New) -> None:
    carried = new()
    carried.record(3)
    carried.export()
    carried.vendor_import()
    before = carried.receipts.read_bytes()
    carried.vendor_import()
    assert lines(carried.receipts)[1] == before.splitlines(keepends=True)[1]
    assert carried.import_receipts().marked == 1
    again = carried.import_receipts()
    assert (again.marked, again.known, again.epoch_opened) == (0, 1, None)
    assert_exact(carried)


def test_receipts_out_of_order_mark_what_they_are_for(new: New) -> None:
    carried = new()
    receipts = [carried.site.root / f"r{n}" for n in range(3)]
    for receipt in receipts:
        carried.record(2)
        carried.export()
        carried.vendor_import(out=receipt)
    assert carried.import_receipts(receipts[2]).left == 0
    for older in (receipts[0], receipts[1], receipts[0]):
        done = carried.import_receipts(older)
        assert (done.marked, done.epoch_opened, done.left) == (0, None, 0)
    assert_exact(carried)


@pytest.mark.parametrize("cut", [2, 60, 2000], ids=str)
def test_a_file_that_was_cut_short_is_refused_whole(new: New, cut: int) -> None:
    carried = new()
    carried.record(20)
    carried.export()
    carried.file.write_bytes(carried.file.read_bytes()[:-cut])
    with pytest.raises(FileError) as caught:
        carried.vendor_import()
    assert caught.value.reason in {"FileTruncated", "FileChanged"}
    assert carried.ids() == []
    assert not carried.receipts.exists()
    carried.export()
    carried.vendor_import()
    whole = carried.receipts.read_bytes()
    carried.receipts.write_bytes(whole[: -min(cut, len(whole) - 10)])
    with pytest.raises(FileError):
        carried.import_receipts()
    assert carried.site.unacknowledged() == 20


def test_edited_usage_is_refused_at_the_batch_that_was_edited(new: New) -> None:
    carried = new()
    carried.record(3)
    carried.export()
    plain = carried.file.read_bytes()
    carried.file.write_bytes(plain.replace(b'"quantity":"1"', b'"quantity":"0"', 1))
    with pytest.raises(FileError, match="was changed"):
        carried.vendor_import()
    # With an end that fits, the signature of the batch is what holds.
    rewritten(carried.file, [part.replace(b'"1"', b'"0"') for part in lines(carried.file)[:-1]])
    done = carried.vendor_import()
    assert done.refused is not None
    assert (done.batches, done.refused.reason) == (0, "PayloadMismatch")
    assert carried.ids() == []
    told = carried.import_receipts()
    assert "PayloadMismatch" in str(told.refused)
    assert (told.marked, told.left, told.epoch_opened) == (0, 3, None)
    carried.file.write_bytes(plain)
    carried.vendor_import()
    carried.import_receipts()
    assert_exact(carried)


def test_a_batch_left_out_is_named_as_a_gap(new: New) -> None:
    carried = new()
    carried.record(230)
    carried.export()
    body = lines(carried.file)[:-1]
    rewritten(carried.file, [body[0], body[1], body[3]])
    done = carried.vendor_import()
    assert done.refused is not None
    assert (done.batches, done.refused.reason, done.refused.batch_no) == (1, "Gap", 3)
    assert carried.import_receipts().left == 130
    carried.export()
    carried.vendor_import()
    carried.import_receipts()
    assert_exact(carried)


def test_a_file_of_another_site_or_customer_is_refused(new: New) -> None:
    ours, others = new(), new()
    ours.record(1)
    others.record(1)
    ours.export()
    others.export()
    with pytest.raises(PermanentError) as caught:
        ours.vendor_import(customer=others.customer)
    assert caught.value.reason == "CustomerMismatch"
    # Under another customer's name the instance is not theirs.
    body = lines(ours.file)[:-1]
    body[0] = body[0].replace(ours.customer.encode(), others.customer.encode())
    rewritten(ours.file, body)
    with pytest.raises(PermanentError) as caught:
        ours.vendor_import()
    assert caught.value.reason == "UnknownInstance"
    # One site's batches under the other's name are the other key pair's or the other instance's.
    stolen = lines(others.file)[:-1]
    rewritten(ours.file, [stolen[0], lines(ours.file)[1]])
    done = ours.vendor_import()
    assert done.refused is not None
    assert done.refused.reason in {"WrongInstance", "UnknownInstanceKey"}
    assert ours.ids() == others.ids() == []
    others.vendor_import()
    with pytest.raises(FileError) as wrong:
        ours.import_receipts(others.receipts)
    assert wrong.value.reason == "OtherSite"


def test_a_license_of_another_customer_exports_nothing(new: New) -> None:
    carried = new()
    carried.record(1)
    license_ = carried.site.root / "license" / names.LICENSE_KEY
    license_.write_text(jwt.encode({"sub": "other"}, "x" * 32, algorithm="HS256"))
    with pytest.raises(PermanentError) as caught:
        carried.export()
    assert caught.value.reason == "OtherCustomer"
    license_.unlink()
    assert carried.export().batches == 1


def test_files_that_are_something_else_are_named(new: New) -> None:
    carried = new()
    carried.record(1)
    carried.export()
    carried.vendor_import()
    with pytest.raises(FileError) as caught:
        carried.import_receipts(carried.file)
    assert caught.value.reason == "WrongFile"
    newer = carried.site.root / "newer"
    rewritten(newer, [carried.file.read_bytes().replace(b'"version":1', b'"version":2', 1)])
    for content, reason in (
        (b"", "NotAUsageFile"),
        (b"\xff\x00", "NotAUsageFile"),
        (b'{"format":"brinkbyte-usage","version":1}\n', "FileChanged"),
        (newer.read_bytes(), "NewerFile"),
    ):
        carried.file.write_bytes(content)
        with pytest.raises(FileError) as caught:
            carried.vendor_import()
        assert caught.value.reason == reason


def test_a_receipt_that_is_not_the_vendors_marks_nothing(new: New) -> None:
    carried = new()
    carried.record(150)
    carried.export()
    carried.vendor_import()
    body = lines(carried.receipts)[:-1]
    forged = json.loads(body[2])["receipt"]
    body[2] = json.dumps({"receipt": forged[:-8] + "AAAAAAAA"}).encode() + b"\n"
    rewritten(carried.receipts, body)
    with pytest.raises(TokenError):
        carried.import_receipts()
    assert carried.site.unacknowledged() == 150
    for line in (b"{}\n", b"[1]\n", b'{"receipt":"a.b.c"}\n'):
        rewritten(carried.receipts, [body[0], line])
        with pytest.raises(PermanentError):
            carried.import_receipts()


def test_a_database_restored_after_an_export_takes_up_a_new_epoch(
    new: New, postgres_server: PostgresServer
) -> None:
    carried = new()
    carried.record(4)
    carried.export()
    name = execute(carried.site, "SELECT current_database()")[0][0]
    backup = postgres_server.create_database(template=name)
    carried.record(3)
    carried.export()
    carried.vendor_import()
    # The site goes back to the backup, goes on, and exports a batch whose number is taken.
    lost = set(carried.site.outbox())
    carried.site.dsn = postgres_server.dsn(backup)
    carried.record(5)
    carried.export()
    done = carried.vendor_import()
    assert done.refused is not None
    assert done.refused.reason == "ChainMismatch"
    told = carried.import_receipts()
    assert told.epoch_opened is not None
    carried.export()
    assert carried.vendor_import().refused is None
    assert carried.import_receipts().left == 0
    ids = carried.ids()
    assert len(ids) == len(set(ids)) == 12
    assert set(ids) == lost | set(carried.site.outbox())


def test_a_new_database_follows_what_the_ledger_has(
    new: New, postgres_server: PostgresServer, migrated_template: str
) -> None:
    carried = new()
    carried.record(2)
    carried.export()
    carried.vendor_import()
    carried.site.dsn = postgres_server.dsn(
        postgres_server.create_database(template=migrated_template)
    )
    carried.record(3)
    carried.export()
    done = carried.vendor_import()
    assert done.refused is not None
    assert done.refused.reason == "EpochConflict"
    told = carried.import_receipts()
    assert (told.marked, told.left) == (0, 3)
    assert told.epoch_opened is not None
    carried.export()
    carried.vendor_import()
    assert carried.import_receipts().left == 0
    assert len(set(carried.ids())) == len(carried.ids()) == 5


def test_a_restored_ledger_gets_what_it_lacks(new: New, postgres_server: PostgresServer) -> None:
    carried = new()
    for _ in range(2):
        carried.record(2)
        carried.export()
        carried.vendor_import()
        carried.import_receipts()
    statement = f"DELETE FROM {{}} WHERE tenant_id = '{carried.customer}'"
    with psycopg.connect(carried.api.server.dsn(carried.api.database)) as connection:
        for table in ("usage_events", "usage_batches", "usage_epochs"):
            connection.execute(statement.format(table).encode())
    carried.record(1)
    carried.export()
    done = carried.vendor_import()
    assert done.refused is not None
    assert done.refused.reason == "Gap"
    assert carried.export(acknowledged=True).events == 5
    assert carried.vendor_import().refused is None
    assert carried.import_receipts().left == 0
    assert_exact(carried)


def test_a_batch_changed_in_the_database_is_sealed_anew(new: New) -> None:
    carried = new()
    carried.record(3)
    carried.export()
    execute(carried.site, "UPDATE usage_batches SET payload = '[]'")
    assert carried.export().events == 3
    carried.vendor_import()
    carried.import_receipts()
    assert_exact(carried)


def test_enrolled_anew_the_chain_goes_on(new: New) -> None:
    carried = new()
    carried.record(2)
    carried.export()
    carried.vendor_import()
    carried.import_receipts()
    carried.record(3)
    carried.export()  # never arrives

    asyncio.run(
        enrolled_site(
            carried.api, carried.customer, carried.site.root, carried.site.dsn, KEY, replace=True
        )
    )
    refused = carried.vendor_import()
    assert refused.refused is not None
    assert refused.refused.reason == "InstanceEnded"
    assert carried.export().events == 3
    assert carried.vendor_import().refused is None
    carried.import_receipts()
    assert_exact(carried)


def test_a_quarantined_event_is_named(new: New) -> None:
    carried = new()
    carried.site.record([usage_event(meter="vision.nothing"), usage_event()])
    carried.export()
    carried.vendor_import()
    done = carried.import_receipts()
    assert [line.split(": ")[1] for line in done.quarantined] == ["UnknownMeter"]
    assert done.left == 0


def test_nothing_to_carry_is_a_file_all_the_same(new: New) -> None:
    carried = new()
    assert carried.export().batches == 0
    assert carried.vendor_import().batches == 0
    done = carried.import_receipts()
    assert (done.marked, done.left) == (0, 0)


# The commands, as people run them.


@pytest.fixture
def usage(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def usage(carried: Carried, *arguments: str, data: bytes = b"") -> Any:
        roots = parse_roots((carried.site.root / "roots.json").read_bytes())
        monkeypatch.setattr(run, "load_release_roots", lambda: roots)
        for name, value in carried.site.environment().items():
            if name.startswith("BRINKBYTE_"):
                monkeypatch.setenv(name, value)
        return CliRunner().invoke(usage_cli, list(arguments), input=data)

    return usage


def test_commands_say_what_to_do_next(
    new: New, usage: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    carried = new()
    carried.record(3)
    unknown = usage(carried, "export", "--out", str(carried.file))
    assert (unknown.exit_code, "--customer" in unknown.stderr) == (1, True)
    done = usage(carried, "export", "--out", str(carried.file), "--customer", carried.customer)
    assert done.exit_code == 0, done.output
    assert "billing admin usage import" in done.stderr
    to_stdout = usage(carried, "export", "--out", "-", "--customer", carried.customer)
    assert to_stdout.stdout.splitlines()[1].encode() == lines(carried.file)[1].strip()
    monkeypatch.setenv("BRINKBYTE_DATABASE_URL", carried.api.dsn(API))
    monkeypatch.setenv("BRINKBYTE_SIGNING_KEYS_DIR", str(carried.api.keys))
    importing = ["admin", "usage", "import", str(carried.file), "--out", str(carried.receipts)]
    taken = CliRunner().invoke(billing_cli, importing)
    assert taken.exit_code == 0, taken.output
    assert "1 batches" in taken.output
    streamed = CliRunner().invoke(
        billing_cli, [*importing[:3], "-", "-o", "-"], input=carried.file.read_bytes()
    )
    assert streamed.stdout.splitlines()[1].encode() == lines(carried.receipts)[1].strip()
    back = usage(carried, "import", str(carried.receipts))
    assert back.exit_code == 0, back.output
    assert "1 batches acknowledged, 0 were already; 0 events have no receipt" in back.stdout
    again = usage(carried, "import", "-", data=carried.receipts.read_bytes())
    assert "0 batches acknowledged, 1 were already" in again.stdout
    # Refused: exit code 1 on both sides, and both say why.
    carried.record(1)
    usage(carried, "export", "--out", str(carried.file), "--customer", carried.customer)
    rewritten(carried.file, [part.replace(b'"1"', b'"0"') for part in lines(carried.file)[:-1]])
    monkeypatch.setenv("BRINKBYTE_DATABASE_URL", carried.api.dsn(API))
    taken = CliRunner().invoke(billing_cli, importing)
    assert (taken.exit_code, "PayloadMismatch" in taken.output) == (1, True)
    back = usage(carried, "import", str(carried.receipts))
    assert (back.exit_code, "PayloadMismatch" in back.stderr) == (1, True)
    missing = usage(carried, "import", str(carried.site.root / "nothing"))
    assert (missing.exit_code, "No such file" in missing.stderr) == (1, True)
    (carried.site.root / "identity" / names.INSTANCE_ID_KEY).unlink()
    waiting = usage(carried, "import", str(carried.receipts))
    assert (waiting.exit_code, "NotEnrolled" in waiting.stderr) == (75, True)


def test_killed_while_importing_receipts_then_again(new: New) -> None:
    carried = new()
    carried.record(230)
    carried.export()
    carried.vendor_import()
    killed = programs.run(
        "support.metering_launcher",
        str(carried.site.root / "roots.json"),
        *("usage", "import", str(carried.receipts)),
        environment=carried.site.environment("file.marked:2"),
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert 0 < carried.site.unacknowledged() < 230
    assert carried.import_receipts().left == 0
    assert_exact(carried)


def test_the_vendors_import_killed_then_again(new: New) -> None:
    carried = new()
    carried.record(230)
    carried.export()
    killed = programs.run(
        "brinkbyte.billing",
        *("admin", "usage", "import", str(carried.file), "--out", str(carried.receipts)),
        environment={
            **os.environ,
            **carried.api.environment,
            "BRINKBYTE_FAILPOINT": "file.ingested:2",
        },
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not carried.receipts.exists()
    assert len(carried.ids()) == 200
    assert carried.vendor_import().batches == 3
    assert carried.import_receipts().left == 0
    assert_exact(carried)
