"""A portal that answers as no portal should: the results stand whatever it does, the run ends in time and says whether it was heard."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from tests.robust.runs import broken_after_the_attack, contents, request

from tiltflow.cli import NOT_TOLD

TOKEN = "a-secret-of-the-portal"
PATIENCE_S = 150.0


def answer(head: str, body: bytes = b"") -> Callable[[socket.socket], None]:
    """Return a behaviour that answers once and closes."""
    return lambda client: client.sendall(f"HTTP/1.1 {head}\r\nConnection: close\r\n\r\n".encode() + body)


def trickle(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(250):
        client.sendall(b" ")
        time.sleep(0.1)


def endless(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        client.sendall(b"[" * 65536)


def no_header_ends(client: socket.socket) -> None:
    for number in range(200_000):
        client.sendall(f"X-{number}: {'a' * 200}\r\n".encode() if number else b"HTTP/1.1 200 OK\r\n")


BEHAVIOURS: dict[str, tuple[Callable[[socket.socket], None], bool]] = {
    "takes it": (answer("200 OK"), True),
    "closes at once": (lambda client: client.close(), False),
    "closes in the middle": (lambda client: client.sendall(b"HTTP/1.1 200 OK\r\nContent-Le"), False),
    "promises more than it sends": (answer("200 OK\r\nContent-Length: 1000", b"{"), False),
    "says nothing that is HTTP": (lambda client: client.sendall(b"\x15\x03\x01\x00\x02\x02\x16" * 50), False),
    "trickles for half a minute": (trickle, True),
    "never ends": (endless, True),
    "sends headers for ever": (no_header_ends, False),
    "fails (500)": (answer("500 Oops", b"<html>"), False),
    "fails with a traceback of its own": (answer("503 Later\r\nRetry-After: 99999999999", b"x" * 100_000), False),
    "is a page for people": (answer("200 OK\r\nContent-Type: text/html", b"<html><body>log in</body></html>"), False),
    "sends elsewhere": (answer("307 There\r\nLocation: http://127.0.0.1:{other}/steal"), False),
    "sends to a file": (answer("302 There\r\nLocation: file:///etc/passwd"), False),
    "echoes the secret": (answer("400 No", f"Bearer {TOKEN}".encode()), False),
    "paints the terminal": (answer("400 No", b"\x1b]0;owned\x07\x1b[2J\xff\xfe"), False),
    "refuses (401)": (answer("401 No"), False),
    "nests a million brackets": (answer("200 OK", b"[" * 60_000 + b"]" * 60), False),
}


SAMPLE = [
    "takes it",
    "is a page for people",
    "sends to a file",
    "echoes the secret",
    "paints the terminal",
    "nests a million brackets",
]
"""Behaviours that are not tried again, so that they take no time."""


def whole_request(client: socket.socket) -> bytes:
    """Return a request with its body: a server that closes before it has read all resets the line, and its answer is lost."""
    heard = b""
    while b"\r\n\r\n" not in heard and (more := client.recv(1 << 16)):
        heard += more
    head, _, body = heard.partition(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length and (more := client.recv(1 << 16)):
        body += more
    return head + b"\r\n\r\n" + body


class Portal:
    """A server that behaves badly, and another whose only sin is to be called."""

    def __init__(self, behaviour: Callable[[socket.socket], None]) -> None:
        self.behaviour = behaviour
        self.heard: list[bytes] = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client:
            try:
                client.settimeout(PATIENCE_S)
                self.heard.append(whole_request(client))
                self.behaviour(client)
            except OSError:
                pass

    def close(self) -> None:
        self.server.close()


def test_hostile_portals_change_no_result(any_warm, places, clean, tally, thorough):
    place, kind, names = places[0], "hostile portal", list(BEHAVIOURS) if thorough else SAMPLE
    assert any_warm.run(place).status == 0
    portals = [Portal(BEHAVIOURS[name][0]) for name in names]
    environment = {"TILTFLOW_TOKEN": TOKEN, "TILTFLOW_CALLBACK_PATIENCE_S": "2"}
    any_warm.start(
        [request(place, more=["--callback-url", f"http://127.0.0.1:{each.port}/done"], environment=environment) for each in portals]
    )
    ends = any_warm.ends()
    common = broken_after_the_attack(place, clean[0])
    common += [] if contents(place.output) == clean[0].contents else ["the results are not those of an undisturbed run"]
    common += [
        f"{path} holds the secret" for path in place.output.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()
    ]
    for name, portal, end in zip(names, portals, ends, strict=True):
        portal.close()
        expected = 0 if BEHAVIOURS[name][1] else NOT_TOLD
        broken = [] if end.status == expected else [f"it ended with {end.status}: {end.said[-500:]}"]
        broken += [] if end.seconds < PATIENCE_S else [f"it took {end.seconds:.0f} s"]
        broken += ["it prints the secret"] if TOKEN in end.said else []
        broken += ["it paints the terminal"] if "\x1b]0" in end.said else []
        broken += [] if portal.heard else ["the portal was not called"]
        tally.add(kind, name, broken + common)
    tally.require(kind)
