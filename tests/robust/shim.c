/* Stands between a program and the C library, counts the calls that change files below given folders, and at one of them kills the
 * process, lets it fail, or both writes half and then fails.  It may also log every call with its data, for the replay of a power cut.
 *
 * It is loaded by LD_PRELOAD and does nothing until tiltflow_shim_arm is called, as a rule by ctypes in a forked child.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { OPEN, WRITE, RENAME, LINK, SYMLINK, UNLINK, RMDIR, MKDIR, TRUNCATE, ALLOCATE, SYNC, CHMOD, COPY, MAP };
enum mode { OFF, COUNT, KILL, KILL_HALF_WAY, FAIL_ONCE, FAIL_FROM, SHORT_THEN_FAIL };

#define LONGEST 4096
#define MOST_FOLDERS 8

static char folders[MOST_FOLDERS][LONGEST];
static int number_of_folders;
static volatile int mode = OFF;
static long count, at;
static int failure, log_descriptor = -1;
static unsigned mask;
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

struct entry {
    int32_t kind, result;
    uint64_t inode;
    int64_t offset;
    uint32_t first_length, second_length;
    uint64_t data_length;
};

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

void tiltflow_shim_watch(const char *paths) {
    number_of_folders = 0;
    while (*paths && number_of_folders < MOST_FOLDERS) {
        size_t length = strcspn(paths, "\n");
        if (length && length < LONGEST) {
            memcpy(folders[number_of_folders], paths, length);
            folders[number_of_folders++][length] = 0;
        }
        paths += length + (paths[length] == '\n');
    }
}

void tiltflow_shim_arm(int new_mode, long call, int new_failure, unsigned kinds, const char *log) {
    count = 0, at = call, failure = new_failure, mask = kinds;
    log_descriptor = *log ? syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    mode = new_mode;
}


static int of_descriptor(int descriptor, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, LONGEST - 1);
    path[length < 0 ? 0 : length] = 0;
    return length > 0;
}

static void of_path(int folder, const char *path, char *whole) {
    whole[0] = 0;
    if (path[0] != '/') {
        if (folder == AT_FDCWD) {
            if (syscall(SYS_getcwd, whole, LONGEST) < 0) whole[0] = 0;
        } else {
            of_descriptor(folder, whole);
        }
    }
    size_t length = strlen(whole);
    snprintf(whole + length, LONGEST - length, "%s%s", path[0] == '/' ? "" : "/", path);
}

static int is_watched(const char *path) {
    for (int i = 0; i < number_of_folders; i++) {
        size_t length = strlen(folders[i]);
        if (!strncmp(path, folders[i], length) && (path[length] == '/' || !path[length])) return 1;
    }
    return 0;
}

static uint64_t inode_of(int descriptor) {
    struct stat status;
    return fstat(descriptor, &status) ? 0 : status.st_ino;
}

static uint64_t inode_at(const char *path) {
    struct stat status;
    return lstat(path, &status) ? 0 : status.st_ino;
}

static void put(const void *data, size_t length) {
    while (length) {
        ssize_t written = syscall(SYS_write, log_descriptor, data, length);
        if (written <= 0) return;
        data = (const char *)data + written, length -= written;
    }
}

static void note(enum kind kind, int result, uint64_t inode, int64_t offset, const char *first, const char *second, const void *data,
                 size_t length) {
    if (log_descriptor < 0) return;
    int before = errno;
    struct entry entry = {kind, result, inode, offset, strlen(first), second ? strlen(second) : 0, data ? length : 0};
    put(&entry, sizeof entry);
    put(first, entry.first_length);
    put(second, entry.second_length);
    put(data, entry.data_length);
    errno = before;
}

static void die(void) {
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    for (;;) syscall(SYS_exit_group, 137); /* the first process of a namespace is spared by its own signals */
}

/* What becomes of a call: 0 it goes on, 1 it fails with errno, 2 it is done half. */
static int begin(enum kind kind, const char *path) {
    if (mode == OFF || !is_watched(path)) return 0;
    pthread_mutex_lock(&one_at_a_time);
    if (!(mask >> kind & 1)) return 0;
    long now = ++count;
    int halves = kind == WRITE || kind == COPY;
    if (mode == KILL && now == at) die();
    if (mode == KILL_HALF_WAY && now == at) {
        if (halves) return 2;
        die();
    }
    if ((mode == FAIL_ONCE && now == at) || (mode == FAIL_FROM && now >= at) || (mode == SHORT_THEN_FAIL && now > at)) {
        errno = failure;
        return 1;
    }
    return mode == SHORT_THEN_FAIL && now == at && halves ? 2 : 0;
}

