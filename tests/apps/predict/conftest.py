"""A server of this machine that sends videos, breaks off, stalls and comes back, as a test says."""

from __future__ import annotations

import http.server
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable

import pytest

Reply = Callable[[http.server.BaseHTTPRequestHandler], None]


class Replies:
    """What a server may do with a request."""

    def __init__(self) -> None:
        self.over = threading.Event()  # the test's end

    @staticmethod
    def whole(data: bytes, kind: str = "video/mp2t") -> Reply:
        """Send a file with its length."""

        def reply(handler):
            _head(handler, kind, len(data))
            handler.wfile.write(data)

        return reply

    @staticmethod
    def cut_off(data: bytes, sent: int) -> Reply:
        """Tell the length of a file, and send its beginning alone."""

        def reply(handler):
            _head(handler, "video/mp2t", len(data))
            handler.wfile.write(data[:sent])

        return reply

    def live(self, *parts: bytes | threading.Event) -> Reply:
        """Send parts without telling their length, and wait where there is an event; then hang up."""

        def reply(handler):
            _head(handler, "video/mp2t", None)
            for part in parts:
                if isinstance(part, bytes):
                    handler.wfile.write(part)
                while isinstance(part, threading.Event) and not part.wait(0.01) and not self.over.is_set():
                    pass

        return reply

    def late_error(self, status: int, event: threading.Event) -> Reply:
        """Wait for an event, and send an error."""

        def reply(handler):
            while not event.wait(0.01) and not self.over.is_set():
                pass
            handler.send_error(status)

        return reply

    @staticmethod
    def error(status: int) -> Reply:
        """Send an error."""
        return lambda handler: handler.send_error(status)


def _head(handler: http.server.BaseHTTPRequestHandler, kind: str, length: int | None) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()


@pytest.fixture
def replies():
    """What a server may do."""
    made = Replies()
    yield made
    made.over.set()


@pytest.fixture
def serve(replies):
    """`serve(*replies) -> address`: a server that gives each request the next reply, and then the last one again.

    A dict gives each path its reply.
    """
    servers = []

    def start(*given: Reply | dict[str, Reply]) -> str:
        waiting = list(given)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                reply = waiting.pop(0) if len(waiting) > 1 else waiting[0]
                (reply[self.path] if isinstance(reply, dict) else reply)(self)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_):
                pass  # clients hang up

        server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    replies.over.set()
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def in_background():
    """`in_background(work)`: call it in a thread; joined at the end of the test."""
    threads = []

    def start(work: Callable[[], None]) -> None:
        threads.append(threading.Thread(target=work, daemon=True))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture
def over_tcp(free_port, in_background):
    """`over_tcp(data) -> address`: FFmpeg listens there, and is sent the data and then the end of a live source."""

    def start(data: bytes) -> str:
        def send():
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                try:
                    with socket.create_connection(("127.0.0.1", free_port)) as sender:
                        sender.sendall(data)
                    return
                except ConnectionRefusedError:
                    time.sleep(0.01)

        in_background(send)
        return f"tcp://127.0.0.1:{free_port}?listen=1"

    return start


class _Camera(socketserver.StreamRequestHandler):
    """RTSP as cameras speak it: MPEG-TS in RTP packets, through the connection itself; then it hangs up."""

    def handle(self):
        while words := self.rfile.readline().split():
            headers = {}
            while line := self.rfile.readline().strip():
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            method = words[0].decode()
            if method == "DESCRIBE":
                body = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:a\r\n"
                self._answer(headers, f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n{body}")
            elif method == "SETUP":
                self._answer(headers, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n")
            elif method == "PLAY":
                self._answer(headers, "Session: 1\r\n\r\n")
                self._play(self.server.data)
                return
            else:
                self._answer(headers, "Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n\r\n")

    def _answer(self, headers: dict[str, str], rest: str) -> None:
        self.wfile.write(f"RTSP/1.0 200 OK\r\nCSeq: {headers['cseq']}\r\n{rest}".encode())

    def _play(self, data: bytes) -> None:
        for number, start in enumerate(range(0, len(data), 7 * 188)):
            packet = struct.pack(">BBHII", 0x80, 33, number, 0, 1) + data[start : start + 7 * 188]
            self.wfile.write(b"$" + struct.pack(">BH", 0, len(packet)) + packet)


@pytest.fixture
def rtsp_camera():
    """`rtsp_camera(data) -> address`: a camera that sends MPEG-TS to whoever connects, from its start, and hangs up."""
    servers = []

    def start(data: bytes) -> str:
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Camera)
        server.daemon_threads, server.data = True, data
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return f"rtsp://127.0.0.1:{server.server_address[1]}/camera"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
