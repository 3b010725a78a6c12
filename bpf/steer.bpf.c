// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * steer: the XDP program on every port. It gives a frame to the worker or lets the kernel have it.
 *
 *   NIC -> steer --PASS--> kernel     local, ARP/ND, multicast, anything that the kernel does better, no live worker
 *            |
 *            +--REDIRECT--> AF_XDP ring of (port, queue)
 *
 * It sits before everything else and so must be cheap and fail open: a frame that it does not understand, and every frame
 * once the heartbeat of the queue's worker is too old, goes to the kernel as if bypath was not there. The checks that
 * mirror the kernel (ip_rcv_core and ip_route_input_slow in net/ipv4, ip6_rcv_core and ip6_forward in net/ipv6) need not
 * be complete, for the worker checks again: they spare the worker what it would punt anyway. The IPv4 header checksum is
 * the worker's. Where connections are tracked, what the kernel does better for a connection of the worker's (options, a TTL
 * used up, a pair of addresses left to it) goes to the worker all the same: the kernel must not meet it unprepared.
 *
 * Where NAT is in force an address of the box serves others too, and a frame that bears it may be an answer to a client
 * behind. Then only a socket that has the frame's whole 4-tuple proves that it is the box's: TCP's in any state but LISTEN,
 * a connected one of UDP. A wildcard socket proves nothing (a client's port 123, kept by masquerade, beside the box's own
 * NTP), nor does a listener: such frames, and those of other protocols, fragments and options, the worker judges by its
 * connections, and hands them back. The NAT port allocator keeps off the tuples of the box's own connections, so that the
 * two never mean the same frame; src/control/exchange/own.rs says for how long they can.
 *
 * On a port of a bridge `mac` is the bridge's, and what bears it is IP's as on any other port. A frame to another unicast
 * MAC is bridged: the worker gets it whatever is in it, but for what the kernel's bridge may answer itself (ARP, RARP) or
 * does not forward to stations (EAPOL, MRP, CFM). Group addresses are the kernel's, which floods and snoops.
 *
 * Time: the heartbeat is in jiffies64, which costs a load; ktime costs 31 ns and is read for stamped frames only.
 * UAPI headers alone, so that clang 14 and no BTF of a kernel suffice. CAP_PERFMON is
 * not needed: no pointer is subtracted from another, and none gets an offset that is not a constant (hence the frame's
 * length by helper, and a map entry per counter). Loops: none. Bounds: steer.h.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "stamp.h"
#include "steer.h"

#define TAG_LEN 4

/* Newer than the headers of Debian 12. */
#ifndef ETH_P_MRP
#define ETH_P_MRP 0x88E3
#endif
#ifndef ETH_P_CFM
#define ETH_P_CFM 0x8902
#endif

/* Set by control before the load. */
const volatile __u64 heartbeat_limit = 0; /* jiffies */
const volatile __u64 cookie[COOKIE_LEN / 8] = {};

/* Set by control at any time, through the mapped .bss. */
volatile __u64 generation = 0;
volatile __u64 pass_used = 0;
/* A bit per hash of the box's addresses: an address whose bit is clear is none of them, and no table is asked. */
volatile __u64 local_bits_v4 = 0;
volatile __u64 local_bits_v6 = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PORTS);
	__type(key, __u32); /* ifindex */
	__type(value, struct port);
} ports SEC(".maps");

/* The same for small ifindexes, which nearly all are: an array is a load, a hash is a call. No queues: not here. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NEAR_PORTS);
	__type(key, __u32); /* ifindex */
	__type(value, struct port);
} near_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, MAX_SLOTS);
	__type(key, __u32); /* slot */
	__type(value, __u32);
} xsks SEC(".maps");

