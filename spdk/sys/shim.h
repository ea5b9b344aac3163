/* SPDX-License-Identifier: BSD-3-Clause */
/* Functions for what bindgen cannot bind: variadic functions, static inlines, macros. */

#ifndef DST_SPDK_SHIM_H
#define DST_SPDK_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct spdk_bdev;
struct spdk_bdev_module;
struct spdk_io_channel;
struct spdk_sock;
struct spdk_sock_request;
struct iovec;

/*
 * Writes one line to SPDK's log. `level` is an enum spdk_log_level; the strings end in NUL;
 * `message` is printed verbatim, not used as a format, and a line end is appended.
 */
void dst_spdk_log(int level, const char *file, int line, const char *func, const char *message);

/* Registers the log flag "dst". Call it once, before main(). */
void dst_spdk_log_register_flag(void);

/* Returns whether the log flag "dst" is set, with -L dst or with the RPC log_set_flag. */
bool dst_spdk_log_flag(void);

/* Returns the context that the create callback of the channel's io_device filled. */
void *dst_spdk_io_channel_get_ctx(struct spdk_io_channel *ch);

/*
 * Returns the name of the module that has claimed a bdev, or null if none has. If several modules
 * share the bdev, the result is the first of them.
 */
const char *dst_spdk_bdev_claimed_by(struct spdk_bdev *bdev);

/*
 * Returns whether somebody may write to an unclaimed bdev, be it a user or an examination. `module`
 * is the one that asks. Before 23.05, everybody who has the bdev open counts. Call it on the app
 * thread.
 */
bool dst_spdk_bdev_is_in_use(struct spdk_bdev *bdev, struct spdk_bdev_module *module);

/* Returns the bdev of which this one is a part (of module split or gpt), or else the bdev itself. */
struct spdk_bdev *dst_spdk_bdev_whole(struct spdk_bdev *bdev);

/* Registers the group "dst" of tracepoints. Call it once, before main(). */
void dst_spdk_trace_register(void);

/* Returns whether any of these tracepoints is on. */
bool dst_spdk_trace_is_on(void);

/*
 * Records one of them, from 1 on in the order of the table in shim.c, if it is on. `size` is in
 * bytes. `tsc` is when it happened; 0 stands for now.
 */
void dst_spdk_trace_record(uint64_t tsc, uint16_t point, uint32_t size, uint64_t object_id, uint64_t arg);

/* For a sock implementation, in versions whose table it can fill in. */

/* Appends a request to those that a socket has to send. */
void dst_spdk_sock_queue(struct spdk_sock *sock, struct spdk_sock_request *req);

/*
 * Fills up to `max` vectors with the data that a socket has to send next. Returns their number. A request
 * of at least `lent_min` and at most `lent_max` bytes that fits, and of which nothing was sent, is left
 * for itself, and `*lent` is set to it then.
 */
int dst_spdk_sock_queued(struct spdk_sock *sock, struct iovec *iovs, int max, size_t lent_min,
			 size_t lent_max, struct spdk_sock_request **lent);

/* Moves the first queued request to those whose data is lent. */
void dst_spdk_sock_lent(struct spdk_sock *sock);

/*
 * Completes the first request whose data was lent. Returns false if a callback has closed the socket, which
 * is gone then.
 */
bool dst_spdk_sock_released(struct spdk_sock *sock);

/*
 * Completes the requests whose data ends within the next `bytes` bytes, which were sent. Returns false
 * if a callback has closed the socket, which is gone then.
 */
bool dst_spdk_sock_sent(struct spdk_sock *sock, size_t bytes);

#endif
