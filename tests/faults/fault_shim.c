/* Loaded before the C library: file calls under one folder fail or come short, and the clock of the day jumps.
 *
 *   SHIM_FOLDER   files under it are meant, others are left alone
 *   SHIM_FAULTS   "call:first:count:errno[,...]": of the calls with this name (open, read, write, fsync, rename,
 *                 unlink, mkdir, truncate, room) those from the first-th on fail, `count` of them; errno 0: they do half of what
 *                 was asked for; errno -n: they do it n microseconds later
 *   SHIM_RANK     only in this rank of MPI
 *   SHIM_UNLISTED names that contain it are in no listing of these folders: what a network file system has not noticed
 *   SHIM_CLOCK    "after_ms:seconds[,...]": so long after the start the day's clock is so far off
 *   SHIM_LOG      a line in it for the first time that each of these was done
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { MOST_FAULTS = 8, MOST_FILES = 65536 };

struct fault {
  char call[12];
  long first, count;
  int error;
  atomic_long seen;
  atomic_int said;
};

static struct fault faults[MOST_FAULTS];
static int num_faults, num_jumps;
static struct { long after_ms, seconds; } jumps[MOST_FAULTS];
static atomic_int clock_said;
static char folder[PATH_MAX], log_file[PATH_MAX], unlisted[64];
static size_t folder_length;
static _Atomic char is_ours[MOST_FILES]; /* by descriptor */
static struct timespec started;

#define REAL(name) \
  static __typeof__(&name) real; \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static void say(const char* what, const char* path) {
  char line[PATH_MAX + 64];
  const int length = snprintf(line, sizeof line, "%d %s %s\n", (int)getpid(), what, path ? path : "");
  const int file = (int)syscall(SYS_openat, AT_FDCWD, log_file, O_WRONLY | O_APPEND | O_CREAT, 0666);
  if (file < 0) return;
  (void)!syscall(SYS_write, file, line, (size_t)length);
  syscall(SYS_close, file);
}

__attribute__((constructor)) static void begin(void) {
  syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &started);
  const char *where = getenv("SHIM_FOLDER"), *what = getenv("SHIM_FAULTS"), *clock = getenv("SHIM_CLOCK"), *rank = getenv("SHIM_RANK"),
             *mine = getenv("OMPI_COMM_WORLD_RANK");
  snprintf(log_file, sizeof log_file, "%s", getenv("SHIM_LOG") ? getenv("SHIM_LOG") : "/dev/null");
  if (rank && mine && strcmp(rank, mine) != 0) return;
  if (getenv("SHIM_UNLISTED")) snprintf(unlisted, sizeof unlisted, "%s", getenv("SHIM_UNLISTED"));
  if (where) folder_length = (size_t)snprintf(folder, sizeof folder, "%s", where);
  while (what && *what && num_faults < MOST_FAULTS) {
    struct fault* f = &faults[num_faults];
    if (sscanf(what, "%11[a-z]:%ld:%ld:%d", f->call, &f->first, &f->count, &f->error) == 4) ++num_faults;
    what = strchr(what, ',');
    if (what) ++what;
  }
  while (clock && *clock && num_jumps < MOST_FAULTS) {
    if (sscanf(clock, "%ld:%ld", &jumps[num_jumps].after_ms, &jumps[num_jumps].seconds) == 2) ++num_jumps;
    clock = strchr(clock, ',');
    if (clock) ++clock;
  }
}

static int is_under(const char* path) {
  return folder_length > 0 && path && strncmp(path, folder, folder_length) == 0 && (path[folder_length] == '/' || path[folder_length] == 0);
}
static int is_our_file(int descriptor) { return descriptor >= 0 && descriptor < MOST_FILES && is_ours[descriptor]; }
static int noted(int descriptor, const char* path) {
  if (descriptor >= 0 && descriptor < MOST_FILES) is_ours[descriptor] = (char)is_under(path);
  return descriptor;
}

/* The error that this call is to fail with; 0: half; -1: it is left alone. */
static int drawn(const char* call, const char* path) {
  for (int i = 0; i < num_faults; ++i) {
    struct fault* f = &faults[i];
    if (strcmp(f->call, call) != 0) continue;
    const long number = ++f->seen;
    if (number < f->first || number >= f->first + f->count) continue;
    if (!f->said++) say(call, path);
    if (f->error >= 0) return f->error;
    usleep((useconds_t)-f->error);
  }
  return -1;
}

#define FAIL_BY(call, path) \
  do { \
    const int error_ = drawn(call, path); \
    if (error_ > 0) { errno = error_; return -1; } \
  } while (0)

static mode_t mode_of(int flags, va_list more) { return (flags & (O_CREAT | __O_TMPFILE)) ? va_arg(more, mode_t) : 0; }

#define OPEN(name) \
  int name(const char* path, int flags, ...) { \
    REAL(name); \
    va_list more; \
    va_start(more, flags); \
    const mode_t mode = mode_of(flags, more); \
    va_end(more); \
    if (is_under(path)) FAIL_BY("open", path); \
    return noted(real(path, flags, mode), path); \
  }
OPEN(open)
OPEN(open64)