/* Slot to worker number + 1; 0 is no worker. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_SLOTS);
	__type(key, __u32);
	__type(value, __u32);
} slot_worker SEC(".maps");

/* Worker number to the jiffies64 of its last sign of life. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_WORKERS);
	__type(key, __u32);
	__type(value, __u64);
} heartbeat SEC(".maps");

/* The box's own and broadcast addresses, each with its enum local. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_LOCAL_V4);
	__type(key, __u32);
	__type(value, __u8);
} local_v4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_LOCAL_V6);
	__type(key, struct in6_addr);
	__type(value, __u8);
} local_v6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_PASS);
	__type(key, struct pass_key);
	__type(value, __u64);
} pass SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_PORTS * DECISIONS);
	__type(key, __u32); /* port index * DECISIONS + decision */
	__type(value, __u64);
} stats SEC(".maps");

static __always_inline int same_mac(const void *a, const void *b)
{
	const __u16 *x = a, *y = b;

	return !((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]));
}

/* A frame that bypath punted meets a generic-mode port's program again; control marked it with a secret tail. */
static __always_inline int cut_cookie(struct xdp_md *ctx)
{
	__u64 tail[COOKIE_LEN / 8];
	__u64 len = bpf_xdp_get_buff_len(ctx);

	if (len < ETH_HLEN + COOKIE_LEN || bpf_xdp_load_bytes(ctx, len - COOKIE_LEN, tail, COOKIE_LEN))
		return 0;
	if (tail[0] != cookie[0] || tail[1] != cookie[1])
		return 0;
	return !bpf_xdp_adjust_tail(ctx, -COOKIE_LEN);
}

/* Did control leave this pair of addresses to the kernel, in this generation? */
static __always_inline int is_left(const struct pass_key *key)
{
	__u64 *since;

	if (!pass_used)
		return 0;
	since = bpf_map_lookup_elem(&pass, key);
	return since && *since == generation;
}

/* ip_route_input_slow: martian source, martian destination; what is not unicast is not forwarded here. */
static __always_inline int martian_v4(__u32 src, __u32 dst)
{
	__u32 s = bpf_ntohl(src), d = bpf_ntohl(dst);

	if ((s >> 24) == 0 || (s >> 24) == 127 || (s >> 28) == 14 || s == 0xffffffff)
		return 1;
	return (d >> 24) == 0 || (d >> 24) == 127 || (d >> 28) == 14 || d == 0xffffffff;
}

/* Control sets the bits by the same hash. */
static __always_inline int may_be_local(__u64 bits, __u32 address)
{
	return (bits >> ((address * 0x9e3779b1u) >> 26)) & 1;
}

static __always_inline __u32 folded_v6(const struct in6_addr *a)
{
	return a->s6_addr32[0] ^ a->s6_addr32[1] ^ a->s6_addr32[2] ^ a->s6_addr32[3];
}

/*
 * Does a socket of the box wait for exactly this packet? `tuple` are addresses and ports, which lie in the packet as the
 * helpers want them. Sockets half open and half closed are found by TCP's; the two results must not meet in one branch.
 */
static __always_inline int has_socket(struct xdp_md *ctx, void *tuple, __u32 len, void *end, __u8 proto)
{
	int waits;

	if (tuple + len > end)
		return 0;
	if (proto == IPPROTO_TCP) {
		struct bpf_sock *sk = bpf_skc_lookup_tcp(ctx, tuple, len, BPF_F_CURRENT_NETNS, 0);

		if (!sk)
			return 0;
		waits = sk->state != BPF_TCP_LISTEN;
		bpf_sk_release(sk);
		return waits;
	}
	if (proto == IPPROTO_UDP) {
		struct bpf_sock *sk = bpf_sk_lookup_udp(ctx, tuple, len, BPF_F_CURRENT_NETNS, 0);

		if (!sk)
			return 0;
		waits = sk->dst_port != 0;
		bpf_sk_release(sk);
		return waits;
	}
	return 0;
}

/* The box's, or a translated connection's? The worker finds out about what no socket has. */
static __always_inline int is_local_v4(struct xdp_md *ctx, struct iphdr *ip, void *end, const struct port *port,
				       const __u8 *kind)
{
	if (!(port->flags & PORT_NAT_V4) || *kind != LOCAL_UNICAST)
		return 1;
	if (ip->ihl > 5 || ip->frag_off & bpf_htons(0x3fff))
		return 0;
	return has_socket(ctx, &ip->saddr, sizeof(((struct bpf_sock_tuple *)0)->ipv4), end, ip->protocol);
}

