//! Driver, queues and offloads by SIOCETHTOOL (include/uapi/linux/ethtool.h): it answers for the calling thread's network
//! namespace, and without any capability.
//!
//! ```text
//!  ifreq: name 16 | pointer --> command 4 | what the command reads and writes
//! ```

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::{io, mem};

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETH_SS_FEATURES: u32 = 4;
const STRING: usize = 32;

/// More features than any kernel has (64 in 6.18); bounds what a broken answer may allocate.
const FEATURES_MAX: u32 = 512;

/// Queues in use, and the most the device has (`ethtool -l`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Receive queues in use, combined ones included.
    pub rx: u32,
    /// Transmit queues in use, combined ones included.
    pub tx: u32,
    /// The most combined queues.
    pub max_combined: u32,
}

/// One offload (`ethtool -k`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The kernel's name, such as `rx-gro`.
    pub name: String,
    /// It is on.
    pub on: bool,
    /// It can be changed.
    pub changeable: bool,
}

/// Asks about one interface.
#[derive(Debug)]
pub struct Ethtool {
    socket: OwnedFd,
    name: CString,
}

impl Ethtool {
    /// Opens the question for the interface `name`.
    ///
    /// # Errors
    /// No socket is to be had, or the name is too long for an ifreq.
    pub fn new(name: &str) -> io::Result<Self> {
        if name.len() >= libc::IFNAMSIZ {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: socket takes numbers only.
        let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was opened above and nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        Ok(Self {
            socket,
            name: CString::new(name)?,
        })
    }

    /// The driver's name.
    ///
    /// # Errors
    /// The device has none.
    pub fn driver(&self) -> io::Result<String> {
        // struct ethtool_drvinfo: cmd, driver[32], ..., 196 bytes in all.
        let mut words = [0u32; 49];
        words[0] = ETHTOOL_GDRVINFO;
        self.call(&mut words)?;
        Ok(string(&bytes(&words)[4..4 + STRING]))
    }

    /// Its queues.
    ///
    /// # Errors
    /// The driver does not say.
    pub fn channels(&self) -> io::Result<Channels> {
        // struct ethtool_channels: cmd, max rx, tx, other, combined, then those in use.
        let mut words = [0u32; 9];
        words[0] = ETHTOOL_GCHANNELS;
        self.call(&mut words)?;
        let [_, _, _, _, max_combined, rx, tx, _, combined] = words;
        Ok(Channels {
            rx: rx + combined,
            tx: tx + combined,
            max_combined,
        })
    }

    /// All its offloads.
    ///
    /// # Errors
    /// The device does not say.
    pub fn features(&self) -> io::Result<Vec<Feature>> {
        // struct ethtool_sset_info: cmd, reserved, mask (u64), then one count per bit of the mask.
        let mut info = [0u32; 5];
        info[0] = ETHTOOL_GSSET_INFO;
        info[2 + usize::from(cfg!(target_endian = "big"))] = 1 << ETH_SS_FEATURES;
        self.call(&mut info)?;
        let count = info[4];
        if count > FEATURES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // struct ethtool_gstrings: cmd, string set, count, then the names.
        let mut names = vec![0u32; 3 + count as usize * STRING / 4];
        names[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count]);
        self.call(&mut names)?;
        // struct ethtool_gfeatures: cmd, blocks, then per 32 features: available, requested, active, never changed.
        let blocks = count.div_ceil(32);
        let mut states = vec![0u32; 2 + blocks as usize * 4];
        states[..2].copy_from_slice(&[ETHTOOL_GFEATURES, blocks]);
        self.call(&mut states)?;

        let names = bytes(&names[3..]);
        let feature = |(i, name): (usize, &[u8])| {
            let block = &states[2 + i / 32 * 4..][..4];
            let bit = |word: u32| word & 1 << (i % 32) != 0;
            Feature {
                name: string(name),
                on: bit(block[2]),
                changeable: bit(block[0]) && !bit(block[3]),
            }
        };
        Ok(names
            .chunks_exact(STRING)
            .enumerate()
            .map(feature)
            .filter(|feature| !feature.name.is_empty())
            .collect())
    }

    /// One SIOCETHTOOL call. `data` must be as large as the command in its first word makes the kernel write.
    fn call(&self, data: &mut [u32]) -> io::Result<()> {
        // SAFETY: an ifreq is plain data, for which all zeroes is a value.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        let name = self.name.as_bytes_with_nul();
        for (to, &from) in request.ifr_name.iter_mut().zip(name) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = data.as_mut_ptr().cast();
        // SAFETY: the ifreq names `data`, which is ours through the call and as long as the command needs: each caller sizes
        // it by the uapi struct that the comment beside it names, and the counts the kernel goes by are in it.
        let done = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut request) };
        if done < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// A NUL-padded string.
fn string(bytes: &[u8]) -> String {
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_s_offloads_are_read() {
        let features = Ethtool::new("lo").unwrap().features().unwrap();
        let loopback = features.iter().find(|feature| feature.name == "loopback").unwrap();
        assert!(loopback.on && !loopback.changeable, "{loopback:?}");
        assert!(features.iter().any(|feature| feature.name == "rx-gro"));
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        assert_eq!(
            Ethtool::new("nope0").unwrap().driver().unwrap_err().raw_os_error(),
            Some(libc::ENODEV)
        );
        assert!(Ethtool::new("a-name-longer-than-an-ifreq").is_err());
    }
}
