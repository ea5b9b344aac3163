/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Network ports, as calls of a burst each. spdk/ports/port.c implements them over DPDK's ethdev. An
 * application that is not linked with it has no ports: DST's library itself needs no ethdev.
 */

#ifndef DST_PORT_H
#define DST_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dst_port;

/* The maximum number of frames of a burst. DPDK's drivers are tuned for it. */
#define DST_PORT_BURST 32

/* The port has found the checksum of the IPv4 header, or of the TCP segment, to be correct. */
#define DST_PORT_IPV4_VERIFIED 1u
#define DST_PORT_TCP_VERIFIED 2u

/* The maximum number of a port's queue pairs, each with pools of its own. One thread at a time may use one. */
#define DST_PORT_QUEUES 16

/* The 16 bits that the key of receive-side scaling repeats, which makes it the same in both directions. */
#define DST_PORT_RSS_KEY 0x6d5au

/* A frame in a buffer of the port. */
struct dst_port_frame {
	/* The mbuf. */
	void *buffer;
	uint8_t *data;
	/* The length of a received frame, or of one to be sent, in bytes. */
	uint32_t len;
	/* Of a received frame: DST_PORT_*_VERIFIED. */
	uint32_t verified;
	/*
	 * Of a frame to be sent: the lengths of the headers of Ethernet, IP and TCP in bytes, or all 0 if
	 * the port has no checksum to complete; and whether IP is version 4.
	 */
	uint16_t link_len;
	uint16_t network_len;
	uint16_t transport_len;
	bool is_ipv4;
};

struct dst_port_info {
	uint8_t mac[6];
	/* Whether the port computes the checksums of IPv4 and TCP in sent frames. */
	bool sends_checksums;
	/* The queue pairs. */
	uint16_t queues;
	/*
	 * The length of the table from hashes of TCP segments to queues, a power of 2, in which the entry i is
	 * the queue i % queues; 0 if the port has none, and gives frames to whatever queue.
	 */
	uint16_t entries;
};

/* Of a queue pair; the first one's include what the port counts as a whole. */
struct dst_port_counters {
	/* Received frames that were lost because no buffer was free, or were no single buffer. */
	uint64_t missed;
	uint64_t errors;
	/*
	 * Buffers that are not free: of received frames, those that wait to be read or that the port is to
	 * fill; of frames to be sent, those that were allocated or that the port has not let go of.
	 */
	uint32_t received_buffers;
	uint32_t sent_buffers;
	bool is_up;
};

struct dst_port_ops {
	/*
	 * Opens the port that `device` names: a vdev with its arguments, such as "net_memif0,id=0", or a
	 * PCI address. Received IP packets have up to `mtu` bytes. It gets `queues` queue pairs, or fewer if
	 * it has no more; one that spreads frames over all that it has gets those. On failure, returns a
	 * negative errno and writes the reason to `error`, which has `error_size` bytes.
	 */
	int (*open)(const char *device, uint16_t mtu, uint16_t queues, struct dst_port_info *info,
		    struct dst_port **port, char *error, size_t error_size);

	/* Closes a port, all of whose frames were released. Returns the number of buffers that are missing. */
	uint32_t (*close)(struct dst_port *port);

	/* Receives up to `count` frames, at most DST_PORT_BURST. Returns their number. */
	uint16_t (*receive)(struct dst_port *port, uint16_t queue, struct dst_port_frame *frames, uint16_t count);

	/* Releases a received frame's buffer, or one that was allocated and not sent. */
	void (*release)(void *buffer);

	/* Returns true if few buffers are left for received frames. */
	bool (*is_low)(struct dst_port *port, uint16_t queue);

	/* Allocates buffers for `count` frames to be sent. Returns false, and allocates none, if there are too few. */
	bool (*allocate)(struct dst_port *port, uint16_t queue, struct dst_port_frame *frames, uint16_t count);

	/* Sends up to `count` frames. Returns the number of those that were taken; the others stay the caller's. */
	uint16_t (*send)(struct dst_port *port, uint16_t queue, struct dst_port_frame *frames, uint16_t count);

	void (*counters)(struct dst_port *port, uint16_t queue, struct dst_port_counters *counters);
};

/* Makes ports available. Called once, before main(). */
void dst_port_register(const struct dst_port_ops *ops);

/* Returns the functions of ports, or null if the application was linked without them. */
const struct dst_port_ops *dst_port_ops(void);

#endif