static __always_inline int is_local_v6(struct xdp_md *ctx, struct ipv6hdr *ip, void *end, const struct port *port,
				       const __u8 *kind)
{
	if (!(port->flags & PORT_NAT_V6) || *kind != LOCAL_UNICAST)
		return 1;
	return has_socket(ctx, &ip->saddr, sizeof(((struct bpf_sock_tuple *)0)->ipv6), end, ip->nexthdr);
}

static __always_inline enum decision ipv4(struct xdp_md *ctx, struct iphdr *ip, void *end, const struct port *port)
{
	struct pass_key key = { .ifindex = ctx->ingress_ifindex, .family = 4 };
	const __u8 *kind;
	__u32 len;

	if (!(port->flags & PORT_CARRY_V4))
		return FAMILY_LEFT;
	if ((void *)(ip + 1) > end)
		return TRUNCATED;
	if (ip->version != 4 || ip->ihl < 5)
		return MALFORMED;
	len = bpf_ntohs(ip->tot_len);
	if (len < ip->ihl * 4)
		return MALFORMED;
	if (ETH_HLEN + len > bpf_xdp_get_buff_len(ctx))
		return TRUNCATED;
	if (!(port->flags & PORT_TRACK_V4)) {
		if (ip->ihl > 5)
			return OPTIONS;
		if (ip->ttl <= 1)
			return TTL;
	}
	if (martian_v4(ip->saddr, ip->daddr))
		return MARTIAN;
	__builtin_memcpy(key.src, &ip->saddr, 4);
	__builtin_memcpy(key.dst, &ip->daddr, 4);
	if (may_be_local(local_bits_v4, ip->daddr)) {
		kind = bpf_map_lookup_elem(&local_v4, key.dst);
		if (kind && is_local_v4(ctx, ip, end, port, kind))
			return LOCAL;
	}
	return !(port->flags & PORT_TRACK_V4) && is_left(&key) ? LEFT : REDIRECT;
}

/* Not the upper layers' ESP (50) and "no next header" (59), which the kernel forwards like any other protocol. */
static __always_inline int is_extension(__u8 nexthdr)
{
	switch (nexthdr) {
	case 0:   /* hop-by-hop */
	case 43:  /* routing */
	case 44:  /* fragment */
	case 51:  /* authentication */
	case 60:  /* destination options */
	case 135: /* mobility */
	case 139: /* HIP */
	case 140: /* shim6 */
		return 1;
	}
	return 0;
}

/* Unspecified, loopback, multicast, link-local: ip6_forward and ip6_rcv_core. */
static __always_inline int martian_v6(const struct in6_addr *a)
{
	__u32 first = bpf_ntohl(a->s6_addr32[0]);

	if (!(first | a->s6_addr32[1] | a->s6_addr32[2]) && bpf_ntohl(a->s6_addr32[3]) <= 1)
		return 1;
	return (first >> 24) == 0xff || (first & 0xffc00000) == 0xfe800000;
}

/* ip6_rcv_core drops packets from ::ffff:0:0/96. */
static __always_inline int is_v4mapped(const struct in6_addr *a)
{
	return !(a->s6_addr32[0] | a->s6_addr32[1]) && a->s6_addr32[2] == bpf_htonl(0xffff);
}

