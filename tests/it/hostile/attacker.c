/* What a hostile client runs as its "compiler". Exits 0 when an attack has worked, 3 when it was
   refused; anything else is a mistake of the test. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <arpa/inet.h>
#include <unistd.h>

extern char **environ;

enum { WORKED = 0, REFUSED = 3 };

static int worked(int yes, const char *what) {
    if (yes) fprintf(stderr, "WORKED: %s\n", what);
    return yes ? WORKED : REFUSED;
}

static int reads(const char *path) {
    char bytes[64];
    int file = open(path, O_RDONLY | O_NONBLOCK);
    if (file >= 0 && read(file, bytes, sizeof bytes) >= 0) return worked(1, path);
    DIR *folder = opendir(path);
    return worked(folder && readdir(folder), path);
}

static int writes(const char *path) {
    int file = open(path, O_WRONLY | O_CREAT, 0666);
    return worked(file >= 0 && write(file, "x", 1) == 1, path);
}

static int connects(const char *port) {
    int family[] = {AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_VSOCK, AF_BLUETOOTH, AF_ALG};
    for (size_t i = 0; i < sizeof family / sizeof *family; i++)
        if (socket(family[i], SOCK_STREAM, 0) >= 0 || socket(family[i], SOCK_DGRAM, 0) >= 0 ||
            socket(family[i], SOCK_RAW, 0) >= 0)
            return worked(1, "socket");
    (void)port;
    return REFUSED;
}

/* A name that begins with @ is an abstract one. */
static int connects_unix(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int connection = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connection < 0) return REFUSED;
    strncpy(address.sun_path, name, sizeof address.sun_path - 1);
    if (*name == '@') address.sun_path[0] = 0;
    socklen_t length = offsetof(struct sockaddr_un, sun_path) + strlen(name) + (*name != '@');
    return worked(connect(connection, (struct sockaddr *)&address, length) == 0, name);
}

static int forks(void) {
    for (int count = 0; count < 5000; count++) {
        pid_t child = fork();
        if (child < 0) return worked(0, "");
        if (child == 0) {
            setsid();
            for (;;) pause();
        }
    }
    return worked(1, "5000 processes");
}

static int takes_memory(void) {
    for (long mib = 0; mib < 1024; mib++) {
        char *block = malloc(1 << 20);
        if (!block) return worked(0, "");
        for (long at = 0; at < 1 << 20; at += 4096) *(volatile char *)(block + at) = 1;
    }
    return worked(1, "1 GiB of memory");
}

/* So many processes with so many MiB each, all at once. */
static int swarms(int count, long mib) {
    int ready[2];
    char byte = 'x';
    if (pipe(ready)) return 1;
    for (int number = 0; number < count; number++)
        if (fork() == 0) {
            volatile char *block = malloc(mib << 20);
            for (long at = 0; block && at < mib << 20; at += 4096) block[at] = 1;
            if (write(ready[1], &byte, 1) != 1) _exit(1);
            for (;;) pause();
        }
    for (int number = 0; number < count; number++)
        if (read(ready[0], &byte, 1) != 1) return worked(0, "");
    return worked(1, "memory of many processes");
}

/* Fills up to so many MiB, in files of 100. */
static int fills(long most) {
    static char block[1 << 20];
    char name[64];
    memset(block, 1, sizeof block);
    for (long file = 0, mib = 0; mib < most; file++) {
        snprintf(name, sizeof name, "fill-%ld", file);
        int into = open(name, O_WRONLY | O_CREAT, 0600);
        for (int part = 0; part < 100; part++, mib++)
            if (into < 0 || write(into, block, sizeof block) != sizeof block) return worked(0, "");
        close(into);
    }
    return worked(1, "the disk");
}

static int limit(int resource, rlim_t most) {
    struct rlimit found;
    return getrlimit(resource, &found) != 0 || found.rlim_max > most;
}

