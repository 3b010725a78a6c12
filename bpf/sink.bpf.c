// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The receiving port of `bypath bench` (src/bench/sink). Frames of the running trial bear its number at the front of their
// payload (src/bench/tag.rs); they are counted, per CPU, and then
//
//   sink_count   dropped: the cheapest that a receiver can do
//   sink_look    stamped with the time of arrival in the metadata room and redirected to the AF_XDP socket of the queue, so
//                that a receiver that is scheduled late costs no delay; the stamp of stamp.h, which src/port/stamp.rs reads
//
// A frame that a full ring or a queue without a socket loses is counted all the same: it came through what is measured.
// Frames of an earlier trial are dropped; all else (ARP, neighbour discovery, whatever the link carries) is the kernel's, which
// answers for the port's addresses. Both are counted as foreign.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "stamp.h"

#define MAX_QUEUES 64
#define TAG_MIN 10
#define ICMP_ECHO 8
#define ICMPV6_ECHO 128
#define FRAGMENT 0x3fff

/* Which frames are ours: tags from first to before run are of earlier trials, run is the present one's. */
struct config {
	__u16 first;
	__u16 run;
};

struct counts {
	__u64 ours;
	__u64 bytes;
	__u64 foreign;
	__u64 unstamped; /* the driver gives no room for metadata */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counts);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

struct vlan {
	__be16 tci;
	__be16 type;
};

/* What the transport header's first byte and length say: where the payload begins, or nothing. */
static __always_inline void *behind_transport(void *at, void *end, __u8 protocol)
{
	struct tcphdr *tcp = at;
	__u8 *type = at;

	switch (protocol) {
	case IPPROTO_UDP:
		return at + 8;
	case IPPROTO_TCP:
		if ((void *)(tcp + 1) > end)
			return 0;
		return at + tcp->doff * 4;
	case IPPROTO_ICMP:
		return (void *)(type + 1) <= end && *type == ICMP_ECHO ? at + 8 : 0;
	case IPPROTO_ICMPV6:
		return (void *)(type + 1) <= end && *type == ICMPV6_ECHO ? at + 8 : 0;
	default:
		return 0;
	}
}

/* The tag, of which TAG_MIN bytes are there; or nothing. */
static __always_inline __be16 *find_tag(void *at, void *end)
{
	struct ethhdr *ether = at;
	struct ipv6hdr *ip6;
	struct iphdr *ip;
	__u8 protocol;
	__be16 type;
	int i;

	if ((void *)(ether + 1) > end)
		return 0;
	type = ether->h_proto;
	at = ether + 1;
#pragma unroll
	for (i = 0; i < 2; i++) {
		struct vlan *vlan = at;

		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(vlan + 1) > end)
			return 0;
		type = vlan->type;
		at = vlan + 1;
	}
	if (type == bpf_htons(ETH_P_IP)) {
		ip = at;
		if ((void *)(ip + 1) > end || ip->frag_off & bpf_htons(FRAGMENT))
			return 0;
		protocol = ip->protocol;
		at += ip->ihl * 4;
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		ip6 = at;
		if ((void *)(ip6 + 1) > end)
			return 0;
		protocol = ip6->nexthdr;
		at = ip6 + 1;
	} else {
		return 0;
	}
	at = behind_transport(at, end, protocol);
	if (!at || at + TAG_MIN > end)
		return 0;
	return at;
}

/* XDP_REDIRECT: a frame of the trial, counted. Else what is to be done with it. */
static __always_inline int judge(struct xdp_md *ctx, struct counts **counted)
{
	void *end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct counts *count;
	struct config *now;
	__u32 zero = 0;
	__be16 *tag;
	__u16 run;

	now = bpf_map_lookup_elem(&config, &zero);
	count = bpf_map_lookup_elem(&counts, &zero);
	if (!now || !count)
		return XDP_ABORTED;
	*counted = count;
	tag = find_tag(data, end);
	if (tag) {
		run = bpf_ntohs(*tag);
		if (run == now->run) {
			count->ours++;
			count->bytes += end - data;
			return XDP_REDIRECT;
		}
		if ((__u16)(run - now->first) < (__u16)(now->run - now->first)) {
			count->foreign++;
			return XDP_DROP;
		}
	}
	count->foreign++;
	return XDP_PASS;
}

SEC("xdp")
int sink_count(struct xdp_md *ctx)
{
	struct counts *count;
	int verdict = judge(ctx, &count);

	return verdict == XDP_REDIRECT ? XDP_DROP : verdict;
}

SEC("xdp")
int sink_look(struct xdp_md *ctx)
{
	struct counts *count;
	struct stamp *stamp;
	int verdict;

	verdict = judge(ctx, &count);
	if (verdict != XDP_REDIRECT)
		return verdict;
	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*stamp)) == 0) {
		stamp = (void *)(long)ctx->data_meta;
		if ((void *)(stamp + 1) > (void *)(long)ctx->data)
			return XDP_ABORTED;
		stamp->ktime_ns = bpf_ktime_get_ns();
		stamp->magic = STAMP_MAGIC;
	} else {
		count->unstamped++;
	}
	return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_DROP);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
