"""The messages of the protocol, as texts: each has a type and a value."""

import json


def parse(frame: str | bytes) -> object:
    """Return the value of the JSON text in `frame`, or None when it holds none.

    A number beyond Python's limits, such as 1e999, counts as no JSON.
    """
    try:
        text = frame if isinstance(frame, str) else frame.decode()
        value = json.loads(text)
        # A ValueError for what loads() lets through: NaN, a lone surrogate.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    return value


def encode(kind: str, value: object) -> str:
    """Return the text of a message of a type, `kind`.

    It is about as long as the request that it answers: ASCII alone makes six bytes of
    the two of an `é`.
    """
    return json.dumps({"type": kind, "value": value}, ensure_ascii=False)
