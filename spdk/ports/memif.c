/* SPDX-License-Identifier: BSD-3-Clause */
/* The callbacks of DPDK's memif driver, one at a time and with no burst running. See memif.h. */

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "memif.h"

/* A callback that the driver has registered: for a socket it listens on, or for a connection. */
struct callback {
	TAILQ_ENTRY(callback) next;
	rte_intr_callback_fn function;
	void *arg;
	/* What is to be called when the callback is unregistered, if the driver could not wait for that. */
	rte_intr_unregister_callback_fn done;
	/* The driver has unregistered the callback, which may be under way. Used with g_lock held. */
	bool is_unregistered;
};

struct dst_memif_burst g_dst_memif_bursts[RTE_MAX_ETHPORTS];
atomic_bool g_dst_memif_is_called;

/* Held while a callback runs, and by dst_memif_lock(). */
static pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;

/*
 * Protects the list. DPDK's own lock is taken neither before nor after it. Ports that DPDK opens at its
 * start register their callbacks without g_lock.
 */
static pthread_mutex_t g_list_lock = PTHREAD_MUTEX_INITIALIZER;
static TAILQ_HEAD(, callback) g_callbacks = TAILQ_HEAD_INITIALIZER(g_callbacks);

void
dst_memif_lock(void)
{
	pthread_mutex_lock(&g_lock);
}

void
dst_memif_unlock(void)
{
	pthread_mutex_unlock(&g_lock);
}

static void
add(struct callback *callback)
{
	pthread_mutex_lock(&g_list_lock);
	TAILQ_INSERT_TAIL(&g_callbacks, callback, next);
	pthread_mutex_unlock(&g_list_lock);
}

static struct callback *
find(rte_intr_callback_fn function, void *arg)
{
	struct callback *callback;

	pthread_mutex_lock(&g_list_lock);
	TAILQ_FOREACH(callback, &g_callbacks, next) {
		if (callback->function == function && callback->arg == arg && !callback->is_unregistered) {
			break;
		}
	}
	pthread_mutex_unlock(&g_list_lock);
	return callback;
}

static void
forget(struct callback *callback)
{
	pthread_mutex_lock(&g_list_lock);
	TAILQ_REMOVE(&g_callbacks, callback, next);
	pthread_mutex_unlock(&g_list_lock);
	free(callback);
}

/* On the interrupt thread. */
static void
call(void *arg)
{
	struct callback *callback = arg;

	pthread_mutex_lock(&g_lock);
	/* The port may have been closed while this waited, and then neither the port nor `arg` is valid. */
	if (!callback->is_unregistered) {
		atomic_store(&g_dst_memif_is_called, true);
		for (unsigned int i = 0; i < RTE_MAX_ETHPORTS; i++) {
			/* The thread of the burst may need this core to end it. */
			while (atomic_load(&g_dst_memif_bursts[i].is_running)) {
				sched_yield();
			}
		}
		callback->function(callback->arg);
		atomic_store(&g_dst_memif_is_called, false);
	}
	pthread_mutex_unlock(&g_lock);
}

/* On the interrupt thread, after the last call. DPDK holds its lock. */
static void
unregistered(struct rte_intr_handle *handle, void *arg)
{
	struct callback *callback = arg;

	callback->done(handle, callback->arg);
	forget(callback);
}

int
dst_memif_intr_callback_register(const struct rte_intr_handle *handle, rte_intr_callback_fn function, void *arg)
{
	struct callback *callback = calloc(1, sizeof(*callback));
	int rc;

	if (callback == NULL) {
		return -ENOMEM;
	}
	callback->function = function;
	callback->arg = arg;
	add(callback);
	rc = rte_intr_callback_register(handle, call, callback);
	if (rc < 0) {
		forget(callback);
	}
	return rc;
}

int
dst_memif_intr_callback_unregister(const struct rte_intr_handle *handle, rte_intr_callback_fn function, void *arg)
{
	struct callback *callback = find(function, arg);
	int rc;

	if (callback == NULL) {
		return -ENOENT;
	}
	rc = rte_intr_callback_unregister(handle, call, callback);
	if (rc > 0) {
		forget(callback);
	}
	return rc;
}

int
dst_memif_intr_callback_unregister_pending(const struct rte_intr_handle *handle, rte_intr_callback_fn function,
					   void *arg, rte_intr_unregister_callback_fn done)
{
	struct callback *callback = find(function, arg);
	int rc;

	if (callback == NULL) {
		return -ENOENT;
	}
	/* Set first: the callback may end, and be freed, any time after the next call. */
	callback->done = done;
	callback->is_unregistered = true;
	for (;;) {
		rc = rte_intr_callback_unregister_pending(handle, call, callback, unregistered);
		if (rc != -EAGAIN) {
			return rc;
		}
		/* The interrupt thread was done with the callback meanwhile. The driver does not try again. */
		rc = rte_intr_callback_unregister(handle, call, callback);
		if (rc > 0) {
			done((struct rte_intr_handle *)(uintptr_t)handle, arg);
			forget(callback);
		}
		if (rc != -EAGAIN) {
			return rc;
		}
	}
}