static __always_inline enum decision ipv6(struct xdp_md *ctx, struct ipv6hdr *ip, void *end, const struct port *port)
{
	struct pass_key key = { .ifindex = ctx->ingress_ifindex, .family = 6 };
	const __u8 *kind;

	if (!(port->flags & PORT_CARRY_V6))
		return FAMILY_LEFT;
	if ((void *)(ip + 1) > end)
		return TRUNCATED;
	if (ip->version != 6)
		return MALFORMED;
	if (ETH_HLEN + sizeof(*ip) + bpf_ntohs(ip->payload_len) > bpf_xdp_get_buff_len(ctx))
		return TRUNCATED;
	if (!(port->flags & PORT_TRACK_V6)) {
		if (is_extension(ip->nexthdr))
			return EXTENSION;
		if (ip->hop_limit <= 1)
			return TTL;
	}
	if (martian_v6(&ip->saddr) || martian_v6(&ip->daddr) || is_v4mapped(&ip->saddr))
		return MARTIAN;
	__builtin_memcpy(key.src, &ip->saddr, 16);
	__builtin_memcpy(key.dst, &ip->daddr, 16);
	if (may_be_local(local_bits_v6, folded_v6(&ip->daddr))) {
		kind = bpf_map_lookup_elem(&local_v6, key.dst);
		if (kind && is_local_v6(ctx, ip, end, port, kind))
			return LOCAL;
	}
	return !(port->flags & PORT_TRACK_V6) && is_left(&key) ? LEFT : REDIRECT;
}

/* Did control leave the two IP addresses in a bridged frame to the kernel? */
static __always_inline int is_pair_left(struct xdp_md *ctx, const struct ethhdr *eth, void *end)
{
	struct pass_key key = { .ifindex = ctx->ingress_ifindex };

	if (!pass_used)
		return 0;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		const struct iphdr *ip = (void *)(eth + 1);

		if ((void *)(ip + 1) > end)
			return 0;
		key.family = 4;
		__builtin_memcpy(key.src, &ip->saddr, 4);
		__builtin_memcpy(key.dst, &ip->daddr, 4);
	} else {
		const struct ipv6hdr *ip = (void *)(eth + 1);

		if ((void *)(ip + 1) > end)
			return 0;
		key.family = 6;
		__builtin_memcpy(key.src, &ip->saddr, 16);
		__builtin_memcpy(key.dst, &ip->daddr, 16);
	}
	return is_left(&key);
}

/* A unicast frame to a MAC that is not ours: a station's, where the port is a bridge's. */
static __always_inline enum decision bridged(struct xdp_md *ctx, const struct ethhdr *eth, void *end,
					     const struct port *port)
{
	__u16 wanted = PORT_BRIDGE_OTHER;

	if (!(port->flags & PORT_BRIDGE))
		return FOREIGN_MAC;
	switch (eth->h_proto) {
	case bpf_htons(ETH_P_IP):
		wanted = PORT_BRIDGE_V4;
		break;
	case bpf_htons(ETH_P_IPV6):
		wanted = PORT_BRIDGE_V6;
		break;
	case bpf_htons(ETH_P_ARP):
	case bpf_htons(ETH_P_RARP):
	case bpf_htons(ETH_P_PAE):
	case bpf_htons(ETH_P_MRP):
	case bpf_htons(ETH_P_CFM):
		return NOT_IP;
	}
	if (!(port->flags & wanted))
		return BRIDGING_LEFT;
	return wanted != PORT_BRIDGE_OTHER && is_pair_left(ctx, eth, end) ? LEFT : REDIRECT;
}

/* Does the worker want this frame? */
static __always_inline enum decision classify(struct xdp_md *ctx, const struct port *port)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > end)
		return TRUNCATED;
	if (eth->h_dest[0] & 1)
		return GROUP;
	if (!same_mac(eth->h_dest, port->mac))
		return bridged(ctx, eth, end, port);
	switch (eth->h_proto) {
	case bpf_htons(ETH_P_IP):
		return ipv4(ctx, (void *)(eth + 1), end, port);
	case bpf_htons(ETH_P_IPV6):
		return ipv6(ctx, (void *)(eth + 1), end, port);
	case bpf_htons(ETH_P_8021Q):
	case bpf_htons(ETH_P_8021AD):
		return VLAN;
	}
	return NOT_IP;
}

