/*
 * dst_check: an SPDK application that writes blocks which identify themselves, records which writes
 * were acknowledged, and checks during the run and at its end that it reads exactly these. Its
 * JSON-RPC methods:
 *
 *   check_start   bdev, journal (a file; an existing one is continued), blocks, depth, io_blocks,
 *                 reactors, seed, reads, zeroes, compares, flushes (in percent): begins a run, and
 *                 returns at once
 *   check_stats   again: returns the result so far; with `again`, the slowest I/O is reset
 *   check_stop    ends the run once all its I/O has completed; returns the same result
 *   check_verify  bdev, journal, blocks, depth, io_blocks, reactors: reads everything back; returns
 *                 the same result
 *   check_flush   bdev: sends one flush; returns {"success": bool, "ms": N}
 *
 * As a target, it has a backend of its own, see late.c.
 */
#include <stdlib.h>
#include <string.h>

#include "spdk/bdev.h"
#include "spdk/env.h"
#include "spdk/event.h"
#include "spdk/json.h"
#include "spdk/jsonrpc.h"
#include "spdk/log.h"
#include "spdk/rpc.h"
#include "spdk/thread.h"
#include "spdk/util.h"
#include "spdk/version.h"

#include "run.h"

#define OPTION(name, decode, optional) { #name, offsetof(struct run_options, name), decode, optional }

static const struct spdk_json_object_decoder option_decoders[] = {
	OPTION(bdev, spdk_json_decode_string, false),
	OPTION(journal, spdk_json_decode_string, false),
	OPTION(blocks, spdk_json_decode_uint64, true),
	OPTION(depth, spdk_json_decode_uint32, true),
	OPTION(io_blocks, spdk_json_decode_uint32, true),
	OPTION(reactors, spdk_json_decode_uint32, true),
	OPTION(seed, spdk_json_decode_uint64, true),
	OPTION(reads, spdk_json_decode_uint32, true),
	OPTION(zeroes, spdk_json_decode_uint32, true),
	OPTION(compares, spdk_json_decode_uint32, true),
	OPTION(flushes, spdk_json_decode_uint32, true),
};

static double
to_ms(uint64_t ticks)
{
	return (double)ticks * 1000.0 / (double)spdk_get_ticks_hz();
}

static void
write_ms(struct spdk_json_write_ctx *w, const char *name, uint64_t ticks)
{
	/* SPDK 20.07 cannot write fractions. */
	spdk_json_write_named_uint64(w, name, (uint64_t)(to_ms(ticks) + 0.5));
}

static void
write_counts(struct spdk_json_write_ctx *w, const char *name, const uint64_t *counts)
{
	int kind;

	spdk_json_write_named_object_begin(w, name);
	for (kind = 0; kind < RUN_KINDS; kind++) {
		spdk_json_write_named_uint64(w, run_kind_names[kind], counts[kind]);
	}
	spdk_json_write_object_end(w);
}

static void
reply_stats(struct spdk_jsonrpc_request *request, bool again)
{
	struct run_stats stats = run_stats(again);
	struct spdk_json_write_ctx *w = spdk_jsonrpc_begin_result(request);
	const char *complaint;
	unsigned i;

	spdk_json_write_object_begin(w);
	spdk_json_write_named_bool(w, "active", run_is_active());
	spdk_json_write_named_bool(w, "removed", run_was_removed());
	write_counts(w, "done", stats.done);
	write_counts(w, "failed", stats.failed);
	write_ms(w, "slowest_ms", stats.slowest);
	write_ms(w, "failed_fastest_ms", stats.failed_fastest);
	write_ms(w, "failed_slowest_ms", stats.failed_slowest);
	spdk_json_write_named_uint64(w, "failed_reactors", stats.failed_reactors);
	spdk_json_write_named_uint64(w, "bad_blocks", stats.bad_blocks);
	spdk_json_write_named_uint64(w, "compared_blocks", stats.compared);
	spdk_json_write_named_uint64(w, "settled_blocks", stats.settled);
	spdk_json_write_named_array_begin(w, "complaints");
	for (i = 0; (complaint = run_complaint(i)) != NULL; i++) {
		spdk_json_write_string(w, complaint);
	}
	spdk_json_write_array_end(w);
	spdk_json_write_object_end(w);
	spdk_jsonrpc_end_result(request, w);
}

static void
reply_ended(void *request)
{
	reply_stats(request, false);
}

static bool
start(struct spdk_jsonrpc_request *request, const struct spdk_json_val *params, bool verify)
{
	struct run_options options = { .depth = 32, .io_blocks = 8, .reactors = 1, .reads = 30, .verify = verify };
	const char *wrong = "parameters: can't be decoded";

	if (params != NULL && spdk_json_decode_object(params, option_decoders, SPDK_COUNTOF(option_decoders), &options) == 0) {
		wrong = run_start(&options);
	}
	if (wrong == NULL) {
		return true;
	}
	free(options.bdev);
	free(options.journal);
	spdk_jsonrpc_send_error_response(request, SPDK_JSONRPC_ERROR_INVALID_PARAMS, wrong);
	return false;
}

static void
reply_true(struct spdk_jsonrpc_request *request)
{
	struct spdk_json_write_ctx *w = spdk_jsonrpc_begin_result(request);

	spdk_json_write_bool(w, true);
	spdk_jsonrpc_end_result(request, w);
}