static int unlimited(void) {
    char score[16] = "";
    int file = open("/proc/self/oom_score_adj", O_RDONLY);
    if (file >= 0 && read(file, score, sizeof score - 1) > 0 && strncmp(score, "1000", 4))
        return worked(1, "who goes first when memory is short");
    if (limit(RLIMIT_CORE, 0)) return worked(1, "core");
    if (limit(RLIMIT_FSIZE, 1 << 30)) return worked(1, "file size");
    if (limit(RLIMIT_NPROC, 4096)) return worked(1, "processes");
    if (limit(RLIMIT_NOFILE, 4096)) return worked(1, "open files");
    if (limit(RLIMIT_CPU, 1 << 20)) return worked(1, "processor time");
    return worked(limit(RLIMIT_DATA, RLIM_INFINITY - 1), "memory");
}

static int sees_environment(void) {
    static const char *known[] = {"PATH=", "TMPDIR=", "LC_ALL=", "LANG=", "_DISTCC_SAFEGUARD=", "DEPENDENCIES_OUTPUT=", "SUNPRO_DEPENDENCIES=",
        /* What a shell adds. */
        "PWD=", "OLDPWD=", "SHLVL=", "_="};
    for (char **entry = environ; *entry; entry++) {
        size_t i = 0, count = sizeof known / sizeof *known;
        while (i < count && strncmp(*entry, known[i], strlen(known[i]))) i++;
        if (i == count) return worked(1, *entry);
    }
    return REFUSED;
}

static int has_descriptors(void) {
    for (int number = 3; number < 4096; number++)
        if (fcntl(number, F_GETFD) >= 0) return worked(1, "a descriptor");
    return REFUSED;
}

static int signals(pid_t pid) {
    if (pid > 1 && kill(pid, 0) == 0) return worked(1, "kill(pid, 0)");
    signal(SIGTERM, SIG_IGN);
    kill(pid, SIGKILL);
    kill(-pid, SIGKILL);
    kill(-1, SIGTERM);
    syscall(SYS_tgkill, pid, pid, SIGKILL);
    return REFUSED;
}

static int has_power(pid_t pid) {
    char byte;
    int fd;
    if (getuid() == 0 || geteuid() == 0 || setuid(0) == 0) return worked(1, "root");
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return worked(1, "new privileges");
    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != 2) return worked(1, "no filter");
    for (int capability = 0; capability < 41; capability++)
        if (prctl(PR_CAPBSET_READ, capability, 0, 0, 0) == 1 && geteuid() == 0) return worked(1, "capabilities");
    if (unshare(CLONE_NEWUSER) == 0 || unshare(CLONE_NEWNS) == 0) return worked(1, "unshare");
    if (syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0) >= 0) return worked(1, "clone");
    if (syscall(SYS_clone3, 0, 0) >= 0 || errno != ENOSYS) return worked(1, "clone3");
    if (mount("none", "/tmp", "tmpfs", 0, 0) == 0) return worked(1, "mount");
    if (chroot("/") == 0) return worked(1, "chroot");
    if (ptrace(PTRACE_TRACEME, 0, 0, 0) == 0 || ptrace(PTRACE_ATTACH, pid, 0, 0) == 0) return worked(1, "ptrace");
    if (syscall(SYS_process_vm_readv, pid, 0, 0, 0, 0, 0) >= 0) return worked(1, "process_vm_readv");
    if (syscall(SYS_keyctl, 0, -3, 1) >= 0 || syscall(SYS_add_key, "user", "x", "y", 1, -3) >= 0) return worked(1, "keys");
    if (syscall(SYS_bpf, 0, 0, 0) >= 0 || errno != EPERM) return worked(1, "bpf");
    if (syscall(SYS_perf_event_open, 0, 0, -1, -1, 0) >= 0 || errno != EPERM) return worked(1, "perf");
    if (syscall(SYS_userfaultfd, 1) >= 0) return worked(1, "userfaultfd");
    if (syscall(425, 1, &byte) >= 0 || errno != EPERM) return worked(1, "io_uring");
    if (syscall(SYS_open_by_handle_at, AT_FDCWD, 0, 0) >= 0 || errno != EPERM) return worked(1, "open_by_handle_at");
    if (personality(ADDR_COMPAT_LAYOUT) >= 0) return worked(1, "personality");
    if (ioctl(0, TIOCSTI, "x") == 0 || errno != EPERM) return worked(1, "TIOCSTI");
    if (mknod("device", S_IFBLK | 0600, 0x0801) == 0 || mknod("device", S_IFCHR | 0600, 0x0101) == 0) return worked(1, "mknod");
    if ((fd = open("/proc/sys/kernel/hostname", O_WRONLY)) >= 0) return worked(1, "sysctl");
    return REFUSED;
}

