"""Browses for _cogmesh._udp with the zeroconf package and prints the first service it resolves, as JSON."""

import json
import sys
import threading

from zeroconf import IPVersion, ServiceBrowser, ServiceListener, Zeroconf

KIND = "_cogmesh._udp.local."
PATIENCE_S = 15


class First(ServiceListener):
    def __init__(self):
        self.found, self.service = threading.Event(), None

    def add_service(self, zeroconf, kind, name):
        info = zeroconf.get_service_info(kind, name, timeout=5000)
        if info is None:
            return
        self.service = {
            "name": info.name,
            "server": info.server,
            "port": info.port,
            "addresses": info.parsed_scoped_addresses(IPVersion.All),
            "txt": {key.decode(): (value or b"").decode() for key, value in info.properties.items()},
        }
        self.found.set()

    def update_service(self, zeroconf, kind, name):
        self.add_service(zeroconf, kind, name)

    def remove_service(self, zeroconf, kind, name):
        pass


first = First()
zeroconf = Zeroconf(ip_version=IPVersion.V4Only)
browser = ServiceBrowser(zeroconf, KIND, first)
seen = first.found.wait(PATIENCE_S)
browser.cancel()
zeroconf.close()
if not seen:
    sys.exit("no service within 15 s")
print(json.dumps(first.service))