static void end(const char *path) {
    if (mode != OFF && is_watched(path)) pthread_mutex_unlock(&one_at_a_time);
}

static void half_done(void) {
    if (mode == KILL_HALF_WAY) die();
}

static size_t part(int fate, size_t length) { return fate == 2 && length > 1 ? length / 2 : length; }

/* -- opening ------------------------------------------------------------------------------------------------------------------- */

static int open_any(int folder, const char *path, int flags, mode_t permissions) {
    char whole[LONGEST];
    int changes = flags & (O_CREAT | O_TRUNC | __O_TMPFILE);
    if (mode == OFF || !changes) return syscall(SYS_openat, folder, path, flags | O_LARGEFILE, permissions);
    of_path(folder, path, whole);
    int result = -1;
    if (begin(OPEN, whole) != 1) {
        result = syscall(SYS_openat, folder, path, flags | O_LARGEFILE, permissions);
        if (result >= 0 && is_watched(whole)) note(OPEN, !!(flags & O_TRUNC), inode_of(result), 0, whole, NULL, NULL, 0);
    }
    end(whole);
    return result;
}

#define PERMISSIONS(flags, last)                                     \
    mode_t permissions = 0;                                          \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {                         \
        va_list list;                                                \
        va_start(list, last);                                        \
        permissions = va_arg(list, mode_t);                          \
        va_end(list);                                                \
    }

int open(const char *path, int flags, ...) { PERMISSIONS(flags, flags) return open_any(AT_FDCWD, path, flags, permissions); }
int open64(const char *path, int flags, ...) { PERMISSIONS(flags, flags) return open_any(AT_FDCWD, path, flags, permissions); }
int openat(int f, const char *path, int flags, ...) { PERMISSIONS(flags, flags) return open_any(f, path, flags, permissions); }
int openat64(int f, const char *path, int flags, ...) { PERMISSIONS(flags, flags) return open_any(f, path, flags, permissions); }
int creat(const char *path, mode_t m) { return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, m); }
int creat64(const char *path, mode_t m) { return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, m); }

/* stdio would open and write behind our back: such a stream goes through our open, and writes its buffer through our write. */
static ssize_t stream_write(void *descriptor, const char *data, size_t length) { return write((int)(intptr_t)descriptor, data, length); }
static ssize_t stream_read(void *descriptor, char *data, size_t length) { return read((int)(intptr_t)descriptor, data, length); }
static int stream_close(void *descriptor) { return close((int)(intptr_t)descriptor); }
static int stream_seek(void *descriptor, off64_t *offset, int whence) {
    off64_t place = lseek64((int)(intptr_t)descriptor, *offset, whence);
    if (place < 0) return -1;
    *offset = place;
    return 0;
}

static FILE *open_stream(const char *path, const char *how, const char *name) {
    char whole[LONGEST];
    of_path(AT_FDCWD, path, whole);
    if (mode == OFF || how[0] == 'r' || !is_watched(whole)) return ((FILE * (*)(const char *, const char *)) real(name))(path, how);
    int both = strchr(how, '+') != NULL;
    int flags = (both ? O_RDWR : O_WRONLY) | O_CREAT | (how[0] == 'w' ? O_TRUNC : O_APPEND);
    int descriptor = open_any(AT_FDCWD, path, flags, 0666);
    if (descriptor < 0) return NULL;
    cookie_io_functions_t functions = {stream_read, stream_write, stream_seek, stream_close};
    return fopencookie((void *)(intptr_t)descriptor, how, functions);
}

FILE *fopen(const char *path, const char *how) { return open_stream(path, how, "fopen"); }
FILE *fopen64(const char *path, const char *how) { return open_stream(path, how, "fopen64"); }

/* -- contents ------------------------------------------------------------------------------------------------------------------ */

