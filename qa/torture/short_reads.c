/* Between a program and the C library: read() below a folder gives a few bytes at a time, or fails after some.
   TORTURE_PLACE: the folder; TORTURE_SHORT: bytes a call; TORTURE_FAIL: bytes after which reading fails with EIO. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static long given;

static int ours(int file) {
    char name[64], path[PATH_MAX];
    const char *place = getenv("TORTURE_PLACE");
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    ssize_t n = readlink(name, path, sizeof path - 1);
    if (n < 0 || !place) return 0;
    path[n] = 0;
    return strncmp(path, place, strlen(place)) == 0;
}

static ssize_t limited(int file, size_t *count) {
    const char *fail = getenv("TORTURE_FAIL"), *few = getenv("TORTURE_SHORT");
    if (!ours(file)) return 0;
    if (fail && given >= atol(fail)) { errno = EIO; return -1; }
    if (fail && *count > (size_t)(atol(fail) - given)) *count = atol(fail) - given;
    if (few && *count > (size_t)atol(few)) *count = atol(few);
    given += *count;
    return 0;
}

ssize_t read(int file, void *buffer, size_t count) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    if (limited(file, &count) < 0) return -1;
    return real(file, buffer, count);
}

ssize_t readv(int file, const struct iovec *parts, int number) {
    static ssize_t (*real)(int, const struct iovec *, int);
    if (!real) real = dlsym(RTLD_NEXT, "readv");
    if (ours(file) && number > 0) return read(file, parts[0].iov_base, parts[0].iov_len);
    return real(file, parts, number);
}
