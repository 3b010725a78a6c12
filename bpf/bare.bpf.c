// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The least that brings packets into AF_XDP sockets: every frame of queue q goes to socket q. It serves the bare forwarder
// (bench/bare_forwarder.rs) and the tests of src/port; bypath itself loads steer.bpf.c. A queue without a socket passes.
//
// `bare_stamp` also writes the arrival stamp, stamp.h, in the metadata area, which lies just before the packet. A driver without room for metadata leaves the frame without a stamp.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "stamp.h"

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

SEC("xdp")
int bare(struct xdp_md *ctx)
{
	return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS);
}

SEC("xdp")
int bare_stamp(struct xdp_md *ctx)
{
	struct stamp *stamp;

	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*stamp)) == 0) {
		stamp = (void *)(long)ctx->data_meta;
		if ((void *)(stamp + 1) > (void *)(long)ctx->data)
			return XDP_ABORTED;
		stamp->magic = STAMP_MAGIC;
		stamp->ktime_ns = bpf_ktime_get_ns();
	}
	return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
