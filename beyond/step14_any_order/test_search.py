"""Tests of the search: histories that have an order, and histories that have none."""

import pytest

from .model import Event, Model
from .search import find_order

A = Model(frozenset("A"))
UNAVAILABLE = "GROUP_UNAVAILABLE"


def comes(*clients: int) -> list[Event]:
    """Let clients come, one after the other."""
    kinds = ("comes", "is up to date")
    return [Event(client, kind) for client in clients for kind in kinds]


def joins(client: int, group: str = "A") -> list[Event]:
    """Let a client join a group, and hear that it has."""
    return [Event(client, "JOIN_GROUP", group), hears(client, group)]


def creates(client: int, group: str) -> Event:
    return Event(client, "CREATE_GROUP", group)


def says(client: int, text: str, group: str = "A") -> Event:
    return Event(client, "MESSAGE_GROUP", group, text)


def hears(client: int, text: str) -> Event:
    return Event(client, "hears", text=text)


POSSIBLE = {
    "nothing": [],
    "the other way round": [
        *comes(1, 2),
        creates(1, "B"),
        creates(2, "B"),
        hears(1, UNAVAILABLE),
        hears(2, "B"),
    ],
    "before it joined": [
        *comes(1, 2),
        *joins(1),
        says(1, "HI"),
        *joins(2),
        hears(1, "HI"),
    ],
    "after it joined": [
        *comes(1, 2),
        *joins(1),
        says(1, "HI"),
        *joins(2),
        hears(1, "HI"),
        hears(2, "HI"),
    ],
    "lost with its sender": [
        *comes(1, 2),
        *joins(1),
        *joins(2),
        says(1, "HI"),
        Event(1, "vanishes"),
    ],
    "not lost with its sender": [
        *comes(1, 2),
        *joins(1),
        *joins(2),
        says(1, "HI"),
        Event(1, "vanishes"),
        hears(2, "HI"),
    ],
    "lost with its receiver": [
        *comes(1, 2),
        *joins(1),
        *joins(2),
        says(1, "HI"),
        Event(2, "vanishes"),
        hears(1, "HI"),
    ],
}
IMPOSSIBLE = {
    "a second creator": [
        *comes(1, 2),
        creates(1, "B"),
        creates(2, "B"),
        hears(1, "B"),
        hears(2, "B"),
    ],
    "no creator": [
        *comes(1, 2),
        creates(1, "B"),
        creates(2, "B"),
        hears(1, UNAVAILABLE),
        hears(2, UNAVAILABLE),
    ],
    "nobody said it": [*comes(1), *joins(1), hears(1, "HI")],
    "twice": [*comes(1), *joins(1), says(1, "HI"), hears(1, "HI"), hears(1, "HI")],
    "out of order": [
        *comes(1),
        *joins(1),
        says(1, "first"),
        says(1, "second"),
        hears(1, "second"),
        hears(1, "first"),
    ],
    "another order for each": [
        *comes(1, 2),
        *joins(1),
        *joins(2),
        says(1, "of 1"),
        says(2, "of 2"),
        hears(1, "of 1"),
        hears(1, "of 2"),
        hears(2, "of 2"),
        hears(2, "of 1"),
    ],
    "after it left": [
        *comes(1, 2),
        *joins(1),
        *joins(2),
        says(1, "HI"),
        creates(2, "B"),
        hears(1, "HI"),
        hears(2, "B"),
        hears(2, "HI"),
    ],
    "not heard by one who had been told that it is in": [
        *comes(1, 2),
        *joins(1),
        *joins(2),
        says(1, "HI"),
        hears(1, "HI"),
    ],
    "not heard by one who was connected": [
        *comes(1, 2),
        Event(1, "ECHO_TO_ALL", text="HI"),
        hears(1, "HI"),
    ],
    "lost, though handled, with its sender": [
        *comes(1, 2),
        *joins(1),
        *joins(2),
        says(1, "HI"),
        Event(1, "is up to date"),
        Event(1, "vanishes"),
    ],
    "a gap before it vanished": [
        *comes(1, 2),
        *joins(1),
        *joins(2),
        says(1, "first"),
        says(1, "second"),
        hears(1, "first"),
        hears(1, "second"),
        hears(2, "second"),
        Event(2, "vanishes"),
    ],
}


@pytest.mark.parametrize("history", POSSIBLE.values(), ids=POSSIBLE)
def test_possible(history: list[Event]) -> None:
    order = find_order(history, A)
    assert order is not None
    sent = [event for event in history if event.kind not in ("hears", "vanishes")]
    assert set(order) <= set(sent)


@pytest.mark.parametrize("history", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_impossible(history: list[Event]) -> None:
    assert find_order(history, A) is None


@pytest.mark.parametrize("last", [3, 4, 5])
def test_long_search(last: int) -> None:
    """Six clients each say four things at once; one order explains what they heard."""
    clients = range(6)
    history = comes(*clients)
    for client in clients:
        history += joins(client)
    texts = [
        (client, f"{client}.{number}") for client in clients for number in range(4)
    ]
    history += [says(client, text) for client, text in texts]
    heard = sorted(texts, key=lambda it: (it[1][2:], -it[0]))
    for client in clients:
        history += [hears(client, text) for _, text in heard]

    order = find_order(history, A)
    assert order
    assert [it.text for it in order if it.text] == [text for _, text in heard]

    history[-last], history[-last - 1] = history[-last - 1], history[-last]
    assert find_order(history, A) is None
