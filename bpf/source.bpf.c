// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The live source of `bypath bench`: run by BPF_PROG_RUN in live-frame mode, it makes one frame per run and sends it out of
// an interface. The frames' pages circulate, and a page comes back with what a forwarder wrote into it (Ethernet addresses,
// TTL, what a NAT changes), so the head is written anew for each frame:
//
//   | headers | tag: run, number, time | flow | fill, which nobody changes
//   '---- template, and what varies ----'
//
// The steps are those of src/bench/frames (write), order (slot, flow) and pace (due); user space gives templates, places and
// sums. All that one work fixes is read-only data, which the verifier knows, so that it removes what the work has no use for.
//
// Sums are of 16-bit words in the machine's own order, and so are their results: one's complement does not mind (RFC 1071,
// section 2 (B)). A frame that is not due is given back by XDP_DROP: its page is used again at once.

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define HEAD_WORDS 11 /* of eight bytes: 84 bytes of head and four more */
#define SHAPES 3
#define TURN_MAX 12
#define PAGE_SLOTS 1024
#define LATE_MAX_NS 5000000ULL
#define FRACTION 16 /* bits of a nanosecond */
#define LOOK_MASK 63 /* how often an unpaced source looks at the clock: every 64 frames */

enum { ROUND_ROBIN, RANDOM, TABLE };

struct shape {
	__u64 head[HEAD_WORDS];
	__s32 tail; /* its length less that of the longest, which every page begins with */
	__u32 ip_sum;
	__u32 sum;
	__u32 flow;
};

const volatile struct shape shapes[SHAPES];
const volatile __u8 turn[TURN_MAX];
const volatile __u32 turn_len = 1; /* 1: all frames are of one shape */
const volatile __u32 head_len = 52; /* a multiple of four */

/* Places, in bytes from the frame's first; 0 where there is none. */
const volatile __u32 at_ip_check = 24;
const volatile __u32 at_src = 26;
const volatile __u32 at_dst = 30;
const volatile __u32 at_sport = 34;
const volatile __u32 at_check = 40;
const volatile __u32 at_number;
const volatile __u32 at_tag = 42;
const volatile __u32 covers_addresses = 1; /* the transport checksum does */
const volatile __u32 never_zero = 1;       /* nor is that checksum 0: UDP */

/* Flows. */
const volatile __u32 first_src;
const volatile __u32 first_dst;
const volatile __u32 first_sport;
const volatile __u32 sports = 1;
const volatile __u32 dsts = 1;
const volatile __u32 flows = 1;
const volatile __u32 pick;
const volatile __u64 seed;
const volatile __u32 table_mask;
const volatile __u32 new_per_second;
const volatile __u32 one_round = 1; /* no flow has a number of sports or more */

/* Pace. */
const volatile __u32 ifindex;
const volatile __u32 timed;
const volatile __u64 gap; /* between two frames, in 2^-16 ns; 0: unpaced */
const volatile __u64 limit; /* frames */

struct page {
	__u32 slots[PAGE_SLOTS];
};

/* The Zipf order. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct page);
} order SEC(".maps");

/* One source runs at a time, on one CPU, and user space only looks: plain words do. */
__u64 offered; /* also the next number */
__u64 missed;
__u64 first_ns;
__u64 last_ns;
__u64 stop; /* set by user space */

__u64 due; /* in 2^-16 ns after first_ns */
__u32 nth_flow;
__u32 nth_turn;
__u32 gone_base;
__u32 gone_at;

static __always_inline __u32 halves(__u32 word)
{
	return (word >> 16) + (word & 0xffff);
}

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Whether a frame is to be sent now, at the given time. */
static __always_inline int is_due(__u64 now)
{
	__u64 elapsed, late;

	if (!first_ns)
		first_ns = now;
	elapsed = (now - first_ns) << FRACTION;
	if (elapsed < due)
		return 0;
	late = elapsed - due;
	if (late > LATE_MAX_NS << FRACTION) {
		late = (late - (LATE_MAX_NS << FRACTION)) / gap + 1;
		missed += late;
		due += late * gap;
		if (elapsed < due)
			return 0;
	}
	due += gap;
	return 1;
}

