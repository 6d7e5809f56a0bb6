//! Netlink: the kernel says at once when a link or an address changes, so that nobody waits for the next look.
//!
//! What it says is taken as a reason to look and for one thing more: a cable that was pulled and put back between two looks
//! leaves no trace in the addresses. Whether an address is there, `interfaces.rs` asks the system itself.
//! Only Linux has netlink; elsewhere, and where a sandbox forbids the socket, the bell never rings.

use std::{collections::BTreeSet, future::pending, mem, time::Duration};

use tokio::time::{Instant, timeout_at};

/// A change comes as a burst of messages: one look after them is enough.
const GATHER: Duration = Duration::from_millis(50);

/// Rings when links or addresses change.
#[derive(Debug)]
pub(super) struct Bell {
    line: Option<line::Line>,
    /// Links that went, or were interrupted, since it rang last.
    shaken: BTreeSet<u32>,
    /// When it rings, once something was heard.
    due: Option<Instant>,
}

impl Bell {
    /// One that hears the kernel, where it can be heard.
    pub(super) fn hung() -> Self {
        let line = line::Line::open().inspect_err(|error| {
            tracing::debug!(%error, "the system does not tell when interfaces change; they are looked at once a second");
        });
        Self { line: line.ok(), ..Self::silent() }
    }

    /// One that never rings.
    pub(super) const fn silent() -> Self {
        Self { line: None, shaken: BTreeSet::new(), due: None }
    }

    /// Waits until something changed and the burst of messages is over, 50 ms after the first one at the latest. Returns the
    /// indices of the links that went down, or lost an address, even if they have it back now.
    ///
    /// # Cancel safety
    /// Nothing is lost: what was heard is told by the next call.
    pub(super) async fn rung(&mut self) -> BTreeSet<u32> {
        loop {
            // Asked first, for where messages never end `timeout_at` never ends either.
            if self.due.is_some_and(|due| due <= Instant::now()) {
                self.due = None;
                return mem::take(&mut self.shaken);
            }
            let Some(line) = &mut self.line else {
                return pending().await;
            };
            let heard = match self.due {
                Some(due) => timeout_at(due, line.hear(&mut self.shaken)).await,
                None => Ok(line.hear(&mut self.shaken).await),
            };
            match heard {
                Ok(Ok(())) => {
                    self.due.get_or_insert_with(|| Instant::now() + GATHER);
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the system no longer tells when interfaces change; they are looked at once a second");
                    *self = Self::silent();
                }
                // It is due.
                Err(_) => {}
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod line {
    use std::{
        collections::{BTreeMap, BTreeSet},
        io,
        os::fd::OwnedFd,
    };

    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink, recv,
        send, socket_with,
    };
    use tokio::io::unix::AsyncFd;

    /// The groups RTMGRP_LINK, RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR (linux/rtnetlink.h).
    const GROUPS: u32 = 0x1 | 0x10 | 0x100;
    const RTM_NEWLINK: u16 = 16;
    const RTM_DELLINK: u16 = 17;
    const RTM_GETLINK: u16 = 18;
    const RTM_DELADDR: u16 = 21;
    /// NLM_F_REQUEST and NLM_F_DUMP: all there are.
    const ALL_OF_THEM: u16 = 0x1 | 0x300;
    /// IFF_UP and IFF_RUNNING: switched on, and able to carry packets.
    const UP_AND_RUNNING: u32 = 0x1 | 0x40;
    /// IFLA_CARRIER_CHANGES: how often the carrier came or went.
    const CARRIER_CHANGES: u16 = 35;
    /// Bytes of a message's header, of what follows in one about a link, and of an attribute's header.
    const HEADER: usize = 16;
    const LINK: usize = 16;
    const ATTRIBUTE: usize = 4;
    /// The kernel makes no message longer than this.
    const BUFFER_BYTES: usize = 64 << 10;

    /// The socket.
    #[derive(Debug)]
    pub(super) struct Line {
        socket: AsyncFd<OwnedFd>,
        buffer: Box<[u8]>,
        links: Links,
    }

    impl Line {
        /// Must be called within a tokio runtime.
        ///
        /// # Errors
        /// There is no such socket for us.
        pub(super) fn open() -> io::Result<Self> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            // No protocol means NETLINK_ROUTE.
            let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
            bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
            #[allow(
                deprecated,
                reason = "its successor is unsafe, for a type may lie about its descriptor; the one here owns it"
            )]
            let socket = AsyncFd::new(socket)?;
            let buffer = vec![0; BUFFER_BYTES].into();
            let line = Self { socket, buffer, links: Links::default() };
            line.ask()?;
            Ok(line)
        }

        /// Waits for messages; adds the links that they shake.
        ///
        /// # Errors
        /// The socket is of no use any more.
        ///
        /// # Cancel safety
        /// Nothing is lost.
        pub(super) async fn hear(&mut self, shaken: &mut BTreeSet<u32>) -> io::Result<()> {
            let (socket, buffer) = (&self.socket, &mut self.buffer);
            let received = loop {
                let mut ready = socket.readable().await?;
                let receive = |socket: &AsyncFd<OwnedFd>| {
                    Ok(recv(socket.get_ref(), &mut **buffer, RecvFlags::empty()).map(|(length, _)| length)?)
                };
                if let Ok(received) = ready.try_io(receive) {
                    break received;
                }
            };
            match received {
                Ok(length) => self.links.hear(self.buffer.get(..length).unwrap_or_default(), shaken),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // There were more messages than room: what they were is asked for.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                    self.ask()?;
                }
                Err(error) => return Err(error),
            }
            Ok(())
        }

