/* SPDX-License-Identifier: BSD-3-Clause */

#include "spdk/stdinc.h"
#include "spdk/bdev_module.h"
#include "spdk/log.h"
#include "spdk/thread.h"
#include "spdk/trace.h"

/* Declares log flags in 20.07 and 20.10; later versions declare them in spdk/log.h. */
#if __has_include("spdk_internal/log.h")
#include "spdk_internal/log.h"
#endif

#ifdef DST_spdk_net_impl_20_07
#include "spdk_internal/sock.h"
#endif
/*
 * An SPDK with --enable-debug checks in which list a request is, and others do not note it. So it is noted
 * here, and not checked.
 */
#ifdef DST_spdk_net_impl_26_01
#undef NDEBUG
#define NDEBUG
#include <assert.h>
#ifndef DEBUG
#define DEBUG
#define DST_DEBUG_HERE
#endif
#include "spdk_internal/sock_module.h"
#ifdef DST_DEBUG_HERE
#undef DEBUG
#endif
#endif

#include "spdk/util.h"

/* Its name until 23.09. */
#ifndef OWNER_NONE
#define OWNER_NONE OWNER_TYPE_NONE
#endif

#include "port.h"
#include "shim.h"

void
dst_spdk_log(int level, const char *file, int line, const char *func, const char *message)
{
	spdk_log((enum spdk_log_level)level, file, line, func, "%s\n", message);
}

static struct spdk_log_flag g_flag = {
	.name = "dst",
};

void
dst_spdk_log_register_flag(void)
{
	spdk_log_register_flag(g_flag.name, &g_flag);
}

bool
dst_spdk_log_flag(void)
{
	return g_flag.enabled;
}

void *
dst_spdk_io_channel_get_ctx(struct spdk_io_channel *ch)
{
	return spdk_io_channel_get_ctx(ch);
}

#ifdef DST_spdk_bdev_shared_claims
static const char *
shared_claim_owner(struct spdk_bdev *bdev)
{
	struct spdk_bdev_module_claim *claim;

	TAILQ_FOREACH(claim, &bdev->internal.claim.v2.claims, link) {
		/* A claim that is released during an examination stays without a module until the end. */
		if (claim->module != NULL) {
			return claim->module->name;
		}
	}
	return "another module";
}
#endif

const char *
dst_spdk_bdev_claimed_by(struct spdk_bdev *bdev)
{
#if defined(DST_spdk_bdev_shared_claims)
	switch (bdev->internal.claim_type) {
	case SPDK_BDEV_CLAIM_NONE:
		return NULL;
	case SPDK_BDEV_CLAIM_EXCL_WRITE:
		return bdev->internal.claim.v1.module->name;
	default:
		return shared_claim_owner(bdev);
	}
#elif defined(DST_spdk_bdev_claim_types)
	return bdev->internal.claim_type == SPDK_BDEV_CLAIM_NONE ? NULL : bdev->internal.claim.v1.module->name;
#else
	return bdev->internal.claim_module ? bdev->internal.claim_module->name : NULL;
#endif
}

#ifdef DST_spdk_bdev_shared_claims
static void
ignore_event(enum spdk_bdev_event_type type, struct spdk_bdev *bdev, void *ctx)
{
	(void)type;
	(void)bdev;
	(void)ctx;
}
#endif

bool
dst_spdk_bdev_is_in_use(struct spdk_bdev *bdev, struct spdk_bdev_module *module)
{
#ifdef DST_spdk_bdev_shared_claims
	struct spdk_bdev_desc *desc;
	int rc;

	if (TAILQ_EMPTY(&bdev->internal.open_descs)) {
		return false;
	}
	/* During a module's call to examine the bdev, a claim would outlast its descriptor. */
	if (bdev->internal.examine_in_progress > 0) {
		return true;
	}
	/* The caller, which opens the bdev too, will say why it cannot be opened. */
	if (spdk_bdev_open_ext(bdev->name, false, ignore_event, NULL, &desc) != 0) {
		return false;
	}
	/*
	 * Only such a claim tells those who write from those who do not, such as a raid (from 24.01 on),
	 * which has its own bdev open. It ends with the descriptor.
	 */
	rc = spdk_bdev_module_claim_bdev_desc(desc, SPDK_BDEV_CLAIM_READ_MANY_WRITE_ONE, NULL, module);
	spdk_bdev_close(desc);
	return rc != 0;
#else
	(void)module;
	return !TAILQ_EMPTY(&bdev->internal.open_descs);
#endif
}

struct spdk_bdev *
dst_spdk_bdev_whole(struct spdk_bdev *bdev)
{
	while (strcmp(bdev->module->name, "split") == 0 || strcmp(bdev->module->name, "gpt") == 0) {
		bdev = spdk_bdev_part_base_get_bdev(spdk_bdev_part_get_base(bdev->ctxt));
	}
	return bdev;
}

/*
 * No version of SPDK from 20.07 to 26.09 has given a group of its own the number 0, and all others that
 * there are in 20.07 are taken in some version. The type of object is not taken either.
 */
#define TRACE_GROUP_DST 0
#define OBJECT_DST_TRANSACTION 0xD5

