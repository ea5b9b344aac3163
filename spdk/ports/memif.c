/* SPDX-License-Identifier: BSD-3-Clause */
/* The callbacks of DPDK's memif driver, one at a time and with no burst running. See memif.h. */

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/un.h>
#include <unistd.h>

#include <rte_hash.h>
#include <rte_version.h>

#include "memif.h"

/* A callback that the driver has registered: for a socket it listens on, or for a connection. */
struct callback {
	TAILQ_ENTRY(callback) next;
	rte_intr_callback_fn function;
	void *arg;
	/* What is to be called when the callback is unregistered, if the driver could not wait for that. */
	rte_intr_unregister_callback_fn done;
	int fd;
	/* Whether the driver knows the socket's name: set by dst_memif_begin_close(). */
	bool is_known;
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

static int
fd_of(const struct rte_intr_handle *handle)
{
#if RTE_VERSION < RTE_VERSION_NUM(21, 11, 0, 0)
	return handle->fd;
#else
	return rte_intr_fd_get(handle);
#endif
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

/* Unregisters a callback, which may be waiting or under way. Calls `done` after its last call. */
static int
unregister(const struct rte_intr_handle *handle, struct callback *callback, rte_intr_unregister_callback_fn done)
{
	void *arg = callback->arg;
	int rc;

	/* Set first: the callback may end, and be freed, any time after the next call. */
	callback->done = done;
	callback->is_unregistered = true;
	for (;;) {
		rc = rte_intr_callback_unregister_pending(handle, call, callback, unregistered);
		if (rc != -EAGAIN) {
			return rc;
		}
		/* The interrupt thread is not at it. */
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

/*
 * Returns whether the driver knows the name of a socket: of one that listens, and of those that it has
 * accepted, which have the same. Others have none. From DPDK 20.11 on, names are mostly abstract.
 */
static bool
is_known(int fd)
{
	/* MEMIF_SOCKET_HASH_NAME of memif_socket.h. A key is the name, with zeros behind it. */
	struct rte_hash *names = rte_hash_find_existing("memif-sh");
	struct sockaddr_un address = {};
	char key[sizeof(address.sun_path)] = {};
	socklen_t len = sizeof(address);

	if (names == NULL || getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
		return false;
	}
	snprintf(key, sizeof(key), "%s", address.sun_path[0] != '\0' ? address.sun_path : address.sun_path + 1);
	return key[0] != '\0' && rte_hash_lookup(names, key) >= 0;
}

static void
close_fd(struct rte_intr_handle *handle, void *arg)
{
	(void)arg;
	close(fd_of(handle));
}

/* Returns a callback of whose socket the driver has forgotten the name since dst_memif_begin_close(), or null. */
static struct callback *
find_stale(void)
{
	struct callback *callback;

	pthread_mutex_lock(&g_list_lock);
	TAILQ_FOREACH(callback, &g_callbacks, next) {
		if (callback->is_known && !callback->is_unregistered && !is_known(callback->fd)) {
			break;
		}
	}
	pthread_mutex_unlock(&g_list_lock);
	return callback;
}

void
dst_memif_begin_close(void)
{
	struct callback *callback;

	dst_memif_lock();
	pthread_mutex_lock(&g_list_lock);
	TAILQ_FOREACH(callback, &g_callbacks, next) {
		callback->is_known = is_known(callback->fd);
	}
	pthread_mutex_unlock(&g_list_lock);
}

void
dst_memif_end_close(void)
{
	struct callback *callback;

	while ((callback = find_stale()) != NULL) {
#if RTE_VERSION < RTE_VERSION_NUM(21, 11, 0, 0)
		struct rte_intr_handle handle = {.fd = callback->fd};

		unregister(&handle, callback, close_fd);
#else
		struct rte_intr_handle *handle = rte_intr_instance_alloc(RTE_INTR_INSTANCE_F_PRIVATE);

		if (handle == NULL || rte_intr_fd_set(handle, callback->fd) != 0) {
			/* It is not called again, and its socket stays open. */
			callback->is_unregistered = true;
		} else {
			unregister(handle, callback, close_fd);
		}
		rte_intr_instance_free(handle);
#endif
	}
	dst_memif_unlock();
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
	callback->fd = fd_of(handle);
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

	return callback == NULL ? -ENOENT : unregister(handle, callback, done);
}

ssize_t
dst_memif_sendmsg(int fd, const struct msghdr *message, int flags)
{
	ssize_t sent = sendmsg(fd, message, flags | MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) {
		return (ssize_t)message->msg_iov[0].iov_len;
	}
	return sent;
}