static void
rpc_check_start(struct spdk_jsonrpc_request *request, const struct spdk_json_val *params)
{
	if (start(request, params, false)) {
		reply_true(request);
	}
}
SPDK_RPC_REGISTER("check_start", rpc_check_start, SPDK_RPC_RUNTIME)

static void
rpc_check_verify(struct spdk_jsonrpc_request *request, const struct spdk_json_val *params)
{
	if (start(request, params, true)) {
		run_on_end(reply_ended, request);
	}
}
SPDK_RPC_REGISTER("check_verify", rpc_check_verify, SPDK_RPC_RUNTIME)

static void
rpc_check_stop(struct spdk_jsonrpc_request *request, const struct spdk_json_val *params)
{
	(void)params;
	run_stop();
	run_on_end(reply_ended, request);
}
SPDK_RPC_REGISTER("check_stop", rpc_check_stop, SPDK_RPC_RUNTIME)

static void
rpc_check_stats(struct spdk_jsonrpc_request *request, const struct spdk_json_val *params)
{
	struct spdk_json_object_decoder decoders[] = { { "again", 0, spdk_json_decode_bool, true } };
	bool again = false;

	if (params != NULL && spdk_json_decode_object(params, decoders, 1, &again) != 0) {
		spdk_jsonrpc_send_error_response(request, SPDK_JSONRPC_ERROR_INVALID_PARAMS, "again: not a boolean");
		return;
	}
	reply_stats(request, again);
}
SPDK_RPC_REGISTER("check_stats", rpc_check_stats, SPDK_RPC_RUNTIME)

/* One flush, independent of any run. */
struct flush {
	struct spdk_jsonrpc_request *request;
	struct spdk_bdev_desc *desc;
	struct spdk_io_channel *channel;
	uint64_t began;
};

static void
flush_free(struct flush *flush)
{
	spdk_put_io_channel(flush->channel);
	spdk_bdev_close(flush->desc);
	free(flush);
}

static void
flush_done(struct spdk_bdev_io *io, bool success, void *arg)
{
	struct flush *flush = arg;
	struct spdk_json_write_ctx *w = spdk_jsonrpc_begin_result(flush->request);

	spdk_bdev_free_io(io);
	spdk_json_write_object_begin(w);
	spdk_json_write_named_bool(w, "success", success);
	write_ms(w, "ms", spdk_get_ticks() - flush->began);
	spdk_json_write_object_end(w);
	spdk_jsonrpc_end_result(flush->request, w);
	flush_free(flush);
}

static void
ignore_event(enum spdk_bdev_event_type type, struct spdk_bdev *bdev, void *arg)
{
	(void)type;
	(void)bdev;
	(void)arg;
}

static void
rpc_check_flush(struct spdk_jsonrpc_request *request, const struct spdk_json_val *params)
{
	struct spdk_json_object_decoder decoders[] = { { "bdev", 0, spdk_json_decode_string, false } };
	struct flush *flush = calloc(1, sizeof(*flush));
	char *bdev = NULL;

	if (flush == NULL || params == NULL || spdk_json_decode_object(params, decoders, 1, &bdev) != 0 ||
	    spdk_bdev_open_ext(bdev, true, ignore_event, NULL, &flush->desc) != 0) {
		spdk_jsonrpc_send_error_response(request, SPDK_JSONRPC_ERROR_INVALID_PARAMS, "bdev: can't be opened");
		free(bdev);
		free(flush);
		return;
	}
	free(bdev);
	flush->request = request;
	flush->channel = spdk_bdev_get_io_channel(flush->desc);
	flush->began = spdk_get_ticks();
	if (spdk_bdev_flush_blocks(flush->desc, flush->channel, 0,
				   spdk_bdev_get_num_blocks(spdk_bdev_desc_get_bdev(flush->desc)), flush_done,
				   flush) != 0) {
		spdk_jsonrpc_send_error_response(request, SPDK_JSONRPC_ERROR_INTERNAL_ERROR, "the flush can't be submitted");
		flush_free(flush);
	}
}
SPDK_RPC_REGISTER("check_flush", rpc_check_flush, SPDK_RPC_RUNTIME)

static void
stop_application(void *arg)
{
	(void)arg;
	spdk_app_stop(0);
}

/* On SIGTERM: ends the run before the application. */
static void
on_shutdown(void)
{
	run_stop();
	run_on_end(stop_application, NULL);
}

static void
started(void *arg)
{
	(void)arg;
}

/* The application has no options of its own, but newer versions of SPDK require this function. */
static int
take_option(int option, char *value)
{
	(void)option;
	(void)value;
	return -1;
}

int
main(int argc, char **argv)
{
	struct spdk_app_opts opts = {};
	int rc;

#if SPDK_VERSION >= SPDK_VERSION_NUM(21, 1, 0)
	spdk_app_opts_init(&opts, sizeof(opts));
#else
	spdk_app_opts_init(&opts);
#endif
	opts.name = "dst_check";
	opts.shutdown_cb = on_shutdown;
	if (spdk_app_parse_args(argc, argv, &opts, "", NULL, take_option, NULL) != SPDK_APP_PARSE_ARGS_SUCCESS) {
		return 1;
	}
	rc = spdk_app_start(&opts, started, NULL);
	spdk_app_fini();
	return rc;
}
