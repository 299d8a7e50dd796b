"""A broker, and a server process for each core: `make cluster`, until Ctrl-C."""

import os
import subprocess
import sys
from contextlib import ExitStack, suppress

from .processes import start_broker


def main() -> None:
    """Start them, on `PORT`, `PORT` + 1 and so on, and wait for Ctrl-C."""
    first_port = int(os.environ.get("PORT", "8080"))
    command = [sys.executable, "-m", f"{__package__}.server"]
    with ExitStack() as stack, suppress(KeyboardInterrupt):
        url = f"nats://127.0.0.1:{stack.enter_context(start_broker()).port}"
        servers = []
        for port in range(first_port, first_port + (os.cpu_count() or 1)):
            environment = {**os.environ, "NATS_URL": url, "PORT": str(port)}
            servers.append(subprocess.Popen(command, env=environment))
            stack.callback(servers[-1].wait)  # Ctrl-C reaches it, too
        servers[0].wait()


if __name__ == "__main__":
    main()
