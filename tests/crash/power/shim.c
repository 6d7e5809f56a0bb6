/* Records, in one order, everything that a process does to the files of one directory: what a power cut could undo.
 *
 * Preloaded into a node. Each record goes to a trace outside that directory: a header and, for some kinds, bytes (see `struct
 * record`; trace.rs reads it). The real call and its record happen under one lock, so that a sync in the trace stands
 * after every write that it covers. What the model of the disk does not know is recorded as `X`, and ends the test.
 *
 *   POWER_SHIM_DIR        the directory: flat, without links to it, empty at the first start
 *   POWER_SHIM_TRACE      the trace; appended to, by the test as well
 *   POWER_SHIM_FAIL_SYNC  NAME:N fails the N-th sync of the file of that name with EIO, once; no name: the directory
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES_MAX 256

struct record {
  uint8_t kind;
  uint8_t unused[3];
  uint32_t bytes; /* that follow */
  uint64_t file;  /* inode */
  uint64_t at;    /* offset or size */
};

struct watched {
  dev_t device;
  ino_t inode;
  int is_directory;
  char name[64];
};

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static int trace = -1;
static char directory[PATH_MAX];
static size_t directory_bytes;
static long syncs, failing_sync;
static const char *failing_name;
static size_t failing_name_bytes;
static struct watched files[FILES_MAX];
static size_t files_known;