static ssize_t write_any(int descriptor, const void *data, size_t length, int64_t offset) {
    char path[LONGEST];
    if (mode == OFF || !of_descriptor(descriptor, path) || !is_watched(path))
        return offset < 0 ? syscall(SYS_write, descriptor, data, length) : syscall(SYS_pwrite64, descriptor, data, length, offset);
    ssize_t result = -1;
    int fate = begin(WRITE, path);
    if (fate != 1) {
        int64_t place = offset >= 0 ? offset : syscall(SYS_lseek, descriptor, 0, SEEK_CUR);
        if (offset < 0 && fcntl(descriptor, F_GETFL) & O_APPEND) place = syscall(SYS_lseek, descriptor, 0, SEEK_END);
        size_t some = part(fate, length);
        result = offset < 0 ? syscall(SYS_write, descriptor, data, some) : syscall(SYS_pwrite64, descriptor, data, some, offset);
        if (fate == 2) half_done();
        if (result > 0) note(WRITE, result, inode_of(descriptor), place, path, NULL, data, result);
    }
    end(path);
    return result;
}

ssize_t write(int descriptor, const void *data, size_t length) { return write_any(descriptor, data, length, -1); }
ssize_t pwrite(int descriptor, const void *data, size_t length, off_t offset) { return write_any(descriptor, data, length, offset); }
ssize_t pwrite64(int descriptor, const void *data, size_t length, off64_t offset) { return write_any(descriptor, data, length, offset); }

ssize_t writev(int descriptor, const struct iovec *parts, int number) {
    ssize_t sum = 0;
    for (int i = 0; i < number; i++) {
        ssize_t result = write_any(descriptor, parts[i].iov_base, parts[i].iov_len, -1);
        if (result < 0) return sum ? sum : -1;
        sum += result;
        if ((size_t)result < parts[i].iov_len) break;
    }
    return sum;
}

/* A copy inside the kernel is made by reading and writing, so that it is logged with its data. */
static ssize_t copy_any(int to, int from, int64_t *offset, size_t length) {
    static __thread char block[1 << 16];
    size_t some = length < sizeof block ? length : sizeof block;
    ssize_t got = offset ? syscall(SYS_pread64, from, block, some, *offset) : syscall(SYS_read, from, block, some);
    if (got <= 0) return got;
    ssize_t result = write_any(to, block, got, -1);
    if (result > 0 && offset) *offset += result;
    if (!offset && result < got) syscall(SYS_lseek, from, (result > 0 ? result : 0) - got, SEEK_CUR);
    return result;
}

static int goes_to_watched(int descriptor) {
    char path[LONGEST];
    return mode != OFF && of_descriptor(descriptor, path) && is_watched(path);
}

ssize_t sendfile(int to, int from, off_t *offset, size_t length) {
    return goes_to_watched(to) ? copy_any(to, from, offset, length) : syscall(SYS_sendfile, to, from, offset, length);
}
ssize_t sendfile64(int to, int from, off64_t *offset, size_t length) {
    return goes_to_watched(to) ? copy_any(to, from, offset, length) : syscall(SYS_sendfile, to, from, offset, length);
}
ssize_t copy_file_range(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t length, unsigned flags) {
    if (!goes_to_watched(to)) return syscall(SYS_copy_file_range, from, from_offset, to, to_offset, length, flags);
    errno = EXDEV; /* whoever copies so has another way */
    return -1;
}

static int resize_any(enum kind kind, int descriptor, int64_t size) {
    char path[LONGEST];
    if (mode == OFF || !of_descriptor(descriptor, path) || !is_watched(path))
        return kind == TRUNCATE ? syscall(SYS_ftruncate, descriptor, size) : syscall(SYS_fallocate, descriptor, 0, 0, size);
    int result = -1;
    if (begin(kind, path) != 1) {
        result = kind == TRUNCATE ? syscall(SYS_ftruncate, descriptor, size) : syscall(SYS_fallocate, descriptor, 0, 0, size);
        if (!result) note(kind, 0, inode_of(descriptor), size, path, NULL, NULL, 0);
    }
    end(path);
    return result;
}

int ftruncate(int descriptor, off_t size) { return resize_any(TRUNCATE, descriptor, size); }
int ftruncate64(int descriptor, off64_t size) { return resize_any(TRUNCATE, descriptor, size); }
int posix_fallocate(int descriptor, off_t from, off_t size) { return resize_any(ALLOCATE, descriptor, from + size) ? errno : 0; }
int posix_fallocate64(int descriptor, off64_t from, off64_t size) { return resize_any(ALLOCATE, descriptor, from + size) ? errno : 0; }

static int sync_any(int descriptor, int call) {
    char path[LONGEST];
    if (mode == OFF || !of_descriptor(descriptor, path) || !is_watched(path)) return syscall(call, descriptor);
    int result = -1;
    if (begin(SYNC, path) != 1) {
        result = 0; /* the replay decides what a power cut leaves; waiting for the disk would only take time */
        note(SYNC, call == SYS_syncfs, inode_of(descriptor), 0, path, NULL, NULL, 0);
    }
    end(path);
    return result;
}

