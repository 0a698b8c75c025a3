/* Makes system calls that a sandbox may refuse, and says of each what came of it: its name, and the error's name or 0. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void say(const char *name, long result) {
    printf("%s %s\n", name, result < 0 ? strerrorname_np(errno) : "0");
    fflush(stdout);
}

#define CALL(name, ...) say(#name, syscall(SYS_##name, ##__VA_ARGS__))

int main(int argc, char **argv) {
    char buffer[4096] = {0};
    if (argc > 1 && strcmp(argv[1], "i386") == 0) {
#ifdef __x86_64__
        /* getpid by the rules of i386. */
        long result;
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory");
        say("i386", result);
#endif
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "x32") == 0) {
        /* keyctl by the rules of x32. */
        say("x32", syscall(250 | 0x40000000, 0, -3, 0));
        return 0;
    }
    CALL(unshare, 0x10000000);
    CALL(setns, 0, 0);
    CALL(clone3, buffer, 64);
    say("clone-user", syscall(SYS_clone, 0x10000000 | 17, 0, 0, 0, 0));
    CALL(mount, "none", "/tmp", "tmpfs", 0, 0);
    CALL(umount2, "/proc", 2);
    CALL(pivot_root, "/", "/");
    CALL(chroot, "/tmp");
    CALL(open_tree, -100, "/", 1);
    CALL(move_mount, -1, "", -1, "", 0);
    CALL(fsopen, "tmpfs", 0);
    CALL(keyctl, 0, -3, 0);
    CALL(add_key, "user", "x", "y", 1, -3);
    CALL(request_key, "user", "x", 0, -3);
    CALL(bpf, 0, buffer, 48);
    CALL(perf_event_open, buffer, 0, -1, -1, 0);
    CALL(io_uring_setup, 8, buffer);
    CALL(io_uring_enter, 0, 0, 0, 0, 0, 0);
    CALL(userfaultfd, 1);
    CALL(open_by_handle_at, -100, buffer, 0);
    CALL(kexec_load, 0, 0, 0, 0);
    CALL(init_module, buffer, 0, "");
    CALL(finit_module, -1, "", 0);
    CALL(delete_module, "x", 0);
    CALL(reboot, 0, 0, 0, 0);
    CALL(swapon, "x", 0);
    CALL(acct, 0);
    CALL(quotactl, 0, 0, 0, 0);
    CALL(syslog, 10, 0, 0);
    CALL(settimeofday, 0, 0);
    CALL(sethostname, "x", 1);
    CALL(process_madvise, -1, 0, 0, 0, 0);
    CALL(pidfd_getfd, -1, 0, 0);
    CALL(kcmp, 1, 1, 0, 0, 0);
    CALL(mbind, 0, 0, 0, 0, 0, 0);
    CALL(lookup_dcookie, 0L, buffer, 0L);
    CALL(fanotify_init, 0, 0);
    say("personality-other", syscall(SYS_personality, 0x40000));
    say("socket-alg", syscall(SYS_socket, 38, 5, 0));
    say("socket-vsock", syscall(SYS_socket, 40, 1, 0));
    /* The kernel looks at the lower half alone. */
    say("socket-alg-high", syscall(SYS_socket, 38 | 1L << 32, 5, 0));
#ifdef __x86_64__
    CALL(iopl, 3);
#endif
    /* What programs may do. */
    CALL(getpid);
    CALL(personality, 0xffffffff);
    say("socket", syscall(SYS_socket, 2, 1, 0));
    say("socket-unix", syscall(SYS_socket, 1, 1, 0));
    CALL(memfd_create, "x", 0);
    CALL(prctl, 15, "name", 0, 0, 0);
    CALL(ptrace, 0, 0, 0, 0);
    return 0;
}
