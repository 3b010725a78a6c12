//! The walk through compiled chains: as that of the interpreter, but for rules that a packet cannot match.
//!
//! ```text
//!  chain -> index: the next rule that may match -> its matchers -> its map -> what is left of it, by the interpreter
//! ```
//!
//! What is loaded is kept from rule to rule, until one of them changes the packet or its connection. Jumps are as deep as the
//! kernel's (NFT_JUMP_STACK_SIZE), and nothing is allocated.

use super::super::interpret::{End, Flow, Interpreter, Outcome, end, place};
use super::super::packet::Packet;
use super::super::program::{ChainId, JUMPS_MAX};
use super::super::set::Data;
use super::fuse::Rule;
use super::index::Cursors;
use super::load::Loaded;
use super::matcher::{Key, Matched};
use super::{Chain, Program};

impl Program {
    /// Runs base chains, in this order, until one does not accept: what [`Interpreter::hook`] says.
    pub fn hook(&self, bases: &[ChainId], interpreter: &mut Interpreter<'_>, packet: &mut impl Packet) -> Outcome {
        let mut loaded = Loaded::new(&self.loads);
        for &base in bases {
            match self.walk(base, interpreter, &mut loaded, packet) {
                Outcome::Accept => {}
                outcome => {
                    if let Outcome::Punt(_) = outcome {
                        interpreter.give_away();
                    }
                    return outcome;
                }
            }
        }
        Outcome::Accept
    }

    fn chain(&self, id: ChainId) -> Option<&Chain> {
        self.chains.get(id.0 as usize)?.as_ref()
    }

    fn walk(
        &self,
        base: ChainId,
        interpreter: &mut Interpreter<'_>,
        loaded: &mut Loaded<'_>,
        packet: &mut impl Packet,
    ) -> Outcome {
        let (mut id, mut at) = (base, 0u32);
        let Some(mut chain) = self.chain(base) else {
            return Outcome::Punt(place(base, 0, 0));
        };
        let mut stack = [(ChainId(0), 0u32); JUMPS_MAX];
        let mut depth = 0;
        let mut cursors = Cursors::default();
        loop {
            let next = match &chain.index {
                None => at,
                Some(index) => cursors.next(index, at, loaded, packet),
            };
            let (end, number) = match chain.rules.get(next as usize) {
                Some(rule) => {
                    at = next + 1;
                    let end = rule.run(id, interpreter, loaded, packet);
                    if rule.sets {
                        loaded.forget();
                        cursors = Cursors::default();
                    }
                    (end, rule.number as usize)
                }
                None => (End::Return, 0),
            };
            match end {
                End::Next => continue,
                End::Outcome(outcome) => return outcome,
                End::Enter { chain: to, back } => {
                    if back {
                        let Some(slot) = stack.get_mut(depth) else {
                            return Outcome::Drop(place(id, number, 0));
                        };
                        *slot = (id, at);
                        depth += 1;
                    }
                    (id, at) = (to, 0);
                }
                End::Return if depth > 0 => {
                    depth -= 1;
                    (id, at) = stack[depth];
                }
                End::Return => return interpreter.policy(base, packet),
            }
            chain = match self.chain(id) {
                Some(entered) => entered,
                None => return Outcome::Punt(place(id, number, 0)),
            };
            cursors = Cursors::default();
        }
    }
}

impl Rule {
    #[inline]
    fn run(
        &self,
        chain: ChainId,
        interpreter: &mut Interpreter<'_>,
        loaded: &mut Loaded<'_>,
        packet: &mut impl Packet,
    ) -> End {
        let number = self.number as usize;
        if !interpreter.goes_on() {
            return End::Outcome(Outcome::Punt(place(chain, number, 0)));
        }
        for matcher in &self.matchers {
            match matcher.matches(loaded, interpreter.ruleset, interpreter.now_ns, packet) {
                Matched::Holds(()) => {}
                Matched::Fails => return End::Next,
                // Who says at which of its expressions that is.
                Matched::Unknown => return interpreter.rule(chain, number, 0, packet),
            }
        }
        if let Some((at, key)) = self.map.as_deref() {
            let at = *at as usize;
            let Some(flow) = ask(key, interpreter, loaded, packet) else {
                return interpreter.rule(chain, number, 0, packet);
            };
            if let Some(end) = end(flow, place(chain, number, at)) {
                return end;
            }
        }
        let rest = self.rest as usize;
        match self.verdict {
            Some(verdict) => end(Flow::Verdict(verdict), place(chain, number, rest)).unwrap_or(End::Next),
            None => interpreter.rule(chain, number, rest, packet),
        }
    }
}

/// What a verdict map says of a packet, if it is known.
fn ask(key: &Key, interpreter: &Interpreter<'_>, loaded: &mut Loaded<'_>, packet: &impl Packet) -> Option<Flow> {
    match key.find(loaded, interpreter.ruleset, interpreter.now_ns, packet) {
        Matched::Fails => Some(Flow::Break),
        Matched::Holds(None) => Some(Flow::On),
        Matched::Holds(Some(found)) => match found.data {
            Data::Verdict(verdict) => Some(Flow::Verdict(*verdict)),
            _ => None,
        },
        Matched::Unknown => None,
    }
}
