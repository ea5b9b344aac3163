/*
 * stamp: a small SPDK application that uses a remote bdev.
 *
 *   stamp --json FILE -b BDEV
 *
 * FILE is an SPDK configuration that contains the bdev_dst_create call for BDEV. With "wait": false
 * in that call, the bdev may appear later, when its target is up; the application waits for it. It
 * writes the bdev's first block, reads it back, compares, and prints the result. It contains
 * nothing specific to DST: to its users, a remote bdev is a bdev like any other.
 */
#include <stdio.h>
#include <string.h>

#include "spdk/bdev.h"
#include "spdk/env.h"
#include "spdk/event.h"
#include "spdk/log.h"
#include "spdk/thread.h"
#include "spdk/version.h"

/* How often it looks whether the bdev is there, and how often at most. */
#define LOOK_US 10000
#define LOOKS_MAX 6000

static const char *g_bdev_name;

struct stamp {
	struct spdk_bdev_desc *desc;
	struct spdk_io_channel *channel;
	struct spdk_poller *poller;
	uint32_t block_size;
	unsigned looks;
	char *written, *read;
};

static struct stamp g_stamp;

static void
end(const char *what_failed)
{
	spdk_poller_unregister(&g_stamp.poller);
	spdk_dma_free(g_stamp.written);
	spdk_dma_free(g_stamp.read);
	if (g_stamp.channel != NULL) {
		spdk_put_io_channel(g_stamp.channel);
	}
	if (g_stamp.desc != NULL) {
		spdk_bdev_close(g_stamp.desc);
	}
	if (what_failed != NULL) {
		SPDK_ERRLOG("%s: %s\n", g_bdev_name, what_failed);
	}
	spdk_app_stop(what_failed == NULL ? 0 : 1);
}

static void
read_done(struct spdk_bdev_io *io, bool success, void *arg)
{
	(void)arg;
	spdk_bdev_free_io(io);
	if (!success) {
		end("the read failed");
	} else if (memcmp(g_stamp.written, g_stamp.read, g_stamp.block_size) != 0) {
		end("what was read is not what was written");
	} else {
		printf("%s: block 0, %u bytes, written and read back\n", g_bdev_name, g_stamp.block_size);
		end(NULL);
	}
}

static void
write_done(struct spdk_bdev_io *io, bool success, void *arg)
{
	(void)arg;
	spdk_bdev_free_io(io);
	if (!success) {
		end("the write failed");
	} else if (spdk_bdev_read_blocks(g_stamp.desc, g_stamp.channel, g_stamp.read, 0, 1, read_done, NULL) != 0) {
		end("the read could not be submitted");
	}
}

static void
bdev_event(enum spdk_bdev_event_type type, struct spdk_bdev *bdev, void *arg)
{
	(void)bdev;
	(void)arg;
	if (type == SPDK_BDEV_EVENT_REMOVE) {
		SPDK_ERRLOG("%s is being removed\n", g_bdev_name);
	}
}

static void
use(void)
{
	struct spdk_bdev *bdev = spdk_bdev_desc_get_bdev(g_stamp.desc);
	size_t align = spdk_bdev_get_buf_align(bdev);

	g_stamp.block_size = spdk_bdev_get_block_size(bdev);
	g_stamp.channel = spdk_bdev_get_io_channel(g_stamp.desc);
	g_stamp.written = spdk_dma_zmalloc(g_stamp.block_size, align, NULL);
	g_stamp.read = spdk_dma_zmalloc(g_stamp.block_size, align, NULL);
	if (g_stamp.channel == NULL || g_stamp.written == NULL || g_stamp.read == NULL) {
		end("not enough memory");
		return;
	}
	snprintf(g_stamp.written, g_stamp.block_size, "stamped by an example application");
	if (spdk_bdev_write_blocks(g_stamp.desc, g_stamp.channel, g_stamp.written, 0, 1, write_done, NULL) != 0) {
		end("the write could not be submitted");
	}
}

static int
look(void *arg)
{
	(void)arg;
	if (spdk_bdev_get_by_name(g_bdev_name) == NULL) {
		if (++g_stamp.looks == LOOKS_MAX) {
			end("is not there");
		}
		return 0;
	}
	spdk_poller_unregister(&g_stamp.poller);
	if (spdk_bdev_open_ext(g_bdev_name, true, bdev_event, NULL, &g_stamp.desc) != 0) {
		end("cannot be opened");
	} else {
		use();
	}
	return 1;
}

static void
start(void *arg)
{
	(void)arg;
	g_stamp.poller = spdk_poller_register(look, NULL, LOOK_US);
	if (g_stamp.poller == NULL) {
		end("not enough memory");
	}
}

static int
take_option(int option, char *value)
{
	if (option != 'b') {
		return -1;
	}
	g_bdev_name = value;
	return 0;
}

static void
usage(void)
{
	printf(" -b BDEV                   the bdev whose first block is written\n");
}

int
main(int argc, char **argv)
{
	struct spdk_app_opts opts;
	int rc;

#if SPDK_VERSION >= SPDK_VERSION_NUM(21, 1, 0)
	spdk_app_opts_init(&opts, sizeof(opts));
#else
	spdk_app_opts_init(&opts);
#endif
	opts.name = "stamp";
	if (spdk_app_parse_args(argc, argv, &opts, "b:", NULL, take_option, usage) != SPDK_APP_PARSE_ARGS_SUCCESS) {
		return 1;
	}
	if (g_bdev_name == NULL) {
		fprintf(stderr, "stamp: option -b BDEV is required\n");
		return 1;
	}
	rc = spdk_app_start(&opts, start, NULL);
	spdk_app_fini();
	return rc;
}
