"""A QUIC client that is no node, on the aioquic package: quic_stranger.py HOST PORT [OPTIONS]. Prints as JSON how it was
received. Without options it tries once for each line of standard input, which is a JSON list of options.

Shows a certificate that it signed itself; for a start it
  --no-certificate      shows none
  --certificate FILE    shows those in a PEM file, whatever they are; --key FILE is what it signs with
  --alpn NAME           speaks another protocol
  --tls12               offers TLS 1.2 and nothing else
and then
  --silent              says nothing, as without any of these
  --garbage             opens the control stream and sends a frame of noise
  --too-long            opens the control stream and announces a frame of 1 GiB
  --early               what it says it says before the handshake (0-RTT), and not again: on a ticket that it got in an earlier
                        try, or one that nobody gave it
"""

import argparse
import asyncio
import base64
import datetime
import json
import os
import re
import ssl
import sys
import time
from types import SimpleNamespace

from aioquic import tls
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import MAX_EARLY_DATA
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted
from aioquic.quic.packet import QuicPacketType, QuicTransportParameters, push_quic_transport_parameters
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

PATIENCE_S = 15
# Room for a certificate of 1 MiB.
HANDSHAKE_BYTES_MAX = 2 << 20
TLS_1_2 = 0x0303
# Session tickets that were given.
TICKETS = []


class Stranger(QuicConnectionProtocol):
    def __init__(self, quic, options, **named):
        super().__init__(quic, **named)
        self.began, self.done = time.monotonic(), None
        self.ended = asyncio.get_running_loop().create_future()
        honest = quic._initialize

        def initialize(peer_cid):
            honest(peer_cid)
            dishonest(quic, options)

        quic._initialize = initialize

    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            self.done, self.began = event, time.monotonic()
        if isinstance(event, ConnectionTerminated) and not self.ended.done():
            after = int((time.monotonic() - self.began) * 1000)
            self.ended.set_result((event.error_code, event.reason_phrase, after))


def dishonest(quic, options):
    """Takes out of the package what keeps its users from harming themselves."""
    context = quic.tls
    quic._crypto_buffers[tls.Epoch.HANDSHAKE] = Buffer(capacity=HANDSHAKE_BYTES_MAX)
    if options.tls12:
        context._supported_versions = [TLS_1_2]
    honest = context._client_handle_certificate_request

    def certificate_request(buffer):
        honest(buffer)
        # Else it would show nothing where the node says that it takes no such key.
        context._certificate_request.signature_algorithms += context._signature_algorithms_for_private_key()

    context._client_handle_certificate_request = certificate_request


def certificates(options):
    """The chain that is shown, the own certificate first, and the key."""
    if options.no_certificate:
        return [], None
    if options.certificate:
        with open(options.certificate, encoding="ascii") as file:
            pems = re.findall("-----BEGIN CERTIFICATE-----(.*?)-----END", file.read(), re.DOTALL)
        with open(options.key, "rb") as file:
            key = load_pem_private_key(file.read(), None)
        # Bytes that go out as they are: the package would refuse to load what is damaged.
        return [SimpleNamespace(public_bytes=lambda _, der=base64.b64decode(pem): der) for pem in pems], key
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
    return [made], key


def forged_ticket(host):
    """A session ticket with all that is needed for 0-RTT, as if the node had given it."""
    parameters = Buffer(capacity=256)
    limits = QuicTransportParameters(
        initial_max_data=1 << 20, initial_max_stream_data_bidi_remote=1 << 20, initial_max_streams_bidi=4
    )
    push_quic_transport_parameters(parameters, limits)
    now = tls.utcnow()
    return tls.SessionTicket(
        age_add=7,
        cipher_suite=tls.CipherSuite.AES_128_GCM_SHA256,
        not_valid_before=now - datetime.timedelta(minutes=1),
        not_valid_after=now + datetime.timedelta(hours=1),
        resumption_secret=os.urandom(32),
        server_name=host,
        ticket=os.urandom(64),
        max_early_data_size=MAX_EARLY_DATA,
        other_extensions=[(tls.ExtensionType.QUIC_TRANSPORT_PARAMETERS, parameters.data)],
    )


def say(quic, options):
    # The kind and version of a Hello, and then nothing that one could be.
    noise = b"\x00" + (40).to_bytes(4, "little") + bytes(4) + b"\x01\x00" + b"\xff" * 34
    long = b"\x00" + (1 << 30).to_bytes(4, "little")
    if options.garbage or options.too_long:
        quic.send_stream_data(quic.get_next_available_stream_id(), noise if options.garbage else long)


def early_bytes(quic):
    """How many bytes went out before the handshake. They are forgotten: said again after it, they would be no early data."""
    packets = quic._spaces[tls.Epoch.ONE_RTT].sent_packets.values()
    early = [packet for packet in packets if packet.packet_type == QuicPacketType.ZERO_RTT]
    for packet in early:
        packet.delivery_handlers.clear()
    return sum(packet.sent_bytes for packet in early)


async def attempt(host, port, options):
    chain, key = certificates(options)
    configuration = QuicConfiguration(is_client=True, alpn_protocols=[options.alpn], verify_mode=ssl.CERT_NONE)
    configuration.server_name = host
    if chain:
        configuration.certificate, *configuration.certificate_chain = chain
        configuration.private_key = key
    if options.early:
        configuration.session_ticket = TICKETS[-1] if TICKETS else forged_ticket(host)
    received = {"closed": False, "early_bytes": 0}
    stranger = None
    try:
        async with connect(
            host,
            port,
            configuration=configuration,
            create_protocol=lambda quic, **named: Stranger(quic, options, **named),
            session_ticket_handler=TICKETS.append,
            wait_connected=False,
        ) as stranger:
            received["port"] = stranger._transport.get_extra_info("sockname")[1]
            if options.early:
                say(stranger._quic, options)
            stranger.transmit()
            if options.early:
                received["early_bytes"] = early_bytes(stranger._quic)
            elif options.garbage or options.too_long:
                await asyncio.wait_for(stranger.wait_connected(), PATIENCE_S)
                say(stranger._quic, options)
                stranger.transmit()
            code, reason, after = await asyncio.wait_for(stranger.ended, PATIENCE_S)
            received.update(closed=True, error_code=code, reason=reason, after_ms=after)
    except (ConnectionError, asyncio.TimeoutError) as error:
        received["error"] = repr(error)
    done = stranger.done if stranger else None
    received["handshake"] = done is not None
    # Only then has the node seen the certificate, and taken it.
    received["confirmed"] = bool(stranger and stranger._quic._handshake_confirmed)
    received["tickets"] = len(TICKETS)
    received["early_accepted"] = bool(done and (done.early_data_accepted or done.session_resumed))
    return received


def parsed(words):
    parser = argparse.ArgumentParser(usage=__doc__)
    for flag in ("--no-certificate", "--tls12", "--silent", "--garbage", "--too-long", "--early"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--alpn", default="cogmesh/1")
    return parser.parse_args(words)


def main(host, port, *words):
    for line in [json.dumps(words)] if words else sys.stdin:
        print(json.dumps(asyncio.run(attempt(host, int(port), parsed(json.loads(line))))), flush=True)


main(*sys.argv[1:])
