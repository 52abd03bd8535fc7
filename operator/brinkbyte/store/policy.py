"""What the license in force allows: one pure function of documents, mode and time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

from brinkbyte.catalog import Catalog, unlicensed_entitlements
from brinkbyte.license.claims import Features, Flags, Grant, Limits
from brinkbyte.license.documents import Snapshot
from brinkbyte.license.modes import (
    UNLICENSED_DEVICES,
    UNLICENSED_RETENTION_DAYS,
    UPGRADE_URL,
    LicenseMode,
    ModeDecision,
    decide_mode,
    lapses_at,
)
from brinkbyte.license.seats import Seat, SeatList, merge_grants

NOTHING: Final = Grant()
_DAY: Final = 86_400


@dataclass(frozen=True)
class CameraDecision:
    """What one camera may do, and why.

    Attributes:
        hardware_id: the device that the camera is on; None when nobody knows.
        grant: models, analytics and outputs in force; empty when refused.
        valid_until: Unix seconds until which this holds without news; None: open.
        licensed: what the license itself allows, while the vendor has switched validation off and
            ``grant`` is everything; None: validation is on.
        waived: why the camera would be refused, then; empty: it would not.
    """

    camera_id: str
    allowed: bool
    mode: LicenseMode
    reason: str
    message: str
    hardware_id: str | None = None
    grant: Grant = NOTHING
    packs: tuple[str, ...] = ()
    trial_seat: bool = False
    valid_until: int | None = None
    licensed: Grant | None = None
    waived: str = ""


@dataclass(frozen=True)
class Policy:
    """Answers from the documents held.

    Attributes:
        now: Unix seconds by the offline clock.
        first_devices: hardware ids registered here first; used without a seat list only.
    """

    snapshot: Snapshot
    now: int
    catalog: Catalog
    first_devices: tuple[str, ...] = field(default=())

    @cached_property
    def decision(self) -> ModeDecision:
        """The mode in force."""
        revocations = self.snapshot.revocations
        return decide_mode(
            self.snapshot.license,
            now=self.now,
            revocations=revocations.entries if revocations else (),
        )

    @cached_property
    def flags(self) -> Flags:
        """The vendor's switches in force; those of a license out of force count no more."""
        claims = self.snapshot.license
        return claims.flags if claims is not None and self.decision.full else Flags()

    @cached_property
    def everything(self) -> Grant:
        """What there is at all."""
        names = self.catalog.models, self.catalog.analytics, self.catalog.outputs
        models, analytics, outputs = (tuple(sorted(each)) for each in names)
        return Grant(models=models, analytics=analytics, outputs=outputs)

    @cached_property
    def plan(self) -> str:
        """The plan's name; the fallback's when the license is not in force."""
        if self.decision.full and self.snapshot.license is not None:
            return self.snapshot.license.plan
        return unlicensed_entitlements(self.catalog).plan

    @cached_property
    def features(self) -> Features:
        """Feature flags in force."""
        if self.decision.full and self.snapshot.license is not None:
            return self.snapshot.license.features
        fallback = unlicensed_entitlements(self.catalog).features
        return Features.model_validate(fallback.model_dump(by_alias=True))

    @cached_property
    def limits(self) -> Limits:
        """Limits in force."""
        if self.decision.full and self.snapshot.license is not None:
            return self.snapshot.license.limits
        fallback = unlicensed_entitlements(self.catalog).limits
        return Limits.model_validate(fallback.model_dump(by_alias=True))

    @property
    def max_devices(self) -> int | None:
        """Devices allowed; None: unlimited."""
        return self.features.max_devices if self.decision.full else UNLICENSED_DEVICES

    @property
    def readable_days(self) -> int | None:
        """Days of telemetry that may be read; None: as far as it is kept."""
        return None if self.decision.full else UNLICENSED_RETENTION_DAYS

    @property
    def trial_days_remaining(self) -> int:
        """Days of the plan's trial that are left, the running one included."""
        claims = self.snapshot.license
        if self.decision.mode is not LicenseMode.TRIAL or claims is None:
            return 0
        ends_at = claims.trial.ends_at if claims.trial.ends_at is not None else claims.exp
        return max(0, -(-(ends_at - self.now) // _DAY))

    @cached_property
    def seats(self) -> SeatList | None:
        """The seat list, unless it is missing, revoked or past its end and grace."""
        return self.snapshot.seats if self._seats_refusal is None else None

    @cached_property
    def _seats_refusal(self) -> tuple[str, str] | None:
        seats, claims = self.snapshot.seats, self.snapshot.license
        if seats is None:
            return "SeatsMissing", (
                "The list of licensed cameras has not arrived yet. Connect the site to the billing "
                f"API, or import a bundle; what was bought is at {UPGRADE_URL}"
            )
        if self.snapshot.seats_revoked:
            return "SeatsRevoked", (
                "The vendor revoked this list of licensed cameras; a newer one replaces it once "
                f"the site is connected. See {UPGRADE_URL}"
            )
        grace = claims.grace_seconds if claims else 0
        if self.decision.full and seats.claims.exp + grace <= self.now:
            return "SeatsExpired", (
                "The list of licensed cameras has ended. Connect the site to the billing API, or "
                f"import a new bundle; what was bought is at {UPGRADE_URL}"
            )
        return None

    @cached_property
    def base_devices(self) -> tuple[str, ...]:
        """The devices that go on without a license: the longest-registered ones."""
        if self.snapshot.seats is not None:
            return tuple(self.snapshot.seats.claims.devices[:UNLICENSED_DEVICES])
        return self.first_devices[:UNLICENSED_DEVICES]

    @cached_property
    def base_grant(self) -> Grant:
        """What those devices go on with."""
        if self.snapshot.seats is not None:
            return self.snapshot.seats.claims.base
        base = self.catalog.base
        return Grant(models=base.models, analytics=base.analytics, outputs=base.outputs)

    @cached_property
    def licensed_models(self) -> frozenset[str]:
        """Every model that any camera may use: what Triton has loaded.

        All of them, while the vendor has switched the enforcement in Triton off.
        """
        if not self.flags.triton_enforcement:
            return frozenset(self.catalog.models)
        return frozenset(self.tenant_grant.models)

    @cached_property
    def tenant_grant(self) -> Grant:
        """The union over all cameras."""
        if not self.decision.full:
            return self.base_grant if self.base_devices else NOTHING
        if not self.flags.license_validation:
            return self.everything
        if self.seats is None or self.snapshot.license is None:
            return NOTHING
        live = [seat for seat in self.seats.seats.values() if not _ended(seat, self.now)]
        if not live:
            return NOTHING
        packs = {pack for seat in live for pack in seat.packs}
        claims = self.seats.claims
        added = [claims.packs[pack] for pack in packs if pack in claims.packs]
        return merge_grants([claims.base, self.snapshot.license.grant, *added])

    @property
    def cameras_used(self) -> int:
        """Seats taken."""
        return len(self.snapshot.seats.seats) if self.snapshot.seats else 0

    def device_of(self, camera_id: str, configured: str | None) -> str | None:
        """Return the device that a camera is on: its seat's, else the configured one."""
        seat = self._seat(camera_id)
        return seat.hardware_id if seat else configured

    def knows(self, camera_id: str) -> bool:
        """Tell whether the documents held decide about a camera by its own seat."""
        return self._seat(camera_id) is not None

    def _seat(self, camera_id: str) -> Seat | None:
        return self.snapshot.seats.seats.get(camera_id) if self.snapshot.seats else None

    def camera(self, camera_id: str, configured: str | None = None) -> CameraDecision:
        """Return what a camera may do.

        Args:
            camera_id: the camera.
            configured: the device it is configured on here; counts without a seat list only.
        """
        if not self.decision.full:
            return self._unlicensed_camera(camera_id, configured)
        judged = self._licensed_camera(camera_id)
        return judged if self.flags.license_validation else self._waived(judged, configured)

    def _waived(self, judged: CameraDecision, configured: str | None) -> CameraDecision:
        """Return the decision while validation is off: nothing is refused, and it says what was."""
        message = f"not refused, validation is switched off by the vendor: {judged.message}"
        return replace(
            judged,
            allowed=True,
            hardware_id=judged.hardware_id or configured,
            grant=self.everything,
            licensed=judged.grant,
            message=judged.message if judged.allowed else message,
            waived="" if judged.allowed else judged.reason,
        )

    def _licensed_camera(self, camera_id: str) -> CameraDecision:
        if self._seats_refusal is not None or self.seats is None:
            reason, message = self._seats_refusal or ("SeatsMissing", "")
            return self._refused(camera_id, reason, message)
        seat, claims = self.seats.seats.get(camera_id), self.snapshot.license
        if seat is None or claims is None:
            return self._refused(
                camera_id,
                "CameraNotLicensed",
                f"Camera {camera_id} has no seat. Add a CameraLicense for it, or buy seats at "
                f"{UPGRADE_URL}",
            )
        if _ended(seat, self.now):
            return self._refused(
                camera_id,
                "SeatEnded",
                f"The trial seat of camera {camera_id} has ended. Buy a seat at {UPGRADE_URL}",
                seat.hardware_id,
            )
        ends = [lapses_at(claims), *([] if seat.until is None else [seat.until])]
        return CameraDecision(
            camera_id=camera_id,
            allowed=True,
            mode=self.decision.mode,
            reason=self.decision.reason,
            message=self.decision.message,
            hardware_id=seat.hardware_id,
            grant=self._granted(seat.packs),
            packs=seat.packs,
            trial_seat=seat.until is not None,
            valid_until=min(ends),
        )

    def _granted(self, packs: tuple[str, ...]) -> Grant:
        """Return what a seat with packs may use; worked out once for all cameras alike."""
        held = self._grants.get(packs)
        if held is None and self.seats is not None and self.snapshot.license is not None:
            claims = self.seats.claims
            added = [claims.packs[pack] for pack in packs if pack in claims.packs]
            held = merge_grants([claims.base, *added, self.snapshot.license.grant])
            self._grants[packs] = held
        return held or NOTHING

    @cached_property
    def _grants(self) -> dict[tuple[str, ...], Grant]:
        return {}

    def _unlicensed_camera(self, camera_id: str, configured: str | None) -> CameraDecision:
        seat = self._seat(camera_id)
        # With a seat list only its cameras go on: configuring more of them gains nothing.
        device = seat.hardware_id if seat else configured
        if self.snapshot.seats is not None and seat is None:
            device = None
        if device is None or device not in self.base_devices:
            return self._refused(camera_id, self.decision.reason, self.decision.message, device)
        return CameraDecision(
            camera_id=camera_id,
            allowed=True,
            mode=self.decision.mode,
            reason=self.decision.reason,
            message=self.decision.message,
            hardware_id=device,
            grant=self.base_grant,
        )

    def _refused(
        self, camera_id: str, reason: str, message: str, hardware_id: str | None = None
    ) -> CameraDecision:
        return CameraDecision(
            camera_id, False, self.decision.mode, reason, message, hardware_id=hardware_id
        )


def _ended(seat: Seat, now: int) -> bool:
    return seat.until is not None and seat.until <= now
