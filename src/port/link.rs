//! What must be known about a network interface before a queue of it is opened, and whether it can be opened at all.
//!
//! All facts are of the calling thread's network namespace, hence ioctl and netlink: /sys shows the namespace in which it was
//! mounted. An interface that cannot carry Ethernet frames, or whose packets do not fit a frame of the pool, is refused here,
//! with the numbers and the command that helps.

use super::ethtool::{self, Channels};
use super::ioctl::{Socket, request};
use super::netdev;
use std::ffi::CString;
use std::io;
use thiserror::Error;

pub use super::ethtool::Feature;
pub use super::netdev::{Attached, XdpFeatures};

/// Bytes at the front of each frame that the kernel keeps for XDP programs (XDP_PACKET_HEADROOM).
const XDP_HEADROOM: u16 = 256;
/// Bytes between that and the packet where the kernel copies: the arrival stamp, so that it lies in the cache line of the packet's
/// headers. A burst that had to look for it in the line before took some 25 ns a packet longer.
pub const STAMP_ROOM: u16 = super::STAMP_LEN as u16;
/// Where in its frame a packet starts that the kernel copied there, and at the latest any that has just arrived.
pub const HEADROOM: u16 = XDP_HEADROOM + STAMP_ROOM;
const ETHERNET_HEAD: u32 = 14;

/// Bytes of a frame of the pool. igb, for one, delivers frames over about 1,000 bytes in pieces when zero-copy buffers have
/// 2,048.
pub const fn frame_size(zero_copy: bool) -> u32 {
    if zero_copy { 4096 } else { 2048 }
}

/// The largest MTU whose packets fit a frame of `frame_size` bytes behind the headroom.
pub const fn mtu_max(frame_size: u32) -> u32 {
    frame_size.saturating_sub(HEADROOM as u32 + ETHERNET_HEAD)
}

