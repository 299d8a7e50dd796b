"""Messages that are invalid, whatever groups there are."""

import json

from ..messages import message

INVALID_MESSAGES = {
    "empty": "",
    "not JSON": "This is a test message",
    "single quotes": "{'type': 'ECHO', 'value': 'HI'}",
    "nested too deeply": '{"type": "ECHO", "value": ' + "[" * 100_000,
    "null": "null",
    "a number": "1",
    "a string": r'"{\"type\": \"ECHO\", \"value\": \"HI\"}"',
    "a list": '[{"type": "ECHO", "value": "HI"}]',
    "an object and more": '{"type": "ECHO", "value": "HI"} {}',
    "NaN": '{"type": "ECHO", "value": "HI", "more": NaN}',
    "lone surrogate": r'{"type": "ECHO", "value": "\ud800"}',
    "no type": '{"value": "HI"}',
    "type a list": '{"type": ["ECHO"], "value": "HI"}',
    "type in small letters": '{"type": "echo", "value": "HI"}',
    "type with a space": '{"type": "ECHO ", "value": "HI"}',
    "no value": '{"type": "ECHO"}',
    "ECHO a number": '{"type": "ECHO", "value": 1}',
    "ECHO true": '{"type": "ECHO", "value": true}',
    "ECHO an object": '{"type": "ECHO", "value": {"value": "HI"}}',
    "ECHO null": '{"type": "ECHO", "value": null}',
    "ECHO_TIMES_3 null": '{"type": "ECHO_TIMES_3", "value": null}',
    "ECHO_TO_ALL null": '{"type": "ECHO_TO_ALL", "value": null}',
    "ECHO_TO_ALL an object": '{"type": "ECHO_TO_ALL", "value": {}}',
    "CREATE_GROUP a number": '{"type": "CREATE_GROUP", "value": 1}',
    "CREATE_GROUP no value": '{"type": "CREATE_GROUP"}',
    "JOIN_GROUP null": '{"type": "JOIN_GROUP", "value": null}',
    "JOIN_GROUP a list": '{"type": "JOIN_GROUP", "value": []}',
    "LEAVE_GROUP null": '{"type": "LEAVE_GROUP", "value": null}',
    "MESSAGE_GROUP a string": '{"type": "MESSAGE_GROUP", "value": "X"}',
    "no group message": '{"type": "MESSAGE_GROUP", "value": {"groupId": "X"}}',
    "ECHO a group message": json.dumps({**message("X"), "type": "ECHO"}),
    "group message a number": json.dumps(message("X", 1)),
    "group id a number": json.dumps(message(1)),
}
INVALID = {"type": "INVALID_MESSAGE", "value": None}
