/* Counts the system calls that change files below one folder, and at one of them kills the process,
 * tears a write, or lets the call fail: preloaded into a worker that forks a child for each case.
 *
 * Counters lie in memory that parent and children share: a killed child's are still read.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { NOTHING, KILL, TEAR, FAIL, FAIL_ON };
enum { LOG_BYTES = 1 << 18 };

struct shared {
    long count;
    long length;
    char log[LOG_BYTES];
};

static struct shared *shared;
static int mode, error_number, reads_count;
static long at;
static char prefix[4096];

__attribute__((constructor)) static void begin(void) {
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* What to do at the `wanted`-th call below `folder`; `reads` counts opening to read, too. */
void faults_arm(int what, long wanted, int number, int reads, const char *folder) {
    at = wanted, error_number = number, reads_count = reads;
    snprintf(prefix, sizeof prefix, "%s", folder);
    shared->count = 0, shared->length = 0, shared->log[0] = 0;
    mode = what;
}

long faults_count(void) { return shared->count; }
const char *faults_log(void) { return shared->log; }

static int below(const char *path) {
    size_t length = strlen(prefix);
    return length && path && !strncmp(path, prefix, length) && (path[length] == '/' || !path[length]);
}

static int descriptor_below(int descriptor, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

/* Count a call; 1 where it is the one to act on. */
static int counted(const char *name, const char *path) {
    shared->count++;
    long left = LOG_BYTES - shared->length;
    int wrote = snprintf(shared->log + shared->length, left, "%s %s\n", name, path + strlen(prefix));
    if (wrote > 0 && wrote < left) shared->length += wrote;
    return mode == FAIL_ON ? shared->count >= at : shared->count == at;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Run `call`, which a path below the folder is given to, or do at it what was asked for. */
#define GUARD(type, name, path, call)                                     \
    do {                                                                  \
        if (!shared || (!mode && !at) || !below(path)) return call; \
        int hit = counted(name, path);                                    \
        if (hit && mode >= FAIL) { errno = error_number; return -1; }     \
        type result = call;                                               \
        int kept = errno;                                                 \
        if (hit && (mode == KILL || mode == TEAR)) die();                 \
        errno = kept;                                                     \
        return result;                                                    \
    } while (0)

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int wanted_open(int flags) {
    return reads_count || (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) != 0;
}

#define OPEN(name)                                                        \
    int name(const char *path, int flags, ...) {                          \
        va_list rest;                                                     \
        va_start(rest, flags);                                            \
        mode_t bits = va_arg(rest, mode_t);                               \
        va_end(rest);                                                     \
        if (!wanted_open(flags)) return NEXT(name)(path, flags, bits);    \
        GUARD(int, "open", path, NEXT(name)(path, flags, bits));          \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                      \
    int name(int folder, const char *path, int flags, ...) {              \
        va_list rest;                                                     \
        va_start(rest, flags);                                            \
        mode_t bits = va_arg(rest, mode_t);                               \
        va_end(rest);                                                     \
        if (!wanted_open(flags)) return NEXT(name)(folder, path, flags, bits); \
        GUARD(int, "open", path, NEXT(name)(folder, path, flags, bits));  \
    }
OPENAT(openat)
OPENAT(openat64)

int __open_2(const char *path, int flags) { return open(path, flags, 0); }
int __open64_2(const char *path, int flags) { return open64(path, flags, 0); }

int mkdir(const char *path, mode_t bits) { GUARD(int, "mkdir", path, NEXT(mkdir)(path, bits)); }
int rmdir(const char *path) { GUARD(int, "rmdir", path, NEXT(rmdir)(path)); }
int unlink(const char *path) { GUARD(int, "unlink", path, NEXT(unlink)(path)); }
int rename(const char *from, const char *to) { GUARD(int, "rename", to, NEXT(rename)(from, to)); }
int link(const char *from, const char *to) { GUARD(int, "link", to, NEXT(link)(from, to)); }
int mkdirat(int folder, const char *path, mode_t bits) {
    GUARD(int, "mkdir", path, NEXT(mkdirat)(folder, path, bits));
}
int unlinkat(int folder, const char *path, int flags) {
    GUARD(int, "unlink", path, NEXT(unlinkat)(folder, path, flags));
}
int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    GUARD(int, "rename", to, NEXT(renameat)(from_folder, from, to_folder, to));
}
int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    GUARD(int, "link", to, NEXT(linkat)(from_folder, from, to_folder, to, flags));
}

#define OF_DESCRIPTOR(type, name, call)                                   \
    do {                                                                  \
        char path[4096];                                                  \
        if (!shared || (!mode && !at) || !descriptor_below(descriptor, path, sizeof path)) return call; \
        GUARD(type, name, path, call);                                    \
    } while (0)

int fsync(int descriptor) { OF_DESCRIPTOR(int, "fsync", NEXT(fsync)(descriptor)); }
int fdatasync(int descriptor) { OF_DESCRIPTOR(int, "fsync", NEXT(fdatasync)(descriptor)); }
int ftruncate(int descriptor, off_t size) {
    OF_DESCRIPTOR(int, "ftruncate", NEXT(ftruncate)(descriptor, size));
}
int ftruncate64(int descriptor, off64_t size) {
    OF_DESCRIPTOR(int, "ftruncate", NEXT(ftruncate64)(descriptor, size));
}

/* A torn write takes half of its bytes, and then the process is gone. */
ssize_t write(int descriptor, const void *bytes, size_t size) {
    char path[4096];
    if (!shared || (!mode && !at) || !descriptor_below(descriptor, path, sizeof path))
        return NEXT(write)(descriptor, bytes, size);
    if (mode == TEAR && shared->count + 1 == at) size /= 2;
    GUARD(ssize_t, "write", path, NEXT(write)(descriptor, bytes, size));
}
