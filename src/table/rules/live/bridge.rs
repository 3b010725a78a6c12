//! The chains of family bridge: what frames meet between the ports of a bridge, on their way up from it, and out by it.
//!
//! ```text
//!  in by a port   Prerouting | IP's prerouting | BehindPrerouting -- FDB --> Forward | IP's forward | BehindForward --.
//!                                                                   '--> Input -> up                                  |
//!  out by the bridge, from routing                                       Output --> Postrouting | IP's postrouting <--'
//! ```
//!
//! Frames of any type meet them, and rules of any kind of frame may stand in one chain. The hooks of IP in between are those of
//! br_netfilter, which stand at priority 0, and at the end of postrouting. Of a chain at priority 0 nobody tells whether it comes
//! before them ([`Bridged::beside_ip`]): packets that pass both are the kernel's.
//!
//! As net/bridge/br_netfilter_hooks.c (br_nf_ops), br_input.c, br_forward.c; a chain has the type filter, others are not taken
//! by the kernel (nft_chain_filter.c).

use super::super::carried;
use super::super::compiled::Program;
use super::super::interpret::{Interpreter, Outcome};
use super::super::packet::Packet;
use super::super::program::{ChainId, NFPROTO_BRIDGE, Rule, Ruleset};
use super::{Hook, Punted};
use std::sync::Arc;

/// NF_BR_PRI_BRNF: where br_netfilter has IP's hooks.
const PRIORITY_IP: i32 = 0;

/// Where on its way a frame meets chains of family bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BridgePoint {
    /// In by a port, before the hooks of IP.
    Prerouting,
    /// Behind them.
    BehindPrerouting,
    /// To the bridge itself.
    Input,
    /// From port to port, before the hooks of IP.
    Forward,
    /// Behind them.
    BehindForward,
    /// From routing.
    Output,
    /// Out by a port, from wherever; before the hooks of IP.
    Postrouting,
}

impl BridgePoint {
    /// In the order of the walk.
    pub const ALL: [BridgePoint; 7] = [
        BridgePoint::Prerouting,
        BridgePoint::BehindPrerouting,
        BridgePoint::Input,
        BridgePoint::Forward,
        BridgePoint::BehindForward,
        BridgePoint::Output,
        BridgePoint::Postrouting,
    ];

    /// Where frames meet a base chain of family bridge (NF_BR_*); none at hooks that are for ebtables alone.
    pub fn of(hook: u32, priority: i32) -> Option<Self> {
        Some(match (hook, priority < PRIORITY_IP) {
            (0, true) => BridgePoint::Prerouting,
            (0, false) => BridgePoint::BehindPrerouting,
            (1, _) => BridgePoint::Input,
            (2, true) => BridgePoint::Forward,
            (2, false) => BridgePoint::BehindForward,
            (3, _) => BridgePoint::Output,
            (4, _) => BridgePoint::Postrouting,
            _ => return None,
        })
    }

    fn hook(self) -> u32 {
        match self {
            BridgePoint::Prerouting | BridgePoint::BehindPrerouting => 0,
            BridgePoint::Input => 1,
            BridgePoint::Forward | BridgePoint::BehindForward => 2,
            BridgePoint::Output => 3,
            BridgePoint::Postrouting => 4,
        }
    }
}

/// See the file's head.
#[derive(Clone, Debug, Default)]
pub struct Bridged {
    /// By [`BridgePoint`].
    hooks: [Hook; 7],
    /// Some chain does something.
    any: bool,
    /// A chain stands where the hooks of IP stand, at prerouting or forward.
    pub beside_ip: bool,
    /// The chains as workers run them; none where only the interpreter can.
    program: Option<Arc<Program>>,
}