static const struct {
	/* At most 23 characters, and 7. */
	const char *name, *arg_name;
	uint8_t arg_type;
	bool is_new;
} g_points[] = {
	{ "DST_CLIENT_SUBMIT", "op_lba", SPDK_TRACE_ARG_TYPE_PTR, true },
	{ "DST_CLIENT_SEND", "ns", SPDK_TRACE_ARG_TYPE_INT, false },
	{ "DST_CLIENT_RESEND", "was", SPDK_TRACE_ARG_TYPE_PTR, false },
	{ "DST_CLIENT_DONE", "status", SPDK_TRACE_ARG_TYPE_INT, false },
	{ "DST_TARGET_RECEIVE", "op_lba", SPDK_TRACE_ARG_TYPE_PTR, true },
	{ "DST_TARGET_BACKEND", "op_lba", SPDK_TRACE_ARG_TYPE_PTR, false },
	{ "DST_TARGET_BACKEND_DONE", "status", SPDK_TRACE_ARG_TYPE_INT, false },
	{ "DST_TARGET_ANSWER", "status", SPDK_TRACE_ARG_TYPE_INT, false },
};

/* SPDK has no tracepoint 0, so the first one is 1. */
#define POINT_ID(i) SPDK_TPOINT_ID(TRACE_GROUP_DST, (i) + 1)

static void
register_points(void)
{
	spdk_trace_register_object(OBJECT_DST_TRANSACTION, 't');
	for (size_t i = 0; i < SPDK_COUNTOF(g_points); i++) {
		spdk_trace_register_description(g_points[i].name, POINT_ID(i), OWNER_NONE, OBJECT_DST_TRANSACTION,
						g_points[i].is_new, g_points[i].arg_type, g_points[i].arg_name);
	}
}

static struct spdk_trace_register_fn g_trace_group = {
	.name = "dst",
	.tgroup_id = TRACE_GROUP_DST,
	.reg_fn = register_points,
};

void
dst_spdk_trace_register(void)
{
	spdk_trace_add_register_fn(&g_trace_group);
}

bool
dst_spdk_trace_is_on(void)
{
#ifdef spdk_trace_tpoint_enabled
	for (size_t i = 0; i < SPDK_COUNTOF(g_points); i++) {
		if (spdk_trace_tpoint_enabled(POINT_ID(i))) {
			return true;
		}
	}
	return false;
#else
	/* There is no trace without memory for it, or with -e 0. */
	return g_trace_histories != NULL && g_trace_histories->flags.tpoint_mask[TRACE_GROUP_DST] != 0;
#endif
}

void
dst_spdk_trace_record(uint64_t tsc, uint16_t point, uint32_t size, uint64_t object_id, uint64_t arg)
{
	spdk_trace_record_tsc(tsc, POINT_ID(point - 1), 0, size, object_id, arg);
}

static const struct dst_port_ops *g_port_ops;

void
dst_port_register(const struct dst_port_ops *ops)
{
	g_port_ops = ops;
}

const struct dst_port_ops *
dst_port_ops(void)
{
	return g_port_ops;
}

#if defined(DST_spdk_net_impl_20_07) || defined(DST_spdk_net_impl_26_01)
void
dst_spdk_sock_queue(struct spdk_sock *sock, struct spdk_sock_request *req)
{
	spdk_sock_request_queue(sock, req);
}

static size_t
request_len(struct spdk_sock_request *req)
{
	size_t len = 0;

	for (int i = 0; i < req->iovcnt; i++) {
		len += SPDK_SOCK_REQUEST_IOV(req, i)->iov_len;
	}
	return len;
}

int
dst_spdk_sock_queued(struct spdk_sock *sock, struct iovec *iovs, int max, size_t lent_min,
		     size_t lent_max, struct spdk_sock_request **lent)
{
	struct spdk_sock_request *req;
	int count = 0;

	*lent = NULL;
	TAILQ_FOREACH(req, &sock->queued_reqs, internal.link) {
		size_t skipped = req->internal.offset;
		size_t len = request_len(req);

		if (skipped == 0 && req->iovcnt <= max && len >= lent_min && len <= lent_max) {
			if (count > 0) {
				return count;
			}
			*lent = req;
		}
		for (int i = 0; i < req->iovcnt; i++) {
			const struct iovec *iov = SPDK_SOCK_REQUEST_IOV(req, i);

			if (skipped >= iov->iov_len) {
				skipped -= iov->iov_len;
				continue;
			}
			if (count == max) {
				return count;
			}
			iovs[count].iov_base = (char *)iov->iov_base + skipped;
			iovs[count].iov_len = iov->iov_len - skipped;
			skipped = 0;
			count++;
		}
		if (*lent != NULL) {
			break;
		}
	}
	return count;
}

void
dst_spdk_sock_lent(struct spdk_sock *sock)
{
	spdk_sock_request_pend(sock, TAILQ_FIRST(&sock->queued_reqs));
}

bool
dst_spdk_sock_released(struct spdk_sock *sock)
{
	return spdk_sock_request_put(sock, TAILQ_FIRST(&sock->pending_reqs), 0) == 0;
}

bool
dst_spdk_sock_sent(struct spdk_sock *sock, size_t bytes)
{
	struct spdk_sock_request *req;

	while ((req = TAILQ_FIRST(&sock->queued_reqs)) != NULL) {
		size_t left = request_len(req) - req->internal.offset;

		if (bytes < left) {
			req->internal.offset += bytes;
			return true;
		}
		bytes -= left;
		spdk_sock_request_pend(sock, req);
		if (spdk_sock_request_put(sock, req, 0) != 0) {
			return false;
		}
		/* A callback that closes the socket while another one runs leaves it to that one. */
		if (sock->flags.closed) {
			return true;
		}
	}
	return true;
}
#endif
