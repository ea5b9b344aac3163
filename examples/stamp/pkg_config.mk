# SPDK 20.10 and newer, which has pkg-config files. Links static libraries; LINK=shared links the
# shared ones of SPDK and DPDK, if SPDK was configured --with-shared.

comma := ,

# As system headers, so that the compiler reports none of their warnings.
spdk_cflags := $(patsubst -I%,-isystem %,$(shell $(pkg_config) --cflags $(modules)))
spdk_system := $(shell $(pkg_config) --libs --static spdk_syslibs)
# The run path of a tree's shared libraries (SPDK's, DPDK's, and ISA-L's, which come with them), so
# that users need not set one.
rpaths := $(patsubst %,-Wl$(comma)-rpath=%,$(sort $(dir $(filter %.so,$(spdk_system))) \
    $(patsubst -L%,%,$(filter -L%,$(spdk_system)) $(shell $(pkg_config) --libs-only-L $(modules)))))

ifeq ($(LINK),shared)
# --no-as-needed: the modules are needed although nothing refers to them.
libraries := -Wl,--no-as-needed $(rpaths) $(shell $(pkg_config) --libs $(modules)) \
    -Wl,--whole-archive $(dst) -Wl,--no-whole-archive $(spdk_system) $(dst_system)
else
libraries := -Wl,--whole-archive -Wl,-Bstatic $(shell $(pkg_config) --libs $(modules)) $(dst) \
    -Wl,-Bdynamic -Wl,--no-whole-archive $(rpaths) $(spdk_system) $(dst_system)
endif
