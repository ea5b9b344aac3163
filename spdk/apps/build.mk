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

# Ports for sockets over DPDK (docs/dpdk.md), if DPDK has a static librte_ethdev, and SPDK is one that
# the sockets are for: the DPDK of 20.07 has rte_ethdev_driver.h, and the sockets of 26.01 and newer have
# group_impl_get_interruptfd. Drivers that the tree has the sources of, but has not built, are compiled
# here: that takes seconds, and needs no other build of DPDK.
setting = $(shell awk -F'[?]=' '$$1 == "$(1)" { print $$2 }' $(SPDK_DIR)/mk/config.mk)
dpdk := $(call setting,CONFIG_DPDK_DIR)
# A DPDK that was installed may have them elsewhere, such as in lib/x86_64-linux-gnu. 20.07 has no settings for that.
dpdk_lib := $(or $(call setting,CONFIG_DPDK_LIB_DIR),$(dpdk)/lib)
dpdk_include := $(or $(call setting,CONFIG_DPDK_INC_DIR),$(dpdk)/include)
sockets := $(or $(wildcard $(dpdk_include)/rte_ethdev_driver.h),$\
    $(shell grep -ls group_impl_get_interruptfd $(SPDK_DIR)/include/spdk_internal/sock_module.h))
ports := $(if $(shared),,$(and $(wildcard $(dpdk_lib)/librte_ethdev.a),$(sockets),$(wildcard $(dpdk_lib)/librte_bus_vdev.a)))
drivers := memif/rte_eth_memif memif/memif_socket ring/rte_eth_ring af_packet/rte_eth_af_packet
# DPDK 20.11 changed the names of drivers' libraries, and has the headers for drivers in its sources only.
built := $(foreach driver,memif ring af_packet,$(if $(wildcard $(dpdk_lib)/librte_pmd_$(driver).a $\
    $(dpdk_lib)/librte_net_$(driver).a),$(driver)/%))
driver_headers := $(if $(wildcard $(dpdk_include)/rte_ethdev_driver.h),,-DALLOW_INTERNAL_API $(patsubst %,-isystem $(dpdk)/../%,$\
    drivers/bus/vdev lib/ethdev lib/eal/common lib/eal/include lib/eal/linux/include lib/kvargs))
drivers := $(filter-out $(built),$(foreach driver,$(drivers),$(if $(wildcard $(dpdk)/../drivers/net/$(driver).c),$(driver))))
driver_objects := $(patsubst %,build/obj/driver_%.o,$(subst /,_,$(drivers)))
# A built memif is linked as an object, in which names are changed.
built_memif := $(if $(filter memif/%,$(built)),$(wildcard $(dpdk_lib)/librte_pmd_memif.a $(dpdk_lib)/librte_net_memif.a))
of_ports := $(if $(ports),build/obj/port.o build/obj/memif.o $(driver_objects) $(if $(built_memif),build/obj/built_memif.o))
# DPDK was compiled for this machine, and its headers are code.
dpdk_flags := -std=gnu11 -O2 -g -fPIC -march=native -D_GNU_SOURCE -DALLOW_EXPERIMENTAL_API -isystem $(dpdk_include)

build/obj/port.o build/obj/memif.o: build/obj/%.o: spdk/ports/%.c spdk/ports/memif.h spdk/sys/port.h build/spdk-dir
	@mkdir -p $(@D); $(CC) $(dpdk_flags) -Wall -Wextra -Werror -Ispdk/sys -c -o $@ $<

# A driver's file by the name of its object.
driver_source = $(dpdk)/../drivers/net/$(firstword $(foreach driver,$(drivers),$\
    $(if $(filter $(subst /,_,$(driver)),$(1)),$(driver)))).c

# What memif calls in spdk/ports/memif.c, which says why.
memif_calls := $(foreach call,register unregister unregister_pending,rte_intr_callback_$(call)=dst_memif_intr_callback_$(call)) \
    sendmsg=dst_memif_sendmsg

$(driver_objects): build/obj/driver_%.o: build/spdk-dir spdk/apps/build.mk
	@mkdir -p $(@D); $(CC) $(dpdk_flags) $(driver_headers) -w -include rte_config.h \
	    $(if $(filter memif_%,$*),$(memif_calls:%=-D%)) \
	    -c -o $@ $(call driver_source,$*)

build/obj/built_memif.o: $(built_memif) build/spdk-dir spdk/apps/build.mk
	@mkdir -p $(@D); $(LD) -r --whole-archive -o $@ $(built_memif)
	@objcopy $(addprefix --redefine-sym ,$(memif_calls)) $@

objects := $(of_all) $(of_ports) build/obj/bdevperf_large_reads.o $(check)

# Linked again when DST, the choice of the SPDK tree, or the build of that tree has changed.
$(apps): build/bin/%: $(lib) $(objects) spdk/apps/link.sh spdk/apps/link.mk build/spdk-dir \
    $(wildcard $(SPDK_DIR)/build/lib/*.a $(SPDK_DIR)/build/lib/*.so)
	@mkdir -p $(@D); DST_PORTS=$(if $(ports),1) spdk/apps/link.sh $* $@ $(lib) $(of_all) $(of_ports) \
	    $(if $(filter bdevperf,$*),build/obj/bdevperf_large_reads.o) $(if $(filter dst_check,$*),$(check))
