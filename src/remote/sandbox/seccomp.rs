//! Which system calls a job may make, as a program for the kernel (seccomp(2)).
//!
//! A list of what is refused, not of what is allowed: a client's compiler may be any program, in any
//! language, of any year, and one that is killed for a harmless call is a job that is compiled at
//! the client's. What is refused is what no compiler needs and what kernels' holes are found in:
//! mounts, namespaces, tracing, keys, programs in the kernel, other networks than Unix sockets. What
//! is newer than this list is refused as a call that the kernel does not have, which programs expect.
//!
//! Pure. The machine's own system calls only: those of another ABI of the same processor (32 bit,
//! x32) would need a list of their own, so whoever makes one is killed.

use libc::{c_long, sock_filter};

/// The highest number that this list knows of: Linux 6.18. New calls have the same number everywhere.
const NEWEST: u32 = 469;

/// Numbers from here on are the x32 ABI's.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

/// `AUDIT_ARCH_…` (linux/audit.h) of the system calls that this program itself makes.
const NATIVE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else if cfg!(target_arch = "riscv64") {
    Some(0xc000_00f3)
} else {
    None
};

/// Flags of clone(2) that make namespaces.
const NAMESPACES: u32 = 0x7e02_0080;

/// Personalities that are allowed: the ordinary one, the same without random addresses, and the question.
const PERSONALITIES: [u32; 3] = [0, 0x0004_0000, 0xffff_ffff];

/// ioctl(2): to type for others, to command the console, to choose a line discipline.
const IOCTLS: [u32; 3] = [0x5412, 0x541c, 0x5423];

/// Refused wherever a job runs.
const REFUSED: &[c_long] = &[
    // Mounts and roots.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // statmount, listmount, open_tree_attr: libc has no names for them everywhere.
    457,
    458,
    467,
    // Namespaces.
    libc::SYS_unshare,
    libc::SYS_setns,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    // Keys are of the user, not of the namespace.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Programs in the kernel, and rings that pass this filter by.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Files without their paths.
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    // Whoever runs the daemon has few of these, and jobs' are counted among them.
    libc::SYS_inotify_init1,
    libc::SYS_lookup_dcookie,
    libc::SYS_memfd_secret,
    // The machine.
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_nfsservctl,
];

/// Refused besides, where the processor has them.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[c_long] = &[
    libc::SYS_kexec_file_load,
    libc::SYS_inotify_init,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    // create_module, _sysctl: gone from kernels of today.
    174,
    156,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[c_long] = &[];

/// Refused where there are no namespaces: a process that leaves its group would not be killed with it.
const LEAVING: &[c_long] = &[libc::SYS_setsid, libc::SYS_setpgid];

/// Refused where nothing else keeps a job from signalling the daemon.
const SIGNALLING: &[c_long] = &[
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_send_signal,
];

/// What keeps jobs apart besides the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walls {
    /// Namespaces of its own.
    Namespaces,
    /// Landlock, which on newer kernels sees to signals as well.
    Landlock {
        /// Whether it does.
        signals: bool,
    },
    /// Nothing.
    None,
}

/// The filter for jobs behind these walls; `None` on processors whose numbers are not known here.
pub fn filter(walls: Walls) -> Option<Vec<sock_filter>> {
    let mut program = Program::default();
    program.load(4);
    program.returns_unless_equal(NATIVE?, libc::SECCOMP_RET_KILL_PROCESS);
    program.load(0);
    #[cfg(target_arch = "x86_64")]
    program.returns_from(X32, libc::SECCOMP_RET_KILL_PROCESS);
    program.returns_from(NEWEST + 1, refusal(libc::ENOSYS));
    // The C library goes back to clone(2), whose flags can be looked at.
    program.returns_if_equal(libc::SYS_clone3, refusal(libc::ENOSYS));
    let mut refused = vec![REFUSED, REFUSED_HERE];
    if walls != Walls::Namespaces {
        refused.push(LEAVING);
        refused.push(&[libc::SYS_socket]);
    }
    if matches!(walls, Walls::Landlock { signals: false } | Walls::None) {
        refused.push(SIGNALLING);
    }
    for number in refused.into_iter().flatten() {
        program.returns_if_equal(*number, refusal(libc::EPERM));
    }
    program.only(libc::SYS_socket, 0, &[libc::AF_UNIX as u32]);
    program.only(libc::SYS_personality, 0, &PERSONALITIES);
    program.none_of(libc::SYS_ioctl, 1, &IOCTLS);
    program.no_flags(libc::SYS_clone, 0, NAMESPACES);
    program.end(libc::SECCOMP_RET_ALLOW);
    Some(program.0)
}

fn refusal(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()
}

/// A program in the making (linux/bpf_common.h).
#[derive(Default)]
struct Program(Vec<sock_filter>);

impl Program {
    /// The 32 bits at this place of `seccomp_data`: the number at 0, the ABI at 4, arguments from 16 on.
    fn load(&mut self, offset: u32) {
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    }

    fn end(&mut self, verdict: u32) {
        self.push(libc::BPF_RET | libc::BPF_K, 0, 0, verdict);
    }

