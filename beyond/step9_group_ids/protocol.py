"""The protocol's messages: JSON texts with a type and a value."""

import json


def parse(frame: str | bytes) -> object:
    """Return the value of the JSON text in `frame`, or None if it is not JSON.

    Numbers beyond Python's limits, such as 1e999, do not count as JSON.
    """
    try:
        text = frame if isinstance(frame, str) else frame.decode()
        value = json.loads(text)
        # loads() accepts NaN and lone surrogates: this raises ValueError.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    return value


def encode(kind: str, value: object) -> str:
    """Return the text of a message of type `kind`."""
    return json.dumps({"type": kind, "value": value})