static __always_inline __u32 next_slot(__u64 number)
{
	__u32 slot, page, zero = 0;
	struct page *slots;
	__u64 x;

	if (pick == RANDOM) {
		x = number ^ seed;
		x = (x ^ x >> 32) * 0xd6e8feb86659fd93ULL;
		x = (x ^ x >> 29) * 0x9e3779b97f4a7c15ULL;
		x = x ^ x >> 32;
		return (x >> 32) * flows >> 32;
	}
	if (pick == TABLE) {
		slot = number & table_mask;
		page = slot / PAGE_SLOTS;
		slots = bpf_map_lookup_elem(&order, &page);
		return slots ? slots->slots[slot % PAGE_SLOTS] : zero;
	}
	slot = nth_flow;
	nth_flow = slot + 1 < flows ? slot + 1 : 0;
	return slot;
}

/* Looks which slots have been given to new flows by now. */
static __always_inline void renew(__u64 now)
{
	__u64 gone = (now - first_ns) / 1000 * new_per_second / 1000000;

	gone_base = gone / flows * flows;
	gone_at = gone % flows;
}

static __always_inline __u32 next_flow(__u64 number)
{
	__u32 slot = next_slot(number);

	if (new_per_second) {
		if (slot < gone_at)
			slot += flows;
		slot += gone_base;
	}
	return slot;
}

static __always_inline __u32 next_shape(void)
{
	__u32 nth, shape;

	if (turn_len == 1)
		return 0;
	nth = nth_turn;
	nth_turn = nth + 1 < turn_len ? nth + 1 : 0;
	if (nth >= TURN_MAX)
		return 0;
	shape = turn[nth];
	return shape < SHAPES ? shape : 0;
}

SEC("xdp")
int source(struct xdp_md *ctx)
{
	__u32 flow, round, src, dst, addresses, sum, number, time, nth, i;
	__u64 sequence = offered, now = 0;
	const volatile struct shape *shape;
	__u8 *frame, *end;
	__u16 sport, check;

	if (stop || (limit && sequence >= limit))
		return XDP_DROP;
	if (gap) {
		now = bpf_ktime_get_ns();
		if (!is_due(now))
			return XDP_DROP;
		last_ns = now;
		if (new_per_second)
			renew(now);
	} else if (timed || (sequence & LOOK_MASK) == 0 || sequence + 1 == limit) {
		now = bpf_ktime_get_ns();
		if (!first_ns)
			first_ns = now;
		last_ns = now;
		if (new_per_second && (sequence & LOOK_MASK) == 0)
			renew(now);
	}

	nth = next_shape();
	shape = &shapes[nth];
	if (turn_len > 1 && shape->tail && bpf_xdp_adjust_tail(ctx, shape->tail))
		return XDP_DROP;
	frame = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (frame + head_len > end)
		return XDP_DROP;
#pragma unroll
	for (i = 0; i < HEAD_WORDS; i++)
		if ((i + 1) * 8 <= head_len)
			((__u64 *)frame)[i] = shape->head[i];
	if (head_len & 4)
		*(__u32 *)(frame + (head_len & ~7U)) = *(const volatile __u32 *)((const volatile __u8 *)shape->head + (head_len & ~7U));

	flow = next_flow(sequence);
	if (one_round) {
		round = 0;
		sport = bpf_htons(first_sport + flow);
	} else {
		round = flow / sports;
		sport = bpf_htons(first_sport + (flow - round * sports));
	}
	src = bpf_htonl(first_src + round);
	dst = bpf_htonl(first_dst + (dsts == 1 ? 0 : flow % dsts));
	number = bpf_htonl(sequence);
	time = timed ? (__u32)now : 0;
	time = bpf_htonl(timed && !time ? 1 : time);
	flow = bpf_htonl(flow);

	addresses = halves(src) + halves(dst);
	sum = shape->sum + sport + halves(number) + halves(time);
	*(__u32 *)(frame + at_src) = src;
	*(__u32 *)(frame + at_dst) = dst;
	*(__u16 *)(frame + at_sport) = sport;
	*(__u32 *)(frame + at_tag + 2) = number;
	if (timed)
		*(__u32 *)(frame + at_tag + 6) = time;
	if (shape->flow) {
		if (frame + at_tag + 14 > end)
			return XDP_DROP;
		*(__u32 *)(frame + at_tag + 10) = flow;
		sum += halves(flow);
	}
	if (at_number) {
		*(__u16 *)(frame + at_number) = bpf_htons(sequence);
		sum += bpf_htons(sequence);
	}
	if (covers_addresses)
		sum += addresses;
	check = fold(sum);
	if (never_zero && !check)
		check = 0xffff;
	*(__u16 *)(frame + at_check) = check;
	if (at_ip_check)
		*(__u16 *)(frame + at_ip_check) = fold(shape->ip_sum + addresses);
	offered = sequence + 1;
	return bpf_redirect(ifindex, 0);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