/* A system call as a 32-bit program makes it. It must not come back. */
static int speaks_32_bit(void) {
#ifdef __x86_64__
    long answer;
    __asm__ volatile("int $0x80" : "=a"(answer) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
    return worked(answer > 0, "int 0x80");
#else
    raise(SIGSYS);
    return REFUSED;
#endif
}

/* So many processes, one after the other, whose parents do not wait for them. */
static int orphans(int count) {
    for (int born = 0, tries = 0; born < count;) {
        pid_t child = fork();
        if (child == 0) {
            while (fork() < 0) if (tries++ > 5000 || usleep(1000)) _exit(1);
            _exit(0);
        }
        if (child < 0) {
            if (tries++ > 5000) return worked(0, "");
            usleep(1000);
            continue;
        }
        int status;
        if (waitpid(child, &status, 0) != child || status != 0) return worked(0, "");
        born++;
    }
    return worked(1, "orphans were buried");
}

/* One that has a session of its own, holds all that it was given, and stays. */
static int lingers(void) {
    if (fork() == 0) {
        setsid();
        if (fork() == 0) for (;;) pause();
    }
    return 0;
}

static int leaves(const char *kind, const char *path) {
    if (!strcmp(kind, "link")) return symlink("/etc/passwd", path) ? 1 : 0;
    if (!strcmp(kind, "pipe")) return mkfifo(path, 0666) ? 1 : 0;
    if (!strcmp(kind, "folder")) return mkdir(path, 0777) ? 1 : 0;
    if (!strcmp(kind, "socket")) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        strncpy(address.sun_path, path, sizeof address.sun_path - 1);
        return bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address) ? 1 : 0;
    }
    if (!strcmp(kind, "unreadable")) return creat(path, 0) < 0;
    if (!strcmp(kind, "holes")) { /* Three files that are larger than all that may be taken, and need no room. */
        char name[64];
        for (int number = 0; number < 3; number++) {
            snprintf(name, sizeof name, "%s%d", path, number);
            int holes = open(name, O_WRONLY | O_CREAT, 0600);
            if (ftruncate(holes, 500L << 20)) return 1;
        }
        return 0;
    }
    int file = open(path, O_WRONLY | O_CREAT, 0600);
    if (write(file, "x", 1) != 1 || fchmod(file, 06777)) return 1;
    return 0;
}

/* So many empty files, or folders, beside each other. */
static int crowds(long count, int folders) {
    char name[32];
    for (long number = 0; number < count; number++) {
        snprintf(name, sizeof name, "crowd-%ld", number);
        if (folders ? mkdir(name, 0755) : mknod(name, S_IFREG | 0600, 0)) return worked(0, "");
    }
    return 0;
}

/* Folders in each other, so many, with long names; a file at the bottom. */
static int digs(int count) {
    char name[201];
    memset(name, 'x', 200);
    name[200] = 0;
    while (count-- > 0)
        if (mkdir(name, 0755) || chdir(name)) return worked(0, "");
    return creat("bottom", 0600) < 0;
}

/* Processes with sessions of their own that use all the processor time there is. */
static int spins(int count) {
    for (int number = 1; number < count; number++)
        if (fork() == 0) {
            setsid();
            signal(SIGTERM, SIG_IGN);
            break;
        }
    for (volatile long round = 0;; round++);
}

