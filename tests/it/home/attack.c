// What a hostile program in a container tries on each process that comes into it. Says a line for each that it has seen
// before that was the container's own program, and one for all that it got of it.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static char path[128], text[4096];

// Whether a process is still what has come in, and not yet what is run.
static int is_entering(int pid) {
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    int file = open(path, O_RDONLY);
    if (file < 0) return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    for (ssize_t at = 0; at + 7 < length; at++)
        if (!memcmp(text + at, "__enter", 7)) return 1;
    return 0;
}

static void got(const char *what, int pid, const char *more) {
    printf("GOT %s of %d %s\n", what, pid, more);
    fflush(stdout);
}

static void look(int pid, const char *name) {
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    ssize_t length = readlink(path, text, sizeof text - 1);
    if (length < 0) return;
    text[length] = 0;
    char *found = strdup(text);
    // By then it may have become the program, which is the container's own to look at.
    if (is_entering(pid)) got(name, pid, found);
    free(found);
}

static void attack(int pid) {
    static const char *links[] = {"exe", "root", "cwd", "fd/0", "fd/1", "fd/2", "fd/3", "fd/4", "fd/5", "fd/6", "fd/7"};
    for (size_t at = 0; at < sizeof links / sizeof *links; at++) look(pid, links[at]);
    static const char *files[] = {"mem", "environ", "auxv", "exe", "fd/3", "fd/4"};
    for (size_t at = 0; at < sizeof files / sizeof *files; at++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, files[at]);
        int file = open(path, O_RDONLY | O_NONBLOCK);
        if (file < 0) continue;
        // Of a process without memory of its own nothing can be read.
        if (read(file, text, 1) > 0 && is_entering(pid)) got(files[at], pid, "open");
        close(file);
    }
    struct iovec ours = {text, 1}, theirs = {(void *)&attack, 1};
    if (process_vm_readv(pid, &ours, 1, &theirs, 1, 0) > 0 && is_entering(pid)) got("memory", pid, "");
    int handle = syscall(SYS_pidfd_open, pid, 0);
    for (int number = 0; handle >= 0 && number < 8; number++) {
        int file = syscall(SYS_pidfd_getfd, handle, number, 0);
        if (file < 0) continue;
        close(file);
        if (is_entering(pid)) got("a file", pid, "");
    }
    if (handle >= 0) close(handle);
    if (ptrace(PTRACE_ATTACH, pid, 0, 0) == 0) {
        waitpid(pid, NULL, __WALL);
        // It stands still now.
        if (is_entering(pid)) got("control", pid, "");
        ptrace(PTRACE_DETACH, pid, 0, 0);
        // What stood still for another reason would get the stop now.
        kill(pid, SIGCONT);
    }
}

int main(void) {
    int last = 0;
    printf("up\n");
    fflush(stdout);
    for (;;) {
        DIR *folder = opendir("/proc");
        struct dirent *entry;
        while ((entry = readdir(folder))) {
            int pid = atoi(entry->d_name);
            if (pid <= 1 || !is_entering(pid)) continue;
            if (pid != last) printf("SEEN %d\n", last = pid);
            fflush(stdout);
            attack(pid);
        }
        closedir(folder);
    }
}
