/* Refuses threads, as a limit on them does: pthread_create fails with EAGAIN after the first SHIM_THREADS calls, on the
   rank SHIM_RANK alone if that is set. Loaded by LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_long num_calls;

static int is_limited(void) {
  const char *only = getenv("SHIM_RANK"), *mine = getenv("OMPI_COMM_WORLD_RANK");
  return only == NULL || (mine != NULL && strcmp(only, mine) == 0);
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*), void* argument) {
  static int (*real)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  if (real == NULL) real = dlsym(RTLD_NEXT, "pthread_create");
  const char* most = getenv("SHIM_THREADS");
  if (most != NULL && is_limited() && atomic_fetch_add(&num_calls, 1) >= atol(most)) return EAGAIN;
  return real(thread, attributes, start, argument);
}
