# Links one of SPDK's applications with DST. It is run as
#   make -C $SPDK_DIR/app/spdk_tgt -f link.mk OUT=/abs/spdk_tgt DST_OBJS=/abs/lcores.o \
#       DST_LIB=/abs/libspdk_dst.a DST_WRAPS=-Wl,--wrap=rte_eal_init DST_THEIRS=1 DST_SHARED=
# With DST_PORTS, DPDK's network ports are linked, too, with its drivers ring and af_packet and
# those of DST_NET_DRIVERS, as far as they are built. Drivers are not linked unasked: those of NICs
# take every NIC that is bound to vfio at start, and many need further libraries.
# Without DST_THEIRS, the application's own objects are left out, and only its list of libraries is
# used.
#
# The application's own makefile is included because it lists the libraries of SPDK, DPDK and the
# system to link, which differ with every version and configuration. Nothing is written to the SPDK
# tree.

.DEFAULT_GOAL := dst_link

include Makefile

# The objects are not prerequisites, so that SPDK's own rules never recompile those of the user's
# tree.
dst_objects := $(if $(DST_THEIRS),$(abspath $(OBJS)))
dst_missing := $(filter-out $(wildcard $(dst_objects)),$(dst_objects))
ifneq ($(dst_missing),)
$(error $(dst_missing) is missing: run make in this SPDK tree)
endif

# What Rust's standard library needs (rustc --print native-static-libs).
dst_rust_libs := -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc

dst_comma := ,

# The whole archive is linked, because DST registers itself with SPDK in constructors to which
# nothing refers.
LIBS += -Wl,--whole-archive $(DST_LIB) -Wl,--no-whole-archive
# Drivers and the buses register themselves, too. DPDK_LIB_LIST is what SPDK links already.
# memif is among the objects: see build.mk.
dst_dpdk_lib := $(or $(DPDK_LIB_DIR),$(DPDK_ABS_DIR)/lib)
dst_drivers := $(patsubst lib%.a,%,$(notdir $(wildcard $(foreach driver,ring af_packet $(filter-out memif,$(DST_NET_DRIVERS)),\
    $(dst_dpdk_lib)/librte_pmd_$(driver).a $(dst_dpdk_lib)/librte_net_$(driver).a))))
dst_port_libs := $(if $(DST_PORTS),$(filter-out $(DPDK_LIB_LIST),\
    rte_ethdev rte_net rte_meter rte_hash rte_bus_vdev $(dst_drivers)))
LIBS += $(if $(dst_port_libs),-Wl$(dst_comma)--whole-archive $(dst_port_libs:%=$(dst_dpdk_lib)/lib%.a) \
    -Wl$(dst_comma)--no-whole-archive)
SYS_LIBS += $(dst_rust_libs)
LDFLAGS += $(DST_WRAPS)
# The run path of SPDK's shared libraries, so that users need not set one. SPDK sets that of DPDK's
# itself.
LDFLAGS += $(if $(DST_SHARED),-Wl$(dst_comma)-rpath=$(SPDK_ROOT_DIR)/build/lib)
OBJS := $(dst_objects) $(DST_OBJS)

.PHONY: dst_link $(OUT)
dst_link: $(OUT)
$(OUT):
	$(LINK_C)
