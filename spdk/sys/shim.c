/* SPDX-License-Identifier: BSD-3-Clause */

#include "spdk/stdinc.h"
#include "spdk/log.h"
#include "spdk/thread.h"

#include "shim.h"

void
dst_spdk_log(int level, const char *file, int line, const char *func, const char *message)
{
	spdk_log((enum spdk_log_level)level, file, line, func, "%s\n", message);
}

void *
dst_spdk_io_channel_get_ctx(struct spdk_io_channel *ch)
{
	return spdk_io_channel_get_ctx(ch);
}
