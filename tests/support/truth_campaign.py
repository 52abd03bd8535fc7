"""Customers, two billing servers on one database, and everything that can happen to them."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg

from brinkbyte.billing.clones.service import REOPENED_TOO_OFTEN
from brinkbyte.license.keys import SigningKey
from support.billing import DEFAULT_TERMS
from support.campaign_plan import HALF_WAY, INGEST, REPORTER, Tally
from support.metering_real import enrolled_site
from support.programs import Program
from support.truth_generator import POINTS as GENERATOR
from support.truth_line import CALM, LOSSY, OFFLINE, SLOW, Line
from support.truth_oracle import Findings, describe, examine
from support.truth_site import BATCH_EVENTS, Customer, Database, Disk, view
from support.truth_vendor import Vendor, alive, as_good, verified

STEPS: Final = {
    "report": 10,
    "report to the end": 5,
    "three reporters": 2,
    "kill a reporter": 5,
    "kill a reporter at a point": 8,
    "kill a generator": 3,
    "kill a generator at a point": 3,
    "lossy line": 4,
    "slow line": 4,
    "line down": 2,
    "line up": 6,
    "back up an instance": 4,
    "restore an instance": 3,
    "install an instance anew": 2,
    "clone an instance": 2,
    "lose a clone": 1,
    "kill a server": 3,
    "kill a server at a point": 3,
    "back up the ledger": 2,
    "restore the ledger": 2,
}
"""What happens, and how often against the others."""
_FIRST: Final = ("back up an instance", "clone an instance", "back up the ledger")
"""What others of the same kind need to have happened before."""


def plan_steps(numbers: random.Random, count: int) -> list[str]:
    """Draw so many steps: each kind at least once, the rest by their weights."""
    others = [step for step in STEPS if step not in _FIRST]
    drawn = numbers.choices(list(STEPS), list(STEPS.values()), k=max(0, count - len(STEPS)))
    rest = [*others, *drawn]
    numbers.shuffle(rest)
    return [*numbers.sample(_FIRST, len(_FIRST)), *rest]


@dataclass(frozen=True)
class Death:
    """A disk that died with events on it, and what the vendor had of its instance then."""

    disk: str
    instance: str
    lost: int
    epochs: frozenset[str]
    silent: bool


@dataclass
class Campaign:
    """The world; :meth:`step` changes it, :meth:`settle` brings it to rest and examines it."""

    vendor: Vendor
    numbers: random.Random
    databases: Database
    empty: str
    tally: Tally
    customers: list[Customer] = field(default_factory=list)
    backups: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    deaths: list[Death] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)

    # ---- beginning and end ---------------------------------------------------------------

    async def begin(self, root: Path, names: Sequence[str]) -> None:
        """Start both servers, enroll the customers, record the first events."""
        self.vendor.start()
        for name in names:
            self.vendor.api.create_customer(name, DEFAULT_TERMS)
            home = root / name / "first"
            (root / name / "records").mkdir(parents=True)
            home.mkdir()
            key = SigningKey.generate()
            dsn = self.databases.server.dsn(self.databases.copy(self.empty))
            site = await enrolled_site(self.vendor.api, name, home, dsn, key)
            site.batch_events = BATCH_EVENTS
            urls = [server.url for server in self.vendor.servers]
            line = Line(urls, random.Random(self.numbers.randrange(2**31)))
            line.mood = self.numbers.choice((LOSSY, SLOW))
            line.__enter__()
            identity = home / "identity"
            instance = (identity / "instance-id").read_text()
            (identity / "billing-url").write_text(line.url)
            disk = Disk(
                name,
                site,
                self.databases,
                random.Random(self.numbers.randrange(2**31)),
                root / name / "records",
            )
            self.customers.append(Customer(name, instance, line, root / name, [disk]))
            disk.generate()

    def close(self) -> None:
        """End every process and drop every database that this made."""
        for customer in self.customers:
            customer.line.__exit__()
            for disk in customer.disks:
                disk.kill_generator()
                disk.kill_reporters()
        self.vendor.close()
        self.databases.drop_all()

    # ---- steps ---------------------------------------------------------------------------

    def step(self, name: str) -> None:
        """Let one thing happen, on a disk or server by chance, and say so."""
        customer = self.numbers.choice(self.customers)
        disk = self.numbers.choice(customer.disks)
        works: dict[str, Callable[[Customer, Disk], str | None]] = {
            "report": lambda _, disk: self._report(disk),
            "report to the end": lambda _, disk: self._report_to_the_end(disk),
            "three reporters": lambda _, disk: self._three_reporters(disk),
            "kill a reporter": lambda _, disk: self._kill_reporter(disk),
            "kill a reporter at a point": self._kill_reporter_at,
            "kill a generator": lambda _, disk: self._kill_generator(disk),
            "kill a generator at a point": lambda _, disk: self._kill_generator_at(disk),
            "lossy line": lambda customer, _: self._mood(customer, LOSSY),
            "slow line": lambda customer, _: self._mood(customer, SLOW),
            "line down": lambda customer, _: self._mood(customer, OFFLINE),
            "line up": lambda customer, _: self._mood(
                customer, self.numbers.choice((CALM, LOSSY, SLOW))
            ),
            "back up an instance": lambda _, disk: disk.back_up(),
            "restore an instance": self._restore_instance,
            "install an instance anew": lambda customer, disk: self._replace(
                customer, disk, self.empty
            ),
            "clone an instance": self._clone,
            "lose a clone": lambda customer, _: self._lose_clone(customer),
            "kill a server": lambda _, __: self._kill_server(),
            "kill a server at a point": lambda _, __: self._kill_server_at(),
            "back up the ledger": lambda _, __: self._back_up_ledger(),
            "restore the ledger": lambda _, __: self._restore_ledger(),
        }
        self.counts[name] += 1
        said = works[name](customer, disk)
        at = time.monotonic() - self.tally.began
        print(f"{at:6.1f} s  {name}: {disk.name}{f', {said}' if said else ''}", flush=True)
        for each in self.customers:
            for live in each.disks:
                live.generate()
                if self.numbers.random() < 0.2:
                    live.report()
        time.sleep(self.numbers.uniform(0, 0.4))

    def _report(self, disk: Disk) -> None:
        disk.report()

    def _report_to_the_end(self, disk: Disk) -> str:
        return f"exit code {_ended(disk.report())}"

    def _three_reporters(self, disk: Disk) -> str:
        return f"exit codes {[_ended(each) for each in [disk.report() for _ in range(3)]]}"

    def _kill_reporter(self, disk: Disk) -> str:
        disk.report()
        time.sleep(self.numbers.uniform(0.6, 1.6))
        killed = disk.kill_reporters()
        if killed:
            self.tally.count("reporter", "at random")
        return f"{killed} killed"

    def _kill_reporter_at(self, customer: Customer, disk: Disk) -> str:
        """Kill it at any point, twice; then, should it not have come by, where it always does."""
        disk.kill_reporters()  # one at work would keep the others off
        for points in (REPORTER, REPORTER, HALF_WAY):
            point = self.numbers.choice(points)
            passage = self.numbers.randint(1, 3) if points is REPORTER else 1
            mood = customer.line.mood
            if points is HALF_WAY:
                customer.line.mood = CALM
                disk.speak()
            code = _ended(disk.report(f"{point}:{passage}"))
            customer.line.mood = mood
            if code == -signal.SIGKILL:
                self.tally.count("reporter", point)
                break
        return f"{point}:{passage}, exit code {code}"

    def _kill_generator(self, disk: Disk) -> None:
        disk.kill_generator()
        self.tally.count("generator", "at random")

    def _kill_generator_at(self, disk: Disk) -> str:
        disk.kill_generator()
        point = self.numbers.choice(GENERATOR)
        disk.generate(f"{point}:{self.numbers.randint(1, 5)}")
        assert disk.generator is not None
        self.tally.died("generator", point, _ended(disk.generator))
        return point

    def _mood(self, customer: Customer, mood: dict[str, float]) -> None:
        customer.line.mood = mood

    def _restore_instance(self, customer: Customer, disk: Disk) -> str:
        backups = [backup for each in customer.disks for backup in each.backups]
        if not backups:
            disk.back_up()
            backups = disk.backups
        return self._replace(customer, disk, self.numbers.choice(backups))

    def _replace(self, customer: Customer, disk: Disk, template: str) -> str:
        lost = self._die(customer, disk, template)
        disk.replace(template)
        return f"{lost} events lost"

    def _die(self, customer: Customer, disk: Disk, template: str | None) -> int:
        disk.silence()
        pending = customer.line.pending()
        held = disk.view()
        kept = set() if template is None else view(self.databases.server.dsn(template)).ids
        for other in customer.disks:
            if other is not disk:
                kept |= other.view().ids
        # The ledger last: what comes in after this was pending.
        head = self.vendor.head(customer.name)
        lost = customer.truth.destroyed(
            disk.name,
            held,
            elsewhere=kept,
            ledger=self.vendor.billed(customer.name),
            pending=pending,
        )
        self.counts["events lost"] += len(lost)
        known = {} if template is None else view(self.databases.server.dsn(template)).receipts
        if template is not None:
            self.deaths.append(
                Death(
                    disk.name,
                    customer.instance,
                    len(lost),
                    frozenset(self.vendor.epochs(customer.name)),
                    silent=head is None or head in known,
                )
            )
            self.tally.count("disk", "restored" if template != self.empty else "lost")
        return len(lost)

    def _clone(self, customer: Customer, disk: Disk) -> str:
        if len(customer.disks) > 1:
            self._lose_clone(customer)
            disk = customer.disks[0]
        return customer.clone(disk).name

    def _lose_clone(self, customer: Customer) -> str:
        owners = [customer] if len(customer.disks) > 1 else self.customers
        for owner in owners:
            if len(owner.disks) > 1:
                disk = owner.disks[-1]
                lost = self._die(owner, disk, None)
                owner.disks.remove(disk)
                self.codes += disk.codes
                for name in (disk.database, *disk.backups):
                    self.databases.drop(name)
                return f"{disk.name}: {lost} events lost"
        return "there is none"

    def _kill_server(self) -> None:
        server = self.numbers.choice(self.vendor.servers)
        self._traffic(1)
        server.kill()
        self.tally.count("billing", "at random")
        self._traffic(0.5)
        server.start()

    def _kill_server_at(self) -> str:
        server, other = self.numbers.sample(self.vendor.servers, 2)
        point = self.numbers.choice(INGEST)
        server.stop()
        other.kill()  # what comes, comes to the one that will die
        server.start(BRINKBYTE_FAILPOINT=f"{point}:{self.numbers.randint(1, 3)}")
        moods = [customer.line.mood for customer in self.customers]
        for customer in self.customers:
            customer.line.mood = CALM
            for disk in customer.disks:
                disk.generate()
        deadline = time.monotonic() + 60
        while alive(server.pid) and time.monotonic() < deadline:
            self._traffic(2)
        assert not alive(server.pid), f"the server did not come past {point}"
        self.tally.count("billing", point)
        for customer, mood in zip(self.customers, moods, strict=True):
            customer.line.mood = mood
        self.vendor.kill()
        self.vendor.start()
        return point

    def _traffic(self, seconds: float) -> None:
        """Let reporters run for a while, or until no server is left to be killed."""
        started = [disk.report() for customer in self.customers for disk in customer.disks]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(each.poll() is None for each in started):
            time.sleep(0.05)

    def _back_up_ledger(self) -> str:
        self.vendor.kill()
        self.backups.append(self.databases.copy(self.vendor.api.database))
        while len(self.backups) > 2:
            self.databases.drop(self.backups.pop(0))
        self.vendor.start()
        return self.backups[-1]

    def _restore_ledger(self) -> str:
        self.vendor.kill()
        self.databases.disconnect(self.vendor.api.database)
        backup = self.numbers.choice(self.backups)
        pending = {customer.name: customer.line.pending() for customer in self.customers}
        before = {customer.name: self.vendor.billed(customer.name) for customer in self.customers}
        restored = self.databases.copy(backup)
        self.databases.drop(self.vendor.api.database)
        self.vendor.api.server.execute(
            f'ALTER DATABASE "{restored}" RENAME TO "{self.vendor.api.database}"'
        )
        self.databases.made.discard(restored)
        vanished = 0
        for customer in self.customers:
            after = self.vendor.billed(customer.name)
            vanished += len(before[customer.name] - after)
            on_disks: set[str] = set()
            for disk in customer.disks:
                on_disks |= disk.view().ids
            lost = customer.truth.restored(
                before[customer.name], after, on_disks=on_disks, pending=pending[customer.name]
            )
            self.counts["events lost"] += len(lost)
        self.counts["events the ledger's restore took"] += vanished
        self.tally.count("disk", "ledger restored")
        self.vendor.start()
        return f"{vanished} events vanished from it"

    # ---- rest ----------------------------------------------------------------------------

    def settle(self) -> list[tuple[str, Findings]]:
        """Kill the generators, put everything up, report to the end and examine the ledger."""
        for server in self.vendor.servers:
            if not alive(server.pid):
                server.kill()
                server.start()
        for customer in self.customers:
            customer.line.mood = CALM
            for disk in customer.disks:
                disk.speak()
        for customer in self.customers:
            for disk in customer.disks:
                disk.silence()
            customer.line.drain()
        for customer in self.customers:
            for disk in customer.disks:
                self._report_all(disk)
            # What a clone's report did must not take anything from the others.
            for disk in customer.disks:
                self._report_all(disk)
        found = [(customer.name, self.examine(customer)) for customer in self.customers]
        at = time.monotonic() - self.tally.began
        for customer in self.customers:
            alarms = self.vendor.rows(
                "SELECT reason, times FROM clone_alarms WHERE tenant_id = %s", customer.name
            )
            billed = self.vendor.billed(customer.name)
            epochs = self.vendor.epochs(customer.name)
            print(
                f"{at:6.1f} s  at rest: {customer.name}: {len(billed)} billed, "
                f"{len(customer.truth.lost)} lost, {len(epochs)} epochs, "
                f"{len(customer.disks)} disks, line {dict(customer.line.seen)}, alarms {alarms}",
                flush=True,
            )
        return found

    def _report_all(self, disk: Disk) -> None:
        codes = []
        while len(codes) < 5:
            codes.append(_ended(disk.report("", "--final")))
            if codes[-1] == 0:
                return
        raise AssertionError(f"{disk.name} cannot report, exit codes {codes}\n{disk.log[-3000:]}")

    def examine(
        self, customer: Customer, connection: psycopg.Connection[Any] | None = None
    ) -> Findings:
        """Hold one customer's ledger against the truth.

        Args:
            customer: whose.
            connection: to the billing database, with rows as dictionaries; its transaction's view.
        """
        customer.truth.read(customer.files())
        ledger = self.vendor.ledger(customer.name, connection)
        keys = self.vendor.keys()
        disks = {disk.name: as_good(disk.view(), ledger, keys) for disk in customer.disks}
        return examine(customer.truth, ledger, disks, verified(ledger, keys))

    def unseen(self) -> list[Death]:
        """Return deaths that took events along and that the vendor has no sign of."""
        now = {customer.instance: self.vendor.epochs(customer.name) for customer in self.customers}
        return [
            death
            for death in self.deaths
            if death.lost and not death.silent and not now[death.instance] - death.epochs
        ]

    def publish(self) -> None:
        """Print the summary and write it beside those of the other campaigns."""
        truths = [customer.truth for customer in self.customers]
        lines: Counter[str] = sum((customer.line.seen for customer in self.customers), Counter())
        self.tally.publish(
            answered=sum(len(truth.answered) for truth in truths),
            unanswered=sum(
                len(truth.tried.keys() - truth.answered - truth.undone) for truth in truths
            ),
            rolled_back=sum(len(truth.undone) for truth in truths),
            lost={
                customer.name: Counter(customer.truth.lost.values()) for customer in self.customers
            },
            billed=sum(len(self.vendor.billed(customer.name)) for customer in self.customers),
            deaths=len(self.deaths),
            exit_codes=dict(self.exit_codes()),
            requests=dict(lines),
            steps=dict(self.counts),
        )

    def untold(self) -> list[str]:
        """Return customers whose epochs took turns without an alarm."""
        silent = []
        for customer in self.customers:
            ledger = self.vendor.ledger(customer.name)
            reopened = sum(row["follows"] is not None for row in ledger.epochs)
            if reopened >= REOPENED_TOO_OFTEN and not ledger.alarms:
                silent.append(customer.name)
        return silent

    def helpless(self) -> dict[str, Counter[int]]:
        """Return customers whose reporters said that a person must help, and had no reason to.

        Two copies that send at the same time close each other's epochs again and again; a reporter
        gives up after a few, until its next run.
        """
        wrong = {}
        for customer in self.customers:
            codes = sum((disk.codes for disk in customer.disks), Counter[int]())
            expected = {0, 75, -signal.SIGKILL} | ({1} if customer.clones else set())
            if codes.keys() - expected:
                wrong[customer.name] = codes
        return wrong

    def exit_codes(self) -> Counter[int]:
        """Return how all reporters ended."""
        return sum(
            (disk.codes for customer in self.customers for disk in customer.disks), self.codes
        )

    def check(self, findings: list[tuple[str, Findings]]) -> None:
        """Fail with what is wrong."""
        wrong = describe(findings)
        assert not wrong, wrong


def _ended(process: Program, seconds: float = 120) -> int:
    """Wait for a process that ends by itself, whatever it waits for."""
    return process.wait(seconds)
