// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * Tells jiffies64, by a test run. A worker cannot read jiffies, and steer should not read a clock: so control runs this
 * once, between two readings of CLOCK_MONOTONIC, and workers compute jiffies64 from the clock that they read per burst.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

volatile __u64 now = 0;

SEC("xdp")
int jiffies(struct xdp_md *ctx)
{
	now = bpf_jiffies64();
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";
