"""Does our chain go on from the server's head? Decided without a database."""

from __future__ import annotations

from dataclasses import replace

import pytest

from brinkbyte.metering.batches import NO_HASH, UsageHead
from brinkbyte.store.epochs import (
    FIRST,
    BatchRef,
    Continue,
    Epoch,
    History,
    OpenEpoch,
    decide,
)

pytestmark = pytest.mark.unit

E1 = Epoch("e1", None, NO_HASH)


def h(text: str) -> str:
    return text.encode().hex().ljust(64, "0")


def ref(epoch: str, number: int, *, after: str = "", follows: str | None = None) -> BatchRef:
    previous = h(after) if after else NO_HASH
    return BatchRef(epoch, number, follows, previous, h(f"{epoch}.{number}"), acknowledged=False)


def acknowledged(batch: BatchRef) -> BatchRef:
    return replace(batch, acknowledged=True)


def head(epoch: str | None = None, number: int = 0) -> UsageHead:
    return UsageHead(
        server_time=1,
        epoch=epoch,
        batch_no=number,
        chain_hash=h(f"{epoch}.{number}") if epoch else None,
    )


B1 = ref("e1", 1)
B2 = ref("e1", 2, after="e1.1")
B3 = ref("e1", 3, after="e1.2")
B4 = ref("e1", 4, after="e1.3")
NOTHING = History(None, None, (), (), 0)


def test_nothing_anywhere_opens_the_first_epoch() -> None:
    assert decide(head(), NOTHING) == OpenEpoch(FIRST)


def test_a_new_database_opens_an_epoch_that_is_shown() -> None:
    assert decide(head("e1", 3), NOTHING) == OpenEpoch("NewDatabase")


def test_a_new_instance_id_begins_anew() -> None:
    assert decide(head(), replace(NOTHING, strangers=True)) == OpenEpoch("NewInstance")
    # Also where the server tells it the epoch of the instance before.
    assert decide(head("e1", 3), replace(NOTHING, strangers=True)) == OpenEpoch("NewInstance")


def test_an_epoch_without_batches_goes_on() -> None:
    assert decide(head(), History(E1, None, (), (), 0)) == Continue(E1, ())


def test_the_head_is_our_newest_batch() -> None:
    history = History(E1, acknowledged(B2), (), (), 0)
    assert decide(head("e1", 2), history) == Continue(E1, ())


def test_a_lost_receipt_is_asked_for_again() -> None:
    history = History(E1, B2, (B2,), (), 1)
    assert decide(head("e1", 2), history) == Continue(E1, (B2,))


def test_unsent_batches_follow_the_head() -> None:
    history = History(E1, B3, (), (B2, B3), 2)
    assert decide(head("e1", 1), history) == Continue(E1, (B2, B3))


def test_a_restored_ledger_gets_acknowledged_batches_again() -> None:
    kept = (acknowledged(B1), acknowledged(B2), B3)
    assert decide(head(), History(E1, B3, (), kept, 1)) == Continue(E1, kept)


def test_the_chain_goes_on_across_epochs() -> None:
    e2 = Epoch("e2", "e1", h("e1.2"))
    first = ref("e2", 1, after="e1.2", follows="e1")
    history = History(e2, first, (), (acknowledged(B2), first), 1)
    assert decide(head("e1", 1), history) == Continue(e2, (acknowledged(B2), first))


def test_an_opened_epoch_follows_the_head_it_was_opened_for_and_no_other() -> None:
    history = History(Epoch("e2", "e1", h("e1.5")), None, (), (), 0)
    assert decide(head("e1", 5), history) == Continue(history.live or E1, ())
    assert decide(head("e1", 6), history) == OpenEpoch("ChainBroken")


def test_a_first_epoch_without_batches_is_none_where_the_server_has_one() -> None:
    # A site without a line opens its first before it can ask.
    assert decide(head("e9", 5), History(E1, None, (), (), 0)) == OpenEpoch("NewDatabase")
    assert decide(head("e1", 5), History(E1, None, (), (), 0)) == OpenEpoch("ChainBroken")


def test_a_head_ahead_of_ours_means_this_database_was_restored() -> None:
    history = History(E1, acknowledged(B2), (), (), 0)
    assert decide(head("e1", 3), history) == OpenEpoch("HeadAhead")


@pytest.mark.parametrize(
    "history",
    [
        # the head's number with another hash, and one below it
        History(E1, replace(B2, chain_hash=h("other")), (), (), 0),
        # a batch between head and ours is gone
        History(E1, B4, (), (B4,), 1),
        # an unacknowledged batch is outside the chain
        History(E1, acknowledged(B2), (), (), 1),
        # a link names another batch before it
        History(E1, B3, (), (replace(B3, previous_hash=h("x")),), 1),
        # an epoch that follows another one
        History(Epoch("e2", "e0", h("e1.2")), None, (), (), 0),
    ],
)
def test_a_broken_chain_opens_an_epoch(history: History) -> None:
    assert decide(head("e1", 2), history) == OpenEpoch("ChainBroken")
