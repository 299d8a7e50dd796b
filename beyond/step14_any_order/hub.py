"""A broker in memory that processes can be cut off from: for step 12's servers."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any


class Pipe:
    """Carries calls to another host, in order. Each is under way for a moment."""

    def __init__(self) -> None:
        """Start to carry."""
        self.calls = asyncio.Queue[tuple[Any, ...]]()
        self.task = asyncio.create_task(self.carry())

    async def carry(self) -> None:
        """Make one call after the other."""
        while True:
            function, *arguments = await self.calls.get()
            await asyncio.sleep(0.001)
            function(*arguments)

    def put(self, function: Callable[..., object], *arguments: object) -> None:
        """Send a call."""
        self.calls.put_nowait((function, *arguments))


def answer(future: asyncio.Future[str | None], text: str | None) -> None:
    """Answer a request, unless nobody waits for it any more."""
    if not future.done():
        future.set_result(text)


class Hub:
    """The broker. It knows which processes have subscribed to what."""

    def __init__(self, unavailable: type[Exception]) -> None:
        """Take the error that a process gets if it cannot be helped."""
        self.unavailable = unavailable
        self.interest = defaultdict[str, list["HubBroker"]](list)

    def subscribe(self, broker: "HubBroker", subject: str) -> None:
        """Note that a process wants to hear about a subject."""
        self.interest[subject].append(broker)

    def unsubscribe(self, broker: "HubBroker", subject: str) -> None:
        """Note that it does not any more."""
        with suppress(ValueError):
            self.interest[subject].remove(broker)

    def publish(self, broker: "HubBroker", subject: str, message: str) -> None:
        """Send a message to the other processes that have subscribed."""
        for other in self.interest[subject]:
            if other is not broker:
                other.down.put(other.receive, subject, message)

    def ask(
        self, broker: "HubBroker", subject: str, reply: asyncio.Future[str | None]
    ) -> None:
        """Ask another process that has subscribed; answer None if there is none."""
        others = [other for other in self.interest[subject] if other is not broker]
        if others:
            others[0].down.put(others[0].reply, subject, broker, reply)
        else:
            broker.down.put(answer, reply, None)


class HubBroker:
    """A process's connection to the hub; step 12 says what the methods promise."""

    def __init__(self, hub: Hub) -> None:
        """Take the hub."""
        self.hub = hub
        self.is_connected = False
        self.waiting = set[asyncio.Future[str | None]]()
        self.subscriptions: dict[str, tuple[asyncio.Queue[bytes], str]] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Connect, perhaps once more: then subscribe as before."""
        self.up, self.down = Pipe(), Pipe()
        self.is_connected = True
        for subject in self.subscriptions:
            self.up.put(self.hub.subscribe, self, subject)

    def cut(self) -> None:
        """Lose the connection, and all that is under way."""
        self.is_connected = False
        for pipe in self.up, self.down:
            pipe.task.cancel()
        for subject in self.hub.interest:
            self.hub.unsubscribe(self, subject)
        for reply in self.waiting:
            if not reply.done():
                reply.set_exception(self.hub.unavailable("cut off"))

    async def stop(self) -> None:
        """Disconnect."""
        self.cut()
        for task in self.tasks.values():
            task.cancel()

    def send(self, function: Callable[..., object], *arguments: object) -> None:
        """Send the hub a call."""
        if not self.is_connected:
            raise self.hub.unavailable("cut off")
        self.up.put(function, *arguments)

    async def request(
        self, function: Callable[..., object], *arguments: object
    ) -> str | None:
        """Send the hub a call, and return its answer; wait at most half a second."""
        reply: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.send(function, *arguments, reply)
        self.waiting.add(reply)
        try:
            async with asyncio.timeout(0.5):
                return await reply
        except TimeoutError:
            raise self.hub.unavailable("no answer") from None
        finally:
            self.waiting.discard(reply)

    async def settle(self) -> None:
        """Wait until the hub has done all that it was told before."""
        await self.request(lambda reply: self.down.put(answer, reply, None))

    async def subscribe(
        self, subject: str, deliver: Callable[[bytes], Awaitable[None]], name: str = ""
    ) -> None:
        """Subscribe to a subject; from now on, `ask` finds `name`."""
        self.send(self.hub.subscribe, self, subject)
        messages = asyncio.Queue[bytes]()
        self.subscriptions[subject] = messages, name

        async def deliver_all() -> None:
            while True:
                await deliver(await messages.get())

        self.tasks[subject] = asyncio.create_task(deliver_all())
        try:
            await self.settle()
        except BaseException:
            await self.unsubscribe(subject)
            raise

    async def unsubscribe(self, subject: str) -> None:
        """End a subscription."""
        del self.subscriptions[subject]
        self.tasks.pop(subject).cancel()
        with suppress(self.hub.unavailable):
            self.send(self.hub.unsubscribe, self, subject)
            await self.settle()

    async def publish(self, subject: str, message: str) -> None:
        """Send a message to the other processes."""
        self.send(self.hub.publish, self, subject, message)

    async def ask(self, subject: str) -> str:
        """Return another process's answer."""
        name = await self.request(self.hub.ask, self, subject)
        if name is None:
            raise self.hub.unavailable("nobody has subscribed")
        return name

    def receive(self, subject: str, message: str) -> None:
        """Get a message from the hub."""
        if subject in self.subscriptions:
            messages, _ = self.subscriptions[subject]
            messages.put_nowait(message.encode())

    def reply(
        self, subject: str, asker: "HubBroker", reply: asyncio.Future[str | None]
    ) -> None:
        """Answer another process's question, by way of the hub."""
        if self.is_connected and subject in self.subscriptions:
            _, name = self.subscriptions[subject]
            self.up.put(asker.down.put, answer, reply, name)
