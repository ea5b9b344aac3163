/* SPDX-License-Identifier: BSD-3-Clause */
/* Functions for what bindgen cannot bind: variadic functions, static inlines, macros. */

#ifndef DST_SPDK_SHIM_H
#define DST_SPDK_SHIM_H

#include <stdbool.h>
#include <stddef.h>

struct spdk_bdev;
struct spdk_io_channel;

/*
 * One line in SPDK's log. `level` is an enum spdk_log_level; the strings end in NUL; `message` is
 * printed as it is, never taken for a format, and gets the line end from here.
 */
void dst_spdk_log(int level, const char *file, int line, const char *func, const char *message);

/* Makes the log flag "dst" known. Once, before main(). */
void dst_spdk_log_register_flag(void);

/* Whether the log flag "dst" is set: with -L dst, or with the RPC log_set_flag. */
bool dst_spdk_log_flag(void);

/* The context that the create callback of the channel's io_device filled. */
void *dst_spdk_io_channel_get_ctx(struct spdk_io_channel *ch);

/* Whether SPDK splits reads and writes at the optimal boundary: a bool, or a bit of an unnamed struct. */
void dst_spdk_bdev_set_split(struct spdk_bdev *bdev, bool split);

/*
 * The name of the module that has claimed a bdev; null if none has. Newer claims keep their owner private, and are
 * named by what they are.
 */
const char *dst_spdk_bdev_claimed_by(struct spdk_bdev *bdev);

/* Whether anybody has the bdev open, an examination for one. */
bool dst_spdk_bdev_is_open(struct spdk_bdev *bdev);

/* The bdev whose part this one is (of the modules split and gpt); the bdev itself if it is no part. */
struct spdk_bdev *dst_spdk_bdev_whole(struct spdk_bdev *bdev);

#endif
