//! The reference: runs a chain for a packet as `nft_do_chain` does, one expression after the other.
//!
//! ```text
//!  rule    its expressions in order, until one breaks (next rule) or gives a verdict
//!  jump    that chain, then the rule behind; goto  that chain, then where the last jump came from; return  there at once
//!  end     of the chain at the bottom: its policy
//!  accept  ends this base chain; `hook` goes on with the next
//! ```
//!
//! Registers keep what earlier rules left in them, and begin as zeroes (the kernel refuses rules that would see the
//! difference). A packet that reaches what is not carried is the kernel's, and then nothing that the walk changed in
//! [`State`] stays: see [`Interpreter::give_away`]. What it set in the packet, the caller throws away.
//!
//! Bounds: [`JUMPS_MAX`] jumps deep, as in the kernel, and [`EXPRS_MAX`] expressions in one walk, which the kernel does not
//! have: it lets chains of jumps grow as they like. Beyond that the packet is the kernel's.
//!
//! As net/netfilter/nf_tables_core.c; each expression in `eval` as in its own file there. Workers run the compiled form, which
//! has this one run whatever it does not fuse.

mod eval;
pub(super) mod loads;
mod regs;
#[cfg(test)]
pub(super) mod tests;

use super::expr::{NatKind, Reject, Verdict};
use super::packet::Packet;
use super::program::{ChainId, JUMPS_MAX, Ruleset, SetId, StateId};
use super::state::{Cell, State, Undo};
use regs::Registers;

/// The most expressions that one walk runs.
pub const EXPRS_MAX: u32 = 1 << 20;

/// Where a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In this chain.
    pub chain: ChainId,
    /// At this of its rules; none for the policy, and then it is the base chain.
    pub rule: Option<u32>,
    /// At this of the rule's expressions.
    pub expr: u32,
}

/// What a chain, or all of a hook, said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// On it goes.
    Accept,
    /// Lost.
    Drop(Place),
    /// Lost, and answered.
    Reject(Reject, Place),
    /// Its connection is to be translated: what comes of that (accept or drop) is this chain's verdict.
    Nat(NatRequest, Place),
    /// It is the kernel's.
    Punt(Place),
}

/// A translation with its values, as `nf_nat_setup_info` and its like take them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatRequest {
    /// Which.
    pub kind: NatKind,
    /// First and last address, IPv4 ones in the first four bytes. Those of netmap are worked out.
    pub addresses: Option<([u8; 16], [u8; 16])>,
    /// First and last port.
    pub ports: Option<(u16, u16)>,
    /// With NF_NAT_RANGE_PROTO_OFFSET, the port that the first one is for.
    pub base: u16,
    /// NF_NAT_RANGE_* beside those two.
    pub flags: u32,
}

/// What was done to one thing with a memory.
#[derive(Clone, Copy, Debug)]
enum Change {
    Cell(StateId, Undo),
    Element(SetId, u32, Undo),
}

/// What a packet changed in counters and the like, so that it can be taken back. It keeps its room from packet to packet.
#[derive(Debug, Default)]
pub struct Changes(Vec<Change>);

impl Changes {
    /// They stay: the next packet begins.
    pub fn keep(&mut self) {
        self.0.clear();
    }

    /// What was changed, one after the other: the cells of rules and objects, none for a set's element.
    pub fn cells(&self) -> impl ExactSizeIterator<Item = Option<StateId>> {
        self.0.iter().map(|change| match change {
            Change::Cell(id, _) => Some(*id),
            Change::Element(..) => None,
        })
    }

    /// Takes all of it back in `state`, as [`take_back`](Self::take_back), of a packet that turned out to be the kernel's at
    /// `now_ns` for where rules led it: so are its random choices from now on.
    pub fn give_away(&mut self, state: &State, now_ns: u64) {
        for id in self.cells().flatten() {
            state.cell(id).leave_choice(now_ns);
        }
        self.take_back(state);
    }

    /// Takes all of it back in `state`: the packet turned out to be the kernel's, or comes by once more.
    pub fn take_back(&mut self, state: &State) {
        // The last one first, since one may have changed twice.
        while let Some(change) = self.0.pop() {
            match change {
                Change::Cell(id, undo) => state.cell(id).undo(undo),
                Change::Element(set, number, undo) => state.of_element(set, number).undo(undo),
            }
        }
    }
}

/// Runs chains for one packet.
#[derive(Debug)]
pub struct Interpreter<'a> {
    pub(super) ruleset: &'a Ruleset,
    state: &'a State,
    pub(super) now_ns: u64,
    registers: Registers,
    changes: Changes,
    exprs: u32,
}

/// How an expression ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    On,
    Break,
    Verdict(Verdict),
    Reject(Reject),
    Nat(NatRequest),
    Punt,
}

/// How a rule ends.
pub(super) enum End {
    Next,
    Return,
    Enter { chain: ChainId, back: bool },
    Outcome(Outcome),
}

impl<'a> Interpreter<'a> {
    /// For one packet at `now_ns`.
    pub fn new(ruleset: &'a Ruleset, state: &'a State, now_ns: u64) -> Self {
        Self {
            ruleset,
            state,
            now_ns,
            registers: Registers::default(),
            changes: Changes::default(),
            exprs: 0,
        }
    }

    /// The same, going on from what the packet changed at earlier hooks.
    pub fn going_on_from(mut self, changes: Changes) -> Self {
        self.changes = changes;
        self
    }

    /// What the packet changed.
    pub fn into_changes(self) -> Changes {
        self.changes
    }

