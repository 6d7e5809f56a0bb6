//! Whatever bytes are called a ticket, an answer to a newcomer or a certificate: no panic, and what parses is written again as it was.
#![no_main]

use cogmesh::{
    log::Ticket,
    net::{
        join::read_answer,
        membership::{CaCertificate, validity},
        tls::node_of,
    },
};
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::CertificateDer;

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 4 {
        0 => {
            if let Ok(ticket) = Ticket::parse(data) {
                assert_eq!(ticket.to_bytes(), data);
                assert_eq!(ticket.to_string().parse(), Ok(ticket));
            }
        }
        1 => {
            if let Ok(text) = std::str::from_utf8(data) {
                let _ = text.parse::<Ticket>();
            }
        }
        2 => {
            let _ = read_answer(data);
        }
        _ => {
            let _ = (node_of(&CertificateDer::from(data), &[]), validity(data));
            if let Ok(ca) = CaCertificate::from_der(data) {
                assert_eq!(ca.der(), data);
            }
        }
    }
});
