//! From state to state: what a packet of a kind does in a state, by direction (tcp_conntracks).

/// What of RST, SYN, FIN and ACK a packet bears (enum tcp_bit_set).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Index {
    /// SYN without ACK.
    Syn,
    /// SYN and ACK.
    SynAck,
    /// FIN.
    Fin,
    /// ACK alone.
    Ack,
    /// RST, whatever else.
    Rst,
    /// None of them.
    None,
}

/// Not part of any connection in this state.
pub const INVALID: u8 = 10;
/// Perhaps part of one that we are out of step with: it passes, and its answer will tell.
pub const IGNORE: u8 = 11;

macro_rules! rows {
    ($($row:literal)*) => { [$(row($row)),*] };
}

/// A row: per old state (none, syn_sent, syn_recv, established, fin_wait, close_wait, last_ack, time_wait, close, syn_sent2)
/// the new one, as its digit; `-` invalid, `.` ignored.
const fn row(text: &[u8; 10]) -> [u8; 10] {
    let mut row = [INVALID; 10];
    let mut at = 0;
    while at < 10 {
        row[at] = match text[at] {
            b'-' => INVALID,
            b'.' => IGNORE,
            digit => digit - b'0',
        };
        at += 1;
    }
    row
}

/// By direction, index and old state.
pub static NEXT: [[[u8; 10]; 6]; 2] = [
    rows! {
        b"11.....119"
        b"--2------2"
        b"--4466678-"
        b"3-3355778-"
        b"-888888888"
        b"----------"
    },
    rows! {
        b"-9-----1-9"
        b"-2.......2"
        b"--4466678-"
        b"-.2355778."
        b"-888888888"
        b"----------"
    },
];
