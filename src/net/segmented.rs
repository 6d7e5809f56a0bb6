//! Segmented: sockets that hand several datagrams to the system at once (GSO) while there are few links.
//!
//! quinn keeps room for a whole batch beside every connection that ever sent more than one datagram at a time, which each does in its
//! handshake: 13 KiB. With a thousand links that are mostly idle this is a sixth of all that they take, and speed comes from few.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

/// Links up to which datagrams go in batches: as many as a node has by default at most.
const BATCHED_LINKS_MAX: usize = 64;

/// A socket of the runtime's.
#[derive(Debug)]
pub(super) struct Segmented {
    socket: Arc<dyn AsyncUdpSocket>,
    links: Arc<AtomicUsize>,
}

impl Segmented {
    /// `links` is how many there are at any time.
    pub(super) const fn new(socket: Arc<dyn AsyncUdpSocket>, links: Arc<AtomicUsize>) -> Self {
        Self { socket, links }
    }
}

impl AsyncUdpSocket for Segmented {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_recv(context, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        if self.links.load(Ordering::Relaxed) > BATCHED_LINKS_MAX {
            return 1;
        }
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use quinn::{Runtime, TokioRuntime};

    use super::*;

    #[tokio::test]
    async fn datagrams_go_one_by_one_where_there_are_many_links() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = TokioRuntime.wrap_udp_socket(socket).unwrap();
        let links = Arc::new(AtomicUsize::new(BATCHED_LINKS_MAX));
        let segmented = Segmented::new(Arc::clone(&socket), Arc::clone(&links));
        assert_eq!(segmented.max_transmit_segments(), socket.max_transmit_segments());
        links.store(BATCHED_LINKS_MAX + 1, Ordering::Relaxed);
        assert_eq!(segmented.max_transmit_segments(), 1);
    }
}
