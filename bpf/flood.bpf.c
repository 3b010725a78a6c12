// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// The source of bench/flood.rs: run by BPF_PROG_RUN in live-frame mode, it makes one UDP frame per run and sends it out of an
// interface. The frames' pages circulate, and a page comes back with what the receiver wrote into it (new Ethernet addresses,
// one TTL less), so the first 42 bytes are written anew for each frame:
//
//   0 Ethernet 14 | IPv4 20 | UDP 8        template, with the flow's destination address and source port put in
//
// Flows follow each other in turn. Both checksums are right: user space gives the sums over everything that does not vary.

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define HEADERS 42
#define IP_CHECK 24
#define IP_DST 30
#define UDP_SPORT 34
#define UDP_CHECK 40

/* Sixteen-bit words, as in the frame. */
const volatile __u16 template[HEADERS / 2];
const volatile __u32 ifindex;
const volatile __u32 ip_sum;  /* one's complement sum of the IPv4 header without check and dst */
const volatile __u32 udp_sum; /* of pseudo-header, UDP header and payload without dst, source port and check */
const volatile __u32 first_dst;
const volatile __u32 dsts = 1;
const volatile __u32 first_sport;
const volatile __u32 sports = 1;

/* One source runs at a time, on one CPU: plain words do. */
__u64 offered;
__u32 nth_dst;
__u32 nth_sport;

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline void next_flow(__u32 *dst, __u16 *sport)
{
	*dst = first_dst + nth_dst;
	*sport = first_sport + nth_sport;
	if (++nth_dst >= dsts)
		nth_dst = 0;
	if (++nth_sport >= sports)
		nth_sport = 0;
}

SEC("xdp")
int flood(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	__u16 *frame = (void *)(long)ctx->data;
	__u32 dst, varying;
	__u16 sport, check;
	int i;

	if ((void *)frame + HEADERS > end)
		return XDP_ABORTED;
#pragma unroll
	for (i = 0; i < HEADERS / 2; i++)
		frame[i] = template[i];

	next_flow(&dst, &sport);
	varying = (dst >> 16) + (dst & 0xffff);
	frame[IP_DST / 2] = bpf_htons(dst >> 16);
	frame[IP_DST / 2 + 1] = bpf_htons(dst & 0xffff);
	frame[IP_CHECK / 2] = bpf_htons(fold(ip_sum + varying));
	frame[UDP_SPORT / 2] = bpf_htons(sport);
	check = fold(udp_sum + varying + sport);
	frame[UDP_CHECK / 2] = bpf_htons(check ? check : 0xffff);
	offered++;
	return bpf_redirect(ifindex, 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
