"""Many rows: all of them arrive, in memory that does not grow with their number."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.campaign_plan import soaking
from support.importing import Importer, counts
from support.old_edge import build

pytestmark = pytest.mark.services
EVENTS = 1_000_000 if soaking() else 30_000
FEW = 6_000
# A chunk is 5,000 rows: both sizes have one in memory.
ALLOWED_BYTES = 24 * 1024 * 1024


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_memory_stays_flat(importer: Importer, other_database: str, tmp_path: Path) -> None:
    expected = build(importer.source, events=EVENTS, days=90)
    done, most = importer.measured()
    assert done.code == 3, done.output
    assert importer.report["equal"] is True
    found = counts(importer.dsn)
    for table, rows in expected.rows.items():
        if table != "telemetry_aggregates":
            assert found[table] == rows, table
    few = Importer(tmp_path / "few.db", other_database, tmp_path / "few")
    build(few.source, events=FEW, days=90)
    assert most - few.measured()[1] < ALLOWED_BYTES
