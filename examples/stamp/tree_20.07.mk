# SPDK 20.07, which has no pkg-config files: all libraries of SPDK and DPDK in the tree, and the
# system libraries that they need.

ifeq ($(wildcard $(SPDK_DIR)/build/lib/libspdk_event.a),)
$(error pkg-config does not find SPDK; set SPDK_DIR to a built SPDK tree)
endif

spdk_cflags := -isystem $(SPDK_DIR)/include

names := bdev_malloc bdev_aio event_bdev event_accel event_vmd event_sock sock_posix bdev accel event thread util conf \
    trace log json jsonrpc rpc sock notify vmd env_dpdk
dpdk := eal mempool ring mbuf mempool_ring pci bus_pci kvargs telemetry
libraries := -Wl,--whole-archive $(names:%=$(SPDK_DIR)/build/lib/libspdk_%.a) \
    $(dpdk:%=$(SPDK_DIR)/dpdk/build/lib/librte_%.a) $(dst) -Wl,--no-whole-archive \
    $(wildcard $(SPDK_DIR)/isa-l/.libs/libisal.a) -laio -lnuma -luuid $(dst_system)