    fn returns_if_equal(&mut self, number: c_long, verdict: u32) {
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number as u32);
        self.end(verdict);
    }

    fn returns_unless_equal(&mut self, value: u32, verdict: u32) {
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0, value);
        self.end(verdict);
    }

    fn returns_from(&mut self, value: u32, verdict: u32) {
        self.push(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, value);
        self.end(verdict);
    }

    /// This call is allowed with these values of an argument's lower half, and refused with others.
    fn only(&mut self, number: c_long, argument: u32, values: &[u32]) {
        self.judged(number, argument, values, libc::SECCOMP_RET_ALLOW, refusal(libc::EPERM));
    }

    /// This call is refused with these values of an argument's lower half, and allowed with others.
    fn none_of(&mut self, number: c_long, argument: u32, values: &[u32]) {
        self.judged(number, argument, values, refusal(libc::EPERM), libc::SECCOMP_RET_ALLOW);
    }

    fn judged(&mut self, number: c_long, argument: u32, values: &[u32], found: u32, otherwise: u32) {
        let behind = 2 * values.len() as u8 + 2;
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, behind, number as u32);
        self.load(16 + 8 * argument);
        for value in values {
            self.returns_if_equal(c_long::from(*value), found);
        }
        self.end(otherwise);
    }

    /// This call is refused with any of these flags in an argument.
    fn no_flags(&mut self, number: c_long, argument: u32, flags: u32) {
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 4, number as u32);
        self.load(16 + 8 * argument);
        self.push(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 1, flags);
        self.end(refusal(libc::EPERM));
        self.end(libc::SECCOMP_RET_ALLOW);
    }

    fn push(&mut self, code: u32, yes: u8, no: u8, k: u32) {
        self.0.push(sock_filter { code: code as u16, jt: yes, jf: no, k });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a filter as the kernel does.
    fn verdict(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 2]) -> u32 {
        let (mut at, mut a) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            let jump = |yes: bool| usize::from(if yes { step.jt } else { step.jf });
            match u32::from(step.code) & 0x07 {
                libc::BPF_LD => {
                    a = match step.k {
                        0 => number,
                        4 => arch,
                        16 => arguments[0] as u32,
                        24 => arguments[1] as u32,
                        other => panic!("{other}"),
                    }
                }
                libc::BPF_RET => return step.k,
                _ => {
                    at += match u32::from(step.code) & 0xf0 {
                        libc::BPF_JEQ => jump(a == step.k),
                        libc::BPF_JGE => jump(a >= step.k),
                        _ => jump(a & step.k != 0),
                    }
                }
            }
        }
    }

    fn judge(walls: Walls, number: c_long, arguments: [u64; 2]) -> u32 {
        verdict(&filter(walls).unwrap(), NATIVE.unwrap(), number as u32, arguments)
    }

    const NO: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const YES: u32 = libc::SECCOMP_RET_ALLOW;

    #[test]
    fn what_compilers_do_is_allowed() {
        for number in [libc::SYS_read, libc::SYS_execve, libc::SYS_openat, libc::SYS_mmap, libc::SYS_futex] {
            assert_eq!(judge(Walls::Namespaces, number, [0; 2]), YES, "{number}");
        }
        assert_eq!(judge(Walls::Namespaces, libc::SYS_clone, [0x0120_0011, 0]), YES);
        assert_eq!(judge(Walls::Namespaces, libc::SYS_ioctl, [1, 0x5401]), YES);
        assert_eq!(judge(Walls::Namespaces, libc::SYS_socket, [libc::AF_UNIX as u64, 0]), YES);
        assert_eq!(judge(Walls::Namespaces, libc::SYS_setsid, [0; 2]), YES);
        assert_eq!(judge(Walls::Landlock { signals: true }, libc::SYS_kill, [0; 2]), YES);
    }

    #[test]
    fn what_no_compiler_needs_is_refused() {
        for number in REFUSED.iter().chain(REFUSED_HERE) {
            assert_eq!(judge(Walls::Namespaces, *number, [0; 2]), NO, "{number}");
        }
        for family in [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET, libc::AF_VSOCK] {
            assert_eq!(judge(Walls::Namespaces, libc::SYS_socket, [family as u64, 0]), NO, "{family}");
        }
        for flag in [
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWNS,
            libc::CLONE_NEWPID,
            libc::CLONE_NEWNET,
            libc::CLONE_NEWIPC,
            libc::CLONE_NEWUTS,
            libc::CLONE_NEWCGROUP,
        ] {
            assert_eq!(judge(Walls::Namespaces, libc::SYS_clone, [flag as u64 | 17, 0]), NO, "{flag:x}");
        }
        assert_eq!(judge(Walls::Namespaces, libc::SYS_ioctl, [0, 0x5412]), NO);
        // Only the lower half of a request counts for the kernel.
        assert_eq!(judge(Walls::Namespaces, libc::SYS_ioctl, [0, 0x1_0000_5412]), NO);
        assert_eq!(judge(Walls::Namespaces, libc::SYS_personality, [8, 0]), NO);
        assert_eq!(judge(Walls::Namespaces, libc::SYS_personality, [0x4_0000, 0]), YES);
        let missing = refusal(libc::ENOSYS);
        assert_eq!(judge(Walls::Namespaces, libc::SYS_clone3, [0; 2]), missing);
        assert_eq!(judge(Walls::Namespaces, 470, [0; 2]), missing);
    }

    #[test]
    fn without_namespaces_nobody_leaves_the_group_and_there_is_no_socket() {
        for walls in [Walls::Landlock { signals: false }, Walls::None] {
            for number in LEAVING.iter().chain(SIGNALLING) {
                assert_eq!(judge(walls, *number, [0; 2]), NO, "{number}");
            }
            assert_eq!(judge(walls, libc::SYS_socket, [libc::AF_UNIX as u64, 0]), NO);
        }
    }

    #[test]
    fn system_calls_of_another_abi_kill() {
        let program = filter(Walls::Namespaces).unwrap();
        for arch in [0x4000_0003, 0x4000_0028, 0] {
            assert_eq!(verdict(&program, arch, 0, [0; 2]), libc::SECCOMP_RET_KILL_PROCESS);
        }
        #[cfg(target_arch = "x86_64")]
        assert_eq!(judge(Walls::Namespaces, c_long::from(X32), [0; 2]), libc::SECCOMP_RET_KILL_PROCESS);
    }
}
