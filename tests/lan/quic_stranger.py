"""A QUIC client that is no node: quic_stranger.py HOST PORT MODE. Prints as JSON how it was received.

  --no-certificate  shows no certificate
  --silent          shows one, and then says nothing
  --garbage         opens the control stream and sends a frame of noise
  --too-long        opens the control stream and announces a frame of 1 GiB
  --alpn NAME       speaks another protocol
"""

import asyncio
import datetime
import json
import ssl
import sys
import time

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

PATIENCE_S = 15


class Stranger(QuicConnectionProtocol):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.began, self.handshake = time.monotonic(), False
        self.ended = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            self.handshake, self.began = True, time.monotonic()
        if isinstance(event, ConnectionTerminated) and not self.ended.done():
            after = int((time.monotonic() - self.began) * 1000)
            self.ended.set_result((event.error_code, event.reason_phrase, after))


def certificate():
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stranger")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(1970, 1, 1))
        .not_valid_after(datetime.datetime(9999, 12, 31))
        .sign(key, None)
    )
    return made, key


async def main(host, port, mode, words):
    alpn = words[0] if mode == "--alpn" else "cogmesh/1"
    configuration = QuicConfiguration(is_client=True, alpn_protocols=[alpn], verify_mode=ssl.CERT_NONE)
    if mode != "--no-certificate":
        configuration.certificate, configuration.private_key = certificate()
    received = {"closed": False, "handshake": False}
    stranger = None
    try:
        async with connect(
            host, port, configuration=configuration, create_protocol=Stranger, wait_connected=False
        ) as stranger:
            stranger.transmit()
            if mode in ("--garbage", "--too-long"):
                await asyncio.wait_for(stranger.wait_connected(), PATIENCE_S)
                stream = stranger._quic.get_next_available_stream_id()
                # The kind and version of a Hello, and then nothing that one could be.
                noise = b"\x00" + (40).to_bytes(4, "little") + bytes(4) + b"\x01\x00" + b"\xff" * 34
                long = b"\x00" + (1 << 30).to_bytes(4, "little")
                stranger._quic.send_stream_data(stream, noise if mode == "--garbage" else long)
                stranger.transmit()
            code, reason, after = await asyncio.wait_for(stranger.ended, PATIENCE_S)
            received.update(closed=True, error_code=code, reason=reason, after_ms=after)
    except (ConnectionError, asyncio.TimeoutError) as error:
        received["error"] = repr(error)
    received["handshake"] = bool(stranger and stranger.handshake)
    print(json.dumps(received))


asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]))
