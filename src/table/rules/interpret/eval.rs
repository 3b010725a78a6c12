//! What each expression does, as its `eval` function in net/netfilter/nft_*.c.
//!
//! An expression goes on, breaks, or ends the rule with a verdict, a request or a punt. A load that breaks leaves its register
//! as it was, which nobody can see: the kernel refuses rules that read what they have not loaded. Numbers of the kernel lie in
//! registers in the order of the host, so that comparisons of more or less are preceded by a byteorder.

use super::super::expr::{Base, BitOp, Expr, ExthdrDo, LookupInto, Nat, NatKind, Operand, Register, Verdict};
use super::super::exthdr::{self, Wanted};
use super::super::hash;
use super::super::packet::{Answer, Fact, Packet};
use super::super::program::{NFPROTO_INET, NFPROTO_IPV4, ObjectId, ObjectKind, SetId};
use super::super::set::{Data, Found};
use super::super::state::Undo;
use super::super::xt::Said;
use super::{Change, Flow, Interpreter, NatRequest, loads};
use std::cmp::Ordering;

/// NF_NAT_RANGE_NETMAP.
const NETMAP: u32 = 1 << 6;

impl From<Answer> for Flow {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Done => Flow::On,
            Answer::Break => Flow::Break,
            Answer::Unknown => Flow::Punt,
        }
    }
}

impl From<Said> for Flow {
    fn from(said: Said) -> Self {
        match said {
            Said::On => Flow::On,
            Said::Break => Flow::Break,
            Said::Drop => Flow::Verdict(Verdict::Drop),
            Said::Nat(request) => Flow::Nat(request),
            Said::Unknown => Flow::Punt,
        }
    }
}

/// Goes on if it holds.
fn if_so(holds: bool) -> Flow {
    if holds { Flow::On } else { Flow::Break }
}

