/* Lets a test take the power away from the process it is preloaded into: what was not synchronised is lost.
 *
 * After each synchronisation of a file, its length at that time is written to a file of the directory TASKER_TEST_SYNCED, whose name is the
 * path with `%` for `/`. While the file `stuck` is there, the disk does not answer for files below TASKER_TEST_STUCK. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int synchronise(long call, int fd)
{
    const char *dir = getenv("TASKER_TEST_SYNCED"), *slow = getenv("TASKER_TEST_STUCK");
    char link[64], path[4096] = "", note[8192];
    struct stat before = {0};
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!dir || !slow || length < 0)
        return (int)syscall(call, fd);
    snprintf(note, sizeof note, "%s/stuck", dir);
    while (strncmp(path, slow, strlen(slow)) == 0 && access(note, F_OK) == 0)
        usleep(10000);
    fstat(fd, &before);
    int answer = (int)syscall(call, fd);
    if (answer != 0 || !S_ISREG(before.st_mode))
        return answer;
    for (char *at = path; *at; at++)
        if (*at == '/')
            *at = '%';
    snprintf(note, sizeof note, "%s/%s", dir, path);
    int file = open(note, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file >= 0) {
        dprintf(file, "%lld", (long long)before.st_size);
        close(file);
    }
    return answer;
}

int fdatasync(int fd)
{
    return synchronise(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    return synchronise(SYS_fsync, fd);
}
