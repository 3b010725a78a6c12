//! What the kernel sent by a class is paid for here by whom it was that lent there: by the class, as long as it has tokens, then by those
//! above that have some.
//!
//! It is told of some 20 times a second, so it comes in lumps, of which the bucket of a class holds a part: what it had for the rest came
//! while the kernel sent. So each that may lend pays what it has and a frame more, and the uppermost of them the rest. Where
//! none above may, it is the class's own debt, but for no longer than [`OWN_DEBT_NS`]: the rest is that of the class at the top.

use super::class::{Class, Mode};
use super::modes::Sent;
use super::{DEPTH, Htb};
use crate::stage::shape::Stats;
use crate::table::bucket::Amount;
use crate::table::qdisc::Handle;

/// For how long a class may owe what nobody lends, in nanoseconds of its rate.
const OWN_DEBT_NS: u64 = 1_000_000_000;
/// A class at the top owes more than frames that wait can have made when the kernel's come on top of what classes are sure of.
const OVER_NS: u64 = 250_000_000;
/// How long packets are whose number is not known.
const PACKET_BYTES: u64 = 1514;

impl Htb {
    /// Pays for what the kernel sent by a class, or by a qdisc below one; `None` if that is not here. See
    /// [`Queue::charge`](crate::stage::shape::queue::Queue::charge).
    pub fn charge(&mut self, of: Handle, sent: Amount, now_ns: u64, stats: &mut Stats) -> Option<bool> {
        self.now_ns = now_ns.max(self.now_ns);
        let by_class = self.find(of);
        let mut below = self.classes.iter_mut().zip(0..);
        let (index, is_left_out) = match by_class {
            Some(index) => {
                let leaf = self.classes[index as usize].leaf.as_mut();
                (index, leaf.is_some_and(|queue| queue.is_left_out(sent)))
            }
            None => below.find_map(|(class, index)| Some((index, class.leaf.as_mut()?.charge(of, sent, now_ns)?)))?,
        };
        self.pay_in_parts(index, sent, stats);
        // There may be events now that nobody waits for.
        self.due_ns = 0;
        Some(is_left_out || self.top_of(index).tokens.debt_ns() > OVER_NS)
    }

    fn top_of(&self, index: u32) -> &Class {
        let mut class = &self.classes[index as usize];
        while let Some(above) = self.classes.get(class.parent as usize) {
            class = above;
        }
        class
    }

    fn pay_in_parts(&mut self, index: u32, sent: Amount, stats: &mut Stats) {
        let (bytes, packets) = sent;
        let each = if packets == 0 {
            PACKET_BYTES
        } else {
            bytes.div_ceil(packets)
        };
        let each = u32::try_from(each).unwrap_or(u32::MAX).max(1);
        // Who may lend, as it stands: the level, and for how many packets. Paying changes what all above have.
        let (mut lenders, mut count, mut at) = ([(0, 0); DEPTH], 0, index);
        while let (Some(class), Some(lender)) = (self.classes.get_mut(at as usize), lenders.get_mut(count)) {
            class.fill(self.now_ns);
            match class.mode_by_tokens() {
                Mode::CantSend => break,
                Mode::MayBorrow => {}
                Mode::CanSend => {
                    *lender = (class.level, class.tokens.lasts_for(each, 0).saturating_add(1));
                    count += 1;
                }
            }
            at = class.parent;
        }
        let class = &self.classes[index as usize];
        let (own, top) = (class.level, self.top_of(index).level);
        let mut left = sent;
        let lenders = &mut lenders[..count];
        match lenders.last_mut() {
            Some((level, all)) if *level > own => *all = u64::MAX,
            _ => {
                let may = class.tokens.lasts_for(each, OWN_DEBT_NS).saturating_add(1);
                self.charge_class(index, own, Sent::ByKernel(split(&mut left, may, each)), stats);
                return self.charge_class(index, top, Sent::ByKernel(left), stats);
            }
        }
        for &mut (level, may) in lenders {
            self.charge_class(index, level, Sent::ByKernel(split(&mut left, may, each)), stats);
        }
    }
}

/// Takes so many packets of `each` bytes off `left`.
fn split(left: &mut Amount, packets: u64, each: u32) -> Amount {
    let part = (left.0.min(packets.saturating_mul(each.into())), left.1.min(packets));
    *left = (left.0 - part.0, left.1 - part.1);
    part
}
