/*
 * A bdev in memory that executes writes late and out of order: each write waits for a random time
 * before it changes the blocks. (SPDK's delay bdev executes writes at once and delays only their
 * completion, so it never has stale writes.) JSON-RPC methods:
 *
 *   check_late_create  name, blocks, block_size, write_ms (the longest that a write waits)
 *   check_late_hold    hold: while true, no write of any late bdev is executed
 */
#include <stdlib.h>
#include <string.h>

#include "spdk/bdev.h"
#include "spdk/bdev_module.h"
#include "spdk/env.h"
#include "spdk/json.h"
#include "spdk/jsonrpc.h"
#include "spdk/log.h"
#include "spdk/rpc.h"
#include "spdk/string.h"
#include "spdk/thread.h"
#include "spdk/util.h"

struct late_disk {
	struct spdk_bdev bdev;
	char *memory;
	uint64_t write_ticks;
};

struct late_io {
	uint64_t due;
	TAILQ_ENTRY(late_io) link;
};

struct late_channel {
	struct spdk_poller *poller;
	TAILQ_HEAD(, late_io) waiting;
};

static bool g_hold;

static int
late_init(void)
{
	return 0;
}

static int
late_context_size(void)
{
	return sizeof(struct late_io);
}

static struct spdk_bdev_module late_module = {
	.name = "late",
	.module_init = late_init,
	.get_ctx_size = late_context_size,
};

SPDK_BDEV_MODULE_REGISTER(late, &late_module)

static void
execute(struct spdk_bdev_io *io)
{
	struct late_disk *disk = io->bdev->ctxt;
	char *at = disk->memory + io->u.bdev.offset_blocks * disk->bdev.blocklen;
	int i;

	if (io->type == SPDK_BDEV_IO_TYPE_WRITE_ZEROES) {
		memset(at, 0, io->u.bdev.num_blocks * disk->bdev.blocklen);
		return;
	}
	for (i = 0; i < io->u.bdev.iovcnt; i++) {
		struct iovec *iov = &io->u.bdev.iovs[i];

		if (io->type == SPDK_BDEV_IO_TYPE_WRITE) {
			memcpy(at, iov->iov_base, iov->iov_len);
		} else {
			memcpy(iov->iov_base, at, iov->iov_len);
		}
		at += iov->iov_len;
	}
}

static int
poll_waiting(void *arg)
{
	struct late_channel *channel = arg;
	struct late_io *late, *next;
	uint64_t now = spdk_get_ticks();
	int done = 0;

	if (__atomic_load_n(&g_hold, __ATOMIC_RELAXED)) {
		return 0;
	}
	TAILQ_FOREACH_SAFE(late, &channel->waiting, link, next) {
		if (late->due <= now) {
			struct spdk_bdev_io *io = spdk_bdev_io_from_ctx(late);

			TAILQ_REMOVE(&channel->waiting, late, link);
			execute(io);
			spdk_bdev_io_complete(io, SPDK_BDEV_IO_STATUS_SUCCESS);
			done++;
		}
	}
	return done;
}

static void
read_with_buffer(struct spdk_io_channel *ch, struct spdk_bdev_io *io, bool success)
{
	(void)ch;
	if (success) {
		execute(io);
	}
	spdk_bdev_io_complete(io, success ? SPDK_BDEV_IO_STATUS_SUCCESS : SPDK_BDEV_IO_STATUS_FAILED);
}

static void
late_submit(struct spdk_io_channel *ch, struct spdk_bdev_io *io)
{
	struct late_disk *disk = io->bdev->ctxt;
	struct late_channel *channel = spdk_io_channel_get_ctx(ch);
	struct late_io *late = (struct late_io *)io->driver_ctx;

	switch (io->type) {
	case SPDK_BDEV_IO_TYPE_READ:
		spdk_bdev_io_get_buf(io, read_with_buffer, io->u.bdev.num_blocks * disk->bdev.blocklen);
		break;
	case SPDK_BDEV_IO_TYPE_WRITE:
	case SPDK_BDEV_IO_TYPE_WRITE_ZEROES:
		late->due = spdk_get_ticks() + (uint64_t)random() % (disk->write_ticks + 1);
		TAILQ_INSERT_TAIL(&channel->waiting, late, link);
		break;
	case SPDK_BDEV_IO_TYPE_FLUSH:
		spdk_bdev_io_complete(io, SPDK_BDEV_IO_STATUS_SUCCESS);
		break;
	default:
		spdk_bdev_io_complete(io, SPDK_BDEV_IO_STATUS_FAILED);
		break;
	}
}

