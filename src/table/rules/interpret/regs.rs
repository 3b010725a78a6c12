//! The registers: 20 words, as bytes in the order of the host.

use super::super::expr::{REGISTERS_LEN, Register};
use super::super::packet::Fact;

/// See the file's head.
#[derive(Clone, Debug)]
pub(super) struct Registers([u8; REGISTERS_LEN]);

impl Default for Registers {
    fn default() -> Self {
        Self([0; REGISTERS_LEN])
    }
}

impl Registers {
    /// `len` bytes, which whoever decoded the expression checked; fewer if it did not.
    pub(super) fn get(&self, from: Register, len: usize) -> &[u8] {
        let end = (from.start() + len).min(REGISTERS_LEN);
        &self.0[from.start()..end]
    }

    /// Fills `out` from a register on, as far as registers go.
    pub(super) fn copy(&self, from: Register, out: &mut [u8]) {
        let bytes = self.get(from, out.len());
        out[..bytes.len()].copy_from_slice(bytes);
    }

    /// A word of it.
    pub(super) fn word(&self, from: Register) -> [u8; 4] {
        let mut word = [0; 4];
        self.copy(from, &mut word);
        word
    }

    /// The first two bytes, network order.
    pub(super) fn port(&self, from: Register) -> u16 {
        let [high, low, ..] = self.word(from);
        u16::from_be_bytes([high, low])
    }

    /// Puts bytes; the rest of the last word becomes zero.
    pub(super) fn put(&mut self, dest: Register, bytes: &[u8]) {
        let to = &mut self.0[dest.start()..];
        let padded = bytes.len().next_multiple_of(4).min(to.len());
        let len = bytes.len().min(padded);
        to[..len].copy_from_slice(&bytes[..len]);
        to[len..padded].fill(0);
    }

    /// Puts bytes and nothing else.
    pub(super) fn patch(&mut self, dest: Register, bytes: &[u8]) {
        let to = &mut self.0[dest.start()..];
        let len = bytes.len().min(to.len());
        to[..len].copy_from_slice(&bytes[..len]);
    }

    /// Puts an answer; false if it is none.
    pub(super) fn put_fact(&mut self, dest: Register, fact: Fact) -> bool {
        match fact.bytes() {
            Some((bytes, len)) => self.put(dest, &bytes[..len]),
            None => return false,
        }
        true
    }
}
