#!/bin/sh
# avahi_browse.sh NAME: runs an avahi daemon of our own on this host, on a bus of its own, and prints what avahi-browse
# resolves of _cogmesh._udp once a service whose name starts with NAME is among it. The system's own avahi and bus are not
# touched. Needs a mount namespace in which this process may do as it likes (every host of lan-lab is one).
set -e
unshare --mount sh -s "$1" <<'INSIDE'
set -e
mount -t tmpfs none /run
mkdir -p /run/dbus /run/avahi-daemon
# The daemon insists on users that may not exist in a namespace that knows only root: here they are root.
sed 's/^avahi:x:[0-9]*:[0-9]*/avahi:x:0:0/; s/^messagebus:x:[0-9]*:[0-9]*/messagebus:x:0:0/' /etc/passwd >/run/passwd
sed 's/^avahi:x:[0-9]*/avahi:x:0/; s/^messagebus:x:[0-9]*/messagebus:x:0/; s/^netdev:x:[0-9]*/netdev:x:0/' /etc/group >/run/group
mount --bind /run/passwd /etc/passwd
mount --bind /run/group /etc/group
cat >/run/bus.conf <<'BUS'
<busconfig><type>session</type><listen>unix:path=/run/dbus/bus</listen><auth>EXTERNAL</auth><auth>ANONYMOUS</auth>
<allow_anonymous/><policy context="default"><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
<allow send_type="method_call"/></policy></busconfig>
BUS
cat >/run/avahi.conf <<'AVAHI'
[server]
use-ipv4=yes
use-ipv6=yes
enable-dbus=yes
[wide-area]
enable-wide-area=no
[publish]
publish-hinfo=no
publish-workstation=no
AVAHI
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/dbus/bus
dbus-daemon --config-file=/run/bus.conf --nofork --nopidfile >/run/bus.log 2>&1 &
bus=$!
trap 'kill $bus $avahi 2>/dev/null || true' EXIT
for _ in $(seq 100); do [ -S /run/dbus/bus ] && break; sleep 0.05; done
avahi-daemon --no-drop-root --no-chroot --no-rlimits -f /run/avahi.conf >/run/avahi.log 2>&1 &
avahi=$!
for _ in $(seq 30); do
  found=$(timeout 5 avahi-browse -rpt _cogmesh._udp 2>/run/browse.log || true)
  if printf '%s\n' "$found" | grep -q "^=;.*;$1-.*;IPv4;\|^=;.*;IPv4;$1-"; then break; fi
  sleep 0.3
done
printf '%s\n' "$found"
cat /run/browse.log /run/avahi.log /run/bus.log >&2
INSIDE
