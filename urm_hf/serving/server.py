"""A server on a port of this machine, until it is told to stop; then it answers what it has begun."""

import errno
import signal
import socket
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from urm_hf.serving.refusals import JSONAnswer, Refusal

BACKLOG = 2048
KEEP_ALIVE = 75  # seconds; longer than clients keep their connections, which would meet a closed one
HEAD_SECONDS = 30.0  # in which the head of a request has to arrive


class BoundedProtocol(H11Protocol):
    """HTTP as uvicorn speaks it, but a connection is closed on which no request begins: it would be held for ever."""

    def connection_made(self, transport: Any):
        super().connection_made(transport)
        self._closing = self.loop.call_later(HEAD_SECONDS, self._close_if_none_began, None)

    def on_response_complete(self):
        super().on_response_complete()
        # uvicorn's own patience between two requests ends with the first byte of the second. One timer a connection:
        # it holds the request that was answered, and a timer for each would hold those of the last two minutes
        self._closing.cancel()
        self._closing = self.loop.call_later(KEEP_ALIVE + HEAD_SECONDS, self._close_if_none_began, self.cycle)

    def connection_lost(self, exc: Exception | None):
        self._closing.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str):
        """Tells whoever sent what is no HTTP so in the form of all errors."""
        told = f"{msg.rstrip('.')}: send HTTP/1.1 to http://, as this server speaks no TLS itself."
        body = bytes(JSONAnswer(Refusal(400, told).body()).body)
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()

    def _close_if_none_began(self, last: Any):
        if self.cycle is last and not self.transport.is_closing():
            self.transport.close()


def open_socket(host: str, port: int) -> socket.socket:
    """
    A socket that listens.

    Args:
        host (`str`): a name or address of this machine.
        port (`int`): 0 for any that is free.

    Raises:
        ValueError: the port is taken, or the host is none of this machine.
    """
    if not 0 <= port < 2**16:  # the resolver takes it modulo 65536
        raise ValueError(f"--port must lie between 0 and 65535, got {port}.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(address)
            opened.listen(BACKLOG)
        except OSError:
            opened.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        if isinstance(error, UnicodeError | socket.gaierror) or getattr(error, "errno", 0) == errno.EADDRNOTAVAIL:
            remedy = "Take a name or address of this machine; 0.0.0.0 and :: are all of them."
        else:
            remedy = "Take another port."
        raise ValueError(f"cannot listen at --host {host} --port {port}: {error}. {remedy}") from error
    return opened


def build_server(app: FastAPI) -> uvicorn.Server:
    """The HTTP server around an application, which logs neither requests nor what is in them."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        backlog=BACKLOG,
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE,
        server_header=False,
    )
    return uvicorn.Server(config)


def serve(app: FastAPI, opened: socket.socket, told: Callable[[], Any]):
    """
    Answers requests until SIGTERM or SIGINT, and then those that it has begun.

    Args:
        app (`FastAPI`): what `create_app` gave.
        opened (`socket`): what `open_socket` gave.
        told (`Callable`): called when clients may ask.
    """
    server = build_server(app)
    # uvicorn hands on the signal that ended it, which to a process that has answered everything is no failure
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        told()
        server.run(sockets=[opened])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
