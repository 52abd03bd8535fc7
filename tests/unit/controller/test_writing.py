"""One batch is written while the next is asked about; nothing of it gets lost on the way."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from brinkbyte.controller.asking import Asking
from brinkbyte.controller.context import TenantMemory
from brinkbyte.controller.writing import Writing
from brinkbyte.kit.errors import BrinkByteError, PermanentError

pytestmark = pytest.mark.unit


@dataclass
class Batch:
    """Writes that end when they are told to."""

    end: asyncio.Future[list[BrinkByteError]] = field(default_factory=asyncio.Future)
    cancelled: bool = False

    async def write(self) -> list[BrinkByteError]:
        try:
            return await self.end
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def test_what_is_under_way_is_named_until_somebody_has_heard_of_its_end() -> None:
    writing, batch = Writing(), Batch()
    assert not writing.going
    assert await writing.over() == []
    writing.start(batch.write(), ["a", "b"])
    assert (writing.going, writing.names) == (True, {"a", "b"})
    refused = PermanentError("no", reason="NameConflict")
    batch.end.set_result([refused])
    await asyncio.sleep(0)
    assert writing.going
    assert await writing.over() == [refused]
    assert (writing.going, writing.names) == (False, frozenset())
    assert await writing.over() == []


async def test_one_batch_at_a_time() -> None:
    writing, first, second = Writing(), Batch(), Batch()
    writing.start(first.write(), ["a"])
    late = second.write()
    with pytest.raises(AssertionError):
        writing.start(late, ["b"])
    late.close()
    writing.drop()


async def test_what_ends_a_batch_before_its_time_reaches_the_next_pass() -> None:
    writing, batch = Writing(), Batch()
    writing.start(batch.write(), ["a"])
    batch.end.set_exception(RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        await writing.over()
    assert not writing.going


async def test_a_tenant_that_goes_takes_its_writes_with_it() -> None:
    memory = TenantMemory(Asking(lambda: 0.0), Asking(lambda: 0.0))
    batch, failed = Batch(), Batch()
    memory.writing.start(batch.write(), ["a"])
    await asyncio.sleep(0)
    memory.drop()
    await asyncio.sleep(0)
    assert batch.cancelled
    assert not memory.writing.going
    memory.writing.start(failed.write(), ["b"])
    failed.end.set_exception(RuntimeError("nobody looks at it, nobody is warned"))
    await asyncio.sleep(0)
    memory.drop()
    assert not memory.writing.going