/// The base chains of each point, and all that frames come to from there.
pub(super) fn places(ruleset: &Ruleset) -> [(Vec<ChainId>, Vec<ChainId>); 7] {
    BridgePoint::ALL.map(|point| {
        let mut bases = ruleset.bases(NFPROTO_BRIDGE, point.hook());
        bases.retain(|id| {
            let chain = &ruleset[*id];
            chain.base.as_ref().is_some_and(|base| {
                let does_something = !chain.rules.is_empty() || base.policy_drop || base.counter.is_some();
                does_something && BridgePoint::of(base.hook, base.priority) == Some(point)
            })
        });
        let chains = carried::reachable(ruleset, &bases, NFPROTO_BRIDGE);
        (bases, chains)
    })
}

impl Bridged {
    pub(super) fn new(ruleset: &Ruleset, places: [(Vec<ChainId>, Vec<ChainId>); 7]) -> Self {
        let hooks = places.map(|(bases, chains)| {
            let mut exprs = chains.iter().flat_map(|chain| reached(ruleset, *chain));
            Hook {
                punts: exprs.any(|expr| carried::kernels_of_frames(ruleset, expr).is_some()),
                bases: bases.into(),
                chains: chains.into(),
                ..Hook::default()
            }
        });
        let is_beside = |id: &ChainId| {
            let base = ruleset[*id].base.as_ref();
            base.is_some_and(|base| base.priority == PRIORITY_IP && matches!(base.hook, 0 | 2))
        };
        let chains = hooks.iter().flat_map(|hook| hook.chains.iter().copied());
        Self {
            any: hooks.iter().any(|hook| !hook.bases.is_empty()),
            beside_ip: hooks.iter().any(|hook| hook.bases.iter().any(is_beside)),
            program: Program::new(ruleset, chains, NFPROTO_BRIDGE).map(Arc::new),
            hooks,
        }
    }

    /// Whether there is no chain that does anything.
    #[inline]
    pub fn is_nothing(&self) -> bool {
        !self.any
    }

    /// Whether there is one behind the point where a frame's VLAN is looked at.
    pub fn is_behind_vlans(&self) -> bool {
        use BridgePoint::*;
        let behind = [Input, Forward, BehindForward, Postrouting];
        behind.iter().any(|point| !self.at(*point).bases.is_empty())
    }

    /// What frames meet at `point`.
    #[inline]
    pub fn at(&self, point: BridgePoint) -> &Hook {
        &self.hooks[point as usize]
    }

    /// What the chains at `point` say of a frame.
    pub fn run(&self, point: BridgePoint, interpreter: &mut Interpreter<'_>, frame: &mut impl Packet) -> Outcome {
        let bases = &self.at(point).bases;
        match &self.program {
            Some(program) => program.hook(bases, interpreter, frame),
            None => interpreter.hook(bases, frame),
        }
    }

    /// All chains that frames may come to, in the order of the walk.
    pub fn chains(&self) -> impl Iterator<Item = ChainId> {
        self.hooks.iter().flat_map(|hook| hook.chains.iter().copied())
    }

    /// The rules that frames may come to and that are the kernel's.
    pub fn punted(&self, ruleset: &Ruleset) -> Vec<Punted> {
        let mut found = Vec::new();
        for chain in self.chains() {
            for (rule, exprs) in ruleset[chain].rules.iter().enumerate() {
                let why = why_punted(ruleset, exprs);
                found.extend(why.map(|why| Punted { chain, rule, why }));
            }
        }
        found
    }
}

/// Why frames that come to the end of `rule` are the kernel's.
fn why_punted(ruleset: &Ruleset, rule: &Rule) -> Option<String> {
    carried::reached(rule, NFPROTO_BRIDGE)
        .iter()
        .find_map(|expr| carried::kernels_of_frames(ruleset, expr))
}

fn reached(ruleset: &Ruleset, chain: ChainId) -> impl Iterator<Item = &super::Expr> {
    let rules = &ruleset[chain].rules;
    rules.iter().flat_map(|rule| carried::reached(rule, NFPROTO_BRIDGE))
}
