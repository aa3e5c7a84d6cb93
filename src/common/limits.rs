//! Every bound, with its reason. Units come last in the names.

/// The largest body of a frame between shim and broker. Linux caps argv plus environment at
/// 6 MiB by default and far below this with the largest stack limit in use.
pub const LOCAL_FRAME_MAX_BYTES: u32 = 64 << 20;

/// The largest control frame on a link. Its biggest content is a job's argv, which `@file`
/// expansion bounds at 4 MiB.
pub const LINK_FRAME_MAX_BYTES: u32 = 16 << 20;

/// The largest data frame on a link: small, so that a large blob delays a small answer by less
/// than a millisecond per blob on a 1 Gbit/s network.
pub const LINK_CHUNK_MAX_BYTES: u32 = 64 << 10;

/// What a peer may send of one job before it is granted more: enough to fill 100 Mbit/s at
/// 100 ms round trip, small enough that 256 jobs cannot exhaust memory.
pub const LINK_WINDOW_BYTES: u64 = 1 << 20;

/// The largest preprocessed text that leaves the client; a larger one is compiled here.
pub const PREPROCESSED_MAX_BYTES: u64 = 512 << 20;

/// The largest single output that is taken from a volunteer.
pub const OUTPUT_MAX_BYTES: u64 = 512 << 20;

/// Who may write files of this size has no limit that matters: what a compile writes is smaller.
pub const FILE_SIZE_FREE_BYTES: u64 = 2 * OUTPUT_MAX_BYTES;

/// The most that a compiler may print on one stream of a remote job. More is compiled here.
pub const MESSAGES_MAX_BYTES: u64 = 4 << 20;

/// Response files: how many one command may name, nested ones included (gcc itself stops at 2000).
pub const RESPONSE_FILES_MAX: usize = 64;

/// Response files: their size, summed.
pub const RESPONSE_FILES_MAX_BYTES: usize = 4 << 20;

/// Hosts in one list. distcc's own loop ends at 10,000 slots; a farm of 200 fits many times.
pub const HOSTS_MAX: usize = 1024;

/// Slots of one host, as one may write them behind the slash.
pub const HOST_SLOTS_MAX: u32 = 10_000;

/// The longest path that the kernel takes (`PATH_MAX`, path_resolution(7)), its NUL not counted.
pub const PATH_MAX_BYTES: u64 = 4095;

/// Words of one command in the classic protocol. Linux lets a command have many more, but none
/// of a compile that is not made to do harm comes near.
pub const CLASSIC_ARGUMENTS_MAX: u64 = 64 << 10;

/// Their bytes, summed: what `@file` expansion is bounded by as well.
pub const CLASSIC_ARGUMENTS_MAX_BYTES: u64 = 4 << 20;

/// Files of one job in the classic protocol's version 3. The largest translation units of Boost
/// and of browsers read under 10,000.
pub const CLASSIC_FILES_MAX: u64 = 64 << 10;

/// Their unpacked bytes, summed: as much as one preprocessed text.
pub const CLASSIC_FILES_MAX_BYTES: u64 = PREPROCESSED_MAX_BYTES;

/// Entries of one input set, and items that one message names. The largest translation units of
/// Boost and of browsers read under 10,000 files; a toolchain has a few hundred.
pub const INPUTS_MAX: usize = 256 << 10;

/// The longest word of a command or entry of an environment (`MAX_ARG_STRLEN`, execve(2)).
pub const ITEM_MAX_BYTES: usize = 128 << 10;

/// What a link's table of items may hold, in bytes: a million headers.
pub const ITEMS_MAX_BYTES: usize = 256 << 20;

/// Words of one hermetic command, and entries of its environment, each.
pub const WORDS_MAX: usize = 64 << 10;

/// A bundle of small files, unpacked: enough for compression to find what they share. A larger file
/// is a bundle of its own.
pub const BUNDLE_BYTES: u64 = 256 << 10;

/// The largest single input of a hermetic compile. The largest compilers are under 200 MiB.
pub const INPUT_MAX_BYTES: u64 = 1 << 30;

/// Bytes of bundles that a broker may send beyond what the volunteer has granted on a link: a
/// megabit at a tenth of a second is far less.
pub const BUNDLE_WINDOW_BYTES: u64 = 4 << 20;

/// Files that one compile may make.
pub const PRODUCTS_MAX: usize = 4096;

/// Bundles of one client that are unpacked at once: each may need a decoder of its own. Others wait, packed, in the
/// window; of a broker those are whole but for four, so that none keeps a decoder from them for long.
pub const BUNDLES_UNPACKED_MAX: usize = 64;

/// What bundles of one client that were announced and are not in the store may hold, counted in files, where each
/// bundle counts for [`BUNDLE_COST`] more. A window holds thousands of bundles of one small header each.
pub const BUNDLES_MAX: u64 = 1 << 20;
/// See [`BUNDLES_MAX`].
pub const BUNDLE_COST: u64 = 32;

/// Provisions of one link that are under way at once.
pub const PROVISIONS_MAX: usize = 64;
