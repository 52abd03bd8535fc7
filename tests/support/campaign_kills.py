"""The campaign on the host: provokes each planned kill, sees it happen, and lets the work go on."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import httpx

from brinkbyte.license.keys import SigningKey
from brinkbyte.license.wire import Enrollment, EnrollmentRequest
from support.billing import BillingApi
from support.campaign_host import (
    BATCH_EVENTS,
    HostSite,
    InstanceProcess,
    enroll,
    enrollment_request,
)
from support.campaign_plan import ENROLL, INGEST, INVENTORY, SIGNED, Plan, Step, Tally

TEMPORARY: Final = 75
"""Exit code of a reporter that could not finish and is run again."""
_DEATH_SECONDS: Final = 120.0
_LAST_SECONDS: Final = 20.0
_TRIPPED_BY: Final = {
    **dict.fromkeys(INGEST, "reporter"),
    **dict.fromkeys(INVENTORY, "inventory"),
    **dict.fromkeys(ENROLL, "enrollment"),
}


class InstanceLane:
    """Kills the instance in the midst of its traffic, again and again, beside everything else."""

    def __init__(self, instance: InstanceProcess, steps: Sequence[Step], tally: Tally) -> None:
        self._instance = instance
        self._steps = steps
        self._tally = tally
        self._error: BaseException | None = None
        self._done = threading.Event()
        self._stop = threading.Event()
        # The thread outlives its last process: a child dies with the thread that started it.
        self._thread = threading.Thread(target=self._run, name="instance", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def check(self) -> None:
        """Raise what went wrong."""
        if self._error is not None:
            raise AssertionError("the instance's kills") from self._error

    def wait_done(self, seconds: float) -> None:
        """Wait until all its kills are done and it runs without a failpoint."""
        self._done.wait(seconds)
        self.check()
        assert self._done.is_set(), f"the instance's kills are not done within {seconds} s"

    def stop(self) -> None:
        self._stop.set()
        self._instance.stop()
        self._thread.join(60)

    def _run(self) -> None:
        try:
            for step in self._steps:
                if self._stop.is_set():
                    return
                self._instance.start(f"{step.point}:{step.count}")
                code = self._instance.wait(_DEATH_SECONDS)
                if self._stop.is_set():
                    return
                self._tally.died("instance", step.point, code, log=self._instance.log)
            self._instance.start()
            self._done.set()
            self._stop.wait()
        except BaseException as error:  # noqa: BLE001 - told by check()
            self._error = error
            self._done.set()


class HostCampaign:
    """Works through the plan.

    Args:
        site: the customer.
        plan: what dies, in which order.
        tally: counts.
    """

    def __init__(self, site: HostSite, plan: Plan, tally: Tally) -> None:
        self._site = site
        self._api: BillingApi = site.api
        self._plan = plan
        self._tally = tally
        self._armed: Step | None = None
        self._traffic: Callable[[], None] = lambda: None
        self._lane = InstanceLane(site.instance, plan.instance, tally)
        self._throwaway_key = SigningKey.generate()
        self._enrolling: EnrollmentRequest | None = None
        self.enrolled: dict[str, Enrollment] = {}
        """Throw-away customers, with the answer that the last of their requests got."""

    def run(self, check: Callable[[], None]) -> None:
        """Do every kill, then bring everything up and finish what was begun.

        Args:
            check: raises when the traffic has ended.
        """
        self._traffic = check
        self._lane.start()
        steps = self._plan.others
        for number, step in enumerate(steps):
            self._check()
            following = steps[number + 1 :]
            if step.process == "reporter":
                self._kill_reporter(step)
            else:
                self._arm(step)
                self._kill_billing(step)
                self._restart(following)
            self._go_on(number)
        self._lane.wait_done(_DEATH_SECONDS * len(self._plan.instance))
        self._arm(None)
        self._finish_pending()

    def settle(self) -> None:
        """Run the reporter until nothing is without a receipt."""
        for _ in range(5):
            done = self._site.reporter.report()
            assert done.returncode == 0, done.stderr
            if self._site.reporter.unacknowledged() == 0:
                return
        raise AssertionError(f"{self._site.reporter.unacknowledged()} events have no receipt")

    def close(self) -> None:
        self._lane.stop()

    def _check(self) -> None:
        self._lane.check()
        self._traffic()

    # ---- the reporter ---------------------------------------------------------------------------

    def _kill_reporter(self, step: Step) -> None:
        if self._armed is not None and self._trips("reporter"):
            self._arm(None)
        self._wait_for_events(step.count)
        if step.damaged:
            assert self._site.damage_waiting_batches() > 0
        done = self._site.reporter.report(f"{step.point}:{step.count}")
        self._tally.died("reporter", step.point, done.returncode, log=done.stderr)

    def _wait_for_events(self, batches: int = 1) -> None:
        """Wait until there are events for so many batches, the last of them begun."""
        deadline = time.monotonic() + _DEATH_SECONDS
        while self._site.unsealed() <= BATCH_EVENTS * (batches - 1):
            self._check()
            assert time.monotonic() < deadline, "the traffic brings no events"
            time.sleep(0.1)

    # ---- the billing API ------------------------------------------------------------------------

    def _kill_billing(self, step: Step) -> None:
        process = self._api._process  # its exit code is the evidence
        assert process is not None
        if step.point in INGEST:
            self._report_in_vain(step.count)
        elif step.point in ENROLL:
            assert self._enroll() is False, f"enrolled past {step.point}"
        else:
            self._provoke_inventory()
        if process.poll() is None and step.point == SIGNED:
            self._report_in_vain()  # a receipt is signed, too
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_LAST_SECONDS)
        self._tally.died("billing", step.point, process.returncode, log=self._api.log)
        self._api.wait_killed()
        self._armed = None

    def _report_in_vain(self, batches: int = 1) -> None:
        self._wait_for_events(batches)
        done = self._site.reporter.report()
        assert done.returncode == TEMPORARY, done.stderr

    def _provoke_inventory(self) -> None:
        """Send what has no answer yet; when that gets through (nothing to sign), a change."""
        for _ in range(2):
            if not self._site.inventory.waiting:
                self._site.inventory.change()
            if not self._site.send_inventory():
                return

    def _enroll(self) -> bool:
        """Enroll a throw-away customer; False: the server went away, the request is kept."""
        if self._enrolling is None:
            customer = f"throwaway-{len(self.enrolled) + 1}"
            self._api.create_customer(customer)
            token = self._api.enrollment_token(customer)
            self._enrolling = enrollment_request(token, customer, self._throwaway_key)
        answer = enroll(self._api.url, self._enrolling)
        if answer is None:
            return False
        self.enrolled[self._enrolling.customer_id] = answer
        self._enrolling = None
        return True

    def _arm(self, step: Step | None) -> None:
        """Have the server run with this step's failpoint; None: without any."""
        alive = self._api.pid is not None
        if alive and self._armed == step:
            return
        if alive:
            self._api.stop()
        self._start(step)

    def _start(self, step: Step | None) -> None:
        point = {} if step is None else {"BRINKBYTE_FAILPOINT": f"{step.point}:{step.count}"}
        self._api.start(**point)
        self._armed = step

    def _restart(self, following: Sequence[Step]) -> None:
        """Start the server again: with its next failpoint if nothing before that would trip it."""
        upcoming = next((step for step in following if step.process == "billing"), None)
        at_once = bool(following) and following[0] == upcoming
        inert = upcoming is not None and upcoming.point in (*INVENTORY, *ENROLL)
        self._start(upcoming if at_once or inert else None)

    def _trips(self, work: str) -> bool:
        if self._armed is None:
            return False
        if self._armed.point == SIGNED:
            return work in {"reporter", "inventory"}
        return _TRIPPED_BY[self._armed.point] == work

    # ---- what was cut off goes on ---------------------------------------------------------------

    def _go_on(self, number: int) -> None:
        """Do again what a kill cut off, unless that is what the next kill waits for."""
        if self._site.inventory.waiting and not self._trips("inventory"):
            assert self._site.send_inventory()
        if self._enrolling is not None and not self._trips("enrollment"):
            assert self._enroll()
        # Every third time only: often enough the next kill meets what the last one left.
        damaged_next = self._is_damaged(number + 1)
        if number % 3 == 2 and not self._trips("reporter") and not damaged_next:
            done = self._site.reporter.report()
            assert done.returncode == 0, done.stderr

    def _is_damaged(self, number: int) -> bool:
        return number < len(self._plan.others) and self._plan.others[number].damaged

    def _finish_pending(self) -> None:
        if self._site.inventory.waiting:
            assert self._site.send_inventory()
        if self._enrolling is not None:
            assert self._enroll()
        for customer, answer in self.enrolled.items():
            head = httpx.get(
                f"{self._api.url}/api/v1/usage/head",
                headers={"authorization": f"Bearer {answer.credential}"},
                timeout=10,
            )
            assert head.status_code == 200, f"{customer}: {head.text}"
