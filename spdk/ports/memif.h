/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Keeps a memif's bursts and DPDK's interrupt thread apart.
 *
 * DPDK's driver handles a memif's control messages on DPDK's interrupt thread. When the peer goes, that
 * thread frees the rings and unmaps the memory that bursts copy from and to, without regard to a burst
 * that is running (DPDK 20.05 to 24.11 at least). So the driver is linked with the functions below in
 * place of DPDK's of the same names (spdk/apps/build.mk). While one of its callbacks runs, no burst does,
 * of any memif of the process: bursts that would begin move nothing, and one that is running is waited
 * for. Bursts wait for nothing.
 */

#ifndef DST_MEMIF_H
#define DST_MEMIF_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include <rte_config.h>
#include <rte_interrupts.h>

struct dst_memif_burst {
	alignas(RTE_CACHE_LINE_SIZE) atomic_bool is_running;
};

/* By the number of the port. Its user's thread writes it. */
extern struct dst_memif_burst g_dst_memif_bursts[RTE_MAX_ETHPORTS];

/* Whether a callback runs, or waits for the bursts to end. The interrupt thread writes it. */
extern atomic_bool g_dst_memif_is_called;

/* Ends a burst. HOT. */
static inline void
dst_memif_end_burst(uint16_t port)
{
	atomic_store_explicit(&g_dst_memif_bursts[port].is_running, false, memory_order_release);
}

/* Begins a burst of a port. Returns false if there must be none now. HOT. */
static inline bool
dst_memif_begin_burst(uint16_t port)
{
	/* In one order with the other side's two: one of the two sides sees the other. */
	atomic_store(&g_dst_memif_bursts[port].is_running, true);
	if (!atomic_load(&g_dst_memif_is_called)) {
		return true;
	}
	dst_memif_end_burst(port);
	return false;
}

/*
 * While locked, no callback of the driver begins or runs. A thread that opens or closes a memif needs
 * that: the driver shares the port's state with its callbacks, and has no lock for it.
 */
void dst_memif_lock(void);
void dst_memif_unlock(void);

/*
 * The same, around the closing of a memif. With the last port of a socket, the driver forgets its name,
 * removes its file, if it has one, and frees what its callbacks use, but unregisters neither that of the listening socket nor those
 * of connections that have named no port yet. This unregisters them and closes the sockets. A few
 * hundred bytes a connection stay allocated.
 */
void dst_memif_begin_close(void);
void dst_memif_end_close(void);

/* What the driver calls instead of rte_intr_callback_register() and so on. */
int dst_memif_intr_callback_register(const struct rte_intr_handle *handle, rte_intr_callback_fn callback, void *arg);
int dst_memif_intr_callback_unregister(const struct rte_intr_handle *handle, rte_intr_callback_fn callback, void *arg);
int dst_memif_intr_callback_unregister_pending(const struct rte_intr_handle *handle, rte_intr_callback_fn callback,
					       void *arg, rte_intr_unregister_callback_fn done);

/*
 * What the driver calls instead of sendmsg(). If it cannot send a connection's first message, it closes
 * the socket and frees the callback's argument, and leaves the callback registered, of which DPDK dies.
 * So a peer that is gone already gets its message, and is noticed when its end is received. And a peer
 * that does not read is disconnected, and not waited for.
 */
ssize_t dst_memif_sendmsg(int fd, const struct msghdr *message, int flags);

#endif
