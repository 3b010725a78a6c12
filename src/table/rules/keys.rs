//! What expressions may ask of a packet, of its connection and of its route, by the kernel's numbers (enum nft_meta_keys,
//! nft_ct_keys, nft_rt_keys of linux/netfilter/nf_tables.h), with nft's words for them.
//!
//! A number that is not here is one that nobody has looked at: its expression is uncarried.

/// An enum whose variants are the kernel's numbers, each with nft's word.
macro_rules! keys {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $key:ident = $number:literal $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$about])* $key = $number,)* }

        impl $name {
            /// Every one of them.
            pub const ALL: &[$name] = &[$($name::$key,)*];

            /// That of this number.
            pub fn of(number: u32) -> Option<Self> {
                match number {
                    $($number => Some($name::$key),)*
                    _ => None,
                }
            }

            /// Its word in nft's language.
            pub fn word(self) -> &'static str {
                match self {
                    $($name::$key => $word,)*
                }
            }
        }
    };
}

keys! {
    /// What `meta` loads and sets.
    MetaKey {
        /// skb->len: from the network header to the end. 32 bits.
        Len = 0 "length",
        /// The Ethertype. 16 bits in network order.
        Protocol = 1 "protocol",
        /// skb->priority. 32 bits.
        Priority = 2 "priority",
        /// skb->mark. 32 bits.
        Mark = 3 "mark",
        /// Number of the link of arrival, 0 where there is none. 32 bits.
        Iif = 4 "iif",
        /// Number of the link of departure, 0 where there is none. 32 bits.
        Oif = 5 "oif",
        /// Name of the link of arrival, 16 bytes padded with NUL, empty where there is none.
        Iifname = 6 "iifname",
        /// Name of the link of departure, likewise.
        Oifname = 7 "oifname",
        /// ARPHRD_* of the link at which the packet is (skb->dev). 16 bits.
        Iiftype = 8 "iiftype",
        /// ARPHRD_* of the link of departure; breaks where there is none. 16 bits.
        Oiftype = 9 "oiftype",
        /// User of the local socket; a forwarded packet has none and breaks.
        Skuid = 10 "skuid",
        /// Group of the local socket; a forwarded packet has none and breaks.
        Skgid = 11 "skgid",
        /// Set only: trace this packet.
        Nftrace = 12 "nftrace",
        /// Realm of the route; breaks before routing. 32 bits.
        Rtclassid = 13 "rtclassid",
        /// Security mark. 32 bits.
        Secmark = 14 "secmark",
        /// NFPROTO_IPV4 or NFPROTO_IPV6. 8 bits.
        Nfproto = 15 "nfproto",
        /// Transport protocol; breaks where there is none. 8 bits.
        L4proto = 16 "l4proto",
        /// Name of the bridge of arrival.
        BriIifname = 17 "ibrname",
        /// Name of the bridge of departure.
        BriOifname = 18 "obrname",
        /// PACKET_HOST and its kind. 8 bits.
        Pkttype = 19 "pkttype",
        /// The processor that runs the rule. 32 bits.
        Cpu = 20 "cpu",
        /// Group of the link of arrival; breaks where there is none. 32 bits.
        Iifgroup = 21 "iifgroup",
        /// Group of the link of departure, likewise.
        Oifgroup = 22 "oifgroup",
        /// Class of the local socket; a forwarded packet has none and breaks.
        Cgroup = 23 "cgroup",
        /// A random number. 32 bits.
        Prandom = 24 "random",
        /// Whether it came through IPsec. 8 bits.
        Secpath = 25 "ipsec",
        /// Kind of the link of arrival, 16 bytes; breaks where it has none.
        Iifkind = 26 "iifkind",
        /// Kind of the link of departure, likewise.
        Oifkind = 27 "oifkind",
        /// VLAN that the bridge port of arrival gives to untagged frames.
        BriIifpvid = 28 "ibrpvid",
        /// VLAN protocol of the bridge of arrival.
        BriIifvproto = 29 "ibrvproto",
        /// Nanoseconds of the epoch. 64 bits.
        TimeNs = 30 "time",
        /// Day of the week in the kernel's time zone, 0 is Sunday. 8 bits.
        TimeDay = 31 "day",
        /// Second of the day, UTC. 32 bits.
        TimeHour = 32 "hour",
        /// The link of arrival where it is below a VRF, else 0. 32 bits.
        Sdif = 33 "sdif",
        /// Its name.
        Sdifname = 34 "sdifname",
        /// Set only: have the bridge route this frame.
        BriBroute = 35 "broute",
    }
}

