# Builds DST's library and links SPDK's applications with it. The top Makefile runs this makefile in
# the top folder after spdk/provision/env.sh has written build/env.sh. It is a separate makefile
# because only then the location of SPDK is known.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

export SPDK_DIR := $(shell cat build/spdk-dir)
cargo_target := $(or $(CARGO_TARGET_DIR),target)
lib := build/lib/libspdk_dst.a
apps := build/bin/spdk_tgt build/bin/bdevperf build/bin/bdevio build/bin/dst_check

.PHONY: all cargo
all: $(apps) $(lib) build/bin/dstctl build/bin/dst-keygen

# Always run: cargo knows whether anything has to be built.
cargo:
	@cargo build --release --locked --package dst --package dstctl

# Copied only when it has changed, so that nothing is linked again needlessly.
$(lib): cargo
	@mkdir -p $(@D); cmp -s $(cargo_target)/release/libspdk_dst.a $@ || cp $(cargo_target)/release/libspdk_dst.a $@

build/bin/dstctl: cargo
	@mkdir -p $(@D); cmp -s $(cargo_target)/release/dstctl $@ || cp $(cargo_target)/release/dstctl $@

# The old name of `dstctl keygen`.
build/bin/dst-keygen: build/bin/dstctl
	@ln -sfn dstctl $@

build/obj/lcores.o: spdk/apps/lcores.c
	@mkdir -p $(@D); $(CC) -std=gnu11 -O2 -g -fPIC -Wall -Wextra -Werror -c -o $@ $<

build/obj/shared.o: spdk/apps/shared.c
	@mkdir -p $(@D); $(CC) -std=gnu11 -D_GNU_SOURCE -O2 -g -fPIC -Wall -Wextra -Werror -c -o $@ $<

build/obj/bdevperf_large_reads.o: spdk/apps/bdevperf_large_reads.c build/spdk-dir
	@mkdir -p $(@D); $(CC) -std=gnu11 -O2 -g -fPIC -Wall -Wextra -Werror -isystem $(SPDK_DIR)/include -c -o $@ $<

# dst_check, the tests' own application.
check := $(patsubst spdk/apps/check/%.c,build/obj/check_%.o,$(wildcard spdk/apps/check/*.c))

$(check): build/obj/check_%.o: spdk/apps/check/%.c $(wildcard spdk/apps/check/*.h) build/spdk-dir
	@mkdir -p $(@D); $(CC) -std=gnu11 -O2 -g -fPIC -Wall -Wextra -Werror -isystem $(SPDK_DIR)/include -c -o $@ $<

# Whether the tree was configured with shared libraries.
shared := $(shell awk -F'[?]=' '$$1 == "CONFIG_SHARED" && $$2 == "y"' $(SPDK_DIR)/mk/config.mk)
of_all := build/obj/lcores.o $(if $(shared),build/obj/shared.o)

objects := $(of_all) build/obj/bdevperf_large_reads.o $(check)

# Linked again when DST, the choice of the SPDK tree, or the build of that tree has changed.
$(apps): build/bin/%: $(lib) $(objects) spdk/apps/link.sh spdk/apps/link.mk build/spdk-dir \
    $(wildcard $(SPDK_DIR)/build/lib/*.a $(SPDK_DIR)/build/lib/*.so)
	@mkdir -p $(@D); spdk/apps/link.sh $* $@ $(lib) $(of_all) \
	    $(if $(filter bdevperf,$*),build/obj/bdevperf_large_reads.o) $(if $(filter dst_check,$*),$(check))
