"""Plays the cluster's name server for a headless service: its name has the addresses of the ready pods."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading


class ClusterNames(socketserver.ThreadingUDPServer):
    """Answers every question for an IPv4 address with those of `ready`, in a message of RFC 1035."""

    daemon_threads = True
    TTL_S = 5
    """CoreDNS' own, of its Kubernetes plugin."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Question)
        self.ready: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        """Where it answers, on 127.0.0.1."""
        return int(self.server_address[1])

    def answer(self, query: bytes) -> bytes:
        """The answer to one question."""
        end = query.index(0, 12) + 5
        is_address = query[end - 4 : end - 2] == b"\x00\x01"
        hosts = list(self.ready) if is_address else []
        header = query[:2] + struct.pack(">HHHHH", 0x8180, 1, len(hosts), 0, 0)
        record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, self.TTL_S, 4)
        return header + query[12:end] + b"".join(record + socket.inet_aton(host) for host in hosts)


class _Question(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        query, reply = self.request
        assert isinstance(self.server, ClusterNames)
        reply.sendto(self.server.answer(query), self.client_address)
