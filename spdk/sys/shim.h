/* SPDX-License-Identifier: BSD-3-Clause */
/* Functions for what bindgen cannot bind: variadic functions, static inlines, macros. */

#ifndef DST_SPDK_SHIM_H
#define DST_SPDK_SHIM_H

#include <stddef.h>

struct spdk_bdev_io;
struct spdk_io_channel;

/*
 * One line in SPDK's log. `level` is an enum spdk_log_level; the strings end in NUL; `message` is
 * printed as it is, never taken for a format, and gets the line end from here.
 */
void dst_spdk_log(int level, const char *file, int line, const char *func, const char *message);

/* The context that the create callback of the channel's io_device filled. */
void *dst_spdk_io_channel_get_ctx(struct spdk_io_channel *ch);

#endif
