"""Renders the modes of a license as tables and a diagram: `python -m brinkbyte.license.docs PATH`.

With `--check` nothing is written; the program exits 1 when the page is not what the tables say.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Final

from brinkbyte.kit.generated import write_page
from brinkbyte.license.modes import (
    ALLOWS,
    FULL_MODES,
    MOVES,
    RULES,
    UNLICENSED_RETENTION_DAYS,
    Allowance,
    Basis,
    LicenseMode,
    Phase,
)

_INTRO: Final = """\
# License modes

Generated from the tables in `license/modes.py` by `python -m brinkbyte.license.docs`; change
those, not this page.

The mode follows from the newest signed documents held and the offline clock. Nothing else is
remembered, so a restart never changes it. The clock is

    max(machine's clock, newest signed time held + seconds run since it was taken in)

A clock turned back gains nothing. One that is ahead ends a license early, until it is right again
or a fresh license counts from a newer signed time; nothing of the jump is kept.

Running hours are kept every hour and at each stop. A token in good standing ends 45 days after it
was signed and is signed anew when less than 31 days are left, so that a site holds on for 30 days
whenever its line dies. It ends sooner only with a trial, a cancellation, a fixed term, or 14 days
after an unpaid invoice was due.
"""

_ALWAYS: Final = f"""\
In every mode newer documents are asked for, usage is metered and reported, devices send their
heartbeats, and nothing is deleted because of the mode. A refusal carries mode, reason and the URL
where it is mended. Retention is *frozen* when what the last good license kept is not dropped;
where there never was a license, {UNLICENSED_RETENTION_DAYS} days are kept."""


def render() -> str:
    """Return the whole page, ending in a newline."""
    sections = [
        _INTRO.rstrip(),
        "\n".join(["## What each mode rests on", "", *_rules()]),
        "\n".join(["## What each mode allows", "", *_allowances(), "", _ALWAYS]),
        "\n".join(["## Every move", "", "Whatever is not in this table leaves the mode as it is."]),
        "\n".join(_moves()),
        "\n".join(_diagram()),
    ]
    return "\n\n".join(sections) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page, or check it; returns the exit code."""
    return write_page(render(), "brinkbyte.license.docs", __doc__, argv)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _rules() -> list[str]:
    def row(basis: Basis) -> list[str]:
        return [
            basis.value,
            *(f"{rule.mode}, `{rule.reason}`" for rule in map(RULES[basis].get, Phase) if rule),
        ]

    return _table(
        ["The first that fits", *(f"{phase.value} …" for phase in Phase)], map(row, Basis)
    )


def _allowances() -> list[str]:
    def row(mode: LicenseMode, allowed: Allowance) -> list[str]:
        days = "all that is kept" if allowed.readable_days is None else f"{allowed.readable_days}"
        if allowed.full:
            return [mode, "as licensed", "by seat and packs", "as licensed", "as licensed", days]
        return [
            mode,
            f"the {allowed.devices} longest-registered",
            "base models on those devices",
            "as unlicensed",
            "frozen",
            days,
        ]

    head = ["Mode", "Devices", "Cameras, models, outputs", "Features, limits", "Retention"]
    return _table(
        [*head, "Days that can be read"], (row(mode, allowed) for mode, allowed in ALLOWS.items())
    )


def _names(modes: Iterable[LicenseMode]) -> str:
    held = _ordered(modes)
    return "any" if held == list(LicenseMode) else ", ".join(held)


def _moves() -> list[str]:
    rows = []
    for event, moves in MOVES.items():
        for targets in dict.fromkeys(moves.values()):
            sources = [mode for mode in LicenseMode if moves.get(mode) == targets]
            rows.append([event.value, _names(sources), _names(targets)])
    return _table(["When", "From", "To"], rows)


def _diagram() -> list[str]:
    arrows: dict[tuple[str, str], list[str]] = {}
    for event, moves in MOVES.items():
        # From everywhere: an arrow from each mode would hide the others.
        everywhere = set(moves) == set(LicenseMode)
        for source in ["any"] if everywhere else _ordered(moves):
            targets = next(iter(moves.values())) if everywhere else moves[LicenseMode(source)]
            for target in _ordered(targets):
                arrows.setdefault((source, target), []).append(event.value)
    return [
        "```mermaid",
        "stateDiagram-v2",
        "    any: any mode",
        f"    [*] --> {LicenseMode.UNLICENSED}",
        *(f"    {a} --> {b}: {'<br/>'.join(events)}" for (a, b), events in arrows.items()),
        "    classDef full fill:#d7f0dd,stroke:#2f7d46",
        *(f"    class {mode} full" for mode in _ordered(FULL_MODES)),
        "```",
    ]


def _ordered(modes: Iterable[LicenseMode]) -> list[LicenseMode]:
    held = set(modes)
    return [mode for mode in LicenseMode if mode in held]


if __name__ == "__main__":
    sys.exit(main())
