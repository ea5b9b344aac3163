#!/bin/sh
# SPDK's rpc.py with DST's methods, of the SPDK that the package was built with.
export SPDK_DIR="${SPDK_DIR:-/usr/share/dst/spdk}"
exec /usr/share/dst/rpc/rpc.py "$@"