/// Why an interface cannot be a port.
#[derive(Debug, Error)]
pub enum LinkError {
    /// There is none of that name.
    #[error("there is no interface {name} in this network namespace: `ip link` lists those that are")]
    Missing {
        /// The name that was asked for.
        name: String,
    },
    /// It carries packets without an Ethernet header.
    #[error("{name} carries no Ethernet frames ({kind}): {remedy}")]
    NotEthernet {
        /// The interface.
        name: String,
        /// What it is instead.
        kind: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Its packets are larger than a frame.
    #[error(
        "MTU {mtu} of {name} does not fit a {frame_size}-byte frame ({max} at most): ip link set {name} mtu {max}",
        max = mtu_max(*frame_size)
    )]
    Mtu {
        /// The interface.
        name: String,
        /// Its MTU in bytes.
        mtu: u32,
        /// The size of a frame in bytes.
        frame_size: u32,
    },
    /// It has no such queue.
    #[error(
        "{name} has no queue {queue}: it has {rx} receive and {tx} transmit queues (ethtool -L {name} changes that, or \
         numrxqueues and numtxqueues when a veth is made)"
    )]
    Queue {
        /// The interface.
        name: String,
        /// The queue that was asked for.
        queue: u32,
        /// Receive queues it has.
        rx: u32,
        /// Transmit queues it has.
        tx: u32,
    },
    /// The system refused to answer.
    #[error("{name}: cannot read its {what}: {source}; see `ip -d link show {name}`, and try again")]
    System {
        /// The interface.
        name: String,
        /// What was asked.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// What is known about an interface.
#[derive(Clone, Debug)]
pub struct Link {
    /// The kernel's name of it, where an alternative one was asked for.
    pub name: String,
    /// Its number in this network namespace.
    pub ifindex: u32,
    /// Its kind of link (ARPHRD_*); 1 is Ethernet.
    pub arphrd: u16,
    /// Its Ethernet address; zeroes where it has none.
    pub mac: [u8; 6],
    /// The largest packet in bytes, without the Ethernet header.
    pub mtu: u32,
    /// It is set up.
    pub up: bool,
    /// It is up and has a carrier.
    pub running: bool,
    /// Its driver's name, empty where there is none.
    pub driver: String,
    /// Receive queues in use.
    pub rx_queues: u32,
    /// Transmit queues in use.
    pub tx_queues: u32,
    /// The most combined queues that its driver takes (`ethtool -L NAME combined N`); 0 where it does not say.
    pub queues_max: u32,
    /// `veth`, `bridge`, `vlan`, ...; empty for a device of its own.
    pub kind: String,
    /// The name of its bridge, bond or VRF.
    pub master: Option<String>,
    /// The name of its veth peer, or of the link below it, where that is in this namespace too.
    pub below: Option<String>,
    /// What its driver offers for XDP; `None` where the kernel does not tell (before 6.3).
    pub xdp: Option<XdpFeatures>,
    /// The XDP programs that are attached.
    pub attached: Attached,
}

impl Link {
    /// Asks the kernel about the interface `name`.
    ///
    /// # Errors
    /// There is no such interface, or the system refused to answer.
    pub fn query(name: &str) -> Result<Self, LinkError> {
        let failed = |what| {
            move |source: io::Error| match source.raw_os_error() {
                Some(libc::ENODEV) => LinkError::Missing { name: name.to_owned() },
                _ if source.kind() == io::ErrorKind::InvalidInput => LinkError::Missing { name: name.to_owned() },
                _ => LinkError::System {
                    name: name.to_owned(),
                    what,
                    source,
                },
            }
        };
        let socket = Socket::open(libc::AF_INET, libc::SOCK_DGRAM).map_err(failed("facts"))?;
        let get = |number: libc::c_ulong, what| {
            let mut request = request(name).map_err(failed(what))?;
            // SAFETY: the SIOCGIF* requests below write into the ifreq alone.
            unsafe { socket.ioctl(number, &mut request) }.map_err(failed(what))?;
            Ok::<_, LinkError>(request.ifr_ifru)
        };
        // SAFETY: each request has filled the member of the union that is read here.
        let (ifindex, flags, mtu, address) = unsafe {
            (
                get(libc::SIOCGIFINDEX, "number")?.ifru_ifindex as u32,
                libc::c_int::from(get(libc::SIOCGIFFLAGS, "flags")?.ifru_flags),
                get(libc::SIOCGIFMTU, "MTU")?.ifru_mtu as u32,
                get(libc::SIOCGIFHWADDR, "address")?.ifru_hwaddr,
            )
        };
        let mut mac = [0; 6];
        for (to, from) in mac.iter_mut().zip(address.sa_data) {
            *to = from as u8;
        }
        let facts = netdev::link(ifindex).map_err(failed("attributes"))?;
        let channels = queues(&socket, name, ifindex, &facts);
        let named = |index: u32| netdev::link(index).ok().map(|other| other.name);
        Ok(Self {
            name: facts.name,
            ifindex,
            arphrd: address.sa_family,
            mac,
            mtu,
            up: flags & libc::IFF_UP != 0,
            running: flags & libc::IFF_UP != 0 && facts.carrier,
            driver: ethtool::driver(&socket, name).unwrap_or_default(),
            rx_queues: channels.rx,
            tx_queues: channels.tx,
            queues_max: channels.max_combined,
            kind: facts.kind,
            // It may be gone by now, then its number has to do.
            master: facts
                .master
                .map(|index| named(index).unwrap_or_else(|| index.to_string())),
            below: facts.below.and_then(named),
            xdp: netdev::xdp_features(ifindex).ok(),
            attached: facts.attached,
        })
    }

    /// Its queues that may have a socket, which receives and transmits: 1 at least.
    pub fn queue_pairs(&self) -> u32 {
        self.rx_queues.min(self.tx_queues).max(1)
    }

    /// Refuses an interface whose packets have no Ethernet header.
    ///
    /// # Errors
    /// [`LinkError::NotEthernet`].
    pub fn check_ethernet(&self) -> Result<(), LinkError> {
        let (kind, remedy) = match self.arphrd {
            libc::ARPHRD_ETHER => return Ok(()),
            libc::ARPHRD_NONE if self.driver == "tun" => {
                ("a TUN device", "make it a TAP device (ip tuntap add dev NAME mode tap)")
            }
            libc::ARPHRD_LOOPBACK => ("the loopback device", "name the interface that the packets arrive on"),
            _ => ("another kind of link", "name the Ethernet interface below it"),
        };
        Err(LinkError::NotEthernet {
            name: self.name.clone(),
            kind,
            remedy,
        })
    }

    /// Refuses an interface whose packets do not fit a frame of `frame_size` bytes.
    ///
    /// # Errors
    /// [`LinkError::Mtu`].
    pub fn check_mtu(&self, frame_size: u32) -> Result<(), LinkError> {
        if self.mtu <= mtu_max(frame_size) {
            return Ok(());
        }
        Err(LinkError::Mtu {
            name: self.name.clone(),
            mtu: self.mtu,
            frame_size,
        })
    }

    /// Refuses a queue that does not receive or does not transmit: on a queue beyond its real transmit queues the kernel
    /// sends nothing, and says nothing (`xsk_generic_xmit`).
    ///
    /// # Errors
    /// [`LinkError::Queue`].
    pub fn check_queue(&self, queue: u32) -> Result<(), LinkError> {
        let (rx, tx) = (self.rx_queues, self.tx_queues);
        if queue < rx && queue < tx {
            return Ok(());
        }
        Err(LinkError::Queue {
            name: self.name.clone(),
            queue,
            rx,
            tx,
        })
    }

    /// The interface's offloads, for `doctor`. Of matter are `rx-gro-hw` and `rx-lro` (frames larger than the MTU),
    /// `rx-vlan-hw-parse` (the tag is gone before XDP) and `tx-tcp-segmentation`.
    ///
    /// # Errors
    /// [`LinkError::System`].
    pub fn features(&self) -> Result<Vec<Feature>, LinkError> {
        let socket = Socket::open(libc::AF_INET, libc::SOCK_DGRAM);
        socket
            .and_then(|socket| ethtool::features(&socket, &self.name))
            .map_err(|source| LinkError::System {
                name: self.name.clone(),
                what: "offloads",
                source,
            })
    }
}

/// The queues in use: what the driver's channels say, else the kernel's list of queues, else what was allocated.
fn queues(socket: &Socket, name: &str, ifindex: u32, facts: &netdev::LinkAttributes) -> Channels {
    let channels = ethtool::channels(socket, name).unwrap_or_default();
    if channels.rx > 0 && channels.tx > 0 {
        return channels;
    }
    let (rx, tx) = match netdev::queues_in_use(ifindex) {
        Ok((rx, tx)) if rx > 0 && tx > 0 => (rx, tx),
        _ => (facts.rx_queues, facts.tx_queues),
    };
    Channels { rx, tx, ..channels }
}

/// The receive queues in use; `None` where neither the driver's channels nor the kernel's list of queues say.
pub fn receive_queues(name: &str, ifindex: u32) -> Option<u32> {
    let socket = Socket::open(libc::AF_INET, libc::SOCK_DGRAM).ok()?;
    let channels = ethtool::channels(&socket, name).unwrap_or_default();
    let queues = match channels.rx {
        0 => netdev::queues_in_use(ifindex).ok()?.0,
        rx => rx,
    };
    (queues > 0).then_some(queues)
}

/// The names of a bridge's ports (or a bond's, or a VRF's members), in the kernel's order.
///
/// # Errors
/// What netlink said.
pub fn members(ifindex: u32) -> io::Result<Vec<String>> {
    netdev::links_of(ifindex)
}

/// Whether the interface takes VLAN tags off what it receives, so that no XDP program sees them. A veth says so too, but what its
/// peer leaves in the frame stays there. `false` where the kernel does not say.
pub fn strips_vlan_tags(name: &str) -> bool {
    Socket::open(libc::AF_INET, libc::SOCK_DGRAM)
        .and_then(|socket| ethtool::strips_vlan_tags(&socket, name))
        .unwrap_or_default()
}

/// The number of an interface, or `None` when there is none of that name.
pub fn ifindex(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: a C string that lives through the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        index => Some(index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ethernet() -> Link {
        Link {
            name: "d0".into(),
            ifindex: 2,
            arphrd: libc::ARPHRD_ETHER,
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            up: true,
            running: true,
            driver: "veth".into(),
            rx_queues: 2,
            tx_queues: 1,
            queues_max: 0,
            kind: "veth".into(),
            master: None,
            below: None,
            xdp: None,
            attached: Attached::None,
        }
    }

    #[test]
    fn an_mtu_that_does_not_fit_is_refused_with_the_command_that_helps() {
        assert!(
            Link {
                mtu: 1762,
                ..ethernet()
            }
            .check_mtu(2048)
            .is_ok()
        );
        assert!(
            Link {
                mtu: 1763,
                ..ethernet()
            }
            .check_mtu(2048)
            .is_err()
        );
        assert!(
            Link {
                mtu: 3810,
                ..ethernet()
            }
            .check_mtu(4096)
            .is_ok()
        );
        let error = Link {
            mtu: 9000,
            ..ethernet()
        }
        .check_mtu(2048)
        .unwrap_err()
        .to_string();
        assert_eq!(
            error,
            "MTU 9000 of d0 does not fit a 2048-byte frame (1762 at most): ip link set d0 mtu 1762"
        );
    }

    #[test]
    fn a_queue_must_both_receive_and_transmit() {
        assert!(ethernet().check_queue(0).is_ok());
        assert!(matches!(
            ethernet().check_queue(1),
            Err(LinkError::Queue { rx: 2, tx: 1, .. })
        ));
    }

    #[test]
    fn the_loopback_device_is_known_and_refused() {
        let link = Link::query("lo").unwrap();
        assert_eq!(Some(link.ifindex), ifindex("lo"));
        assert!(link.rx_queues >= 1 && link.tx_queues >= 1);
        assert!(link.name == "lo" && link.master.is_none() && link.attached == Attached::None);
        // None where the kernel is older than 6.3.
        assert!(link.xdp.is_none_or(|features| !features.native()));
        assert!(matches!(link.check_ethernet(), Err(LinkError::NotEthernet { .. })));
        assert!(
            link.features()
                .unwrap()
                .iter()
                .any(|feature| feature.name == "tx-tcp-segmentation")
        );
    }

    #[test]
    fn what_is_not_there_is_missing() {
        assert!(matches!(Link::query("nosuchif0"), Err(LinkError::Missing { .. })));
        assert!(matches!(
            Link::query("a-name-longer-than-any"),
            Err(LinkError::Missing { .. })
        ));
        assert_eq!(ifindex("nosuchif0"), None);
    }
}
