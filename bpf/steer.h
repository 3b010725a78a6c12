/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * What steer.bpf.c and control share: the decisions, the port record, the keys, the sizes.
 *
 * src/control/steer.rs mirrors this file, but for the decisions, which src/control/decision.rs has. A unit test there reads
 * the enum below, word by word, and the bounds; the sizes of records and keys are compared when the maps are loaded. A
 * decision's word is its name here in lower case.
 */
#ifndef BYPATH_STEER_H
#define BYPATH_STEER_H

#include <linux/types.h>

/*
 * Bounds. Memory that they cost: ports 256 * 20 * 8 bytes of counters per CPU; pass about 8 MB, all at load (it is an
 * LRU); the local addresses as many as there are. What is beyond them: a port or slot is refused by control, a local
 * address too; a full pass map forgets its oldest entry, whose traffic is then redirected and punted again.
 */
#define MAX_PORTS 256
#define NEAR_PORTS 4096
#define MAX_SLOTS 2048
#define MAX_WORKERS 64
#define MAX_LOCAL_V4 65536
#define MAX_LOCAL_V6 65536
#define MAX_PASS 65536

/* What became of a frame. REDIRECT goes to the worker, all but MERGED_LOST else to the kernel. In the order of the checks. */
enum decision {
	REDIRECT,    /* into the AF_XDP ring of this port and queue */
	REINJECTED,  /* punted by bypath, back on a port in generic mode: cookie cut off */
	TRUNCATED,   /* shorter than its headers, or than its IP header says */
	GROUP,       /* to a multicast or broadcast MAC */
	FOREIGN_MAC, /* to a MAC that is not the port's */
	BRIDGING_LEFT, /* to a station behind the port's bridge, and control leaves such frames to the kernel */
	VLAN,        /* 802.1Q or 802.1ad */
	NOT_IP,      /* neither IPv4 nor IPv6: ARP, LLDP, PPPoE, ... */
	FAMILY_LEFT, /* control leaves this family on this port to the kernel */
	MALFORMED,   /* IP version or lengths that contradict each other */
	OPTIONS,     /* IPv4 options */
	EXTENSION,   /* IPv6 hop-by-hop, routing, fragment, authentication, destination options, ... */
	TTL,         /* TTL or hop limit used up: the kernel answers */
	MARTIAN,     /* a source or destination that no forwarded packet has */
	LOCAL,       /* to the box itself, or a broadcast address of its; under NAT only what a socket of its waits for */
	LEFT,        /* this pair of addresses was punted again and again */
	NO_SOCKET,   /* no AF_XDP socket on this queue */
	STALLED,     /* the worker's heartbeat is too old */
	MERGED,      /* longer than the MTU, where that may be: segments that offload has merged, which no socket has room for */
	MERGED_LOST, /* the same of a tracked family: dropped until control has left that to the kernel on this port */
	DECISIONS,
};

/* What control says about a port, by ifindex. */
struct port {
	__u8 mac[6]; /* of a bridge's port the bridge's: what is routed bears it */
	__u16 flags;
	__u16 index;      /* < MAX_PORTS: which counters in stats are its */
	__u16 first_slot; /* slot of queue 0; queue q has first_slot + q */
	__u16 queues;
	__u16 len_max; /* longest frame that the worker gets where they may be merged; 0: no limit */
};

#define PORT_CARRY_V4 1  /* IPv4 that arrives here may go to the worker */
#define PORT_CARRY_V6 2  /* IPv6 likewise */
#define PORT_WIRE 4      /* every frame goes to the worker, whatever is in it */
#define PORT_STAMP_ALL 8 /* stamp every frame, not one in 64 */
#define PORT_GENERIC 16  /* attached in generic mode: punted frames come by again, look for the cookie */
#define PORT_TRACK_V4 32 /* IPv4 connections are tracked: what the kernel does better meets the worker first, which makes */
#define PORT_TRACK_V6 64 /* the connection known to the kernel; IPv6 likewise */
#define PORT_NAT_V4 128  /* IPv4 connections may be translated: what bears an address of the box is not the box's for that */
#define PORT_NAT_V6 256  /* IPv6 likewise */
#define PORT_BRIDGE 512  /* a bridge's port: a unicast MAC that is not the bridge's is a station's; of what goes there, */
#define PORT_BRIDGE_V4 1024    /* IPv4 may go to the worker, */
#define PORT_BRIDGE_V6 2048    /* IPv6 likewise, */
#define PORT_BRIDGE_OTHER 4096 /* and all other types likewise, tagged frames among them */
#define PORT_MAY_MERGE 8192 /* frames may come as segmentation offload merged them: in generic mode, and from a TAP */
#define PORT_HOOKED_V4 16384 /* IPv4 that is bridged passes the hooks of IP, where connections are tracked; IPv6 likewise */
#define PORT_HOOKED_V6 32768

/* What an address of the box is. */
enum local {
	LOCAL_UNICAST = 1,   /* its own: NAT may use it for others */
	LOCAL_BROADCAST = 2, /* a network's, always the kernel's */
};

/* A pair of addresses that control leaves to the kernel, and the generation in which it said so. */
struct pass_key {
	__u32 ifindex;
	__u32 family; /* 4 or 6 */
	__u8 src[16]; /* IPv4: the first four bytes */
	__u8 dst[16];
};

/* One frame in so many is stamped (stamp.h), where not every one is. */
#define STAMP_EVERY 64

#define COOKIE_LEN 16

#endif