/* Another name for a file that is not the job's, and what is in it changed by that name. */
static int relinks(const char *path) {
    static const char *names[] = {"stolen", "/tmp/stolen"};
    for (int number = 0; number < 2; number++) {
        if (link(path, names[number])) continue;
        int file = open(names[number], O_WRONLY | O_TRUNC);
        if (file >= 0 && write(file, "x", 1) != 1) return 1;
        chmod(names[number], 0777);
    }
    return 0;
}

/* What is counted for the daemon's user, or reaches the first process. */
static int exhausts(void) {
    if (inotify_init1(0) >= 0 || errno != EPERM) return worked(1, "inotify");
    if (syscall(SYS_fanotify_init, 0, 0) >= 0 || errno != EPERM) return worked(1, "fanotify");
    if (limit(RLIMIT_SIGPENDING, 4096)) return worked(1, "signals that wait");
    if (limit(RLIMIT_MEMLOCK, 0)) return worked(1, "locked memory");
    if (limit(RLIMIT_MSGQUEUE, 0)) return worked(1, "queues");
    if (ptrace(PTRACE_SEIZE, 1, 0, 0) == 0) return worked(1, "ptrace of the first process");
    if (syscall(SYS_process_vm_writev, 1, 0, 0, 0, 0, 0) >= 0 || errno != EPERM) return worked(1, "process_vm_writev");
    if (open("/proc/1/mem", O_RDWR) >= 0) return worked(1, "memory of the first process");
    if (open("/proc/self/exe", O_WRONLY) >= 0) return worked(1, "its own program");
    if (syscall(SYS_memfd_secret, 0) >= 0) return worked(1, "secret memory");
    return REFUSED;
}

int main(int argc, char **argv) {
    const char *attack = argc > 1 ? argv[1] : "", *word = argc > 2 ? argv[2] : "";
    if (!strcmp(attack, "read")) return reads(word);
    if (!strcmp(attack, "write")) return writes(word);
    if (!strcmp(attack, "connect")) return connects(word);
    if (!strcmp(attack, "unix")) return connects_unix(word);
    if (!strcmp(attack, "fork")) return forks();
    if (!strcmp(attack, "memory")) return takes_memory();
    if (!strcmp(attack, "swarm")) return swarms(atoi(word), atol(argv[3]));
    if (!strcmp(attack, "fill")) return fills(atol(word));
    if (!strcmp(attack, "limits")) return unlimited();
    if (!strcmp(attack, "environment")) return sees_environment();
    if (!strcmp(attack, "descriptors")) return has_descriptors();
    if (!strcmp(attack, "signal")) return signals(atoi(word));
    if (!strcmp(attack, "power")) return has_power(atoi(word));
    if (!strcmp(attack, "int80")) return speaks_32_bit();
    if (!strcmp(attack, "leave")) return leaves(word, argv[3]);
    if (!strcmp(attack, "orphans")) return orphans(atoi(word));
    if (!strcmp(attack, "linger")) return lingers();
    if (!strcmp(attack, "files")) return crowds(atol(word), 0);
    if (!strcmp(attack, "folders")) return crowds(atol(word), 1);
    if (!strcmp(attack, "dig")) return digs(atoi(word));
    if (!strcmp(attack, "spin")) return spins(atoi(word));
    if (!strcmp(attack, "relink")) return relinks(word);
    if (!strcmp(attack, "exhaust")) return exhausts();
    if (!strcmp(attack, "abort")) abort();
    if (!strcmp(attack, "segfault")) raise(SIGSEGV);
    if (!strcmp(attack, "wild")) *(volatile int *)8 = 1;
    if (!strcmp(attack, "raise")) raise(atoi(word));
    if (!strcmp(attack, "exit")) return atoi(word);
    if (!strcmp(attack, "sleep")) for (;;) pause();
    return 99;
}
