// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * punt: gives frames back to the kernel as if they had just arrived on their port. Both ways lead through the TAP device
 * bypath0, into which control writes a frame together with a tag: the port's ifindex, 4 bytes, host byte order.
 *
 *   metadata way (tcx and XDP metadata on TAPs)      tail way (any kernel with clsact)
 *     write [tag][frame]                               write [frame][tag]
 *     punt_head, XDP: tag -> metadata                  punt_tail, sched_cls: read the tag, cut it off,
 *     punt_meta, tcx/ingress: metadata -> redirect                           redirect
 *
 * bpf_redirect(.., BPF_F_INGRESS) scrubs the skb and runs eth_type_trans for the new device (dev_forward_skb), so that
 * packet type, protocol and counters are the port's; a bridge port and VLANs on top see it too. The metadata way touches
 * the frame's end not at all, so that the kernel's own cutting of padding cannot meet the tag.
 *
 * The tail way loses one kind of frame, which the metadata way does not: one that ends within its own IP headers. It is
 * counted (UNCUT); the kernel would drop it too, but for a cut IPv6 extension header that it would forward.
 *
 * Nothing of bypath0 ever reaches the stack as its own traffic: what has no good tag is dropped, and counted.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "punt.h"

/* A row per outcome. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PUNT_OUTCOMES);
	__type(key, __u32);
	__type(value, __u64);
} outcomes SEC(".maps");

static __always_inline void count(__u32 outcome)
{
	__u64 *counter = bpf_map_lookup_elem(&outcomes, &outcome);

	if (counter)
		(*counter)++;
}

static __always_inline int redirect(__u32 ifindex)
{
	if (ifindex == PUNT_PROBE) {
		count(PROBED);
		return TC_ACT_SHOT;
	}
	count(REDIRECTED);
	return bpf_redirect(ifindex, BPF_F_INGRESS);
}

SEC("xdp")
int punt_head(struct xdp_md *ctx)
{
	__u32 *tag = (void *)(long)ctx->data, *meta;
	__u32 ifindex;

	if ((void *)(tag + 1) + ETH_HLEN > (void *)(long)ctx->data_end) {
		count(UNTAGGED);
		return XDP_DROP;
	}
	ifindex = *tag;
	if (bpf_xdp_adjust_head(ctx, sizeof(*tag)) || bpf_xdp_adjust_meta(ctx, -(int)sizeof(*meta))) {
		count(NO_METADATA);
		return XDP_DROP;
	}
	meta = (void *)(long)ctx->data_meta;
	if ((void *)(meta + 1) > (void *)(long)ctx->data) {
		count(NO_METADATA);
		return XDP_DROP;
	}
	*meta = ifindex;
	return XDP_PASS;
}

SEC("tcx/ingress")
int punt_meta(struct __sk_buff *skb)
{
	__u32 *meta = (void *)(long)skb->data_meta;

	if ((void *)(meta + 1) > (void *)(long)skb->data) {
		count(UNTAGGED);
		return TC_ACT_SHOT;
	}
	return redirect(*meta);
}

SEC("tc")
int punt_tail(struct __sk_buff *skb)
{
	__u32 ifindex, len = skb->len;

	if (len < ETH_HLEN + sizeof(ifindex) ||
	    bpf_skb_load_bytes(skb, len - sizeof(ifindex), &ifindex, sizeof(ifindex))) {
		count(UNTAGGED);
		return TC_ACT_SHOT;
	}
	/*
	 * The driver has looked for the transport header (skb_probe_transport_header), and the kernel does not cut before it:
	 * of a packet that ends within its IP header, what it took for a header is our tag.
	 */
	if (bpf_skb_change_tail(skb, len - sizeof(ifindex), 0)) {
		count(UNCUT);
		return TC_ACT_SHOT;
	}
	return redirect(ifindex);
}

char _license[] SEC("license") = "Dual MIT/GPL";
