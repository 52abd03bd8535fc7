"""Whatever vendor, line, clock and power do, a site is in the mode its newest documents say.

The real taking-in, clock, mode and policy on one side; on the other a model of a few lines that
knows what each document said when it was cut. Everything a site keeps goes through JSON after each
step, as through its database.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from brinkbyte.catalog import load_catalog
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.clock import ClockState
from brinkbyte.license.documents import Documents, Snapshot, Verifier
from brinkbyte.license.modes import ALLOWS, MOVES, Event, LicenseMode
from brinkbyte.store.policy import Policy
from support.campaign_plan import soaking
from support.license_vendor import BASE, GRACE, PACKS, Cut, PretendedVendor
from support.licensing import CUSTOMER, DAY, INSTANCE, NOW, vendor

HOUR: Final = 3600
# With a clock that is 400 days ahead the key set of 800 days still holds.
LATEST: Final = NOW + 300 * DAY
CATALOG: Final = load_catalog()
VERIFIER: Final = Verifier(vendor().roots, INSTANCE, CUSTOMER)
IN_TIME: Final = {Event.ENDED, Event.HARD_ENDED, Event.GRACE_ENDED, Event.CLOCK_RIGHT}
BY_STATUS: Final = {
    "active": Event.PAID,
    "past_due": Event.PAID,
    "trialing": Event.TRIAL,
    "canceled": Event.CANCELED,
    "suspended": Event.SUSPENDED,
}


@dataclass
class Site:
    """The real rules, and what they keep."""

    snapshot: Snapshot = field(default_factory=Snapshot)
    clock: ClockState = field(default_factory=ClockState)
    kept: str = '{"clock": {}, "documents": {}}'
    unkept: int = 0

    def take_in(self, documents: Documents, wall: int) -> None:
        taken = VERIFIER.take_in(self.snapshot, documents, now=self.clock.now(wall))
        self.snapshot = taken.snapshot
        self.clock = self.clock.taken_in(taken.snapshot.newest_signed_time)
        self.keep()

    def run(self, seconds: int) -> None:
        """Run for so long; the clock is kept every hour."""
        since = (self.unkept + seconds) % HOUR
        if self.unkept + seconds >= HOUR:
            self.clock = self.clock.ran(seconds - since)
            self.keep()
            seconds = since
        self.clock = self.clock.ran(seconds)
        self.unkept += seconds

    def keep(self) -> None:
        self.unkept = 0
        self.kept = json.dumps(
            {
                "clock": self.clock.model_dump(mode="json", by_alias=True),
                "documents": {kind.value: text for kind, text in self.snapshot.raw.items()},
            }
        )

    def started_again(self, wall: int) -> Site:
        """What a new process makes of what was kept."""
        kept = json.loads(self.kept)
        again = Site(clock=ClockState.model_validate(kept["clock"]), kept=self.kept)
        again.take_in({TokenKind(k): text for k, text in kept["documents"].items()}, wall)
        return again

    def policy(self, wall: int) -> Policy:
        return Policy(self.snapshot, self.clock.now(wall), CATALOG)


class ModeMachine(RuleBasedStateMachine):
    """One customer, one site."""

    def __init__(self) -> None:
        super().__init__()
        self.vendor = PretendedVendor(NOW)
        self.site = Site()
        self.line = True
        self.error = 0
        self.cuts: dict[str, Cut] = {}
        self.backup: dict[TokenKind, Cut] = {}
        # The model: the newest of each kind that came, and hours since the newest signed time.
        self.held: dict[TokenKind, Cut] = {}
        self.signed = 0
        self.ran = 0
        self.kept_ran = 0
        self.confirmed: int | None = None
        self.ahead_since_confirmed = False
        self.before = LicenseMode.UNLICENSED
        self.events: set[Event] = set()

    # What happens.

    @initialize(status=st.sampled_from(["active", "trialing"]))
    def sold(self, status: str) -> None:
        self.vendor.status = status
        self.vendor.end = NOW + 90 * DAY if status == "trialing" else None
        self.refresh()

    @rule(seconds=st.sampled_from([60, HOUR, 3 * HOUR + 7, DAY]))
    def hours_pass(self, seconds: int) -> None:
        self.time_passes(seconds)

    @precondition(lambda self: self.vendor.now < LATEST)
    @rule(days=st.sampled_from([6, 6, 13, 29, 44]))
    def days_pass(self, days: int) -> None:
        self.time_passes(days * DAY)

    def time_passes(self, seconds: int) -> None:
        self.vendor.now += seconds
        self.site.run(seconds)
        self.ran += seconds
        if self.ran - self.kept_ran >= HOUR:
            self.kept_ran = self.ran - (self.ran - self.kept_ran) % HOUR
        self.refresh()

    @precondition(lambda self: self.vendor.now < LATEST)
    @rule(seconds=st.sampled_from([HOUR, 5 * DAY, 20 * DAY, 50 * DAY]))
    def switched_off_for(self, seconds: int) -> None:
        self.stopped_cleanly()
        self.vendor.now += seconds
        self.started_again()
        self.refresh()

    @rule()
    def stopped_and_started(self) -> None:
        self.stopped_cleanly()
        self.started_again()

    @rule()
    def killed_and_started(self) -> None:
        assert self.ran - self.kept_ran < HOUR
        self.ran = self.kept_ran
        self.started_again()

    def stopped_cleanly(self) -> None:
        self.site.keep()
        self.kept_ran = self.ran

    def started_again(self) -> None:
        self.site = self.site.started_again(self.wall)

    @rule(days=st.sampled_from([0, 0, 0, -400, -30, -1, 1, 6, 30, 46, 400]))
    def clock_jumps(self, days: int) -> None:
        self.error = days * DAY
        self.ahead_since_confirmed |= days > 0
        self.refresh()

    @rule(up=st.booleans())
    def line_goes(self, up: bool) -> None:
        self.line = up
        self.refresh()

    @rule(status=st.sampled_from(["active", "active", "suspended"]))
    def renewed_or_suspended(self, status: str) -> None:
        self.vendor.status, self.vendor.end = status, None
        self.refresh()

    @rule(
        status=st.sampled_from(["trialing", "canceled", "past_due"]),
        days=st.sampled_from([0, 1, 14, 90]),
    )
    def given_an_end(self, status: str, days: int) -> None:
        self.vendor.status, self.vendor.end = status, self.vendor.now + days * DAY
        self.refresh()

    @rule()
    def revoked(self) -> None:
        self.vendor.revoke()
        self.refresh()

    @rule(
        packs=st.sampled_from([(), ("retail",), ("airports", "retail")]),
        devices=st.sampled_from([3, 50]),
        cameras=st.sampled_from([0, 2, 5]),
    )
    def plan_changed(self, packs: tuple[str, ...], devices: int, cameras: int) -> None:
        self.vendor.packs, self.vendor.devices, self.vendor.cameras = packs, devices, cameras
        self.refresh()

    @rule(restore=st.booleans())
    def vendor_backed_up_or_restored(self, restore: bool) -> None:
        if restore:
            self.vendor.restore(self.backup)
            self.refresh()
        else:
            self.backup = dict(self.vendor.newest)

    @precondition(lambda self: self.cuts)
    @rule(data=st.data())
    def older_document_put_back(self, data: st.DataObject) -> None:
        cut = data.draw(st.sampled_from(list(self.cuts.values())))
        self.delivered({cut.kind: cut.text})

    @precondition(lambda self: self.cuts)
    @rule(data=st.data())
    def document_edited(self, data: st.DataObject) -> None:
        cut = data.draw(st.sampled_from(list(self.cuts.values())))
        at = data.draw(st.integers(0, len(cut.text) - 20))
        text = cut.text[:at] + ("A" if cut.text[at] != "A" else "B") + cut.text[at + 1 :]
        held = self.site.snapshot
        self.site.take_in({cut.kind: text}, self.wall)
        assert self.site.snapshot is held

    # What the model makes of it.

    @property
    def wall(self) -> int:
        return self.vendor.now + self.error

    @property
    def now(self) -> int:
        return max(self.wall, self.signed + self.ran)

    def refresh(self) -> None:
        """The site asks the vendor, as it does every hour."""
        if not self.line:
            return
        documents = self.vendor.newer(self.site.snapshot.held)
        self.cuts |= {cut.text: cut for cut in self.vendor.newest.values()}
        self.delivered(documents)
        if all(self.held.get(kind) == cut for kind, cut in self.vendor.newest.items()):
            self.confirmed = self.vendor.now
            self.ahead_since_confirmed = self.error > 0

    def delivered(self, documents: Documents) -> None:
        self.site.take_in(documents, self.wall)
        now = self.now
        for text in documents.values():
            cut = self.cuts.get(text)
            if cut is None:
                # The key set; older than any license.
                self.counts_from(NOW)
                continue
            before = self.held.get(cut.kind)
            if (before and cut.sequence <= before.sequence) or cut.signed_at > now + 300:
                continue
            self.held[cut.kind] = cut
            if cut.kind is TokenKind.LICENSE:
                self.events |= {BY_STATUS[cut.status], Event.REINSTATED, Event.REVOKED}
            if cut.kind is TokenKind.REVOCATIONS:
                self.events |= {Event.REVOKED, Event.REINSTATED}
        for cut in self.held.values():
            self.counts_from(cut.signed_at)
        self.kept_ran = self.ran

    def counts_from(self, signed_at: int) -> None:
        if signed_at > self.signed:
            self.signed, self.ran, self.kept_ran = signed_at, 0, 0

    def expected(self) -> LicenseMode:
        cut = self.held.get(TokenKind.LICENSE)
        if cut is None:
            return LicenseMode.UNLICENSED
        listed = self.held.get(TokenKind.REVOCATIONS)
        if listed is not None and cut.sequence <= listed.up_to:
            return LicenseMode.REVOKED
        if cut.status == "suspended":
            return LicenseMode.SUSPENDED
        if self.now < cut.end:
            return LicenseMode.TRIAL if cut.status == "trialing" else LicenseMode.ACTIVE
        if cut.status in {"active", "past_due"} and self.now < cut.end + GRACE:
            return LicenseMode.GRACE
        return LicenseMode.EXPIRED

    # What must hold after every step.

    @invariant()
    def the_mode_is_what_documents_and_clock_say(self) -> None:
        assert self.site.policy(self.wall).decision.mode is self.expected()

    @invariant()
    def only_events_of_the_table_move_it(self) -> None:
        after = self.site.policy(self.wall).decision.mode
        assert after is self.before or any(
            after in MOVES[event].get(self.before, ()) for event in self.events | IN_TIME
        ), (self.before, after, self.events)
        self.before, self.events = after, set()

    @invariant()
    def a_restart_changes_nothing(self) -> None:
        stopped = replace(self.site)
        stopped.keep()
        again = stopped.started_again(self.wall)
        assert again.snapshot.held == self.site.snapshot.held
        assert again.clock == self.site.clock
        assert again.policy(self.wall).decision == self.site.policy(self.wall).decision

    @invariant()
    def never_more_than_the_newest_signed_documents_allow(self) -> None:
        policy = self.site.policy(self.wall)
        allowed = ALLOWS[policy.decision.mode]
        license_, seats = self.held.get(TokenKind.LICENSE), self.held.get(TokenKind.SEATS)
        most = license_.devices if license_ is not None and allowed.full else 3
        assert policy.max_devices is not None
        assert policy.max_devices <= most
        signed: set[str] = set(BASE["models"])
        if allowed.full and seats is not None:
            signed.update(name for pack in seats.packs for name in PACKS[pack]["models"])
        assert policy.licensed_models <= signed | (set(CATALOG.base.models) if not seats else set())
        for n in range(1, 7):
            camera = policy.camera(f"cam-{n}", f"hw-{n}")
            if camera.allowed:
                assert seats is not None
                assert n <= (seats.cameras if allowed.full else min(3, seats.cameras))
                assert set(camera.grant.models) <= signed

    @invariant()
    def thirty_days_without_the_line_are_held(self) -> None:
        cut = self.held.get(TokenKind.LICENSE)
        if self.confirmed is None or self.ahead_since_confirmed or cut is None:
            return
        paid = cut.status == "active" and self.expected() is not LicenseMode.REVOKED
        if paid and self.vendor.now - self.confirmed <= 30 * DAY:
            assert self.site.policy(self.wall).decision.mode is LicenseMode.ACTIVE

    @invariant()
    def a_clock_turned_back_gains_nothing(self) -> None:
        """Never before the newest signed time and the hours run, but for those a kill lost."""
        assert self.site.clock.now(self.wall) >= self.signed + self.ran

    @invariant()
    def nothing_of_a_forward_jump_is_kept(self) -> None:
        if self.error == 0:
            assert self.site.clock.now(self.wall) == self.vendor.now


def run(machine: Callable[[], RuleBasedStateMachine], **over: Any) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, **over
        ),
    )


@pytest.mark.unit
@pytest.mark.soak
def test_every_mode_and_every_move_between_modes() -> None:
    run(ModeMachine, max_examples=1000 if soaking() else 25, stateful_step_count=40)
