# Links one of SPDK's applications with DST. Run from the top as
#   make -C $SPDK_DIR/app/spdk_tgt -f link.mk OUT=/abs/spdk_tgt DST_OBJS=/abs/lcores.o DST_LIB=/abs/libspdk_dst.a \
#       DST_WRAPS=-Wl,--wrap=rte_eal_init DST_THEIRS=1 DST_SHARED=
# Without DST_THEIRS the application's own objects are left out: only what it is linked with is taken from it.
#
# The application's own makefile says which of SPDK's libraries, and which of DPDK's and the system's, it is linked
# from. That differs with every SPDK version and configuration, so it is included rather than repeated here.
# Nothing is written into the SPDK tree.

.DEFAULT_GOAL := dst_link

include Makefile

# Not a prerequisite, so that SPDK's own rules never recompile the objects of the user's tree.
dst_objects := $(if $(DST_THEIRS),$(abspath $(OBJS)))
dst_missing := $(filter-out $(wildcard $(dst_objects)),$(dst_objects))
ifneq ($(dst_missing),)
$(error $(dst_missing) is missing: run make in this SPDK tree)
endif

# What Rust's standard library needs (rustc --print native-static-libs).
dst_rust_libs := -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc

dst_comma := ,

# Whole, because DST registers itself with SPDK in constructors that nothing refers to.
LIBS += -Wl,--whole-archive $(DST_LIB) -Wl,--no-whole-archive
SYS_LIBS += $(dst_rust_libs)
LDFLAGS += $(DST_WRAPS)
# So that nobody has to say where SPDK's shared libraries are; DPDK's it says itself.
LDFLAGS += $(if $(DST_SHARED),-Wl$(dst_comma)-rpath=$(SPDK_ROOT_DIR)/build/lib)
OBJS := $(dst_objects) $(DST_OBJS)

.PHONY: dst_link $(OUT)
dst_link: $(OUT)
$(OUT):
	$(LINK_C)
