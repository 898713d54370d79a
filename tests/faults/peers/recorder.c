/* Records what a process does to the files of one folder, for LD_PRELOAD: see recorder.py, which reads it.

   A record is kind, length of the name, offset, length of the data, name, data. The call and its record are made under
   one lock, so that they are in one order: a write that is made while a sync goes on comes after it. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define DESCRIPTORS 4096
#define NAME 64
#define NOTES "effects.txt"
#define REAL(name) ({ if (!real_##name) real_##name = dlsym(RTLD_NEXT, #name); real_##name; })

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static char names[DESCRIPTORS][NAME]; /* by descriptor: "" is not recorded, "." the folder itself */
static int log_file = -1;

static int (*real_open)(const char *, int, ...);
static int (*real_open64)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_pwrite64)(int, const void *, size_t, off64_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_ftruncate64)(int, off64_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_unlink)(const char *);

static void record(char kind, const char *name, uint64_t offset, const void *data, uint32_t size)
{
    struct __attribute__((packed)) { char kind; uint8_t name; uint64_t offset; uint32_t size; } head =
        {kind, (uint8_t)strlen(name), offset, size};
    struct iovec parts[3] = {{&head, sizeof head}, {(void *)name, head.name}, {(void *)data, size}};
    int before = errno;
    if (log_file < 0)
        log_file = REAL(open)(getenv("RECORDER_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (writev(log_file, parts, 3) != (ssize_t)(sizeof head + head.name + size))
        abort();
    errno = before;
}

/* The name of a file in the folder that is to be recorded, "." for the folder, NULL for any other. The index of a WAL
   is not: whoever opens the file first makes it anew. */
static const char *name_of(const char *path)
{
    const char *folder = getenv("RECORDER_FOLDER"), *file = getenv("RECORDER_FILE"), *name;
    size_t length = folder ? strlen(folder) : 0;
    if (!length || strncmp(path, folder, length))
        return NULL;
    if (!path[length])
        return ".";
    name = path + length + 1;
    if (!strcmp(name, NOTES))
        return name;
    if (strncmp(name, file, strlen(file)))
        return NULL;
    name += strlen(file);
    return !*name || !strcmp(name, "-journal") || !strcmp(name, "-wal") ? path + length + 1 : NULL;
}

static int opened(int fd, const char *path)
{
    const char *name = fd >= 0 && fd < DESCRIPTORS ? name_of(path) : NULL;
    if (name) {
        strncpy(names[fd], name, NAME - 1);
        if (strcmp(name, ".") && strcmp(name, NOTES))
            record('m', name, 0, "", 0);
    }
    return fd;
}

static const char *recorded(int fd) { return fd >= 0 && fd < DESCRIPTORS && names[fd][0] ? names[fd] : NULL; }

#define OPEN(name)                                                                        \
    int name(const char *path, int flags, ...)                                            \
    {                                                                                     \
        va_list rest;                                                                     \
        va_start(rest, flags);                                                            \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;           \
        va_end(rest);                                                                     \
        pthread_mutex_lock(&guard);                                                       \
        int fd = opened(REAL(name)(path, flags, mode), path);                             \
        pthread_mutex_unlock(&guard);                                                     \
        return fd;                                                                        \
    }
OPEN(open)
OPEN(open64)

int openat(int folder, const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    pthread_mutex_lock(&guard);
    int fd = opened(REAL(openat)(folder, path, flags, mode), path);
    pthread_mutex_unlock(&guard);
    return fd;
}

int close(int fd)
{
    pthread_mutex_lock(&guard);
    if (fd >= 0 && fd < DESCRIPTORS)
        names[fd][0] = 0;
    int done = REAL(close)(fd);
    pthread_mutex_unlock(&guard);
    return done;
}

ssize_t write(int fd, const void *data, size_t size)
{
    if (!recorded(fd))
        return REAL(write)(fd, data, size);
    pthread_mutex_lock(&guard);
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t done = REAL(write)(fd, data, size);
    if (done > 0)
        record(strcmp(names[fd], NOTES) ? 'w' : 'n', names[fd], (uint64_t)offset, data, (uint32_t)done);
    pthread_mutex_unlock(&guard);
    return done;
}

#define PWRITE(name, kind)                                                                \
    ssize_t name(int fd, const void *data, size_t size, kind offset)                      \
    {                                                                                     \
        pthread_mutex_lock(&guard);                                                       \
        ssize_t done = REAL(name)(fd, data, size, offset);                                \
        if (done > 0 && recorded(fd))                                                     \
            record('w', names[fd], (uint64_t)offset, data, (uint32_t)done);               \
        pthread_mutex_unlock(&guard);                                                     \
        return done;                                                                      \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define CUT(name, kind)                                                                   \
    int name(int fd, kind size)                                                           \
    {                                                                                     \
        pthread_mutex_lock(&guard);                                                       \
        int failed = REAL(name)(fd, size);                                                \
        if (!failed && recorded(fd))                                                      \
            record('t', names[fd], (uint64_t)size, "", 0);                                \
        pthread_mutex_unlock(&guard);                                                     \
        return failed;                                                                    \
    }
CUT(ftruncate, off_t)
CUT(ftruncate64, off64_t)

#define SYNC(name)                                                                        \
    int name(int fd)                                                                      \
    {                                                                                     \
        pthread_mutex_lock(&guard);                                                       \
        int failed = REAL(name)(fd);                                                      \
        if (!failed && recorded(fd))                                                      \
            record('s', names[fd], 0, "", 0);                                             \
        pthread_mutex_unlock(&guard);                                                     \
        return failed;                                                                    \
    }
SYNC(fsync)
SYNC(fdatasync)

int unlink(const char *path)
{
    pthread_mutex_lock(&guard);
    int failed = REAL(unlink)(path);
    const char *name = failed ? NULL : name_of(path);
    if (name)
        record('r', name, 0, "", 0);
    pthread_mutex_unlock(&guard);
    return failed;
}
