/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The arrival stamp, in the metadata room: the 16 bytes just before the frame's first byte. steer, sink and bare write it,
 * src/port/stamp.rs reads it; a unit test in src/control/decision.rs compares the magic. A buffer keeps what was written
 * there, so the reader clears the magic once it has taken the time, or the next frame would inherit it.
 */
#ifndef BYPATH_STAMP_H
#define BYPATH_STAMP_H

#include <linux/types.h>

#define STAMP_MAGIC 0x6279706174685453ULL

struct stamp {
	__u64 magic;
	__u64 ktime_ns; /* CLOCK_MONOTONIC */
};

#endif
