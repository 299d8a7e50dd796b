"""Searches for an order of the requests that explains what every client heard."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from .model import Event, Messages, Model

Counts = Counter[int]  # by client


class Sent(NamedTuple):
    """A request, and what was known when it was sent."""

    request: Event
    handled: Counts  # requests
    heard: Counts  # messages


class Search:
    """A history, and the search for an order of its requests.

    The requests of a client stay in order. Each comes after everything that anyone had
    heard, or knew to be handled, when it was sent. If a client vanished, its last
    requests may be lost, and the last messages to it.
    """

    def __init__(self, history: Iterable[Event]) -> None:
        """Take what happened, as seen from outside."""
        self.sent = defaultdict[int, list[Sent]](list)
        self.heard = defaultdict[int, list[str]](list)
        self.vanished, self.seen = set[int](), set[object]()
        handled, told = Counts(), Counts()
        for event in history:
            match event.kind:
                case "hears":
                    self.heard[event.client].append(event.text)
                    told[event.client] += 1
                case "is up to date":
                    handled[event.client] = len(self.sent[event.client])
                case "vanishes":
                    self.vanished.add(event.client)
                case _:
                    sent = Sent(event, handled.copy(), told.copy())
                    self.sent[event.client].append(sent)
        counts = {n: len(requests) for n, requests in self.sent.items()}
        stayed = Counts({n: counts[n] for n in counts if n not in self.vanished})
        self.end = handled | stayed, told

    def find(self, model: Model, done: Counts, told: Counts) -> list[Event] | None:
        """Return an order of the requests that are not yet `done`, or None."""
        if done >= self.end[0] and told == self.end[1]:
            return []
        counts = frozenset(done.items()), frozenset(told.items())
        state = model.groups, frozenset(model.group_of.items()), counts
        if state in self.seen:
            return None
        self.seen.add(state)
        for client, requests in self.sent.items():
            for request, handled, heard in requests[done[client] :][:1]:
                after, messages = model.after(request)
                now = self.tell(told, messages)
                if now is not None and done >= handled and told >= heard:
                    rest = self.find(after, done + Counts([client]), now)
                    if rest is not None:
                        return [request, *rest]
        return None

    def tell(self, told: Counts, messages: Messages) -> Counts | None:
        """Count `messages` as told; return None if a client heard something else."""
        told = told.copy()
        for client, text in messages:
            heard = self.heard[client]
            if told[client] < len(heard) and heard[told[client]] == text:
                told[client] += 1
            elif told[client] < len(heard) or client not in self.vanished:
                return None
        return told


def find_order(history: Iterable[Event], model: Model) -> list[Event] | None:
    """Return an order in which `model` tells all clients what they heard, or None."""
    return Search(history).find(model, Counts(), Counts())