impl Interpreter<'_> {
    pub(super) fn expr(&mut self, expr: &Expr, packet: &mut impl Packet) -> Flow {
        match expr {
            Expr::Immediate { dest, data } => {
                self.registers.put(*dest, data);
                Flow::On
            }
            Expr::Verdict(verdict) => Flow::Verdict(*verdict),
            Expr::Payload {
                base,
                offset,
                len,
                dest,
            } => {
                let mut bytes = [0; 256];
                let bytes = &mut bytes[..usize::from(*len)];
                let answer = loads::payload(packet, *base, *offset, bytes);
                if answer == Answer::Done {
                    self.registers.put(*dest, bytes);
                }
                answer.into()
            }
            Expr::PayloadStore {
                base,
                offset,
                len,
                source,
                fix,
            } => {
                if *base == Base::Transport && packet.is_later_fragment() {
                    return Flow::Break;
                }
                let bytes = self.registers.get(*source, usize::from(*len));
                packet.store(*base, usize::from(*offset), bytes, *fix).into()
            }
            Expr::Meta { key, dest } => self.load(*dest, loads::meta(packet, *key)),
            Expr::MetaSet { key, source } => packet.set_meta(*key, self.registers.word(*source)).into(),
            Expr::Ct { key, reply, dest } => self.load(*dest, packet.ct(*key, *reply)),
            Expr::CtSet { key, reply, source } => {
                let mut value = [0; 16];
                self.registers.copy(*source, &mut value);
                packet.set_ct(*key, *reply, value).into()
            }
            Expr::Exthdr {
                options,
                kind,
                offset,
                len,
                act,
            } => {
                let wanted = Wanted {
                    kind: *kind,
                    offset: usize::from(*offset),
                    len: usize::from(*len),
                };
                let source = match act {
                    ExthdrDo::Store(source) => self.registers.word(*source),
                    _ => [0; 4],
                };
                match exthdr::run(packet, *options, wanted, *act, source) {
                    exthdr::Result::Load(dest, bytes) => {
                        self.registers.put(dest, &bytes[..wanted.len]);
                        Flow::On
                    }
                    exthdr::Result::Fact(dest, fact) => self.load(dest, fact),
                    exthdr::Result::On => Flow::On,
                    exthdr::Result::Break => Flow::Break,
                    exthdr::Result::Drop => Flow::Verdict(Verdict::Drop),
                    exthdr::Result::Unknown => Flow::Punt,
                }
            }
            Expr::Bitwise { source, dest, len, op } => self.bitwise(*source, *dest, usize::from(*len), op),
            Expr::Byteorder {
                source,
                dest,
                len,
                size,
            } => {
                let mut bytes = [0; 64];
                let len = usize::from(*len).min(bytes.len());
                self.registers.copy(*source, &mut bytes[..len]);
                let whole = loads::turn_around(&mut bytes[..len], *size);
                self.registers.patch(*dest, &bytes[..whole]);
                Flow::On
            }
            Expr::Cmp { source, op, data } => if_so(op.holds(self.compare(*source, data))),
            Expr::Range {
                source,
                inverted,
                from,
                to,
            } => {
                let within = self.compare(*source, from).is_ge() && self.compare(*source, to).is_le();
                if_so(within != *inverted)
            }
            Expr::Lookup {
                set,
                key,
                into,
                inverted,
            } => self.lookup(*set, *key, *into, *inverted, packet),
            // Its elements are known to one side only, and that is the kernel.
            Expr::Dynset(_) => Flow::Punt,
            Expr::State(id) => {
                let (id, state) = (*id, self.state);
                self.cell(|undo| Change::Cell(id, undo), state.cell(id), packet)
            }
            Expr::Objref(object) => self.object(*object, packet),
            Expr::ObjrefMap { set, key } => {
                let found = self
                    .find(*set, *key)
                    .or_else(|| self.ruleset[*set].catch_all(self.now_ns));
                match found.map(|found| found.data) {
                    _ if self.ruleset[*set].spec.opaque.is_some() => Flow::Punt,
                    Some(Data::Object(object)) => self.object(*object, packet),
                    Some(_) => Flow::Punt,
                    None => Flow::Break,
                }
            }
            Expr::NumgenInc { state, offset, dest } => match self.state.cell(*state).number() {
                Some(number) => {
                    self.changes.0.push(Change::Cell(*state, Undo::Number));
                    self.load(*dest, Fact::U32(number.wrapping_add(*offset)))
                }
                None => Flow::Punt,
            },
            Expr::NumgenRandom {
                state,
                modulus,
                offset,
                dest,
            } => match self.draw(*state, *modulus > 1, packet) {
                Some(random) => self.load(*dest, Fact::U32(hash::scale(random, *modulus).wrapping_add(*offset))),
                None => Flow::Punt,
            },
            Expr::Chance { state, of } => self
                .draw(*state, of.is_open(), packet)
                .map_or(Flow::Punt, |random| if_so(of.holds(random))),
            Expr::Jhash {
                source,
                len,
                seed,
                modulus,
                offset,
                dest,
            } => {
                let Some(seed) = seed else { return Flow::Punt };
                let hash = hash::jhash(self.registers.get(*source, usize::from(*len)), *seed);
                self.load(*dest, Fact::U32(hash::scale(hash, *modulus).wrapping_add(*offset)))
            }
            Expr::Fib { result, flags, dest } => self.load(*dest, packet.fib(*result, *flags)),
            Expr::Rt { key, dest } => self.load(*dest, packet.rt(*key)),
            Expr::Socket { key, level, dest } => self.load(*dest, packet.socket(*key, *level)),
            Expr::Log(log) => packet.log(log).into(),
            Expr::Notrack => packet.notrack().into(),
            Expr::Reject(reject) => Flow::Reject(*reject),
            Expr::Nat(nat) => self.nat(nat, packet),
            Expr::Match(it) => it.says(packet).into(),
            Expr::Target(it) => it.says(packet).into(),
            Expr::Uncarried(_) => Flow::Punt,
        }
    }

    /// What an answer comes to.
    fn load(&mut self, dest: Register, fact: Fact) -> Flow {
        match fact {
            Fact::Unknown => Flow::Punt,
            fact => if_so(self.registers.put_fact(dest, fact)),
        }
    }

    fn compare(&self, source: Register, data: &[u8]) -> Ordering {
        self.registers.get(source, data.len()).cmp(data)
    }

    fn bitwise(&mut self, source: Register, dest: Register, len: usize, op: &BitOp) -> Flow {
        let mut bytes = [0; 64];
        let padded = len.next_multiple_of(4).min(bytes.len());
        let bytes = &mut bytes[..padded];
        self.registers.copy(source, bytes);
        // A constant is padded with zeroes.
        let constant = |data: &[u8], at: usize| data.get(at).copied().unwrap_or(0);
        let other = |operand: &Operand, at: usize| match operand {
            Operand::Register(register) => constant(self.registers.get(*register, padded), at),
            Operand::Data(data) => constant(data, at),
        };
        for (at, byte) in bytes.iter_mut().enumerate() {
            match op {
                BitOp::MaskXor(mask, xor) => *byte = *byte & constant(mask, at) ^ constant(xor, at),
                BitOp::And(operand) => *byte &= other(operand, at),
                BitOp::Or(operand) => *byte |= other(operand, at),
                BitOp::Xor(operand) => *byte ^= other(operand, at),
                BitOp::Left(_) | BitOp::Right(_) => {}
            }
        }
        match *op {
            BitOp::Left(bits) => shift(bytes.chunks_exact_mut(4).rev(), |word| {
                (word << bits, word >> (32 - bits))
            }),
            BitOp::Right(bits) => shift(bytes.chunks_exact_mut(4), |word| (word >> bits, word << (32 - bits))),
            _ => {}
        }
        self.registers.put(dest, bytes);
        Flow::On
    }

    fn find(&self, set: SetId, key: Register) -> Option<Found<'_>> {
        let set = &self.ruleset[set];
        set.lookup(self.registers.get(key, usize::from(set.spec.key_len)), self.now_ns)
    }

    fn lookup(&mut self, set: SetId, key: Register, into: LookupInto, inverted: bool, packet: &impl Packet) -> Flow {
        let ruleset = self.ruleset;
        if ruleset[set].spec.opaque.is_some() {
            return Flow::Punt;
        }
        let len = usize::from(ruleset[set].spec.key_len);
        let key = self.registers.get(key, len);
        let Some(found) = ruleset[set].holds(key, inverted, self.now_ns) else {
            return Flow::Break;
        };
        let Some(Found { data, states }) = found else {
            return Flow::On;
        };
        let mut flow = Flow::On;
        match (into, data) {
            (LookupInto::Nothing, _) => {}
            (LookupInto::Register(dest), Data::Value(bytes)) => self.registers.put(dest, bytes),
            (LookupInto::Verdict, Data::Verdict(verdict)) => flow = Flow::Verdict(*verdict),
            _ => return Flow::Punt,
        }
        for number in states {
            let state = self.state;
            let cell = state.of_element(set, number);
            match self.cell(|undo| Change::Element(set, number, undo), cell, packet) {
                Flow::On => {}
                other => return other,
            }
        }
        flow
    }

    fn object(&mut self, object: ObjectId, packet: &impl Packet) -> Flow {
        match self.ruleset[object].kind {
            ObjectKind::State(id) => {
                let state = self.state;
                self.cell(|undo| Change::Cell(id, undo), state.cell(id), packet)
            }
            ObjectKind::Uncarried(_) => Flow::Punt,
        }
    }

    fn nat(&mut self, nat: &Nat, packet: &impl Packet) -> Flow {
        if nat.family != NFPROTO_INET && nat.family != packet.nfproto() {
            return Flow::On;
        }
        let len = if packet.nfproto() == NFPROTO_IPV4 { 4 } else { 16 };
        let address = |from| {
            let mut address = [0; 16];
            self.registers.copy(from, &mut address[..len]);
            address
        };
        let mut addresses = nat.addresses.map(|(first, last)| (address(first), address(last)));
        if let Some((first, last)) = addresses.filter(|_| nat.flags & NETMAP != 0) {
            let mut own = [0; 16];
            let offset = if len == 4 { 12 } else { 8 } + if nat.kind == NatKind::Source { 0 } else { len };
            match packet.payload(Base::Network, offset, &mut own[..len]) {
                Answer::Done => {}
                other => return other.into(),
            }
            for (byte, (first, last)) in own[..len].iter_mut().zip(first.iter().zip(last)) {
                let host = first ^ last;
                *byte = *byte & host | first & !host;
            }
            addresses = Some((own, own));
        }
        Flow::Nat(NatRequest {
            kind: nat.kind,
            addresses,
            ports: nat
                .ports
                .map(|(first, last)| (self.registers.port(first), self.registers.port(last))),
            base: 0, // nft has no word for it
            flags: nat.flags,
        })
    }
}

/// Shifts words, each of which leaves a carry for the next.
fn shift<'a>(words: impl Iterator<Item = &'a mut [u8]>, by: impl Fn(u32) -> (u32, u32)) {
    let mut carried = 0;
    for bytes in words {
        let word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let (shifted, carry) = by(word);
        bytes.copy_from_slice(&(shifted | carried).to_ne_bytes());
        carried = carry;
    }
}