static bool
late_supports(void *ctx, enum spdk_bdev_io_type type)
{
	(void)ctx;
	return type == SPDK_BDEV_IO_TYPE_READ || type == SPDK_BDEV_IO_TYPE_WRITE ||
	       type == SPDK_BDEV_IO_TYPE_WRITE_ZEROES || type == SPDK_BDEV_IO_TYPE_FLUSH;
}

static struct spdk_io_channel *
late_get_channel(void *ctx)
{
	return spdk_get_io_channel(ctx);
}

static int
channel_begin(void *device, void *ctx)
{
	struct late_channel *channel = ctx;

	(void)device;
	TAILQ_INIT(&channel->waiting);
	channel->poller = spdk_poller_register(poll_waiting, channel, 0);
	return channel->poller == NULL ? -1 : 0;
}

static void
channel_end(void *device, void *ctx)
{
	struct late_channel *channel = ctx;

	(void)device;
	spdk_poller_unregister(&channel->poller);
}

static void
device_gone(void *device)
{
	struct late_disk *disk = device;

	spdk_bdev_destruct_done(&disk->bdev, 0);
	free(disk->memory);
	free(disk->bdev.name);
	free(disk);
}

static int
late_destruct(void *ctx)
{
	spdk_io_device_unregister(ctx, device_gone);
	return 1;
}

static const struct spdk_bdev_fn_table late_functions = {
	.destruct = late_destruct,
	.submit_request = late_submit,
	.io_type_supported = late_supports,
	.get_io_channel = late_get_channel,
};

struct late_options {
	char *name;
	uint64_t blocks;
	uint32_t block_size;
	uint32_t write_ms;
};

static const struct spdk_json_object_decoder late_decoders[] = {
	{ "name", offsetof(struct late_options, name), spdk_json_decode_string, false },
	{ "blocks", offsetof(struct late_options, blocks), spdk_json_decode_uint64, false },
	{ "block_size", offsetof(struct late_options, block_size), spdk_json_decode_uint32, false },
	{ "write_ms", offsetof(struct late_options, write_ms), spdk_json_decode_uint32, false },
};

static bool
create(struct late_options *options)
{
	struct late_disk *disk = calloc(1, sizeof(*disk));

	if (disk == NULL) {
		return false;
	}
	disk->memory = calloc(options->blocks, options->block_size);
	disk->write_ticks = options->write_ms * spdk_get_ticks_hz() / 1000;
	disk->bdev.name = options->name;
	disk->bdev.product_name = "late";
	disk->bdev.blocklen = options->block_size;
	disk->bdev.blockcnt = options->blocks;
	disk->bdev.ctxt = disk;
	disk->bdev.fn_table = &late_functions;
	disk->bdev.module = &late_module;
	spdk_io_device_register(disk, channel_begin, channel_end, sizeof(struct late_channel), options->name);
	if (disk->memory == NULL || spdk_bdev_register(&disk->bdev) != 0) {
		spdk_io_device_unregister(disk, NULL);
		free(disk->memory);
		free(disk);
		return false;
	}
	return true;
}

static void
reply_true(struct spdk_jsonrpc_request *request)
{
	struct spdk_json_write_ctx *w = spdk_jsonrpc_begin_result(request);

	spdk_json_write_bool(w, true);
	spdk_jsonrpc_end_result(request, w);
}

static void
rpc_check_late_create(struct spdk_jsonrpc_request *request, const struct spdk_json_val *params)
{
	struct late_options options = { .name = NULL };

	if (params == NULL ||
	    spdk_json_decode_object(params, late_decoders, SPDK_COUNTOF(late_decoders), &options) != 0 || !create(&options)) {
		free(options.name);
		spdk_jsonrpc_send_error_response(request, SPDK_JSONRPC_ERROR_INVALID_PARAMS, "can't be created");
		return;
	}
	reply_true(request);
}
SPDK_RPC_REGISTER("check_late_create", rpc_check_late_create, SPDK_RPC_RUNTIME)

static void
rpc_check_late_hold(struct spdk_jsonrpc_request *request, const struct spdk_json_val *params)
{
	static const struct spdk_json_object_decoder decoders[] = { { "hold", 0, spdk_json_decode_bool, false } };
	bool hold;

	if (params == NULL || spdk_json_decode_object(params, decoders, 1, &hold) != 0) {
		spdk_jsonrpc_send_error_response(request, SPDK_JSONRPC_ERROR_INVALID_PARAMS, "hold: true or false");
		return;
	}
	__atomic_store_n(&g_hold, hold, __ATOMIC_RELAXED);
	reply_true(request);
}
SPDK_RPC_REGISTER("check_late_hold", rpc_check_late_hold, SPDK_RPC_RUNTIME)