keys! {
    /// What `ct` loads and sets. All but the state break where there is no connection.
    CtKey {
        /// NF_CT_STATE_BIT, or that of invalid or untracked. 32 bits.
        State = 0 "state",
        /// IP_CT_DIR_* of this packet. 8 bits.
        Direction = 1 "direction",
        /// IPS_*. 32 bits.
        Status = 2 "status",
        /// The connection's mark. 32 bits.
        Mark = 3 "mark",
        /// Its security mark. 32 bits.
        Secmark = 4 "secmark",
        /// Milliseconds until it expires. 32 bits.
        Expiration = 5 "expiration",
        /// Name of the helper of its master, 16 bytes; breaks where there is none.
        Helper = 6 "helper",
        /// NFPROTO_*. 8 bits.
        L3protocol = 7 "l3proto",
        /// Source address, 4 or 16 bytes (nft before 0.9).
        Src = 8 "saddr",
        /// Destination address, likewise.
        Dst = 9 "daddr",
        /// Transport protocol. 8 bits.
        Protocol = 10 "protocol",
        /// Source port or its like. 16 bits in network order.
        ProtoSrc = 11 "proto-src",
        /// Destination port or its like. 16 bits in network order.
        ProtoDst = 12 "proto-dst",
        /// 128 label bits.
        Labels = 13 "label",
        /// Packets of a direction, or of both. 64 bits.
        Pkts = 14 "packets",
        /// Bytes of a direction, or of both. 64 bits.
        Bytes = 15 "bytes",
        /// Bytes a packet. 64 bits.
        Avgpkt = 16 "avgpkt",
        /// Zone. 16 bits.
        Zone = 17 "zone",
        /// Set only: which events it gives.
        Eventmask = 18 "event",
        /// IPv4 source address; breaks for IPv6.
        SrcIp = 19 "ip saddr",
        /// IPv4 destination address; breaks for IPv6.
        DstIp = 20 "ip daddr",
        /// IPv6 source address; breaks for IPv4.
        SrcIp6 = 21 "ip6 saddr",
        /// IPv6 destination address; breaks for IPv4.
        DstIp6 = 22 "ip6 daddr",
        /// The number that ctnetlink gives to it. 32 bits.
        Id = 23 "id",
    }
}

keys! {
    /// What `rt` loads. All break where there is no route yet.
    RtKey {
        /// Realm. 32 bits.
        Classid = 0 "classid",
        /// IPv4 next hop; breaks for IPv6.
        Nexthop4 = 1 "ip nexthop",
        /// IPv6 next hop; breaks for IPv4.
        Nexthop6 = 2 "ip6 nexthop",
        /// What fits into a segment both ways. 16 bits, host order.
        Tcpmss = 3 "tcpmss",
        /// Whether it will leave through IPsec. 8 bits.
        Xfrm = 4 "ipsec",
    }
}

keys! {
    /// What `socket` loads.
    SocketKey {
        /// Whether it is transparent. 8 bits.
        Transparent = 0 "transparent",
        /// Its mark. 32 bits.
        Mark = 1 "mark",
        /// Whether it is bound to any address. 8 bits.
        Wildcard = 2 "wildcard",
        /// Its cgroup at a level. 64 bits.
        Cgroupv2 = 3 "cgroupv2",
    }
}

keys! {
    /// What `fib` yields.
    FibResult {
        /// Number of the link. 32 bits.
        Oif = 1 "oif",
        /// Name of the link, 16 bytes.
        Oifname = 2 "oifname",
        /// RTN_*. 32 bits.
        Addrtype = 3 "type",
    }
}

impl MetaKey {
    /// How many bytes of registers it fills (`nft_meta_get_init`).
    pub fn width(self) -> usize {
        use MetaKey::*;
        match self {
            Iifname | Oifname | BriIifname | BriOifname | Iifkind | Oifkind | Sdifname => 16,
            TimeNs => 8,
            _ => 4,
        }
    }
}

impl CtKey {
    /// How many bytes of registers it fills at most (`nft_ct_get_init`).
    pub fn width(self) -> usize {
        use CtKey::*;
        match self {
            Helper | Src | Dst | SrcIp6 | DstIp6 | Labels => 16,
            Pkts | Bytes | Avgpkt => 8,
            _ => 4,
        }
    }
}

impl RtKey {
    /// How many bytes of registers it fills.
    pub fn width(self) -> usize {
        if self == RtKey::Nexthop6 { 16 } else { 4 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_leads_to_its_key_and_back() {
        assert!(MetaKey::ALL.iter().all(|&key| MetaKey::of(key as u32) == Some(key)));
        assert!(CtKey::ALL.iter().all(|&key| CtKey::of(key as u32) == Some(key)));
        assert_eq!((MetaKey::ALL.len(), CtKey::ALL.len(), RtKey::ALL.len()), (36, 24, 5));
        assert_eq!(
            (MetaKey::of(36), CtKey::of(24), RtKey::of(5), FibResult::of(0)),
            (None, None, None, None)
        );
        assert_eq!(MetaKey::of(6).map(MetaKey::word), Some("iifname"));
    }
}
