"""One call of the command server over its socket; imports little, so that a stand-in script starts fast."""

import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any

HEAD = 8
"""Bytes of a request's length, with which the files are sent."""


def request(
    connection: socket.socket,
    command: Sequence[str],
    environment: Mapping[str, str],
    cwd: str,
    files: Sequence[int],
) -> None:
    """Send a call: its words, variables and folder, and the files for its standard streams."""
    call = {"argv": list(command), "environment": dict(environment), "cwd": cwd}
    payload = json.dumps(call).encode()
    socket.send_fds(connection, [len(payload).to_bytes(HEAD, "big")], list(files))
    connection.sendall(payload)


def received(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A call as it was sent, and its files."""
    head, files, _, _ = socket.recv_fds(connection, HEAD, 3)
    length, payload = int.from_bytes(head, "big"), b""
    while len(payload) < length:
        payload += connection.recv(length - len(payload))
    return json.loads(payload), list(files)