/* Gives the frame to the worker of its queue, if there is one and it lives. */
static __always_inline enum decision redirect(struct xdp_md *ctx, const struct port *port)
{
	__u32 slot, number, *worker;
	__u64 *beat;

	if (ctx->rx_queue_index >= port->queues)
		return NO_SOCKET;
	slot = port->first_slot + ctx->rx_queue_index;
	worker = bpf_map_lookup_elem(&slot_worker, &slot);
	if (!worker || !*worker)
		return NO_SOCKET;
	number = *worker - 1;
	beat = bpf_map_lookup_elem(&heartbeat, &number);
	/* Signed: a heartbeat may lie a tick in the future, for the worker computes jiffies from its own clock. */
	if (!beat || (__s64)(bpf_jiffies64() - *(volatile __u64 *)beat) > (__s64)heartbeat_limit)
		return STALLED;
	return bpf_redirect_map(&xsks, slot, XDP_PASS) == XDP_REDIRECT ? REDIRECT : NO_SOCKET;
}

/*
 * In generic mode a frame comes as the peer's segmentation offload left it, up to 64 KiB: no socket has room. So it does from a
 * TAP, whose driver runs a native program behind the skb where the frame is one of several (tun_xdp_one).
 */
static __always_inline int is_merged(struct xdp_md *ctx, const struct port *port)
{
	return (port->flags & PORT_MAY_MERGE) && port->len_max && bpf_xdp_get_buff_len(ctx) > port->len_max;
}

/*
 * The kernel must not meet a frame of a connection of the worker's unprepared, and the worker cannot get a merged one. So the
 * first ones are lost, as if a ring was full, until control has heard of them and left the family on this port to the kernel.
 * What is bridged has connections only where it passes the hooks of IP.
 * A frame that has no more than a tag's length too many is not merged: a link may carry it.
 */
static __always_inline enum decision merged(struct xdp_md *ctx, const struct port *port)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	__u16 tracked = 0;
	int is_routed;

	if ((void *)(eth + 1) > end || bpf_xdp_get_buff_len(ctx) <= port->len_max + TAG_LEN)
		return MERGED;
	is_routed = same_mac(eth->h_dest, port->mac);
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		tracked = is_routed ? PORT_TRACK_V4 : PORT_HOOKED_V4;
	else if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		tracked = is_routed ? PORT_TRACK_V6 : PORT_HOOKED_V6;
	return port->flags & tracked ? MERGED_LOST : MERGED;
}

/* Writes the arrival time just before the frame. Drivers without a metadata room refuse: then there is no stamp. */
static __always_inline void write_stamp(struct xdp_md *ctx)
{
	struct stamp *stamp;

	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*stamp)))
		return;
	stamp = (void *)(long)ctx->data_meta;
	if ((void *)(stamp + 1) > (void *)(long)ctx->data)
		return;
	stamp->magic = STAMP_MAGIC;
	stamp->ktime_ns = bpf_ktime_get_ns();
}

/* Counts a decision; how many of its kind there were before, on this CPU. */
static __always_inline __u64 count(const struct port *port, enum decision decision)
{
	__u32 key = port->index * DECISIONS + decision;
	__u64 *counter = bpf_map_lookup_elem(&stats, &key);

	return counter ? (*counter)++ : 0;
}

SEC("xdp")
int steer(struct xdp_md *ctx)
{
	__u32 ifindex = ctx->ingress_ifindex;
	enum decision decision = REDIRECT;
	struct port *port;
	__u64 before;

	port = bpf_map_lookup_elem(&near_ports, &ifindex);
	if (!port || !port->queues)
		port = bpf_map_lookup_elem(&ports, &ifindex);
	if (!port)
		return XDP_PASS;
	if ((port->flags & PORT_GENERIC) && cut_cookie(ctx))
		decision = REINJECTED;
	else if (!(port->flags & PORT_WIRE))
		decision = classify(ctx, port);
	if (decision == REDIRECT)
		decision = redirect(ctx, port);
	if (decision == REDIRECT && !(port->flags & PORT_WIRE) && is_merged(ctx, port))
		decision = merged(ctx, port);
	before = count(port, decision);
	if (decision != REDIRECT)
		return decision == MERGED_LOST ? XDP_DROP : XDP_PASS;
	if (before % STAMP_EVERY == 0 || (port->flags & PORT_STAMP_ALL))
		write_stamp(ctx);
	return XDP_REDIRECT;
}

char _license[] SEC("license") = "Dual MIT/GPL";
