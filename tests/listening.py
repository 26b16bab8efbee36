"""A server of HTTP in this process, for tests of what is sent to a portal."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Heard:
    """A request: its method, its headers, and its body."""

    method: str
    headers: Message
    content: bytes

    @property
    def body(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.content)


@contextmanager
def listening(answer: Callable[[Heard], int | None], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Answer every request with the status that `answer` returns, or hang up for None; give the server's host and port.

    With `tls` it speaks HTTPS by this context.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status = answer(Heard(self.command, self.headers, content))
            if status is not None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def do_OPTIONS(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