__attribute__((constructor)) static void begin(void) {
  const char *below = getenv("POWER_SHIM_DIR"), *path = getenv("POWER_SHIM_TRACE"), *fails = getenv("POWER_SHIM_FAIL_SYNC");
  if (!below || !path || strlen(below) >= sizeof directory) return;
  strcpy(directory, below);
  directory_bytes = strlen(directory);
  const char *number = fails ? strrchr(fails, ':') : NULL;
  if (number) {
    failing_name = fails;
    failing_name_bytes = (size_t)(number - fails);
    failing_sync = atol(number + 1);
  }
  trace = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static void tell(char kind, uint64_t file, uint64_t at, const struct iovec *parts, int count) {
  struct record head = {.kind = (uint8_t)kind, .file = file, .at = at};
  struct iovec all[IOV_MAX];
  int error = errno, n = 1;
  all[0] = (struct iovec){&head, sizeof head};
  for (int i = 0; i < count && n < IOV_MAX; i++) {
    all[n++] = parts[i];
    head.bytes += (uint32_t)parts[i].iov_len;
  }
  /* One append, so that records of several processes never mix. */
  if (syscall(SYS_writev, trace, all, n) != (long)(sizeof head + head.bytes)) abort();
  errno = error;
}

static void tell_text(char kind, uint64_t file, const char *text) {
  struct iovec part = {(void *)text, strlen(text)};
  tell(kind, file, 0, &part, 1);
}

/* The name in the directory, or nothing where the path leads elsewhere; "" is the directory itself. */
static const char *name_of(const char *path) {
  if (trace < 0 || strncmp(path, directory, directory_bytes) != 0) return NULL;
  const char *rest = path + directory_bytes;
  if (*rest == '\0') return rest;
  if (*rest != '/') return NULL;
  size_t bytes = strlen(++rest);
  /* Shared memory in a file's form: SQLite makes it anew after every crash. */
  if (bytes >= 4 && strcmp(rest + bytes - 4, "-shm") == 0) return NULL;
  return rest;
}

static const char *resolve(int at, const char *path, char *whole) {
  if (*path == '/') {
    snprintf(whole, PATH_MAX, "%s", path);
    return name_of(whole);
  }
  char link[64], base[PATH_MAX];
  if (at == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
  else snprintf(link, sizeof link, "/proc/self/fd/%d", at);
  ssize_t bytes = readlink(link, base, sizeof base - 1);
  if (bytes < 0) return NULL;
  base[bytes] = '\0';
  if (snprintf(whole, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return NULL;
  return name_of(whole);
}

static struct watched *find(const struct stat *about) {
  for (size_t i = 0; i < files_known; i++)
    if (files[i].inode == about->st_ino && files[i].device == about->st_dev) return &files[i];
  return NULL;
}

static struct watched *watched(int fd, struct stat *about) {
  if (trace < 0 || fd == trace || fstat(fd, about) != 0) return NULL;
  if (!S_ISREG(about->st_mode) && !S_ISDIR(about->st_mode)) return NULL;
  return find(about);
}

static void watch(const struct stat *about, const char *name) {
  if (find(about)) return;
  if (files_known == FILES_MAX) abort();
  struct watched *file = &files[files_known++];
  *file = (struct watched){about->st_dev, about->st_ino, S_ISDIR(about->st_mode), ""};
  snprintf(file->name, sizeof file->name, "%s", name);
}

static void forget(const struct stat *about) {
  struct watched *known = find(about);
  if (known) *known = files[--files_known];
}

/* Opening. */

static int open_and_tell(int at, const char *path, int flags, mode_t mode) {
  if (trace < 0) return (int)syscall(SYS_openat, at, path, flags, mode);
  pthread_mutex_lock(&order);
  struct stat before, about;
  int existed = fstatat(at, path, &before, 0) == 0;
  int fd = (int)syscall(SYS_openat, at, path, flags, mode);
  int error = errno;
  char whole[PATH_MAX];
  if (fd >= 0 && fstat(fd, &about) == 0 && (S_ISREG(about.st_mode) || S_ISDIR(about.st_mode))) {
    const char *name = resolve(at, path, whole);
    if (!name) {
      /* The number of a file that is gone was used again. */
      forget(&about);
    } else {
      if (!existed) forget(&about);
      watch(&about, name);
      if (strchr(name, '/')) tell_text('X', about.st_ino, "a directory in the directory");
      if (!existed) tell_text('C', about.st_ino, name);
      else if ((flags & O_TRUNC) && before.st_size > 0) tell('T', about.st_ino, 0, NULL, 0);
    }
  }
  pthread_mutex_unlock(&order);
  errno = error;
  return fd;
}

#define MODE_OF(flags, last) \
  mode_t mode = 0; \
  if ((flags) & (O_CREAT | O_TMPFILE)) { \
    va_list rest; \
    va_start(rest, last); \
    mode = (mode_t)va_arg(rest, int); \
    va_end(rest); \
  }

int open(const char *path, int flags, ...) { MODE_OF(flags, flags) return open_and_tell(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags, flags) return open_and_tell(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE_OF(flags, flags) return open_and_tell(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE_OF(flags, flags) return open_and_tell(at, path, flags, mode); }
int creat(const char *path, mode_t mode) { return open_and_tell(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

/* Writing. */

static void tell_written(const struct watched *file, uint64_t at, const struct iovec *parts, int count, ssize_t written) {
  struct iovec done[IOV_MAX];
  size_t left = (size_t)written;
  int n = 0;
  for (int i = 0; i < count && left > 0; i++) {
    size_t bytes = parts[i].iov_len < left ? parts[i].iov_len : left;
    done[n++] = (struct iovec){parts[i].iov_base, bytes};
    left -= bytes;
  }
  tell('W', file->inode, at, done, n);
}

/* `at` below zero: at the file's own offset. */
static ssize_t write_and_tell(int fd, const struct iovec *parts, int count, off_t at) {
  struct stat about;
  pthread_mutex_lock(&order);
  struct watched *file = watched(fd, &about);
  if (file && at < 0) {
    int appends = fcntl(fd, F_GETFL) & O_APPEND;
    off_t here = appends ? about.st_size : (off_t)syscall(SYS_lseek, fd, 0, SEEK_CUR);
    ssize_t written = syscall(SYS_writev, fd, parts, count);
    if (written > 0) tell_written(file, (uint64_t)here, parts, count, written);
    pthread_mutex_unlock(&order);
    return written;
  }
  if (file) {
    ssize_t written = syscall(SYS_pwritev, fd, parts, count, (long)at, 0L);
    if (written > 0) tell_written(file, (uint64_t)at, parts, count, written);
    pthread_mutex_unlock(&order);
    return written;
  }
  /* Not ours: it may block, so not under the lock. */
  pthread_mutex_unlock(&order);
  return at < 0 ? syscall(SYS_writev, fd, parts, count) : syscall(SYS_pwritev, fd, parts, count, (long)at, 0L);
}

ssize_t write(int fd, const void *bytes, size_t count) {
  struct iovec part = {(void *)bytes, count};
  return write_and_tell(fd, &part, 1, -1);
}
ssize_t writev(int fd, const struct iovec *parts, int count) { return write_and_tell(fd, parts, count, -1); }
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
  struct iovec part = {(void *)bytes, count};
  return write_and_tell(fd, &part, 1, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) { return pwrite(fd, bytes, count, at); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return write_and_tell(fd, parts, count, at); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) { return write_and_tell(fd, parts, count, at); }

int ftruncate(int fd, off_t size) {
  struct stat about;
  pthread_mutex_lock(&order);
  struct watched *file = watched(fd, &about);
  int done = (int)syscall(SYS_ftruncate, fd, (long)size);
  if (file && done == 0) tell('T', file->inode, (uint64_t)size, NULL, 0);
  pthread_mutex_unlock(&order);
  return done;
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

/* Syncing. */

static int sync_and_tell(int fd, long call) {
  struct stat about;
  pthread_mutex_lock(&order);
  struct watched *file = watched(fd, &about);
  int done;
  int fails = file && failing_name && strlen(file->name) == failing_name_bytes &&
              strncmp(file->name, failing_name, failing_name_bytes) == 0 && ++syncs == failing_sync;
  if (fails) {
    tell('F', file->inode, 0, NULL, 0);
    errno = EIO;
    done = -1;
  } else {
    done = (int)syscall(call, fd);
    if (file && done == 0) tell(file->is_directory ? 'D' : 'S', file->inode, 0, NULL, 0);
  }
  pthread_mutex_unlock(&order);
  return done;
}

int fsync(int fd) { return sync_and_tell(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_and_tell(fd, SYS_fdatasync); }

/* Names. */

static int unlink_and_tell(int at, const char *path, int flags) {
  char whole[PATH_MAX];
  pthread_mutex_lock(&order);
  const char *name = resolve(at, path, whole);
  int done = (int)syscall(SYS_unlinkat, at, path, flags);
  if (name && done == 0) tell_text('U', 0, name);
  pthread_mutex_unlock(&order);
  return done;
}
int unlink(const char *path) { return unlink_and_tell(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return unlink_and_tell(at, path, flags); }

static int rename_and_tell(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
  char whole_from[PATH_MAX], whole_to[PATH_MAX];
  pthread_mutex_lock(&order);
  const char *old = resolve(from_at, from, whole_from), *new = resolve(to_at, to, whole_to);
  int done = (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
  if (done == 0 && old && new && !(flags & ~1u)) {
    struct iovec parts[] = {{(void *)old, strlen(old) + 1}, {(void *)new, strlen(new)}};
    tell('R', 0, 0, parts, 2);
  } else if (done == 0 && (old || new)) {
    tell_text('X', 0, "a file that is moved out, in, or against another");
  }
  pthread_mutex_unlock(&order);
  return done;
}
int rename(const char *from, const char *to) { return rename_and_tell(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int from_at, const char *from, int to_at, const char *to) { return rename_and_tell(from_at, from, to_at, to, 0); }
int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
  return rename_and_tell(from_at, from, to_at, to, flags);
}

/* What the model does not know. */

static void unknown_name(int at, const char *path, const char *what) {
  char whole[PATH_MAX];
  const char *name = resolve(at, path, whole);
  if (name && *name) tell_text('X', 0, what);
}

static void unknown_file(int fd, const char *what) {
  struct stat about;
  if (watched(fd, &about)) tell_text('X', about.st_ino, what);
}

int link(const char *from, const char *to) {
  unknown_name(AT_FDCWD, to, "link");
  return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
  unknown_name(to_at, to, "linkat");
  return (int)syscall(SYS_linkat, from_at, from, to_at, to, flags);
}
int mkdir(const char *path, mode_t mode) {
  unknown_name(AT_FDCWD, path, "mkdir");
  return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}
int mkdirat(int at, const char *path, mode_t mode) {
  unknown_name(at, path, "mkdirat");
  return (int)syscall(SYS_mkdirat, at, path, mode);
}
int truncate(const char *path, off_t size) {
  unknown_name(AT_FDCWD, path, "truncate");
  return (int)syscall(SYS_truncate, path, (long)size);
}
int truncate64(const char *path, off64_t size) { return truncate(path, size); }
int fallocate(int fd, int mode, off_t at, off_t bytes) {
  unknown_file(fd, "fallocate");
  return (int)syscall(SYS_fallocate, fd, mode, (long)at, (long)bytes);
}
int fallocate64(int fd, int mode, off64_t at, off64_t bytes) { return fallocate(fd, mode, at, bytes); }
int posix_fallocate(int fd, off_t at, off_t bytes) { return fallocate(fd, 0, at, bytes) == 0 ? 0 : errno; }
int posix_fallocate64(int fd, off64_t at, off64_t bytes) { return posix_fallocate(fd, at, bytes); }
ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t bytes, unsigned flags) {
  unknown_file(to, "copy_file_range");
  return syscall(SYS_copy_file_range, from, from_at, to, to_at, bytes, flags);
}
ssize_t sendfile(int to, int from, off_t *at, size_t bytes) {
  unknown_file(to, "sendfile");
  return syscall(SYS_sendfile, to, from, at, bytes);
}
ssize_t sendfile64(int to, int from, off64_t *at, size_t bytes) { return sendfile(to, from, at, bytes); }
