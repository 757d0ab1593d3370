#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Runs a command with a DNS server that answers 127.0.0.1 for every name, and returns the command's exit status.

    unshare --net python3 dns.py COMMAND...

It needs its own network namespace, where nothing else listens on port 53. Source: RFC 1035, sections 3.2.1 and 4.1.
"""

import fcntl
import socket
import struct
import subprocess
import sys
import threading

SIOCSIFFLAGS = 0x8914
IFF_UP = 1
A, IN = 1, 1


def answer(query):
    """The answer to a query: an address if the query is for one, otherwise no record."""
    end = query.index(0, 12) + 5
    question = query[12:end]
    kind, _ = struct.unpack("!HH", question[-4:])
    address = struct.pack("!HHHIH4B", 0xC00C, A, IN, 0, 4, 127, 0, 0, 1) if kind == A else b""
    header = query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1 if address else 0, 0, 0)
    return header + question + address


def serve(server):
    while True:
        query, sender = server.recvfrom(512)
        server.sendto(answer(query), sender)


def main():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    fcntl.ioctl(server, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    server.bind(("127.0.0.1", 53))
    threading.Thread(target=serve, args=[server], daemon=True).start()
    sys.exit(subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL).returncode)


if __name__ == "__main__":
    main()