int close(int descriptor) {
  REAL(close);
  if (descriptor >= 0 && descriptor < MOST_FILES) is_ours[descriptor] = 0;
  return real(descriptor);
}

FILE* fopen(const char* path, const char* mode) {
  REAL(fopen);
  if (is_under(path)) {
    const int error = drawn("open", path);
    if (error > 0) {
      errno = error;
      return NULL;
    }
  }
  FILE* file = real(path, mode);
  if (file) noted(fileno(file), path);
  return file;
}
FILE* fopen64(const char* path, const char* mode) { return fopen(path, mode); }

#define TRANSFER(call, result, name, parameters, half, ...) \
  result name parameters { \
    REAL(name); \
    if (is_our_file(descriptor)) { \
      const int error = drawn(call, NULL); \
      if (error > 0) { errno = error; return -1; } \
      if (error == 0 && size > 1) size = half; \
    } \
    return real(__VA_ARGS__); \
  }
TRANSFER("read", ssize_t, read, (int descriptor, void* buffer, size_t size), size / 2, descriptor, buffer, size)
TRANSFER("read", ssize_t, pread, (int descriptor, void* buffer, size_t size, off_t at), size / 2, descriptor, buffer, size, at)
TRANSFER("read", ssize_t, pread64, (int descriptor, void* buffer, size_t size, off64_t at), size / 2, descriptor, buffer, size, at)
TRANSFER("write", ssize_t, write, (int descriptor, const void* buffer, size_t size), size / 2, descriptor, buffer, size)
TRANSFER("write", ssize_t, pwrite, (int descriptor, const void* buffer, size_t size, off_t at), size / 2, descriptor, buffer, size, at)
TRANSFER("write", ssize_t, pwrite64, (int descriptor, const void* buffer, size_t size, off64_t at), size / 2, descriptor, buffer, size, at)

int fsync(int descriptor) {
  REAL(fsync);
  if (is_our_file(descriptor)) FAIL_BY("fsync", NULL);
  return real(descriptor);
}
int rename(const char* from, const char* to) {
  REAL(rename);
  if (is_under(to)) FAIL_BY("rename", to);
  return real(from, to);
}
int unlink(const char* path) {
  REAL(unlink);
  if (is_under(path)) FAIL_BY("unlink", path);
  return real(path);
}
int remove(const char* path) {
  REAL(remove);
  if (is_under(path)) FAIL_BY("unlink", path);
  return real(path);
}
int rmdir(const char* path) {
  REAL(rmdir);
  if (is_under(path)) FAIL_BY("unlink", path);
  return real(path);
}
int mkdir(const char* path, mode_t mode) {
  REAL(mkdir);
  if (is_under(path)) FAIL_BY("mkdir", path);
  return real(path, mode);
}
int ftruncate(int descriptor, off_t size) {
  REAL(ftruncate);
  if (is_our_file(descriptor)) FAIL_BY("truncate", NULL);
  return real(descriptor, size);
}
int ftruncate64(int descriptor, off64_t size) {
  REAL(ftruncate64);
  if (is_our_file(descriptor)) FAIL_BY("truncate", NULL);
  return real(descriptor, size);
}
int posix_fallocate(int descriptor, off_t from, off_t size) {
  REAL(posix_fallocate);
  if (is_our_file(descriptor)) {
    const int error = drawn("room", NULL);
    if (error > 0) return error;
  }
  return real(descriptor, from, size);
}
int posix_fallocate64(int descriptor, off64_t from, off64_t size) {
  REAL(posix_fallocate64);
  if (is_our_file(descriptor)) {
    const int error = drawn("room", NULL);
    if (error > 0) return error;
  }
  return real(descriptor, from, size);
}

/* Of descriptors that opendir has, noted() knows nothing; names that are looked for lie nowhere else. */
#define LISTING(name, entry) \
  struct entry* name(DIR* listing) { \
    REAL(name); \
    struct entry* found; \
    static atomic_int said; \
    while ((found = real(listing)) && unlisted[0] && strstr(found->d_name, unlisted)) \
      if (!said++) say("unlisted", found->d_name); \
    return found; \
  }
LISTING(readdir, dirent)
LISTING(readdir64, dirent64)

static long off_s(void) {
  if (num_jumps == 0) return 0;
  struct timespec now;
  syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
  const long passed_ms = (now.tv_sec - started.tv_sec) * 1000 + (now.tv_nsec - started.tv_nsec) / 1000000;
  long off = 0;
  for (int i = 0; i < num_jumps; ++i)
    if (passed_ms >= jumps[i].after_ms) off = jumps[i].seconds;
  if (off != 0 && !clock_said++) say("clock", NULL);
  return off;
}

int clock_gettime(clockid_t clock, struct timespec* time) {
  const int result = (int)syscall(SYS_clock_gettime, clock, time);
  if (result == 0 && clock == CLOCK_REALTIME) time->tv_sec += off_s();
  return result;
}
int gettimeofday(struct timeval* restrict time, void* restrict zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  time->tv_sec = now.tv_sec;
  time->tv_usec = now.tv_nsec / 1000;
  return 0;
}
time_t time(time_t* to) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (to) *to = now.tv_sec;
  return now.tv_sec;
}
