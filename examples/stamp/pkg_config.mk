# SPDK from 20.10 on, where it has pkg-config files. Static libraries; LINK=shared takes SPDK's and DPDK's shared ones,
# of an SPDK that was configured --with-shared.

comma := ,

# As a system's headers, whose warnings are not ours.
spdk_cflags := $(patsubst -I%,-isystem %,$(shell $(pkg_config) --cflags $(modules)))
spdk_system := $(shell $(pkg_config) --libs --static spdk_syslibs)
# Where shared libraries of a tree are, so that nobody has to say it when the application starts: SPDK's and DPDK's, and
# ISA-L's, which come with them.
rpaths := $(patsubst %,-Wl$(comma)-rpath=%,$(sort $(dir $(filter %.so,$(spdk_system))) \
    $(patsubst -L%,%,$(filter -L%,$(spdk_system)) $(shell $(pkg_config) --libs-only-L $(modules)))))

ifeq ($(LINK),shared)
# --no-as-needed: the modules are needed, though nothing refers to them.
libraries := -Wl,--no-as-needed $(rpaths) $(shell $(pkg_config) --libs $(modules)) \
    -Wl,--whole-archive $(dst) -Wl,--no-whole-archive $(spdk_system) $(dst_system)
else
libraries := -Wl,--whole-archive -Wl,-Bstatic $(shell $(pkg_config) --libs $(modules)) $(dst) \
    -Wl,-Bdynamic -Wl,--no-whole-archive $(rpaths) $(spdk_system) $(dst_system)
endif