    /// Runs base chains, in this order, until one does not accept.
    pub fn hook(&mut self, bases: &[ChainId], packet: &mut impl Packet) -> Outcome {
        for &base in bases {
            match self.chain(base, packet) {
                Outcome::Accept => {}
                other => return other,
            }
        }
        Outcome::Accept
    }

    /// Runs a base chain.
    pub fn chain(&mut self, base: ChainId, packet: &mut impl Packet) -> Outcome {
        let outcome = self.walk(base, packet);
        if let Outcome::Punt(_) = outcome {
            self.give_away();
        }
        outcome
    }

    /// Takes back what this packet changed so far, in counters and the like: a rule says that it is the kernel's.
    pub fn give_away(&mut self) {
        self.changes.give_away(self.state, self.now_ns);
    }

    /// Draws for a choice, unless that is the kernel's. One that is not `open` has one outcome, whatever is drawn.
    fn draw(&mut self, choice: StateId, open: bool, packet: &mut impl Packet) -> Option<u32> {
        if !open {
            return Some(0);
        }
        if self.state.cell(choice).is_kernels(self.now_ns) {
            return None;
        }
        let drawn = packet.random()?;
        self.changes.0.push(Change::Cell(choice, Undo::Nothing));
        Some(drawn)
    }

    fn walk(&mut self, base: ChainId, packet: &mut impl Packet) -> Outcome {
        let ruleset = self.ruleset;
        let (mut chain, mut rule) = (base, 0usize);
        let mut stack = [(base, 0usize); JUMPS_MAX];
        let mut depth = 0;
        loop {
            let end = match ruleset[chain].rules.get(rule) {
                Some(_) => self.rule(chain, rule, 0, packet),
                None => End::Return,
            };
            rule += 1;
            match end {
                End::Next => {}
                End::Outcome(outcome) => return outcome,
                End::Enter { chain: to, back } => {
                    if back {
                        let Some(slot) = stack.get_mut(depth) else {
                            // The kernel never lets it come to this, and drops if it does.
                            return Outcome::Drop(place(chain, rule - 1, 0));
                        };
                        *slot = (chain, rule);
                        depth += 1;
                    }
                    (chain, rule) = (to, 0);
                }
                End::Return if depth > 0 => {
                    depth -= 1;
                    (chain, rule) = stack[depth];
                }
                End::Return => return self.policy(base, packet),
            }
        }
    }

    /// What follows the end of a base chain, which may count it.
    pub(super) fn policy(&mut self, base: ChainId, packet: &impl Packet) -> Outcome {
        let base_chain = self.ruleset[base].base.as_ref();
        if let Some(id) = base_chain.and_then(|base| base.counter) {
            let state = self.state;
            self.cell(|undo| Change::Cell(id, undo), state.cell(id), packet);
        }
        match base_chain.is_some_and(|base| base.policy_drop) {
            true => Outcome::Drop(Place {
                chain: base,
                rule: None,
                expr: 0,
            }),
            false => Outcome::Accept,
        }
    }

    /// Runs a rule from its expression `from` on.
    pub(super) fn rule(&mut self, chain: ChainId, number: usize, from: usize, packet: &mut impl Packet) -> End {
        let ruleset = self.ruleset;
        let exprs = ruleset[chain].rules[number].exprs.get(from..).unwrap_or_default();
        for (at, expr) in (from..).zip(exprs) {
            let place = place(chain, number, at);
            if !self.goes_on() {
                return End::Outcome(Outcome::Punt(place));
            }
            if let Some(end) = end(self.expr(expr, packet), place) {
                return end;
            }
        }
        End::Next
    }

    /// Whether the walk may run one more expression.
    pub(super) fn goes_on(&mut self) -> bool {
        self.exprs += 1;
        self.exprs <= EXPRS_MAX
    }

    /// Runs something with a memory, and remembers how to take that back.
    fn cell(&mut self, change: impl Fn(Undo) -> Change, cell: &Cell, packet: &impl Packet) -> Flow {
        use super::state::Ran;
        let (ran, undo) = cell.run(packet.length(), self.now_ns);
        self.changes.0.push(change(undo));
        match ran {
            Ran::On => Flow::On,
            Ran::Break => Flow::Break,
            Ran::Uncarried => Flow::Punt,
        }
    }
}

/// What the end of an expression at `place` is for its rule; none if that goes on.
pub(super) fn end(flow: Flow, place: Place) -> Option<End> {
    Some(match flow {
        Flow::On | Flow::Verdict(Verdict::Continue) => return None,
        Flow::Break | Flow::Verdict(Verdict::Break) => End::Next,
        Flow::Verdict(Verdict::Accept) => End::Outcome(Outcome::Accept),
        Flow::Verdict(Verdict::Drop) => End::Outcome(Outcome::Drop(place)),
        Flow::Verdict(Verdict::Return) => End::Return,
        Flow::Verdict(Verdict::Jump(to)) => End::Enter { chain: to, back: true },
        Flow::Verdict(Verdict::Goto(to)) => End::Enter { chain: to, back: false },
        Flow::Verdict(Verdict::Uncarried(_)) | Flow::Punt => End::Outcome(Outcome::Punt(place)),
        Flow::Reject(reject) => End::Outcome(Outcome::Reject(reject, place)),
        Flow::Nat(request) => End::Outcome(Outcome::Nat(request, place)),
    })
}

pub(super) fn place(chain: ChainId, rule: usize, expr: usize) -> Place {
    Place {
        chain,
        rule: Some(rule as u32),
        expr: expr as u32,
    }
}
