"""A server on a port of this machine, until it is told to stop; then it answers what it has begun."""

import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI

BACKLOG = 2048


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
        raise ValueError(f"cannot listen at --host {host} --port {port}: {error}. Take another port.") from error
    return opened


def build_server(app: FastAPI) -> uvicorn.Server:
    """The HTTP server around an application, which logs neither requests nor what is in them."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        backlog=BACKLOG,
        http="h11",
        ws="none",
        lifespan="on",
        timeout_keep_alive=75,  # longer than clients keep their connections, which would meet a closed one
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
