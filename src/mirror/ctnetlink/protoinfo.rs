//! The protocols' own state as ctnetlink writes it: TCP and SCTP have some (tcp_to_nlattr and nlattr_to_tcp of
//! nf_conntrack_proto_tcp.c, and the like for SCTP).
//!
//! ctnetlink carries a TCP connection's state, window scales and flags, but not its windows. So what is read has windows
//! unknown, as after a loose pickup, and what is written tells the kernel to be liberal: its own idea of the windows is
//! missing or old. Flags about windows that the kernel does not get are not written either: TCP_MAXACK_SET beside a missing
//! maxack would have it take a good RST for a bad one.

use super::super::nlattr::{Attrs, Request, get_be32};
use super::attr::{cta, protoinfo as at};
use crate::table::conntrack::ProtoState;
use crate::table::conntrack::tracker::{sctp, tcp};
use crate::wire::Protocol;

/// TCP_CONNTRACK_ESTABLISHED
const TCP_ESTABLISHED: u8 = 3;
/// TCP_CONNTRACK_CLOSE, the last state of a connection that was established.
const TCP_CLOSE: u8 = 8;
/// SCTP_CONNTRACK_ESTABLISHED
const SCTP_ESTABLISHED: u8 = 4;
/// SCTP_CONNTRACK_SHUTDOWN_ACK_SENT
const SCTP_SHUTDOWN_ACK_SENT: u8 = 7;

/// IP_CT_TCP_FLAG_WINDOW_SCALE, _SACK_PERM, _CLOSE_INIT
const TCP_FLAGS_TOLD: u8 = 0x01 | 0x02 | 0x04;
/// IP_CT_TCP_FLAG_BE_LIBERAL
const TCP_BE_LIBERAL: u8 = 0x08;
/// Those that are set or cleared: with IP_CT_TCP_FLAG_MAXACK_SET, which a copy that has seen packets has got since.
const TCP_FLAGS_MASK: u8 = TCP_FLAGS_TOLD | TCP_BE_LIBERAL | 0x20;

/// A state as ctnetlink has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protoinfo {
    /// TCP: enum tcp_conntrack; window scales and flags by direction.
    Tcp {
        /// enum tcp_conntrack
        state: u8,
        /// By direction.
        wscale: [u8; 2],
        /// IP_CT_TCP_FLAG_*, by direction.
        flags: [u8; 2],
    },
    /// SCTP: enum sctp_conntrack; verification tags by direction.
    Sctp {
        /// enum sctp_conntrack
        state: u8,
        /// By direction.
        vtag: [u32; 2],
    },
}

impl Protoinfo {
    /// Reads the payload of CTA_PROTOINFO; `None` for protocols unknown here, or without a state.
    pub fn get(payload: &[u8]) -> Option<Self> {
        let attrs = Attrs(payload);
        if let Some(tcp) = attrs.find(at::TCP).map(Attrs) {
            let byte = |kind| tcp.find(kind).and_then(|b| b.first().copied());
            return Some(Protoinfo::Tcp {
                state: byte(at::TCP_STATE)?,
                wscale: at::TCP_WSCALE.map(|kind| byte(kind).unwrap_or_default()),
                flags: at::TCP_FLAGS.map(|kind| byte(kind).unwrap_or_default()),
            });
        }
        let sctp = attrs.find(at::SCTP).map(Attrs)?;
        Some(Protoinfo::Sctp {
            state: *sctp.find(at::SCTP_STATE)?.first()?,
            vtag: at::SCTP_VTAG.map(|kind| sctp.find(kind).and_then(get_be32).unwrap_or_default()),
        })
    }

    /// Adds CTA_PROTOINFO.
    pub fn put(self, request: Request) -> Request {
        request.nest(cta::PROTOINFO, |r| match self {
            Protoinfo::Tcp { state, wscale, flags } => r.nest(at::TCP, |mut r| {
                r = r.attr(at::TCP_STATE, &[state]);
                for direction in 0..2 {
                    let flags = flags[direction] & TCP_FLAGS_TOLD | TCP_BE_LIBERAL;
                    r = r
                        .attr(at::TCP_WSCALE[direction], &[wscale[direction]])
                        .attr(at::TCP_FLAGS[direction], &[flags, TCP_FLAGS_MASK]);
                }
                r
            }),
            Protoinfo::Sctp { state, vtag } => r.nest(at::SCTP, |r| {
                r.attr(at::SCTP_STATE, &[state])
                    .attr(at::SCTP_VTAG[0], &vtag[0].to_be_bytes())
                    .attr(at::SCTP_VTAG[1], &vtag[1].to_be_bytes())
            }),
        })
    }

    /// Whether the connection is established, or was: what its packets now need is no decision but to be carried.
    pub fn is_established(self) -> bool {
        match self {
            Protoinfo::Tcp { state, .. } => (TCP_ESTABLISHED..=TCP_CLOSE).contains(&state),
            Protoinfo::Sctp { state, .. } => (SCTP_ESTABLISHED..=SCTP_SHUTDOWN_ACK_SENT).contains(&state),
        }
    }

    /// As the table keeps it.
    pub fn to_state(self) -> ProtoState {
        match self {
            Protoinfo::Tcp { state, wscale, flags } => tcp::imported(state, wscale, flags),
            Protoinfo::Sctp { state, vtag } => sctp::imported(state, vtag),
        }
    }

    /// From what the table keeps of a connection of `protocol`.
    pub fn of_state(protocol: u8, state: &ProtoState) -> Option<Self> {
        match Protocol(protocol) {
            Protocol::TCP => {
                let (state, wscale, flags) = tcp::exported(state);
                Some(Protoinfo::Tcp { state, wscale, flags })
            }
            Protocol::SCTP => {
                let (state, vtag) = sctp::exported(state);
                Some(Protoinfo::Sctp { state, vtag })
            }
            _ => None,
        }
    }
}
