# SPDK from 20.10 on, where it has pkg-config files. Static libraries; LINK=shared takes SPDK's and DPDK's shared ones,
# of an SPDK that was configured --with-shared.

# As a system's headers, whose warnings are not ours.
spdk_cflags := $(patsubst -I%,-isystem %,$(shell $(pkg_config) --cflags $(modules)))
spdk_system := $(shell $(pkg_config) --libs --static spdk_syslibs)

ifeq ($(LINK),shared)
# --no-as-needed: the modules are needed, though nothing refers to them.
rpaths := $(patsubst -L%,%,$(shell $(pkg_config) --libs-only-L $(modules)))
libraries := -Wl,--no-as-needed $(rpaths:%=-Wl,-rpath=%) $(shell $(pkg_config) --libs $(modules)) \
    -Wl,--whole-archive $(dst) -Wl,--no-whole-archive $(spdk_system) $(dst_system)
else
libraries := -Wl,--whole-archive -Wl,-Bstatic $(shell $(pkg_config) --libs $(modules)) $(dst) \
    -Wl,-Bdynamic -Wl,--no-whole-archive $(spdk_system) $(dst_system)
endif
