"""Is there an order of the requests that explains what every client heard?"""

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
    """The search for an order of the requests in a history.

    The requests of a client stay in order. Each comes after all that anyone had heard,
    or known to be handled, when it was sent. Of a client that vanished, the last
    requests can be lost, and the last messages to it.
    """

    def __init__(self, history: Iterable[Event]) -> None:
        """Take what happened, as seen from outside."""
        self.sent = defaultdict[int, list[Sent]](list)
        self.heard = defaultdict[int, list[str]](list)
        self.handled, self.gone, self.seen = Counts(), set[int](), set[object]()
        for event in history:
            if event.kind == "hears":
                self.heard[event.client].append(event.text)
            elif event.kind == "is up to date":
                self.handled[event.client] = len(self.sent[event.client])
            elif event.kind == "vanishes":
                self.gone.add(event.client)
            else:
                heard = Counts({n: len(texts) for n, texts in self.heard.items()})
                sent = Sent(event, self.handled.copy(), heard)
                self.sent[event.client].append(sent)
        self.must = {
            n: self.handled[n] if n in self.gone else len(self.sent[n])
            for n in self.sent
        }

    def find(self, model: Model, done: Counts, told: Counts) -> list[Event] | None:
        """Return an order of the requests that are not `done`, or None."""
        if all(done[n] >= self.must[n] for n in self.must):
            if all(told[n] == len(texts) for n, texts in self.heard.items()):
                return []
        state = model.key(), frozenset(done.items()), frozenset(told.items())
        if state in self.seen:
            return None
        self.seen.add(state)
        for client, requests in self.sent.items():
            for request, handled, heard in requests[done[client] :][:1]:
                if done >= handled and told >= heard:
                    after, messages = model.after(request)
                    now = self.tell(told, messages)
                    if now is not None:
                        rest = self.find(after, done + Counts([client]), now)
                        if rest is not None:
                            return [request, *rest]
        return None

    def tell(self, told: Counts, messages: Messages) -> Counts | None:
        """Count `messages`, or return None if a client heard something else."""
        told = told.copy()
        for client, text in messages:
            if self.heard[client][told[client] :][:1] == [text]:
                told[client] += 1
            elif client not in self.gone or told[client] < len(self.heard[client]):
                return None
        return told


def find_order(history: Iterable[Event], model: Model) -> list[Event] | None:
    """Return an order in which `model` lets all clients hear what they heard, or None."""
    return Search(history).find(model, Counts(), Counts())
