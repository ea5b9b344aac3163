/*
 * check_empty  bdev, offset, write: a read or write of zero blocks; returns {"success": bool}
 */
#include <stdlib.h>

#include "spdk/bdev.h"
#include "spdk/env.h"
#include "spdk/json.h"
#include "spdk/jsonrpc.h"
#include "spdk/rpc.h"
#include "spdk/thread.h"
#include "spdk/util.h"

struct empty_params {
	char *bdev;
	uint64_t offset;
	bool write;
};

struct empty {
	struct spdk_jsonrpc_request *request;
	struct spdk_bdev_desc *desc;
	struct spdk_io_channel *channel;
	/* Not null, as no user's buffer is; nothing of it is used. */
	char buffer[64];
};

static const struct spdk_json_object_decoder empty_decoders[] = {
	{ "bdev", offsetof(struct empty_params, bdev), spdk_json_decode_string, false },
	{ "offset", offsetof(struct empty_params, offset), spdk_json_decode_uint64, false },
	{ "write", offsetof(struct empty_params, write), spdk_json_decode_bool, false },
};

static void
ignore_event(enum spdk_bdev_event_type type, struct spdk_bdev *bdev, void *arg)
{
	(void)type;
	(void)bdev;
	(void)arg;
}

static void
empty_end(struct empty *empty, bool success)
{
	struct spdk_json_write_ctx *w = spdk_jsonrpc_begin_result(empty->request);

	spdk_json_write_object_begin(w);
	spdk_json_write_named_bool(w, "success", success);
	spdk_json_write_object_end(w);
	spdk_jsonrpc_end_result(empty->request, w);
	spdk_put_io_channel(empty->channel);
	spdk_bdev_close(empty->desc);
	free(empty);
}

static void
empty_done(struct spdk_bdev_io *io, bool success, void *arg)
{
	spdk_bdev_free_io(io);
	empty_end(arg, success);
}

static void
rpc_check_empty(struct spdk_jsonrpc_request *request, const struct spdk_json_val *values)
{
	struct empty_params params = { 0 };
	struct empty *empty = calloc(1, sizeof(*empty));
	int rc;

	if (empty == NULL || values == NULL ||
	    spdk_json_decode_object(values, empty_decoders, SPDK_COUNTOF(empty_decoders), &params) != 0 ||
	    spdk_bdev_open_ext(params.bdev, true, ignore_event, NULL, &empty->desc) != 0) {
		spdk_jsonrpc_send_error_response(request, SPDK_JSONRPC_ERROR_INVALID_PARAMS, "bdev, offset, write");
		free(params.bdev);
		free(empty);
		return;
	}
	free(params.bdev);
	empty->request = request;
	empty->channel = spdk_bdev_get_io_channel(empty->desc);
	if (params.write) {
		rc = spdk_bdev_write_blocks(empty->desc, empty->channel, empty->buffer, params.offset, 0, empty_done,
					    empty);
	} else {
		rc = spdk_bdev_read_blocks(empty->desc, empty->channel, empty->buffer, params.offset, 0, empty_done,
					   empty);
	}
	if (rc != 0) {
		empty_end(empty, false);
	}
}
SPDK_RPC_REGISTER("check_empty", rpc_check_empty, SPDK_RPC_RUNTIME)
