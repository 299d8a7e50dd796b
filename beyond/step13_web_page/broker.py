"""Messages between server processes: no broker for a single process, or NATS."""

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error, NoRespondersError, StaleConnectionError

BACKLOG = 16 * 1024 * 1024  # bytes on their way: 16 kB from each of 1,000 clients
PING_INTERVAL = 5  # seconds; after two pings without an answer, the broker is away
Deliver = Callable[[bytes], Awaitable[None]]
logger = logging.getLogger(__name__)


class UnavailableError(Exception):
    """No other process has subscribed, or the broker is away or too far behind."""


class MemoryBroker:
    """Messages between servers in this process; a single server needs no others.

    What holds for every broker: a message arrives at most once, in the order in which
    its process has sent those about the same subject, and never at that process itself.
    No wait takes longer than half a second, even if the broker is stuck.
    """

    def __init__(self, peers: "list[MemoryBroker] | None" = None) -> None:
        """Take the list of all brokers that are connected to each other."""
        self.peers = [] if peers is None else peers
        self.subscriptions: dict[str, tuple[Deliver, str]] = {}

    async def start(self) -> None:
        """Connect, within a second; raise `UnavailableError` if that fails."""
        self.peers.append(self)

    async def stop(self) -> None:
        """Disconnect."""
        self.peers.remove(self)

    async def subscribe(self, subject: str, deliver: Deliver, answer: str = "") -> None:
        """Subscribe: deliver messages, and reply `answer` to processes that `ask`.

        On return it is in force. Raises `UnavailableError` if the broker is away.
        """
        self.subscriptions[subject] = deliver, answer

    async def unsubscribe(self, subject: str) -> None:
        """End a subscription; on return, nobody gets its answer any more."""
        del self.subscriptions[subject]

    async def publish(self, subject: str, message: str) -> None:
        """Send a message, without waiting; raise `UnavailableError` if that fails."""
        for deliver, _ in self.others(subject):
            await deliver(message.encode())

    async def ask(self, subject: str) -> str:
        """Return another process's answer; raise `UnavailableError` without one."""
        for _, answer in self.others(subject):
            return answer
        raise UnavailableError(subject)

    def others(self, subject: str) -> list[tuple[Deliver, str]]:
        """Return how the others have subscribed."""
        others = [peer.subscriptions for peer in self.peers if peer is not self]
        return [other[subject] for other in others if subject in other]


class NatsBroker:
    """NATS, for all processes, on any number of machines, that connect to `url`."""

    def __init__(self, url: str) -> None:
        """Take the address, such as `nats://127.0.0.1:4222`."""
        self.url = url
        self.problem = f"no broker at {url} (NATS_URL)"
        self.client = Client()
        self.subscriptions: dict[str, Subscription] = {}
        self.unconfirmed = deque[int]()  # sizes of messages that may be on their way
        self.backlog = 0  # bytes; their sum
        self.confirming: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, within a second; raise `UnavailableError` if that fails."""
        try:
            async with asyncio.timeout(1):
                await self.client.connect(
                    self.url,
                    no_echo=True,
                    error_cb=self.on_error,
                    disconnected_cb=self.on_disconnect,
                    reconnected_cb=self.on_reconnect,
                    max_reconnect_attempts=-1,  # never give up
                    reconnect_time_wait=0.1,  # type: ignore[arg-type] # in seconds
                    ping_interval=PING_INTERVAL,  # by default it takes 6 minutes
                    pending_size=sys.maxsize,  # bytes; beyond this, publish waits
                    flusher_queue_size=0,  # a subscription never waits either
                )
        except (Error, OSError, ValueError) as error:
            if isinstance(error, TimeoutError):
                await self.stop()
            raise UnavailableError(self.problem) from None

    async def stop(self) -> None:
        """Disconnect, within half a second."""
        if self.confirming:
            self.confirming.cancel()
        # Python 3.11 can lose the cancellation by which close() ends the attempts.
        self.client.options["max_reconnect_attempts"] = 1
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                # What close() raises when the broker is away can be a CancelledError.
                await asyncio.gather(self.client.close(), return_exceptions=True)

    async def subscribe(self, subject: str, deliver: Deliver, answer: str = "") -> None:
        """Subscribe: deliver messages, and reply `answer` to processes that `ask`."""

        async def receive(message: Msg) -> None:
            if message.reply:
                await message.respond(answer.encode())
            else:
                await deliver(message.data)

        with self.unavailable_without_broker():
            subscription = await self.client.subscribe(subject, cb=receive)
            try:
                await self.settle()
            except BaseException:
                await subscription.unsubscribe()
                raise
            self.subscriptions[subject] = subscription

    async def unsubscribe(self, subject: str) -> None:
        """End a subscription, with or without a broker."""
        with suppress(Error, OSError):
            await self.subscriptions.pop(subject).unsubscribe()
            if self.client.is_connected:
                await self.settle(timeout=0.2)  # less than a server has to stop

    async def settle(self, timeout: float = 0.5) -> None:
        """Wait until the broker has handled everything it was sent.

        `flush()` will not do: its PING overtakes a SUB that nats-py has yet to send.
        And if it is cancelled, the answer that comes later ends nats-py's listening.
        """
        with suppress(NoRespondersError):
            await self.client.request("nobody", timeout=timeout)

    async def publish(self, subject: str, message: str) -> None:
        """Send a message; raise `UnavailableError` if the broker is away."""
        data = message.encode()
        with self.unavailable_without_broker():
            await self.client.publish(subject, data)
        self.unconfirmed.append(len(data))
        self.backlog += len(data)
        if self.confirming is None or self.confirming.done():
            self.confirming = asyncio.create_task(self.confirm())

    async def confirm(self) -> None:
        """Wait for an answer of the broker: then it has everything sent before."""
        while self.unconfirmed:
            count = len(self.unconfirmed)
            await self.settle(timeout=sys.maxsize)
            self.backlog -= sum(self.unconfirmed.popleft() for _ in range(count))

    async def ask(self, subject: str) -> str:
        """Return another process's answer; raise `UnavailableError` without one."""
        with self.unavailable_without_broker():
            answer = await self.client.request(subject, timeout=0.5)
            return answer.data.decode()

    @contextmanager
    def unavailable_without_broker(self) -> Iterator[None]:
        """Raise `UnavailableError` if the broker cannot be used, at once."""
        is_behind = self.backlog > BACKLOG
        if is_behind or not self.client.is_connected:  # nats-py would keep it for later
            raise UnavailableError(self.problem)
        try:
            yield
        except (Error, OSError) as error:
            raise UnavailableError(self.problem) from error

    async def on_error(self, error: Exception) -> None:
        """Log an error, unless a connection has ended or could not be made."""
        is_end = isinstance(error, (OSError, StaleConnectionError))
        if self.client.is_connected and not is_end:
            logger.error("broker: %r", error)

    async def on_disconnect(self) -> None:
        """Log that the broker is away, and how many messages may be lost."""
        if self.client.is_closed:
            return
        logger.warning("the broker at %s is away", self.url)
        if self.confirming:
            self.confirming.cancel()
        if lost := len(self.unconfirmed):
            logger.warning("%d message(s) may be lost for other processes", lost)
        self.unconfirmed.clear()
        self.backlog = 0

    async def on_reconnect(self) -> None:
        """Log that the broker is back."""
        logger.warning("the broker at %s is back", self.url)


Broker = MemoryBroker | NatsBroker
