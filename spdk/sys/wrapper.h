/* SPDX-License-Identifier: BSD-3-Clause */
/* What bindgen reads: every SPDK header that spdk/ needs, whatever the version. */

#include <stddef.h>

#include "spdk/version.h"

#include "spdk/bdev.h"
#include "spdk/bdev_module.h"
#include "spdk/cpuset.h"
#include "spdk/env.h"
#include "spdk/json.h"
#include "spdk/jsonrpc.h"
#include "spdk/log.h"
#include "spdk/rpc.h"
#include "spdk/sock.h"
#include "spdk/thread.h"
#include "spdk/uuid.h"

/* Newer versions only. */
#if __has_include("spdk/keyring.h")
#include "spdk/keyring.h"
#endif

/* What a sock implementation needs, as 20.07 and 26.01 have it. */
#if __has_include("spdk_internal/sock.h")
#include "spdk_internal/sock.h"
#elif __has_include("spdk_internal/sock_module.h")
#include "spdk_internal/sock_module.h"
#endif

/* The subsystem list has lived in three headers. */
#if __has_include("spdk_internal/init.h")
#include "spdk_internal/init.h"
#elif __has_include("spdk/init.h")
#include "spdk/init.h"
#else
#include "spdk_internal/event.h"
#endif

#include "port.h"
#include "shim.h"
