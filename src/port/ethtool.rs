//! What ethtool knows about an interface, by its ioctl: driver, channels, offloads.
//!
//! The ioctl is old but complete for these facts, needs no privilege, and answers for the network namespace the socket was
//! made in. The structs of `linux/ethtool.h` are plain rows of 32-bit words, so words they are here.

use super::ioctl::{Socket, request};
use std::io;

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;
const ETH_SS_FEATURES: u32 = 4;
/// More features than any kernel has: bounds what is asked for.
const FEATURES_MAX: u32 = 1024;
const STRING_WORDS: usize = 8;

/// Queues that a driver uses at present, and how many it could.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Receive queues, combined ones included.
    pub rx: u32,
    /// Transmit queues, combined ones included.
    pub tx: u32,
    /// The most combined queues.
    pub max_combined: u32,
}

/// One offload of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name, as `ethtool -k` would have it in the kernel's own words (`rx-gro-hw`, `rx-vlan-hw-parse`).
    pub name: String,
    /// It is on.
    pub active: bool,
    /// It cannot be changed.
    pub fixed: bool,
}

/// One request; `words` is the struct of the command, its first word the command itself.
fn ask(socket: &Socket, name: &str, words: &mut [u32]) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
    // SAFETY: `request` points at `words`, which is as long as the struct that its command names says (see the callers), and
    // both live through the call.
    unsafe { socket.ioctl(SIOCETHTOOL, &mut request) }
}

fn text(words: &[u32]) -> String {
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .take_while(|&byte| byte != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The driver's name, such as `veth`, `igb`, `tun`.
pub(super) fn driver(socket: &Socket, name: &str) -> io::Result<String> {
    // struct ethtool_drvinfo: 196 bytes, the driver's name in the 32 bytes behind the command.
    let mut words = [0u32; 49];
    words[0] = ETHTOOL_GDRVINFO;
    ask(socket, name, &mut words)?;
    Ok(text(&words[1..9]))
}

/// Whether VLAN tags are taken off what is received (`rxvlan`).
pub(super) fn strips_vlan_tags(socket: &Socket, name: &str) -> io::Result<bool> {
    // struct ethtool_value: the command and one word.
    let mut words = [ETHTOOL_GFLAGS, 0];
    ask(socket, name, &mut words)?;
    Ok(words[1] & ETH_FLAG_RXVLAN != 0)
}

/// The queues in use; an error where the driver does not say.
pub(super) fn channels(socket: &Socket, name: &str) -> io::Result<Channels> {
    // struct ethtool_channels: cmd, max rx/tx/other/combined, then the present rx/tx/other/combined.
    let mut words = [0u32; 9];
    words[0] = ETHTOOL_GCHANNELS;
    ask(socket, name, &mut words)?;
    Ok(Channels {
        rx: words[5] + words[8],
        tx: words[6] + words[8],
        max_combined: words[4],
    })
}

/// All offloads, in the kernel's order.
pub(super) fn features(socket: &Socket, name: &str) -> io::Result<Vec<Feature>> {
    // struct ethtool_sset_info: cmd, reserved, a 64-bit mask of sets, then a count for each set that was answered.
    let mut info = [ETHTOOL_GSSET_INFO, 0, 0, 0, 0];
    let mask = (1u64 << ETH_SS_FEATURES).to_ne_bytes();
    for (word, bytes) in info[2..4].iter_mut().zip(mask.chunks_exact(4)) {
        *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    ask(socket, name, &mut info)?;
    let count = info[4].min(FEATURES_MAX) as usize;

    // struct ethtool_gstrings: cmd, set, count, then 32 bytes for each.
    let mut names = vec![0u32; 3 + count * STRING_WORDS];
    names[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count as u32]);
    ask(socket, name, &mut names)?;

    // struct ethtool_gfeatures: cmd, blocks, then {available, requested, active, never_changed} for each 32 features.
    let blocks = count.div_ceil(32);
    let mut bits = vec![0u32; 2 + blocks * 4];
    bits[..2].copy_from_slice(&[ETHTOOL_GFEATURES, blocks as u32]);
    ask(socket, name, &mut bits)?;

    let all = names[3..].chunks_exact(STRING_WORDS).enumerate();
    Ok(all
        .map(|(i, name)| {
            let block = &bits[2 + i / 32 * 4..];
            let bit = |word: u32| word >> (i % 32) & 1 == 1;
            Feature {
                name: text(name),
                active: bit(block[2]),
                fixed: bit(block[3]) || !bit(block[0]),
            }
        })
        .filter(|feature| !feature.name.is_empty())
        .collect())
}
