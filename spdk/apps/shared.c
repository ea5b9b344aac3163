/*
 * For an SPDK that was configured --with-shared. What lcores.c wraps is called by a shared library there, where the
 * linker's --wrap does not reach. So the application has a function of that name itself, which is found before
 * DPDK's; DPDK's is the next one.
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

	/* A cast would be refused: ISO C knows no way from an object's address to a function's. */
	*(void **)&real = dlsym(RTLD_NEXT, "rte_eal_init");
	if (real == NULL) {
		fprintf(stderr, "DPDK's rte_eal_init is not in a shared library: %s\n", dlerror());
		return -1;
	}
	return real(argc, argv);
}