int fsync(int descriptor) { return sync_any(descriptor, SYS_fsync); }
int fdatasync(int descriptor) { return sync_any(descriptor, SYS_fdatasync); }
int syncfs(int descriptor) { return sync_any(descriptor, SYS_syncfs); }

int fchmod(int descriptor, mode_t permissions) {
    char path[LONGEST];
    if (mode == OFF || !of_descriptor(descriptor, path)) return syscall(SYS_fchmod, descriptor, permissions);
    int result = begin(CHMOD, path) == 1 ? -1 : (int)syscall(SYS_fchmod, descriptor, permissions);
    end(path);
    return result;
}

void *mmap64(void *address, size_t length, int protection, int flags, int descriptor, off64_t offset) {
    if (mode != OFF && descriptor >= 0 && (flags & MAP_SHARED) && (protection & PROT_WRITE)) {
        char path[LONGEST];
        if (of_descriptor(descriptor, path) && is_watched(path)) note(MAP, 0, inode_of(descriptor), offset, path, NULL, NULL, 0);
    }
    return (void *)syscall(SYS_mmap, address, length, protection, flags, descriptor, offset);
}
void *mmap(void *address, size_t length, int protection, int flags, int descriptor, off_t offset) {
    return mmap64(address, length, protection, flags, descriptor, offset);
}

/* -- names --------------------------------------------------------------------------------------------------------------------- */

static int named(enum kind kind, const char *first, const char *second, const char *decides, long call, long a, long b, long c, long d,
                 long e) {
    int result = -1;
    if (begin(kind, decides) != 1) {
        uint64_t before = inode_at(first);
        result = syscall(call, a, b, c, d, e);
        if (!result && is_watched(decides)) {
            uint64_t after = kind == MKDIR || kind == SYMLINK ? inode_at(kind == SYMLINK ? second : first) : before;
            note(kind, 0, after, 0, first, second, NULL, 0);
        }
    }
    end(decides);
    return result;
}

static int rename_any(int from, const char *old, int to, const char *new, unsigned flags) {
    if (mode == OFF) return syscall(SYS_renameat2, from, old, to, new, flags);
    char first[LONGEST], second[LONGEST];
    of_path(from, old, first), of_path(to, new, second);
    return named(RENAME, first, second, second, SYS_renameat2, from, (long)old, to, (long)new, flags);
}
int rename(const char *old, const char *new) { return rename_any(AT_FDCWD, old, AT_FDCWD, new, 0); }
int renameat(int from, const char *old, int to, const char *new) { return rename_any(from, old, to, new, 0); }
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) { return rename_any(from, old, to, new, flags); }

int linkat(int from, const char *old, int to, const char *new, int flags) {
    if (mode == OFF) return syscall(SYS_linkat, from, old, to, new, flags);
    char first[LONGEST], second[LONGEST];
    of_path(from, old, first), of_path(to, new, second);
    return named(LINK, first, second, second, SYS_linkat, from, (long)old, to, (long)new, flags);
}
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }

int symlinkat(const char *target, int to, const char *new) {
    if (mode == OFF) return syscall(SYS_symlinkat, target, to, new);
    char second[LONGEST];
    of_path(to, new, second);
    return named(SYMLINK, target, second, second, SYS_symlinkat, (long)target, to, (long)new, 0, 0);
}
int symlink(const char *target, const char *new) { return symlinkat(target, AT_FDCWD, new); }

int unlinkat(int folder, const char *path, int flags) {
    if (mode == OFF) return syscall(SYS_unlinkat, folder, path, flags);
    char whole[LONGEST];
    of_path(folder, path, whole);
    return named(flags & AT_REMOVEDIR ? RMDIR : UNLINK, whole, NULL, whole, SYS_unlinkat, folder, (long)path, flags, 0, 0);
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
    int result = unlink(path);
    return result && errno == EISDIR ? rmdir(path) : result;
}

int mkdirat(int folder, const char *path, mode_t permissions) {
    if (mode == OFF) return syscall(SYS_mkdirat, folder, path, permissions);
    char whole[LONGEST];
    of_path(folder, path, whole);
    return named(MKDIR, whole, NULL, whole, SYS_mkdirat, folder, (long)path, permissions, 0, 0);
}
int mkdir(const char *path, mode_t permissions) { return mkdirat(AT_FDCWD, path, permissions); }
