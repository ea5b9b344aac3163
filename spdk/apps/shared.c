/*
 * For an SPDK that was configured --with-shared. There, a shared library calls the function that
 * lcores.c wraps, and the linker's --wrap has no effect on it. So the application defines a
 * function of that name itself, which the dynamic linker finds before DPDK's; RTLD_NEXT finds
 * DPDK's.
 */
#include <dlfcn.h>
#include <stdio.h>

int rte_eal_init(int argc, char **argv);
int __wrap_rte_eal_init(int argc, char **argv);
int __real_rte_eal_init(int argc, char **argv);

int
rte_eal_init(int argc, char **argv)
{
	return __wrap_rte_eal_init(argc, argv);
}

int
__real_rte_eal_init(int argc, char **argv)
{
	int (*real)(int, char **);

	/* ISO C does not allow a cast from an object pointer to a function pointer. */
	*(void **)&real = dlsym(RTLD_NEXT, "rte_eal_init");
	if (real == NULL) {
		fprintf(stderr, "can't find DPDK's rte_eal_init in a shared library: %s\n", dlerror());
		return -1;
	}
	return real(argc, argv);
}