        /// Has the kernel say how all links are.
        fn ask(&self) -> io::Result<()> {
            let length = u32::try_from(HEADER + LINK).unwrap_or_default();
            let mut request = Vec::with_capacity(HEADER + LINK);
            request.extend(length.to_ne_bytes());
            request.extend(RTM_GETLINK.to_ne_bytes());
            request.extend(ALL_OF_THEM.to_ne_bytes());
            // Number and sender of the message, and the rest: of any kind.
            request.resize(HEADER + LINK, 0);
            send(self.socket.get_ref(), &request, SendFlags::empty())?;
            Ok(())
        }
    }

    /// How the links were when they were last told of.
    #[derive(Debug, Default)]
    struct Links(BTreeMap<u32, State>);

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct State {
        runs: bool,
        carrier_changes: Option<u32>,
    }

    impl Links {
        /// Takes in what came at once: one message or more. What is cut short or unknown says nothing.
        fn hear(&mut self, mut bytes: &[u8], shaken: &mut BTreeSet<u32>) {
            while let Some((kind, body, rest)) = message(bytes) {
                self.hear_one(kind, body, shaken);
                bytes = rest;
            }
        }

        fn hear_one(&mut self, kind: u16, body: &[u8], shaken: &mut BTreeSet<u32>) {
            // Messages about a link and about an address have family and index in the same places.
            let (Some(family), Some(index)) = (body.first(), u32_at(body, 4)) else { return };
            match kind {
                // Of one family, a bridge's say: the same is told without it too.
                RTM_NEWLINK if *family != 0 => {}
                RTM_NEWLINK => {
                    let Some(state) = State::read(body) else { return };
                    // The kernel may tell of down and up in one message: then the count alone has changed.
                    if self.0.insert(index, state).is_some_and(|before| before != state) {
                        shaken.insert(index);
                    }
                }
                RTM_DELLINK if *family == 0 => {
                    self.0.remove(&index);
                    shaken.insert(index);
                }
                RTM_DELADDR => {
                    shaken.insert(index);
                }
                _ => {}
            }
        }
    }

    impl State {
        fn read(body: &[u8]) -> Option<Self> {
            let runs = u32_at(body, 8)? & UP_AND_RUNNING == UP_AND_RUNNING;
            let mut rest = body.get(LINK..)?;
            while let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
                if kind == CARRIER_CHANGES {
                    return Some(Self { runs, carrier_changes: u32_at(rest, ATTRIBUTE) });
                }
                // One that is shorter than its header would never end.
                let length = usize::from(length).max(ATTRIBUTE).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
            }
            Some(Self { runs, carrier_changes: None })
        }
    }

    /// Kind and body of the first message, and what comes after it.
    fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let body = bytes.get(HEADER..length)?;
        let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16_at(bytes, 4)?, body, rest))
    }

    fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
        bytes.get(at..)?.first_chunk().map(|chunk| u16::from_ne_bytes(*chunk))
    }

    fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
        bytes.get(at..)?.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        const UP: u32 = UP_AND_RUNNING;

        fn link(kind: u16, family: u8, index: u32, flags: u32, carrier_changes: Option<u32>) -> Vec<u8> {
            let mut body = vec![family, 0, 0, 0];
            body.extend([index, flags, 0].into_iter().flat_map(u32::to_ne_bytes));
            // A name of five bytes and its padding, as the kernel would write it.
            body.extend([9_u16, 3].into_iter().flat_map(u16::to_ne_bytes));
            body.extend(b"eth0\0\0\0\0");
            if let Some(count) = carrier_changes {
                body.extend([8, CARRIER_CHANGES].into_iter().flat_map(u16::to_ne_bytes));
                body.extend(count.to_ne_bytes());
            }
            let mut message = (u32::try_from(HEADER + body.len()).unwrap()).to_ne_bytes().to_vec();
            message.extend([kind, 0].into_iter().flat_map(u16::to_ne_bytes));
            message.extend([0; 8]);
            message.extend(body);
            message
        }

        /// What is shaken by the last of these messages, after all the others.
        fn shaken_by(messages: &[Vec<u8>]) -> Vec<u32> {
            let mut links = Links::default();
            let mut shaken = BTreeSet::new();
            for message in messages {
                shaken.clear();
                links.hear(message, &mut shaken);
            }
            shaken.into_iter().collect()
        }

        #[test]
        fn a_link_that_is_told_of_for_the_first_time_or_as_it_was_is_not_shaken() {
            let told = link(RTM_NEWLINK, 0, 7, UP, Some(2));
            assert!(shaken_by(std::slice::from_ref(&told)).is_empty());
            assert!(shaken_by(&[told.clone(), told]).is_empty());
        }

        #[test]
        fn a_link_that_went_down_or_lost_its_carrier_for_a_moment_is_shaken() {
            let before = link(RTM_NEWLINK, 0, 7, UP, Some(2));
            assert_eq!(shaken_by(&[before.clone(), link(RTM_NEWLINK, 0, 7, 0x1, Some(3))]), [7]);
            assert_eq!(shaken_by(&[before, link(RTM_NEWLINK, 0, 7, UP, Some(4))]), [7], "up again");
            let uncounted = |flags| link(RTM_NEWLINK, 0, 7, flags, None);
            let at_once = [uncounted(0x1), uncounted(UP)].concat();
            assert_eq!(shaken_by(&[uncounted(UP), at_once]), [7], "two messages in one go");
        }

        #[test]
        fn a_link_or_an_address_that_is_gone_shakes_it_and_a_bridge_says_nothing() {
            assert_eq!(shaken_by(&[link(RTM_DELLINK, 0, 7, 0, None)]), [7]);
            assert_eq!(shaken_by(&[link(RTM_DELADDR, 2, 9, 0, None)]), [9]);
            let before = link(RTM_NEWLINK, 0, 7, UP, Some(2));
            assert!(shaken_by(&[before.clone(), link(RTM_NEWLINK, 7, 7, 0, None)]).is_empty());
            assert!(shaken_by(&[before, link(RTM_DELLINK, 7, 7, 0, None)]).is_empty());
        }

        #[test]
        fn a_message_that_is_cut_anywhere_ends_the_reading() {
            let whole = link(RTM_NEWLINK, 0, 7, UP, Some(2));
            for length in 0..whole.len() {
                assert!(shaken_by(&[whole.clone(), whole[..length].to_vec()]).is_empty(), "{length}");
            }
            let mut endless = whole;
            endless[HEADER + LINK] = 0;
            endless[HEADER + LINK + 1] = 0;
            assert!(shaken_by(&[endless]).is_empty(), "an attribute without a length");
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod line {
    use std::{collections::BTreeSet, io};

    /// There is none.
    #[derive(Debug)]
    pub(super) enum Line {}

    impl Line {
        pub(super) fn open() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        #[allow(clippy::unused_async, reason = "as on Linux")]
        pub(super) async fn hear(&mut self, _: &mut BTreeSet<u32>) -> io::Result<()> {
            match *self {}
        }
    }
}
