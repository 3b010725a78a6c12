/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What punt.bpf.c and src/control/punt_device.rs share; a unit test there compares the enum. */
#ifndef BYPATH_PUNT_H
#define BYPATH_PUNT_H

/* The tag of the frame by which control finds out whether the metadata way works here. No port has this ifindex. */
#define PUNT_PROBE 0xffffffff

/* What became of a frame that was written into bypath0. */
enum punt_outcome {
	REDIRECTED,  /* to its port */
	PROBED,      /* the probe came through */
	UNTAGGED,    /* too short for a tag, or its tag was lost on the way */
	NO_METADATA, /* this kernel's TAP has no metadata room */
	UNCUT,       /* the tail way cannot cut the tag from a packet that ends within its IP headers */
	PUNT_OUTCOMES,
};

#endif
